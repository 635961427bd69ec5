"""Other tools' files become the storyboards that a person would expect, and damaged ones become clear errors."""

import json
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from echo_cli.errors import EchoError, Exit
from echo_cli.formats.cut import Cut
from echo_cli.formats.schedules import frame_of
from echo_cli.formats.storyboard import written
from echo_cli.formats.table import Options, Source, named, names, recognised
from echo_cli.storyboard.canonical import transition_name
from echo_cli.storyboard.nouns import Storyboard
from echo_cli.storyboard.parse import parse
from tests.formats import files

PLAIN = Options()


def films(text: str, options: Options = PLAIN) -> tuple[str, list[Cut]]:
    source = Source(text, "file")
    row = recognised(source)
    assert row.read
    return row.name, row.read(source, options)


def board(cut: Cut) -> Storyboard:
    """What our own parser makes of the YAML."""
    return parse(written(cut), "file")


def test_a_broken_format_of_another_package_disturbs_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("odd", "no_such_package:ROW", "echo_cli.formats")
    monkeypatch.setattr("echo_cli.plugins._offered", lambda group: {"odd": (broken,)})
    assert films(files.SRT)[0] == "srt" and "odd" in names(reads=True)
    with pytest.raises(EchoError, match="odd"):
        named("odd", reads=True)


def told(cut: Cut) -> list[tuple[str, float, str | None, str | None]]:
    return [(scene.prompt, scene.seconds, transition_name(scene), scene.subtitle) for scene in board(cut).scenes]


def left_out(cut: Cut) -> str:
    return "\n".join(f"{note.place}: {note.what}" for note in cut.named().notes)


@pytest.mark.parametrize("name", files.EVERY)
def test_a_format_is_known_by_its_content_and_its_storyboard_is_valid(name: str) -> None:
    result, cuts = films(files.EVERY[name], Options(frames=120))
    assert result == name.split(" ")[0]
    for cut in cuts:
        assert len({scene.id for scene in board(cut).scenes}) == len(cut.shots)


def test_echo_forcing_keeps_every_word() -> None:
    first, second = films(files.ECHO_FORCING)[1]
    assert told(first) == [
        ("Static shot. A woman on a rooftop garden at sunset", 10, None, "Rooftop"),
        ("A dim subway platform, a train waits", 5, "hard cut", "Subway"),
        ("She is back on the rooftop garden", 7.5, "recall:auto", "Call"),
    ]
    assert told(second) == [("A cat sleeps on a mat", 3, None, None), ("A dog barks at the door", 2, "smooth", None)]


def test_longlive_takes_its_times_from_the_file_beside_it() -> None:
    cuts = films(files.LONGLIVE, Options(times=files.LONGLIVE_TIMES))[1]
    assert told(cuts[0]) == [
        ("a cat sits", 10, None, None),
        ("a dog runs", 10, "smooth", None),
        ("a bird sings", 10, "smooth", None),
    ]
    assert len(cuts) == 2 and not cuts[0].notes
    assert "when prompts change" in left_out(films(files.LONGLIVE)[1][0])


def test_scope_keeps_the_strongest_prompt_or_joins_them() -> None:
    (cut,) = films(files.SCOPE)[1]
    assert told(cut) == [("a fox in snow", 11.5, None, None), ("a fox in a forest", 8.5, "smooth", None)]
    assert (board(cut).seed, board(cut).size) == (42, (832, 480))
    assert "weight 40: a hen" in left_out(cut) and "denoisingSteps" in left_out(cut)
    (joined,) = films(files.SCOPE, Options(join=True))[1]
    assert told(joined)[0][0] == "a fox in snow. a hen"
    (newer,) = films(files.SCOPE_WORKFLOW)[1]
    assert told(newer) == [("rain on glass", 4, None, None), ("sun on glass", 5, "hard cut", None)]


