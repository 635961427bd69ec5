"""Memory queries in the folder of a model of Wan's family: found by name, and only beside the weights they belong
to."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

for extra in ("diffusers", "transformers", "ftfy"):
    pytest.importorskip(extra, reason="needs the extra: pip install 'echo-cli[wan]'")

from echo_cli.memory.table import read_settings
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.models.queries.weights import save_queries
from echo_cli.models.wan import model as wan
from echo_cli.models.wan import rehearsal
from echo_cli.models.wan.hashes import folder_digest
from echo_cli.models.wan.weights import open_weights
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.runtime import Runtime
from echo_cli.spec import WAN_1_3B
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of

CPU = Runtime(torch.device("cpu"), torch.float32)
SPEC = replace(WAN_1_3B, depth=2, width=96, heads=4, ffn=128, text_dim=32)


def test_queries_are_loaded_beside_their_own_transformer_and_make_films(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "rehearsal"
    rehearsal.write(
        folder, SPEC, {"base_dim": 4}, {"vocab_size": 300, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    )
    plain = wan.load(CPU, folder)
    save_queries(folder, MemoryQueries(SPEC, 3), "of another transformer", {})
    assert plain.queries is None and wan.load(CPU, folder).queries is None
    save_queries(folder, MemoryQueries(SPEC, 3), open_weights(folder).hashes["transformer"], {})
    backend = wan.load(CPU, folder)
    assert backend.queries.frames == 3 and backend.weights_hash != plain.weights_hash
    assert backend.weights_hash == folder_digest(folder)  # a finished film is known without loading them
    scenes = [Scene("roof", "a roof", 1.0), Scene("again", "the roof again", 1.0, Kind.RECALL, "roof")]
    timeline = timeline_of(scenes, [7, 2], backend.spec.geometry)
    policy = plan_policy("scene-queries", read_settings("scene-queries"), backend, timeline)
    with torch.inference_mode():
        made = [result.latents for result in film(backend, timeline, policy, 0, (32, 32))]
    assert len(made) == 9 and all(latents.isfinite().all() for latents in made)
