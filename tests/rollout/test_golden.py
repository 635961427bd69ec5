"""The released method, reproduced: latents, and everything that was recorded on the way to them."""

import pytest
import torch

from echo_cli.layout import Role
from echo_cli.memory.recall import Keepsake
from tests.rollout.replay import KINDS, Scenario, recording, scenario_names

TOLERANCE = 1e-5
NAMES = scenario_names()
every = pytest.mark.parametrize("name", NAMES)
with_guesses = pytest.mark.parametrize("name", [name for name in NAMES if "denoised" in Scenario(name).tensors])
with_compression = pytest.mark.parametrize("name", [name for name in NAMES if Scenario(name).settings()["compression"]])


def close(ours: torch.Tensor, theirs: torch.Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    worst = (ours.float() - theirs.float()).abs().max().item()
    assert worst <= tolerance, f"{what}: {worst:.2e} apart"


@every
def test_latents(name: str) -> None:
    scenario, records, _ = recording(name)
    for record in records:
        block = record.result.block
        wanted = scenario.tensors["latents"][:, block.frames.start:block.frames.stop]
        close(record.result.latents, wanted, f"block {block.index}")
    assert records[-1].result.block.frames.stop == scenario.facts["num_frames"]


@with_guesses
def test_every_guess(name: str) -> None:
    scenario, records, _ = recording(name)
    for record, wanted in zip(records, scenario.tensors["denoised"], strict=True):
        close(torch.stack(record.guesses[:3]), wanted, f"block {record.result.block.index}")


@every
def test_positions_and_jumps(name: str) -> None:
    scenario, records, _ = recording(name)
    for record, facts in zip(records, scenario.facts["blocks"], strict=True):
        layout, attn = record.result.layout, facts["attn"]
        jump = attn["rope_jump_value"] if attn["rope_jump_enabled"] else None
        assert layout.jump == jump
        assert layout.query_position - (jump or 0) == attn["q_start"]
        assert layout.segments[0].position - (jump or 0 if not layout.past else 0) == attn["k_start"]
        assert layout.tokens == attn["k_tokens"]
        assert layout.current.position == attn["k_start"] + attn["k_frames"] - attn["q_frames"] + (jump or 0)
        assert record.position == attn["pc_start_frame"]
        assert record.end_after * scenario.facts["tiny"]["frame_seq"] == facts["local_end_index"]
        assert record.offset_after == facts["scene_timing_offset_frames"]
        assert record.clear_in == facts["evict_steps_remaining"]


@every
def test_rolls_refresh_the_recorded_anchors(name: str) -> None:
    scenario, records, _ = recording(name)
    for record, facts in zip(records, scenario.facts["blocks"], strict=True):
        roll = facts["roll"]
        frames = record.result.facts.anchors_from
        if not roll or not roll.get("inserted"):
            assert frames == ()
            continue
        wanted = list(range(roll["left"], roll["right"]))
        assert list(frames) == (wanted[::-1] if roll["reverse"] else wanted)


@every
def test_the_same_tokens_are_selected(name: str) -> None:
    scenario, records, _ = recording(name)
    selections = 0
    for record in records:
        index = record.result.block.index
        wanted = [scenario.tensors.get(f"middle_idx/b{index:03d}/l{layer}") for layer in range(scenario.spec.depth)]
        if wanted[0] is None:
            assert record.chosen is None
            continue
        selections += 1
        assert torch.equal(record.chosen, torch.stack(wanted).long()), f"block {index}"
        for layer, score in enumerate(record.scores):
            fused = scenario.tensors.get(f"fused/b{index:03d}/l{layer}")
            if fused is not None:
                usable = ~torch.isinf(score)  # the release leaves out overused tokens after recording
                assert torch.isinf(fused[score.shape[-1]:]).all()
                close(score[usable], fused[:score.shape[-1]][usable], f"scores of block {index}", 2e-4)
        recorded = scenario.facts["blocks"][index]
        if "drift_gate" in recorded:
            gates = torch.tensor([recorded["drift_gate"][str(layer)] for layer in range(scenario.spec.depth)])
            close(torch.tensor(record.result.facts.gate.read()), gates, f"gate of block {index}")
    rolls = sum(bool(block["roll"]) for block in scenario.facts["blocks"])
    assert selections <= rolls


@every
def test_calibration(name: str) -> None:
    scenario, records, _ = recording(name)
    for record, facts in zip(records, scenario.facts["blocks"], strict=True):
        assert record.result.facts.calibrated == facts["q_calib_ready"]
        assert record.result.facts.calibration_tokens == facts["q_calib_tokens"]
        assert len(record.history) * scenario.facts["tiny"]["frame_seq"] == facts["history_len"]
        key = f"b{record.result.block.index:03d}"
        if f"q_calib_mean/{key}" in scenario.tensors:
            tokens = facts["q_calib_tokens"]
            close((record.query_mean / tokens).unflatten(-1, (-1, 2)), scenario.tensors[f"q_calib_mean/{key}"], key)
            close(record.query_abs / tokens, scenario.tensors[f"q_calib_abs_mean/{key}"], key)


@every
def test_weights_rates_and_masks(name: str) -> None:
    scenario, records, _ = recording(name)
    tokens = scenario.facts["tiny"]["frame_seq"]
    for index, record in enumerate(records):
        rates = scenario.tensors.get(f"decay_rates/b{index:03d}")
        masked = [held.fade for held in record.window if held.fade is not None]
        if rates is None:
            continue
        mask = scenario.tensors[f"decay_mask/b{index:03d}"].bool()
        weights = scenario.tensors[f"weights_during/b{index:03d}"]
        after = scenario.tensors.get(f"weights_after/b{index:03d}")
        for place, held in enumerate(record.window):
            span = slice(place * tokens, (place + 1) * tokens)
            if span.start >= rates.shape[-1]:
                break
            if held.fade is None:
                assert not mask[:, span].any() and (weights[:, span] == 1).all()
                continue
            assert mask[:, span].all()
            close(record.rates[:, held.fade], rates[:, span], f"rates of block {index}")
            close(record.weights[:, held.fade], weights[:, span], f"weights of block {index}")
            if after is not None and record.end_after == len(record.window):
                close(record.weights[:, held.fade] * record.rates[:, held.fade], after[:, span], f"after block {index}")
        assert masked or not mask.any()


@every
def test_switches(name: str) -> None:
    scenario, records, keepsakes = recording(name)
    tokens = scenario.facts["tiny"]["frame_seq"]
    opened = [record for record in records if record.result.block.opens and record.result.block.scene]
    assert len(opened) == len(scenario.facts["scene_switches"])
    for number, (record, facts) in enumerate(zip(opened, scenario.facts["scene_switches"], strict=True)):
        transition = record.result.transition
        assert transition.kind is KINDS[facts["transition_mode"]]
        assert record.result.block.scene == facts["to_scene"]
        assert transition.position_jump == facts["rope_jump_value"]
        assert transition.carried * tokens == facts["local_end_after"]
        assert (transition.clear_after or 0) == facts["evict_steps"]
        if "recall_selected_scene" in facts:
            assert transition.recall.scene == facts["recall_selected_scene"]
            assert transition.recall.similarity == pytest.approx(facts["similarity"], abs=1e-5)
            assert dict(transition.recall.scores) == pytest.approx(
                {entry["scene_index"]: entry["similarity"] for entry in facts["scored_entries"]}, abs=1e-5)
        if f"staged_k/sw{number}" in scenario.tensors and transition.source in ("recall", "select"):
            keys, values = keepsakes[Keepsake(transition.source, transition.source_scene)]
            close(keys, scenario.tensors[f"staged_k/sw{number}"], f"keys carried into scene {facts['to_scene']}")
            close(values, scenario.tensors[f"staged_v/sw{number}"], f"values carried into scene {facts['to_scene']}")


@every
def test_recall_frames(name: str) -> None:
    scenario, _, keepsakes = recording(name)
    for keepsake, (keys, values) in keepsakes.items():
        wanted = f"scene{keepsake.scene}"
        if keepsake.kind == "recall" and f"compress_k/{wanted}" in scenario.tensors:
            close(keys, scenario.tensors[f"compress_k/{wanted}"], wanted)
            close(values, scenario.tensors[f"compress_v/{wanted}"], wanted)


@with_compression
def test_frames_in_the_window(name: str) -> None:
    """Film frames by window place, where the release recorded them (it leaves stale ids behind refreshed anchors)."""
    scenario, records, _ = recording(name)
    tokens, settings = scenario.facts["tiny"]["frame_seq"], scenario.settings()
    for record, recorded in zip(records, scenario.tensors["abs_frame_idx"], strict=True):
        if record.result.block.scene or record.end_after != len(record.window):
            continue  # carried frames have ids of their own there
        groups = settings["anchor_frames"] // 3
        for place, held in enumerate(record.window):
            stale = 3 * (groups - 1) <= place < 3 * groups or (record.result.block.index >= 7 and place < 3 * groups)
            if held.role is Role.HISTORY or stale or held.frame is None:
                continue
            assert (recorded[place * tokens:(place + 1) * tokens] == held.frame).all(), f"place {place}"


@every
def test_replay_is_driven_by_the_files(name: str) -> None:
    scenario = Scenario(name)
    assert sum(scenario.counts()) == scenario.facts["num_blocks"]
    assert scenario.spec.grid_of_latents(scenario.facts["tiny"]["height"], scenario.facts["tiny"]["width"]).tokens \
        == scenario.facts["tiny"]["frame_seq"]