def test_schedules_count_frames() -> None:
    (cut,) = films(files.DEFORUM, Options(fps=10, frames=120))[1]
    assert told(cut) == [
        ("tiny cute bunny, vibrant", 6, None, None),
        ("a coconut on a beach", 3, "smooth", None),
        ('a "quoted" durian', 3, "smooth", None),
    ]
    assert "negative prompt: photo, realistic" in left_out(cut) and "0.5*sin(t)" in left_out(cut)
    (old,) = films(files.DEFORUM_OLD)[1]
    assert told(old) == [
        ("a swamp", 2, None, None),
        ("a city of glass", 1, "smooth", None),
        ("the sea", 1, "smooth", None),
    ]
    (fizz,) = films(files.FIZZNODES, Options(fps=12))[1]
    assert [seconds for _, seconds, _, _ in told(fizz)] == [2, 3, 3]
    with pytest.raises(EchoError, match="max_f"):
        films(files.DEFORUM)


def test_a_settings_file_of_deforum_is_a_film_and_what_only_deforum_knows_is_listed() -> None:
    (cut,) = films(files.DEFORUM_SETTINGS)[1]
    assert told(cut) == [
        ("oil painting, tiny cute bunny, (vibrant)", 6, None, None),
        ("oil painting, a coconut", 6, "smooth", None),
    ]
    assert (cut.size, cut.seed) == ((512, 768), None)
    assert left_out(cut).splitlines() == [
        "frame 0: the LoRA fluff:0.8",
        "frame 0: the weight 1.3 of 'cute'",
        "frame max_f/2: the negative prompt: photo, realistic",
        "frame 200: the prompt after the last of 120 frames: oil painting, a late melon",
        "translation_z: the camera's curve 0: (1.75)",
        "zoom: the camera's curve 0: (1.0025+0.002*sin(1.25*3.14*t/30))",
        "fps: the frame rate of 10; frames are counted by it, and the film has the model's",
        "animation_prompts_negative: the negative prompt: nsfw",
        "the settings: 3 of the image generator: sampler, steps, strength_schedule",
    ]
    assert [seconds for _, seconds, _, _ in told(films(files.DEFORUM_SETTINGS, Options(fps=12, frames=60))[1][0])] == [
        2.5, 2.5], "the command line outranks the file"


def test_a_weight_stands_for_its_words() -> None:
    (cut,) = films('"0": "a (red (fox:1.2):`sin(t)`), in snow", "10": "a (grey) fox"')[1]
    assert [prompt for prompt, *_ in told(cut)] == ["a red fox, in snow", "a (grey) fox"]


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c"])
def test_only_line_breaks_end_a_line(mark: str) -> None:
    (cut,) = films(f"a cat{mark}on a mat[3s#] | a dog[2s]")[1]
    assert [shot.prompt for shot in cut.shots] == [f"a cat{mark}on a mat", "a dog"]


@pytest.mark.parametrize(
    ("key", "frame"), [("7", 7), ("max_f", 100), ("max_f / 3", 33), ("(max_f-10)*1", 90), ("-5+6", 1)]
)
def test_keys_may_be_arithmetic(key: str, frame: int) -> None:
    assert frame_of(key, 100, "file") == frame


@pytest.mark.parametrize(
    "key", ["__import__('os')", "max_f.real", "9**9**9", "1/0", "1e400", "-1", "(" * 90, "f()", "True", ""]
)
def test_keys_are_never_executed(key: str) -> None:
    with pytest.raises(EchoError, match=r"frame"):
        frame_of(key, 100, "file")


def test_cues_last_until_the_next() -> None:
    (cut,) = films(files.SRT)[1]
    assert told(cut) == [
        ("A cat on a mat", 4, None, None),
        ("A dog at the door", 6, "smooth", None),
        ("Nobody", 2, "smooth", None),
    ]
    assert "1.5 s without a cue" in left_out(cut)
    (vtt,) = films(files.VTT)[1]
    assert told(vtt) == [("A cat", 4, None, None), ("A dog", 3596, "smooth", None)]
    assert "NOTE" in left_out(vtt) and "align:start" in left_out(vtt)


