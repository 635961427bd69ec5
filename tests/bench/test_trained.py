"""The report measures what it says it measures, and leaves sheets to look at."""

import json
from pathlib import Path

import pytest
import torch

from echo_cli.bench import trained
from echo_cli.training.sheets import held_out
from echo_cli.world.stories import StoryKind
from tests.training.pupils import small_backend


@pytest.mark.slow
def test_a_report_is_written_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "_SECONDS", 36)
    monkeypatch.setattr(trained, "_COLD", 3)
    heard: list[str] = []
    figures = trained.report(small_backend(), tmp_path, 4, heard.append)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    assert len(heard) == 9 and figures["judges on real clips"]["place"] <= 1
    assert {"attributes.png", "variety.png", "recall.png", "five-minutes.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert 0 <= figures["recall"]["share that gains"] <= 1 and figures["five minutes"]["motion kept"] > 0


def test_a_second_moon_is_a_wrong_sky_and_another_subject_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = small_backend()
    monkeypatch.setattr(trained, "_SHOWN", 1)
    monkeypatch.setattr(trained, "_CONTINUED", 2)
    (sampled,) = held_out(4, StoryKind.HOLD, 9)
    real = backend.codec.decode(backend.codec.encode(sampled.pictures))[0]
    lowest = int(sampled.truth.box[:, :, 1].amin(1).max())

    def wrong(change) -> dict:
        made = real.clone()
        change(made[:, 9:])
        monkeypatch.setattr(trained, "films", lambda *_: made)
        return trained.steadiness(backend, 4)

    def moon(pictures: torch.Tensor) -> None:
        pictures[:, :12, :, 4:12, 4:20] += 0.5

    assert set(wrong(lambda pictures: None).values()) == {0.0}
    assert set(wrong(lambda pictures: pictures[..., 2 * (lowest + 1):, :].add_(1)).values()) == {0.0}
    found = wrong(moon)
    assert found["sky wrong in the next block"] > 0.001
    assert found["sky wrong in the next eight"] == pytest.approx(found["sky wrong in the next block"] / 2)
