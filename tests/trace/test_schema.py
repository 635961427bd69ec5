"""The schema that ships and the records that are written describe the same file."""

import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from echo_cli.trace import records
from tests.trace.story import write_story

SCHEMA = json.loads(files("echo_cli.trace").joinpath("schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
DEFS = SCHEMA["$defs"]
HEADER = DEFS["header"]["properties"]
BLOCK = DEFS["block"]["properties"]


def test_a_written_trace_is_valid(tmp_path: Path) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    trace = json.loads(write_story(tmp_path / "film.trace.json").read_text("utf-8"))
    VALIDATOR.validate(trace)
    assert {row["kind"] for row in trace["records"]} == set(records.KINDS)


@pytest.mark.parametrize(("record", "described"), [
    (records.Header, DEFS["header"]), (records.StoryboardFacts, HEADER["storyboard"]),
    (records.ModelFacts, HEADER["model"]), (records.DeviceFacts, HEADER["device"]),
    (records.PolicyFacts, HEADER["policy"]), (records.FilmFacts, HEADER["film"]),
    (records.SceneFacts, HEADER["timeline"]["items"]), (records.SceneRecord, DEFS["scene"]),
    (records.RecallFrameRecord, DEFS["recall_frame"]), (records.BlockRecord, DEFS["block"]),
    (records.Layout, BLOCK["layout"]), (records.RollingAnchor, BLOCK["rolling"]),
    (records.Measured, DEFS["measured"]),
    (records.DecayMap, DEFS["measured"]["properties"]["decay"]),
    (records.Chosen, DEFS["measured"]["properties"]["chosen"]),
    (records.LayerMeasured, DEFS["measured"]["properties"]["layers"]["items"]),
    (records.QueryFrame, DEFS["measured"]["properties"]["queries"]["items"]), (records.Totals, DEFS["totals"]),
], ids=lambda value: getattr(value, "__name__", ""))
def test_the_schema_names_the_fields_of_the_records(record: type, described: dict) -> None:
    assert set(described["properties"]) - {"kind"} == {field.name for field in fields(record)}


@pytest.mark.parametrize("spoil", [
    lambda trace: trace.pop("totals"),
    lambda trace: trace.update(version=2),
    lambda trace: trace["records"].append({"kind": "gossip"}),
    lambda trace: trace["records"][1]["layout"]["segments"][0].update(role="boss"),
    lambda trace: trace["records"][1].update(frames=[0]),
    lambda trace: trace["records"][1].update(mood="fine"),
])
def test_the_schema_refuses_what_is_wrong(tmp_path: Path, spoil) -> None:
    trace = json.loads(write_story(tmp_path / "film.trace.json").read_text("utf-8"))
    spoil(trace)
    assert not VALIDATOR.is_valid(trace)