def test_character_references_of_webvtt_are_read_and_tags_are_not_text() -> None:
    (cut,) = films("WEBVTT\n\n00:00.000 --> 00:04.000\n<v Tom>Tom &amp; Jerry</v> &lt;3 &lt;i&gt; &#233;t&eacute;\n")[1]
    assert told(cut) == [("Tom & Jerry <3 <i> été", 4, None, None)]
    (cut,) = films("1\n00:00:00,000 --> 00:00:04,000\nTom &amp; <i>Jerry</i>\n")[1]
    assert told(cut) == [("Tom &amp; Jerry", 4, None, None)]  # SubRip has no references


def test_timelines_of_editors() -> None:
    (edl,) = films(files.EDL, Options(fps=24))[1]
    assert [(prompt, round(seconds * 24), kind) for prompt, seconds, kind, _ in told(edl)] == [
        ("clip_A", 31, None),
        ("clip_B", 34, "smooth"),
    ]
    assert board(edl).title == "The cut" and "track A" in left_out(edl)
    (fcp,) = films(files.FCPXML)[1]
    assert told(fcp) == [
        ("A rooftop at sunset", 45.2, None, None),
        ("street", 5, "smooth", None),
        ("roof again", 4, "recall:roof", None),
    ]
    assert "gap of 2 s" in left_out(fcp)
    (otio,) = films(files.OTIO)[1]
    assert told(otio) == [("A rooftop at sunset", 10, None, None), ("street", 5, "smooth", None)]


@pytest.mark.parametrize(("rate", "whole"), [(29.97, 30), (59.94, 60)])
def test_timecodes_count_whole_frames_and_may_drop_some(rate: float, whole: int) -> None:
    opentime = pytest.importorskip("opentimelineio").opentime
    for mark, head in ((":", "FCM: NON-DROP FRAME"), (";", "FCM: DROP FRAME")):
        codes = f"00:00:00{mark}00 01:02:03{mark}04"
        event = f"001  AX  V  C  {codes} {codes}"
        (cut,) = films(f"TITLE: t\n{head}\n{event}\n* FROM CLIP NAME: a\n", Options(fps=rate))[1]
        counted = opentime.from_timecode(f"01:02:03{mark}04", whole * 1000 / 1001 if mark == ";" else whole).value
        assert cut.shots[0].seconds * Fraction(str(rate)) == counted


def test_markers_and_transitions_of_an_editor_are_listed() -> None:
    marker = '{"OTIO_SCHEMA": "Marker.2", "name": "fix the sky"}'
    text = files.OTIO.replace('"name": "street.mov",', f'"name": "street.mov", "markers": [{marker}],')
    (cut,) = films(text.replace("SMPTE_Dissolve", "Custom_Transition"))[1]
    assert "tracks.children[0].children[2].markers[0]: the marker 'fix the sky'" in left_out(cut)
    assert "the transition 'Custom_Transition'; it is read as a dissolve" in left_out(cut)
    text = files.FCPXML.replace('value="recall:roof"', 'value="fix the sky"').replace("Cross Dis", "Star Dis")
    (fcp,) = films(text)[1]
    assert "spine item 5: the marker 'fix the sky'" in left_out(fcp)
    assert "spine item 2: the transition 'Star Dissolve'; it is read as a dissolve" in left_out(fcp)


EDL = """TITLE: cut
FCM: NON-DROP FRAME
001  AX       {track:<5} C        00:00:00:00 00:00:01:00 01:00:00:00 01:00:01:00
* FROM CLIP NAME: a cat
002  BL       V     C        00:00:00:00 00:00:01:00 01:00:01:00 01:00:02:00
003  AX       A2    C        00:00:00:00 00:00:01:00 01:00:00:00 01:00:01:00
004  AX       V     C        00:00:00:00 00:00:01:00 01:00:02:00 01:00:03:00
* FROM CLIP NAME: a dog
"""


@pytest.mark.parametrize("track", ["V", "V2", "B", "AA/V", "A2/V"])
def test_events_with_pictures_are_shots_and_black_and_sound_are_not(track: str) -> None:
    (cut,) = films(EDL.format(track=track), Options(fps=25))[1]
    assert [(shot.prompt, shot.seconds) for shot in cut.shots] == [("a cat", 1), ("a dog", 1)]
    assert [note.what for note in cut.notes] == ["event 003 on track A2", "1 s of black"]


