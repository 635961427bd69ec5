"""What a shell is offered."""

import os
import subprocess
import sysconfig
from pathlib import Path
from types import SimpleNamespace

from echo_cli.cli import complete
from tests.trace.story import STORY, write_story


def test_names_of_models_and_policies() -> None:
    assert complete.models("t") == ["tiny"]
    assert complete.policies("echo") == ["echo", "echo-forcing", "echo-infinity"]
    assert "window" in complete.policies("")


def test_scenes_of_a_trace(tmp_path: Path) -> None:
    trace = write_story(tmp_path / "film.trace.json")
    ids = [scene.id for scene in STORY]
    assert complete.scene_ids(SimpleNamespace(params={}, args=[str(trace)]), "") == ids
    assert complete.scene_ids(SimpleNamespace(params={"trace": trace}), ids[1]) == [ids[1]]
    line = ["echo-cli", "inspect-cache", str(trace), "--scene", ids[0][:2]]
    offered = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "echo-cli"], capture_output=True, text=True,
        env={**os.environ, "_ECHO_CLI_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(line), "COMP_CWORD": "4"})
    assert ids[0] in offered.stdout.split()


def test_what_cannot_be_read_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    for path in (tmp_path / "bad.json", tmp_path / "none.json", tmp_path, None):
        assert complete.scene_ids(SimpleNamespace(params={"trace": path}, args=[]), "") == []
    assert complete.scene_ids(SimpleNamespace(params={}, args=[]), "") == []
