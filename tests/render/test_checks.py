"""What is said of a film before it is rendered, and what is refused."""

from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.render.checks import warnings
from echo_cli.render.outputs import outputs_of
from echo_cli.render.prepare import prepare, read_storyboard
from echo_cli.render.request import Request
from echo_cli.spec import TINY, WAN_1_3B
from echo_cli.storyboard.parse import parse

STORY = """
scenes:
  - {id: a, prompt: a red ball, duration: 2s}
  - {id: b, prompt: a blue box, duration: 2s, transition: cut}
  - {id: c, prompt: a red ball, duration: 2s, transition: "recall:a"}
"""


def request(**options) -> Request:
    return Request(parse(STORY), output="film.mp4", **options)


@pytest.mark.parametrize("size", ["288x512", "160x288", "192x320", "384x256", "32x32"])
def test_sizes_that_come_out_as_stripes_are_refused(size: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(request(size=size))
    assert f"model 'tiny' makes stripes of pictures of {size}: it was trained for 192x128" in caught.value.message
    assert "--force" in caught.value.hint
    assert prepare(request(size=size, force=True)).size == tuple(map(int, size.split("x")))


@pytest.mark.parametrize("size", ["192x128", "96x128", "128x128", "320x128", "96x160"])
def test_sizes_that_look_right_are_not(size: str) -> None:
    job = prepare(request(size=size))
    said = warnings(job.storyboard, TINY, job.policy)
    assert said == [] if size == "192x128" else said[0].startswith(f"pictures of {size} are ")


def test_a_warning_says_how_far_a_size_is_from_what_was_learned() -> None:
    job = prepare(request(size="96x160"))
    assert warnings(job.storyboard, TINY, job.policy) == [
        "pictures of 96x160 are 0.5 times as wide and 1.25 times as high as those that tiny was trained for (192x128), "
        "and may look worse"]


@pytest.mark.parametrize(("told", "said"), [
    ("", []),
    ("fps: 16", []),
    ("fps: 24", ["tiny makes 16 pictures for a second; shown at 24 a second, everything moves 1.5 times as fast"]),
])
def test_another_rate_is_warned_about(told: str, said: list[str]) -> None:
    board = parse(f"{told}\nscenes: [{{id: a, prompt: a red ball, duration: 1s}}]")
    assert warnings(board, TINY, "echo") == said


@pytest.mark.parametrize(("prompts", "said"), [
    (["球", "⭐", "42"], []),
    (["…"], ["the prompt of scene 's0' has no words, so what it shows is left to chance"]),
    (["!?", "a ball", "_"], ["the prompts of scenes 's0', 's2' have no words, so what they show is left to chance"]),
])
def test_a_prompt_without_words_is_warned_about(prompts: list[str], said: list[str]) -> None:
    scenes = "\n".join(f"  - {{id: s{n}, prompt: '{prompt}', duration: 1s}}" for n, prompt in enumerate(prompts))
    assert warnings(parse(f"scenes:\n{scenes}"), TINY, "echo") == said


@pytest.mark.parametrize(("model", "size", "hint"), [
    (WAN_1_3B, (1920, 1080), "The nearest size of this shape is 2048x1152."),
    (WAN_1_3B, (700, 1244), "No size of this shape (175:311) is possible; the nearest is 704x1248."),
    (WAN_1_3B, (833, 480), "No size of this shape (833:480) is possible; the nearest is 832x480."),
    (WAN_1_3B, (16384, 16380), "No size of this shape (4096:4095) is possible; the nearest is 16384x16384."),
    (TINY, (720, 1280), "No size of this shape (9:16) is possible; the nearest is 96x160."),
    (TINY, (10, 10), "The nearest size of this shape is 96x96."),
])
def test_a_suggested_size_keeps_the_shape_or_says_that_none_does(model, size, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        model.grid(size)
    assert caught.value.hint == hint


@pytest.mark.parametrize("policy", ["window", "sink", "flush", "recache", "echo-infinity", "echo-forcing",
                                    "scene-queries", "echo"])
def test_a_recall_under_a_policy_that_keeps_no_scenes_is_a_warning(policy: str) -> None:
    film = read_storyboard(request(memory=policy))
    said = warnings(film.storyboard, film.spec, film.policy)
    able = policy in ("echo", "echo-forcing", "scene-queries")
    assert said == ([] if able else [
        f"memory policy '{policy}' keeps no scenes, so nothing is recalled in 'c'; echo, echo-forcing and "
        "scene-queries can recall"])


def test_settings_are_tried_on_the_model_before_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a window of 3 frames leaves no room beside a block of 3"):
        read_storyboard(request(settings={"window": 3})).job(outputs_of(str(tmp_path / "film.mp4"), ""))
    assert prepare(request(settings={"anchor_frames": 9, "history_frames": 6}))


def test_a_font_is_part_of_the_film_by_its_content(tmp_path: Path) -> None:
    for name in ("a.ttf", "same.ttf", "other.ttf"):
        (tmp_path / name).write_text("another font" if name == "other.ttf" else "a font")
    here, moved, other = (prepare(request(subtitles="burn", font=tmp_path / name)).identity("0" * 64)
                          for name in ("a.ttf", "same.ttf", "other.ttf"))
    assert here == moved != other
    with pytest.raises(UsageError, match="no.ttf: No such file or directory"):
        prepare(request(subtitles="burn", font=tmp_path / "no.ttf")).identity("0" * 64)


def test_a_font_is_named_by_its_file_and_is_part_of_the_film(tmp_path: Path) -> None:
    (tmp_path / "a.ttf").write_text("a font")
    plain, drawn = (prepare(request(subtitles="burn", **options)) for options in ({}, {"font": tmp_path / "a.ttf"}))
    assert plain.font_file is None and drawn.font_file == tmp_path / "a.ttf"
    assert plain.identity("0" * 64) != drawn.identity("0" * 64)