def test_what_stands_beside_the_spine_is_no_film_and_what_is_disabled_no_scene() -> None:
    storyline = '<spine lane="1" offset="1s"><asset-clip name="aside" duration="1s"/></spine>'
    (cut,) = films(
        '<fcpxml version="1.9"><library><event><project name="p"><sequence><spine>'
        f'<clip name="a cat" duration="2s">{storyline}</clip><clip name="a dog" duration="2s"/>'
        '<clip name="no" duration="3s" enabled="0"/></spine></sequence></project></event></library></fcpxml>')[1]
    assert [shot.prompt for shot in cut.shots] == ["a cat", "a dog"]
    assert {"<spine>", "a disabled clip of 3 s"} <= {note.what for note in cut.notes}
    timeline = json.loads(files.OTIO)
    items = timeline["tracks"]["children"][0]["children"]
    next(item for item in items if item["OTIO_SCHEMA"].startswith("Clip"))["enabled"] = False
    (whole,), (cut,) = (films(json.dumps(each))[1] for each in (json.loads(files.OTIO), timeline))
    assert len(cut.shots) == len(whole.shots) - 1 and any("a disabled clip" in note.what for note in cut.notes)


def test_a_recall_of_what_is_not_there_becomes_a_match() -> None:
    (cut,) = films(files.FCPXML.replace("recall:roof", "recall:cellar"))[1]
    assert told(cut)[-1][2] == "recall:auto" and "cellar" in left_out(cut)


@pytest.mark.parametrize(
    "text", ["", "   \n", "hello world", "{", "[1, 2]", '{"a": 1}', "[" * 100_000, "<fcpxml", "\0\0", "0:"]
)
def test_what_is_no_format_says_so(text: str) -> None:
    with pytest.raises(EchoError) as caught:
        films(text)
    assert caught.value.exit_code is Exit.USAGE and "file:1:" in caught.value.message


def test_an_entity_bomb_is_refused() -> None:
    bomb = files.FCPXML.replace("<!DOCTYPE fcpxml>", '<!DOCTYPE fcpxml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>')
    with pytest.raises(EchoError, match="entities"):
        films(bomb)


@pytest.mark.parametrize("name", files.EVERY)
def test_damaged_files_end_in_a_film_or_in_an_error_with_a_place(name: str) -> None:
    dice = random.Random(name)
    for _ in range(170):
        text = files.EVERY[name]
        for _ in range(dice.randint(1, 4)):
            place, length = dice.randrange(len(text) + 1), dice.choice((0, 1, 1, 3, 20, 200))
            junk = dice.choice(
                ("", "0", "-1", "NaN", '"', "{", "]", "|", "\n", "\x00", "1e999", "99999999999999999999", "é", "<")
            )
            text = text[:place] + junk + text[place + length :]
        try:
            for cut in films(text, Options(frames=120))[1]:
                board(cut)
        except EchoError as error:
            assert error.exit_code is Exit.USAGE, (text, error)
            assert re.match(r"file:\d+:\d+: ", error.message), (text, error.message)


@pytest.mark.parametrize("name", sorted({"scope", "scope workflow", "schedule", "schedule settings", "otio"}))
def test_wrong_values_in_json_end_in_a_film_or_in_an_error_with_a_place(name: str) -> None:
    dice = random.Random(name)
    for _ in range(100):
        whole = json.loads(files.EVERY[name])
        holders = list(_holders(whole))
        for _ in range(dice.randint(1, 2)):
            holder = dice.choice(holders)
            key = dice.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            holder[key] = dice.choice((None, True, -1, 0, 1.5, 1e300, 10**30, "", "0:(", "\0", [], {}, [None]))
        text = json.dumps(whole)
        try:
            for cut in films(text, Options(frames=120))[1]:
                board(cut)
        except EchoError as error:
            assert error.exit_code is Exit.USAGE and re.match(r"file:\d+:\d+: ", error.message), (text, error.message)


def _holders(value: object) -> Iterator[Any]:
    """Every object and list in a JSON value that is not empty."""
    if isinstance(value, dict | list) and value:
        yield value
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _holders(inside)
