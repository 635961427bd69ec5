"""Replays one recorded scenario of the released implementation through our rollout, and keeps what it did.

A scenario is a pair NAME.json, NAME.safetensors in the format of this folder; another folder of the same format can be
named by the environment variable ECHO_GOLDEN_DIR. Geometry, weights, prompts, lengths and settings come from the files.
"""

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from echo_cli.memory import scoring
from echo_cli.memory.policies.base import Held, Plan
from echo_cli.memory.policies.echo_forcing import EchoForcingMemory, EchoForcingPolicy
from echo_cli.memory.settings import CutSettings
from echo_cli.memory.table import read_settings
from echo_cli.models.files.loading import load_transformer
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.matching import plan_recalls, similarities
from echo_cli.storyboard.nouns import AUTO, Block, Geometry, Kind, Scene, timeline_of
from tests.small import memories

FOLDER = Path(os.environ.get("ECHO_GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
KINDS = {"smooth": Kind.SMOOTH, "hardcut": Kind.HARD_CUT, "recall": Kind.RECALL}


def scenario_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json")
                  if path.with_suffix(".safetensors").exists() and "tiny" in json.loads(path.read_text()))


@dataclass
class Scenario:
    name: str
    facts: dict = field(init=False)
    tensors: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.facts = json.loads((FOLDER / f"{self.name}.json").read_text())
        self.tensors = load_file(FOLDER / f"{self.name}.safetensors")

    @property
    def spec(self) -> ModelSpec:
        tiny, model = self.facts["tiny"], self.facts["config"]["model_kwargs"]
        return ModelSpec(name=self.name, depth=tiny["layers"], width=tiny["dim"], heads=tiny["heads"], ffn=tiny["ffn"],
                         channels=tiny["channels"], patch=tuple(tiny["patch_size"]), text_dim=tiny["text_dim"],
                         text_len=tiny["text_len"], freq_dim=tiny["freq_dim"], eps=tiny["eps"],
                         window=model["local_attn_size"], block_frames=self.facts["config"]["num_frame_per_block"],
                         positions=min(1024, tiny["rope_max_len"]), shift=model["timestep_shift"])

    @property
    def modes(self) -> dict:
        return self.facts["config"]["interactive"]["modes"]

    def scenes(self) -> list[Scene]:
        manual = self.modes["recall"].get("manual_recall_scene_ids", [])
        scenes = []
        for index, prompt in enumerate(self.facts["scene_prompts"]):
            kind = KINDS[self.facts["scene_modes"][index - 1]] if index else None
            number = manual[index] if index < len(manual) else 0
            recall = None if kind is not Kind.RECALL else f"scene{number - 1}" if number > 0 else AUTO
            scenes.append(Scene(f"scene{index}", prompt, 1.0, kind, recall))
        return scenes

    def counts(self) -> list[int]:
        counts = list(self.facts["scene_block_counts"])
        total, cut = self.facts["num_blocks"], []
        for count in counts:  # the noise decides the length: surplus blocks belong to the last scene
            cut.append(min(count, total - sum(cut)))
        cut[-1] += total - sum(cut)
        return cut

    def settings(self) -> dict:
        pc = self.facts["config"]["model_kwargs"]["pc_config"]
        candidates = self.facts["config"]["interactive"]["compress_candidates"]
        tokens = self.facts["tiny"]["frame_seq"]
        assert pc["fusion"] == "sum"
        return {
            "anchor_frames": pc["sink_frames"], "history_frames": pc["compressed_frames"],
            "recent_frames": pc["recent_frames"], "rolling_cycle": pc["rolling_cycle"],
            "history_capacity": pc["history_capacity"] // tokens, "max_reuse": pc["topc_max_reuse"],
            "compression": pc["enable"], "sink_frames": self.facts["config"]["model_kwargs"]["sink_size"],
            "amplitude_compensation": pc["use_amplitude_compensation"], "drift_gate": pc["use_drift_gate"],
            "drift_lambda": pc["drift_gate_lambda"],
            "candidate_frames": min(candidates["storage_frames"], candidates["source_frames"]),
            "candidate_stride": candidates["stride"], "fold": candidates["mode"],
            "base_weight": candidates.get("base_frame_weight", 0.9),
            "match": "idf" if self.modes["recall"]["match_method"] == "IDF" else "embedding",
            "library": self.facts["config"]["interactive"]["pool"]["max_size"],
            "smooth": self.cut("smooth"), "hard_cut": self.cut("hardcut"), "recall": self.cut("recall"),
        }

    def cut(self, mode: str) -> dict:
        settings = self.modes[mode]
        decay, jump, plain = settings["decay"], settings["rope_jump"], CutSettings()
        return {
            "source": {"compress": "recall"}.get(settings["old_memory_source"], settings["old_memory_source"])
            if settings["use_old_memory"]
            else "none",
            "recent_frames": settings.get("old_recent_frames", 0)
            if mode == "smooth" and settings["use_old_recent"]
            else 0,
            "positions": settings.get("rope_position_mode", "local"),
            "scene_timing": settings.get("use_scene_local_timing", True),
            "target": decay["target"],
            "strategy": decay["strategy"],
            "fixed_rate": decay.get("fixed_rate", 1.0),
            "min_rate": decay.get("min_rate", plain.min_rate),
            "max_rate": decay.get("max_rate", plain.max_rate),
            "first_weight": decay.get("first_block_weight", 1.0),
            "clear_after": decay["clear_after_blocks"],
            "jump": jump["strategy"],
            "jump_value": jump.get("value", 0),
            "jump_min": jump.get("min_value", 0),
            "jump_max": jump.get("max_value", 6),
        }

    def likeness(self) -> list[list[float]]:
        if self.modes["recall"]["match_method"] == "IDF" or "filtered_prompt_embeds" not in self.tensors:
            return similarities(self.facts["scene_prompts"])
        rows = self.tensors["filtered_prompt_embeds"].float()  # [scene, row, dim]
        real = (rows != 0).any(-1, keepdim=True)
        features = torch.nn.functional.normalize((rows * real).sum(1) / real.sum(1).clamp(min=1), dim=-1)
        return (features @ features.T).tolist()

    def policy(self, cls: type[EchoForcingPolicy] = EchoForcingPolicy) -> EchoForcingPolicy:
        timeline = timeline_of(self.scenes(), self.counts(), Geometry(self.spec.block_frames))
        settings = read_settings("echo-forcing", self.settings())
        recalls = plan_recalls(timeline.scenes, self.likeness(), settings.library)
        return cls("echo-forcing", settings, Plan(self.spec, timeline, recalls))

    def noise(self, block: Block, step: int, shape: tuple[int, ...]) -> Tensor:
        if step == 0:
            return self.tensors["noise"][:, block.frames.start:block.frames.stop].float()
        return self.tensors["renoise"][3 * block.index + step - 1].float()[None]

    def run(self, policy: EchoForcingPolicy, watch=lambda block, step, guess: None):
        spec, tiny = self.spec, self.facts["tiny"]
        weights = load_file(FOLDER / self.facts["weights_file"])
        transformer = load_transformer(spec, weights, self.facts["weights_file"])
        prompts = [rows[None].float() for rows in self.tensors["prompt_embeds"]]
        grid = spec.grid_of_latents(tiny["height"], tiny["width"])
        return rollout(policy.plan.timeline, transformer, prompts, policy, self.noise, grid, guesses=watch)


@dataclass
class Recording:
    """What one block did, in the terms the released implementation was recorded in."""

    result: BlockResult
    guesses: list[Tensor]
    window: list[Held]  # in use, before eviction
    position: int  # by the scene's clock
    weights: Tensor | None  # [layer, row, token] during the block
    rates: Tensor | None
    fading: slice | None
    end_after: int
    offset_after: int
    clear_in: int
    history: list[int]
    chosen: Tensor | None  # [layer, token] history index
    scores: list[Tensor]
    query_mean: Tensor
    query_abs: Tensor


class Watched(EchoForcingMemory):
    """Also says what it holds in the middle of a block, where the block stands, and which keepsakes were put away."""

    def __init__(self, policy, store):
        super().__init__(policy, store)
        self.position, self.keepsakes = 0, {}
        put = self.library.put

        def kept(keepsake, keys, values):
            self.keepsakes[keepsake] = (keys[:, 0].clone(), values[:, 0].clone())
            put(keepsake, keys, values)

        self.library.put = kept

    def arrange(self, block):
        self.position = self.scene_position(block)
        return super().arrange(block)

    def _measure(self):
        super()._measure()
        self.during = (list(self.window_frames[:self.end]), self.fading.rows,
                       self.store.weights[:, 0].clone(), self.store.rates[:, 0].clone())


class WatchedPolicy(EchoForcingPolicy):
    def allocate(self, place):
        return Watched(self, self.new_store(place))


@cache
def recording(name: str) -> tuple[Scenario, list[Recording], dict]:
    """Replay a scenario once; also the keepsakes its library was given, by (kind, scene)."""
    scenario = Scenario(name)
    policy, guesses, records = scenario.policy(WatchedPolicy), [], []
    kept = memories(policy)
    scores: list[Tensor] = []
    best = scoring.best

    def scored(score: Tensor, count: int) -> tuple[Tensor, Tensor]:
        scores.append(score[0].clone())
        return best(score, count)

    scoring.best = scored
    for result in scenario.run(policy, lambda block, step, guess: guesses.append(guess[0].clone())):
        memory, = kept
        window, fading, weights, rates = memory.during
        chosen = result.facts.chosen
        records.append(Recording(
            result, guesses[:], window, memory.position, weights, rates, fading, memory.end, memory.offset,
            memory.fading.clear_in, [held.frame for held in memory.history.frames],
            None if chosen is None else torch.tensor(chosen.read()),
            scores[:],
            memory.history.query_sum[:, 0].clone(), memory.history.query_abs[:, 0].clone()))
        guesses.clear()
        scores.clear()
    scoring.best = best
    return scenario, records, kept[0].keepsakes
