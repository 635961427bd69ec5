"""The report measures what it says it measures, and leaves sheets to look at."""

import json
from pathlib import Path

import pytest

from echo_cli.bench import trained
from tests.training.pupils import small_backend


@pytest.mark.slow
def test_a_report_is_written_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "_SECONDS", 36)
    monkeypatch.setattr(trained, "_COLD", 3)
    heard: list[str] = []
    figures = trained.report(small_backend(), tmp_path, 4, heard.append)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    assert len(heard) == 8 and figures["judges on real clips"]["place"] <= 1
    assert {"attributes.png", "variety.png", "recall.png", "five-minutes.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert 0 <= figures["recall"]["share that gains"] <= 1 and figures["five minutes"]["motion kept"] > 0
