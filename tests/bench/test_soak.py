"""A day of film in sittings: the same film as in one, memory that stays, and a report that tells what it measured."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from echo_cli.bench import soak
from echo_cli.bench.soak import REPORT, Soak, film_of, hours
from echo_cli.cli.app import run
from echo_cli.errors import MissingError, UsageError
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import load_backend
from echo_cli.runtime import Runtime
from echo_cli.spec import RANDOM_SMALL, TINY
from echo_cli.storyboard.nouns import Kind

SPEC = replace(RANDOM_SMALL, name=TINY.name, steps=(1000,))  # under this name the judges look at its pictures
CPU = Runtime(torch.device("cpu"), torch.float32)
UNTRAINED = {"trained": False}


@pytest.fixture(scope="module")
def backend() -> Backend:
    return replace(load_backend(RANDOM_SMALL.name, CPU), spec=SPEC)


def soaked(folder: Path, backend: Backend, pictures: int = 400, policy: str = "echo-infinity", **settings) -> Soak:
    return Soak(
        folder, backend, CPU, policy, settings or (UNTRAINED if policy == "echo-infinity" else {}), 0, pictures, 6.0
    )


def quietly(blocks: int, milliseconds: float) -> None: ...


def looks(run: Soak) -> list[tuple]:
    """All that a run found, but times and the process's memory."""
    return [
        (
            each.scene,
            each.prompt,
            each.blocks,
            each.pictures,
            each.bytes,
            each.place,
            each.colour,
            each.colourfulness,
            each.contrast,
            each.sharpness,
            each.moving,
        )
        for each in run.chapters
    ]


def test_a_film_has_at_least_its_pictures_and_goes_round(backend: Backend) -> None:
    day = film_of(soak.DAY, backend, 600.0)
    assert day.pictures >= soak.DAY and day.pictures - soak.DAY < 12 and len(day.scenes) in (145, 146)
    prompts = [scene.prompt for scene in day.scenes]
    assert prompts[:6] == prompts[6:12] and len(set(prompts)) == 6
    assert len({scene.id for scene in day.scenes}) == len(day.scenes)  # noise is keyed by it: no hour repeats another
    assert min(len(span.blocks) for span in day.spans) >= 5
    hourly = Counter(soak.hour_of(span, day.geometry) for span in day.spans)
    assert hourly == {hour: soak.PLACES for hour in range(1, 25)} | {25: len(day.scenes) - 24 * soak.PLACES}


def test_sittings_make_the_film_that_one_would(tmp_path: Path, backend: Backend) -> None:
    whole = soaked(tmp_path / "whole", backend)
    assert whole.sit(lambda: False, quietly) and whole.done
    left = 1
    while not (run := soaked(tmp_path / "parts", backend)).done:
        made = []
        run.sit(lambda made=made: len(made) >= 7, lambda blocks, _, made=made: made.append(blocks))
        left += 1
    assert left > 3 and run.sittings == left - 1 and looks(run) == looks(whole)
    assert len(list((tmp_path / "parts").glob("state-*"))) == 1
    assert [row.bytes for row in whole.chapters] == [whole.chapters[0].bytes] * len(whole.chapters)
    report = json.loads((tmp_path / "whole" / REPORT).read_text())
    assert (
        report["hours"] == json.loads(json.dumps(hours(whole.chapters)))
        and sum(row["blocks"] for row in report["hours"]) == 34
    )
    assert all(0 < chapter.update_share < 1 and chapter.block_ms > 0 for chapter in whole.chapters)
    assert whole.sheet().is_file()


def test_any_policy_can_be_soaked(tmp_path: Path, backend: Backend) -> None:
    run = soaked(tmp_path, backend, 100, "window")
    assert run.sit(lambda: False, quietly) and run.chapters[0].update_share is None


@pytest.mark.parametrize(("policy", "kind"), [("echo", Kind.RECALL), ("window", Kind.SMOOTH)])
def test_a_place_that_has_been_seen_is_recalled_if_memory_can_and_compared_with_its_first_scene(
        policy: str, kind: Kind, tmp_path: Path, backend: Backend) -> None:
    run = Soak(tmp_path, backend, CPU, policy, {}, 0, 480, 4.0)
    scene = run.timeline.scenes[6]
    assert scene.transition is kind and (kind is Kind.SMOOTH or scene.recall == "scene 1")
    assert run.sit(lambda: False, quietly)
    places = [chapter.same_place for chapter in run.chapters]
    assert len(places) > 6 and places[:6] == [None] * 6 and all(5 < place < 60 for place in places[6:])
    assert hours(run.chapters)[0]["same_place"] == pytest.approx(fmean(places[6:]), abs=1e-3)


def test_hours_are_laid_beside_the_first(tmp_path: Path, backend: Backend) -> None:
    run = soaked(tmp_path, backend, 100)
    run.sit(lambda: False, quietly)
    one = run.chapters[0]
    later = replace(
        one,
        hour=2,
        sharpness=0.5 * one.sharpness,
        place=not one.place,
        blocks=2 * one.blocks,
        block_ms=3 * one.block_ms,
    )
    first, second = hours([one, later])
    assert first["sharpness_kept"] == 1.0 and second["sharpness_kept"] == 0.5 and second["contrast_kept"] == 1.0
    assert second["place_right"] == 1 - first["place_right"] and second["block_ms"] == pytest.approx(
        3 * first["block_ms"], rel=1e-3
    )


def test_the_judges_say_nothing_of_a_world_they_do_not_know(tmp_path: Path, backend: Backend) -> None:
    run = soaked(tmp_path, replace(backend, spec=replace(SPEC, name="other")), 100)
    run.sit(lambda: False, quietly)
    assert run.chapters[0].place is run.chapters[0].motion is None and run.chapters[0].contrast > 0
    assert hours(run.chapters)[0]["shape_right"] is None


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path, backend: Backend) -> None:
    soaked(tmp_path, backend).sit(lambda: True, quietly)
    with pytest.raises(UsageError, match="differs in policy, settings"):
        soaked(tmp_path, backend, policy="window")
    with pytest.raises(UsageError, match="differs in pictures"):
        soaked(tmp_path, backend, 500)
    state = next(tmp_path.glob("state-*"))
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(UsageError, match="bytes, not") as caught:
        soaked(tmp_path, backend)
    assert "--out" in caught.value.hint
    (tmp_path / REPORT).write_text("{}")
    with pytest.raises(MissingError, match="not a soak's report"):
        soaked(tmp_path, backend)


def test_the_command_sits_and_goes_on(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    def typed(*more: str) -> str:
        assert run(["bench", "soak", "--out", str(tmp_path / "run"), "--policy", "window", "--pictures", "145",
                    "--scene", "5", "--threads", "1", *more]) == 0
        return capsys.readouterr().out

    first, report = typed("--minutes", "0"), json.loads(typed("--json"))
    assert report["done"] and report["sittings"] == 2 and report["hours"][0]["blocks"] == 13
    assert "hour" in first and "9 of 153 pictures, 1 sitting\n" in first and threads == [1, 1]
