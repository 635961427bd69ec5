"""A storyboard said back is the same storyboard, and its hash is of the film alone."""

import json
from dataclasses import replace

import yaml

from echo_cli.storyboard.canonical import canonical, storyboard_hash, transition_name
from echo_cli.storyboard.nouns import Storyboard
from echo_cli.storyboard.parse import parse
from tests.storyboard.test_parse import GOOD

SPELT = GOOD.replace("hard cut", "hardcut").replace("duration: 10s", "duration: 0:10  # ten").replace(
    "recent-frames", "recent_frames")


def bare(board: Storyboard) -> Storyboard:
    """Without the places in the file."""
    return replace(board, source="", scenes=tuple(replace(scene, line=0, column=0) for scene in board.scenes))


def test_the_canonical_form_reads_back_as_the_same_storyboard() -> None:
    board = parse(GOOD)
    assert bare(parse(yaml.safe_dump(canonical(board)))) == bare(board)
    assert bare(parse(json.dumps(canonical(board)))) == bare(board)


def test_what_a_scene_begins_with_is_said_back() -> None:
    text = GOOD.replace("subtitle: Rooftop", "picture: a.png").replace("seed: 3", "picture: b.png\n    fit: contain")
    text = text.replace("hard cut", "hard cut\n    picture: c.png\n    focus: 0,1")
    text = text.replace("picture: c.png", "clip: c.mp4\n    from: 1s\n    for: 2s")
    text = text.replace("picture: a.png", "picture: a.png\n    soundtrack: a.wav")
    board = parse(text)
    assert board.scenes[0].soundtrack == "a.wav"
    assert all(scene.opening for scene in board.scenes)
    assert bare(parse(yaml.safe_dump(canonical(board)))) == bare(board)
    changes = [("a.png", "d.png"), ("contain", "stretch"), ("0,1", "0,0"), ("from: 1s", "from: 0s"),
               ("for: 2s", "for: 1s"), ("a.wav", "b.wav")]
    others = [text.replace(*change) for change in changes]
    assert len({storyboard_hash(parse(each)) for each in (text, *others)}) == 7


def test_spellings_and_comments_do_not_change_the_hash() -> None:
    assert storyboard_hash(parse(SPELT)) == storyboard_hash(parse(GOOD))


def test_every_change_of_the_film_changes_the_hash() -> None:
    changes = [
        ("seed: 7", "seed: 8"),
        ("A rooftop\n", "A roof\n"),
        ("hard cut", "smooth"),
        ("fps: 16", "fps: 15"),
        ("duration: 10\n", "duration: 11\n"),
        ("recall:rooftop", "recall:auto"),
        ("frames: 3", "frames: 4"),
        ("Static", "Moving"),
        ("192x128", "96x64"),
        ("decay: 0.5", "decay: 0.6"),
        ("model: tiny", "model: other"),
    ]
    hashes = {storyboard_hash(parse(GOOD.replace(*change))) for change in changes}
    assert len(hashes | {storyboard_hash(parse(GOOD))}) == len(changes) + 1


def test_transitions_are_said_in_one_way() -> None:
    assert [transition_name(scene) for scene in parse(SPELT).scenes] == [None, "hard cut", "recall:rooftop"]
