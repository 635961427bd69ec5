"""Fused passes compute what the transformer's own layers do; recorded ones have the bits of launched ones.

On a CPU by Triton's interpreter, where it is installed; the tests marked `gpu` need a card.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from echo_cli.kernels import usable
from echo_cli.memory.table import POLICIES
from echo_cli.models.fp8 import attend_in_eight_bits, use_eight_bits
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import choose_attention
from echo_cli.rollout.rollout import Begun, BlockResult, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.state import pack, unpack
from echo_cli.storyboard.nouns import Kind
from tests.small import GRID, SPEC, STORY, model, policy_for, prompts_for, run, story

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
READY = usable(DEVICE)
if READY:
    from echo_cli.models.fused import FusedPass, RecordedPass, fuse_passes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")]
gpu = pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
BRIEF = [(None, None, 2)]


def fused(dtype: torch.dtype = torch.float32, graphs: bool = False, eight: bool = False,
          attention: bool = False) -> Transformer:
    transformer = model().to(DEVICE, dtype)
    choose_attention(transformer)
    if eight:
        use_eight_bits(transformer, DEVICE)
    if attention:
        attend_in_eight_bits(transformer)
    fuse_passes(transformer, graphs)
    return transformer


def blocks(name: str, transformer: Transformer, scenes: list, begun: Begun | None = None) -> Iterator[BlockResult]:
    timeline = story(scenes)
    return rollout(timeline, transformer, prompts_for(timeline), policy_for(name, timeline),
                   KeyedNoise(1, timeline.scenes), GRID, begun=begun)


def film(name: str, transformer: Transformer, scenes: list) -> list[torch.Tensor]:
    return [result.latents.float().cpu() for result in blocks(name, transformer, scenes)]


@torch.inference_mode()
def test_a_fused_film_is_the_plain_one() -> None:
    plain = run("window", story(BRIEF))
    for one, two in zip(plain, film("window", fused(), BRIEF), strict=True):
        torch.testing.assert_close(two, one.latents, atol=1e-5, rtol=0)


def test_parts_that_share_a_product_are_views_of_it() -> None:
    for eight in (False, True):
        transformer = model().to(DEVICE)
        if eight:
            use_eight_bits(transformer, DEVICE)
        before = {name: tensor.float().clone() for name, tensor in transformer.state_dict().items()}
        joined = FusedPass(transformer)._layers[0].qkv
        part = transformer.blocks[0].self_attn.k
        assert part.weight.untyped_storage().data_ptr() == joined.weight.untyped_storage().data_ptr()
        assert all(torch.equal(tensor.float(), before[name]) for name, tensor in transformer.state_dict().items())


def test_what_trains_goes_through_the_layers_themselves() -> None:
    transformer = fused()
    timeline = story(BRIEF)
    result = next(rollout(timeline, transformer, prompts_for(timeline), policy_for("window", timeline),
                          KeyedNoise(1, timeline.scenes), GRID))
    plain = run("window", timeline)[0]
    torch.testing.assert_close(result.latents.cpu(), plain.latents, atol=1e-5, rtol=0)


@gpu
@pytest.mark.parametrize("name", POLICIES)
@torch.inference_mode()
def test_under_every_memory_a_card_computes_what_a_cpu_does(name: str) -> None:
    plain = run(name, story(STORY))
    for one, two in zip(plain, film(name, fused(), STORY), strict=True):
        torch.testing.assert_close(two, one.latents, atol=1e-3 if "infinity" in name or "queries" in name else 1e-4,
                                   rtol=0)


class Tape:
    """Stands in for CUDA graphs where there are none: a replay runs the work as it was when it was recorded, with the
    context of that block. What changes from block to block must therefore come from tensors."""

    def __init__(self) -> None:
        self.recorded, self.replayed = 0, 0

    def __call__(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        made = torch.empty(1, SPEC.block_frames, SPEC.channels, GRID.height, GRID.width)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            made.copy_(work())

        return replay, made


WATCHED = {  # a film, and how many kinds of passes it has: unwatched ones, clean ones, and those that choose history
    "echo-forcing": ([(None, None, 10)], 3),
    "recache": ([(None, None, 8), (Kind.SMOOTH, None, 1)], 2),
}


@pytest.mark.parametrize(("name", "attention"), [("echo-forcing", False), ("echo-forcing", True), ("recache", False)])
@torch.inference_mode()
def test_what_a_recorded_pass_depends_on_lies_in_tensors(name: str, attention: bool) -> None:
    (scenes, kinds), tape, recorded = WATCHED[name], Tape(), fused(attention=attention)
    recorded.forward = RecordedPass(recorded.forward, tape)
    plain, made = film(name, fused(attention=attention), scenes), film(name, recorded, scenes)
    assert all(torch.equal(one, two) for one, two in zip(plain, made, strict=True))
    assert recorded.forward.recorded == kinds, "the watched passes too"
    assert tape.recorded == kinds and tape.replayed > 8


@torch.inference_mode()
def test_a_fused_film_with_attention_in_eight_bits_is_near_the_plain_one() -> None:
    """Not equal: a number that lies between two codes may go to either. Triton's interpreter also halves what it rounds
    up to a power of two."""
    transformer = model()
    attend_in_eight_bits(transformer)
    exact, plain = run("window", story(BRIEF)), run("window", story(BRIEF), transformer=transformer)
    made = film("window", fused(attention=True), BRIEF)
    off = [float((one.latents - two).norm()) for one, two in zip(plain, made, strict=True)]
    far = [float((one.latents - two.latents).norm()) for one, two in zip(exact, plain, strict=True)]
    assert off[0] < 1e-4 and far[1] > 1e-3 and off[1] < (1 if CUDA else 4) * far[1]


@gpu
@pytest.mark.parametrize(("name", "attention"), [("window", False), ("echo-forcing", False), ("scene-queries", False),
                                                 ("window", True), ("echo-forcing", True)])
@torch.inference_mode()
def test_recorded_passes_have_the_bits_of_launched_ones(name: str, attention: bool) -> None:
    launched, recorded = (fused(torch.bfloat16, graphs, attention=attention) for graphs in (False, True))
    assert isinstance(recorded.forward, RecordedPass)
    plain, made = film(name, launched, STORY), film(name, recorded, STORY)
    assert all(torch.equal(one, two) for one, two in zip(plain, made, strict=True))
    assert recorded.forward.recorded == (3 if name == "echo-forcing" else 2)


@gpu
@pytest.mark.parametrize(("name", "attention"), [("window", False), ("echo-forcing", False), ("scene-queries", False),
                                                 ("echo-forcing", True)])
@torch.inference_mode()
def test_a_film_interrupted_and_resumed_on_a_card_is_the_same_bits(name: str, attention: bool) -> None:
    transformer, whole, kept = fused(torch.bfloat16, True, attention=attention), [], []
    for result in blocks(name, transformer, STORY):
        whole.append(result.latents.clone())
        tensors, plain = pack(result.state())
        kept.append(unpack({key: tensor.cpu().clone() for key, tensor in tensors.items()}, plain))
    for stop in (8, 13, 30):
        rest = [result.latents.clone() for result in blocks(
            name, fused(torch.bfloat16, True, attention=attention), STORY, Begun(stop, kept[stop - 1]))]
        assert all(torch.equal(one, two) for one, two in zip(rest, whole[stop:], strict=True))


@gpu
@torch.inference_mode()
def test_recorded_passes_never_synchronise_once_they_are_recorded() -> None:
    loop = blocks("echo-forcing", fused(torch.bfloat16, graphs=True), [(None, None, 16)])
    for _ in range(10):
        next(loop)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in loop:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
@torch.inference_mode()
def test_a_card_without_room_for_a_recording_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    transformer = fused(torch.bfloat16, graphs=True)
    monkeypatch.setattr(RecordedPass, "_recording", no_room)
    made = film("window", transformer, [(None, None, 10)])
    assert not transformer.forward.on
    plain = film("window", fused(torch.bfloat16), [(None, None, 10)])
    assert all(torch.equal(one, two) for one, two in zip(plain, made, strict=True))


@gpu
@torch.inference_mode()
def test_fused_eight_bits_are_near_the_exact_film() -> None:
    wide = model().to(DEVICE, torch.bfloat16)
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("needs Hopper or newer")
    del wide
    exact, near = film("window", fused(torch.bfloat16), BRIEF), film("window", fused(torch.bfloat16, eight=True), BRIEF)
    for one, two in zip(exact, near, strict=True):
        assert (two - one).norm() < 0.15 * one.norm()
