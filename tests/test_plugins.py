"""Other packages add a policy and a model and edit nothing of ours; a broken one disturbs only those who use it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from echo_cli.trace.reader import read_trace
from tests import forked

ROOT = Path(__file__).parents[1]
STORY = """
seed: 5
scenes:
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 3s}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1.5s}
"""
ROWS = '''
"""Rows of a package from elsewhere. No torch is imported here."""

from dataclasses import dataclass, replace

from echo_cli.memory.settings import WindowSettings
from echo_cli.memory.table import PolicyRow
from echo_cli.models.loaders import RandomSmall
from echo_cli.models.registry import Model
from echo_cli.spec import RANDOM_SMALL


@dataclass(frozen=True)
class BriefSettings(WindowSettings):
    kept: int = 2


class Mini(RandomSmall):
    DIGEST = "mini of elsewhere"


BRIEF = PolicyRow("the last few frames alone", BriefSettings, "elsewhere.policy:BriefPolicy")
MINI = Model(replace(RANDOM_SMALL, name="mini"), Mini())
NONSENSE = 3
'''
POLICY = '''
from echo_cli.memory.policies.base import SlidingPolicy


class BriefPolicy(SlidingPolicy):
    """Remembers `kept` frames."""

    def __init__(self, name, settings, plan):
        super().__init__(name, settings, plan)
        if not 0 < settings.kept < self.room:
            self.refuse(f"{settings.kept} frames cannot be kept", f"Keep 1 to {self.room - 1}.")
        self.room = settings.kept
'''


LOST = '''
from echo_cli.memory.settings import WindowSettings
from echo_cli.memory.table import PolicyRow

GONE = PolicyRow("its module is not there", WindowSettings, "lost.nothere:Policy")
NAMELESS = PolicyRow("its class is not there", WindowSettings, "lost.rows:Policy")
'''
PLAIN = '''
from echo_cli.memory.table import PolicyRow

ROW = PolicyRow("its settings are none", int, "lost.rows:Policy")
'''


def install(place: Path, package: str, files: Mapping[str, str], entries: str) -> None:
    """A distribution as pip would leave it."""
    (place / package).mkdir(parents=True)
    for name, text in files.items():
        (place / package / name).write_text(text)
    info = place / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    install(place / "site", "elsewhere", {"__init__.py": "", "rows.py": ROWS, "policy.py": POLICY}, (
        "[echo_cli.policies]\nbrief = elsewhere.rows:BRIEF\n[echo_cli.models]\nmini = elsewhere.rows:MINI\n"))
    install(place / "site", "broken", {"__init__.py": "import nothing_of_that_name\n"}, (
        "[echo_cli.policies]\nbad = broken:ROW\nodd = elsewhere.rows:NONSENSE\ntwice = broken:ROW\nsink = broken:ROW\n"
        "[echo_cli.models]\nbad-model = broken:ROW\n"))
    install(place / "site", "lost", {"__init__.py": "", "rows.py": LOST, "plain.py": PLAIN}, (
        "[echo_cli.policies]\ngone = lost.rows:GONE\nnameless = lost.rows:NAMELESS\nplain = lost.plain:ROW\n"
        "[echo_cli.formats]\nlost = lost.nothere:ROW\n"))
    install(place / "site", "other", {"__init__.py": ""}, "[echo_cli.policies]\ntwice = other:ROW\n")
    (place / "story.yaml").write_text(STORY)
    (place / "brief.yaml").write_text("model: mini\nmemory: {policy: brief, kept: 1}\n" + STORY)
    return place


def echo(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = forked.run(*arguments, cwd=place, env={**os.environ, "COLUMNS": "200"}, site=place / "site")
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done


def test_a_film_of_a_policy_and_a_model_from_elsewhere(place: Path) -> None:
    echo(place, "generate", "brief.yaml", "--scale", "1", "--preset", "ultrafast")
    trace = read_trace(place / "brief.trace.json")
    assert trace.header.policy.name == "brief" and trace.header.policy.settings == {"window": None, "kept": 1}
    assert trace.header.model.name == "mini"
    assert [sum(segment.tokens for segment in trace.block(index).layout.past) for index in range(3)] == [0, 6, 6]
    weights = json.loads((place / "brief.manifest.json").read_text())["identity"]["weights"]
    assert weights == "mini of elsewhere"
    assert "skipped" in echo(place, "generate", "brief.yaml", "--scale", "1", "--preset", "ultrafast").stderr


def test_settings_of_a_policy_from_elsewhere_are_checked(place: Path) -> None:
    assert json.loads(echo(place, "validate", "brief.yaml", "--json").stdout)["policy"] == "brief"
    (place / "wrong.yaml").write_text("memory: {policy: brief, keep: 1}\n" + STORY)
    assert "has no setting 'keep' (did you mean 'kept'?)" in echo(place, "validate", "wrong.yaml", code=2).stderr
    choice = ("--model", "mini", "--memory", "brief", "-o", "no.mp4")
    said = echo(place, "generate", "story.yaml", *choice, "--set", "memory.kept=99", code=2).stderr
    assert "99 frames cannot be kept" in said and "Keep 1 to 17." in said
    assert "brief" in echo(place, "generate", "story.yaml", "--memory", "breif", code=2).stderr


def test_the_bench_measures_it(place: Path) -> None:
    done = echo(place, "bench", "memory", "--model", "mini", "--policy", "brief", "--policy", "brief:kept=1",
                "--against", "sink", "--scenario", "recall-1", "--seeds", "1", "--jobs", "1", "--out", "found")
    assert any(line.startswith("brief ") and "±" in line for line in done.stdout.splitlines())
    assert any(line.startswith("brief:kept=1") for line in done.stdout.splitlines())


def test_help_and_completion_name_it(place: Path) -> None:
    output = "".join(echo(place, "generate", "--help").stdout.split())
    assert "scene-queries,bad,brief,gone,nameless,odd,plain,twice" in output
    code = "from echo_cli.cli import complete; print(complete.policies('br'), complete.models('m'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{place / 'site'}"})
    assert done.stdout == "['brief'] ['mini']\n"
    listed = {row["name"]: row for row in json.loads(echo(place, "models", "list", "--json").stdout)["models"]}
    assert ("bad-model: 'bad-model' comes from the package broken, which cannot be loaded: ModuleNotFoundError: No "
            "module named 'nothing_of_that_name'. Update broken") in echo(place, "models", "list").stderr
    assert listed["mini"]["state"] == "complete" and listed["bad-model"]["state"] == "incomplete"
    assert "the package broken" in listed["bad-model"]["why"]


@pytest.mark.parametrize(("name", "said"), [
    ("bad", "'bad' comes from the package broken, which cannot be loaded: ModuleNotFoundError: No module named "
            "'nothing_of_that_name'"),
    ("odd", "'odd' comes from the package broken, but elsewhere.rows:NONSENSE is not a PolicyRow"),
    ("plain", "'plain' comes from the package lost, which cannot be loaded: TypeError: int is no WindowSettings"),
    ("twice", "several packages offer 'twice' in echo_cli.policies: broken, other"),
])
def test_a_broken_package_is_named_to_those_who_use_it(name: str, said: str, place: Path) -> None:
    (place / f"{name}.yaml").write_text(f"memory: {name}\n{STORY}")
    for arguments in (("generate", "story.yaml", "--memory", name, "-o", "no.mp4"), ("validate", f"{name}.yaml"),
                      ("bench", "memory", "--policy", name)):
        done = echo(place, *arguments, code=3)
        assert said in done.stderr and "hint: " in done.stderr and "uninstall" in done.stderr.lower()


@pytest.mark.parametrize(("name", "said"), [
    ("gone", "'gone' comes from the package lost, which cannot be loaded: ModuleNotFoundError: No module named "
             "'lost.nothere'"),
    ("nameless", "'nameless' comes from the package lost, which cannot be loaded: AttributeError: "),
])
def test_a_package_whose_policy_is_not_there_is_named(name: str, said: str, place: Path) -> None:
    done = echo(place, "generate", "story.yaml", "--memory", name, "-o", "no.mp4", code=3)
    assert done.stderr.startswith(said) and "hint: Update lost or uninstall it." in done.stderr


def test_a_broken_package_disturbs_nobody_else_and_takes_no_name_of_ours(place: Path) -> None:
    echo(place, "validate", "story.yaml")
    (place / "odd.txt").write_text("nothing that anybody knows\n\nat all")
    assert echo(place, "import", "odd.txt", code=2).stderr.startswith("odd.txt:1:1: no known format")
    echo(place, "generate", "story.yaml", "--model", "mini", "--memory", "sink", "-o", "sink.mp4", "--scale", "1")
    assert read_trace(place / "sink.trace.json").header.policy.settings == {"window": None, "anchor_frames": 3}


def test_names_are_listed_without_importing_anybody_or_torch(place: Path) -> None:
    code = ("import sys; from echo_cli.memory.table import POLICIES; from echo_cli.models.registry import MODELS; "
            "assert {'brief', 'mini'} <= {*POLICIES, *MODELS}; "
            "assert not {'elsewhere', 'broken', 'torch'} & {*sys.modules}")
    path = f"{ROOT}{os.pathsep}{place / 'site'}"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}).returncode == 0
