"""What memory computes: pure functions of tensors, and of plain numbers where the host decides.

Which history tokens are worth keeping, how fast a token fades, which single frame represents a scene, how far positions
jump. No function here knows a slot, a policy or a model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from echo_cli.rope import frequencies
from echo_cli.spec import ModelSpec


def complex_pairs(x: Tensor) -> Tensor:
    """[..., dim] real → [..., dim/2] complex64, pair (2i, 2i+1)."""
    return torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))


def phase_table(spec: ModelSpec, ages: int, device: torch.device) -> Tensor:
    """[age, pair]: the mean over offsets 1, 2, 4, … up to the window of e^{iω(age + offset)}, for ages 1, 2, …

    Spatial pairs do not rotate with time. The mean of cosines is taken once here instead of once per token, because
    Σ|μ||K| cos(ωΔ + φ) = Re⟨K, μ e^{iωΔ}⟩ is linear in the key.
    """
    time, rows, cols = spec.pairs
    offsets = torch.tensor([2**power for power in range(spec.window.bit_length()) if 2**power <= spec.window])
    turns = (torch.arange(1, ages + 1)[:, None] + offsets)[..., None] * frequencies(time)  # [age, offset, pair]
    phases = torch.cat((torch.polar(torch.ones_like(turns), turns).mean(1), torch.ones(ages, rows + cols)), -1)
    return phases.to(torch.complex64).to(device)


def expectation(query_mean: Tensor, phases: Tensor) -> Tensor:
    """What a key of each age is compared with: mean queries [..., head, pair] complex × phases [age, pair]
    → [..., age, head * dim] real."""
    turned = query_mean.unsqueeze(-3) * phases.unsqueeze(-2)
    return torch.view_as_real(turned).flatten(-3)


def loudness(keys: Tensor, query_mean: Tensor, query_abs: Tensor) -> Tensor:
    """Amplitude compensation of keys [..., token, head, dim]: mean over heads of Σ (m − |μ|)|K| → [..., token]."""
    surplus = (query_abs - query_mean.abs()).unsqueeze(-3)  # [..., 1, head, pair]
    loud: Tensor = (complex_pairs(keys).abs() * surplus).sum(-1).mean(-1)
    return loud


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Over the last axis; zero vectors have cosine 0."""
    scale: Tensor = a.norm(dim=-1) * b.norm(dim=-1)
    return (a * b).sum(-1) / scale.clamp(min=1e-12)


def disagreeing(new: Tensor, old: Sequence[Tensor], count: int) -> Tensor:
    """The `count` tokens whose keys [layer, batch, token, head, dim] are least like those of the old frames, on average
    over these and over layers: [1, batch, token, 1, 1], True for each."""
    wanted = new.flatten(-2).float()
    alike = torch.stack([cosine(wanted, frame.flatten(-2).float()).mean(0) for frame in old]).mean(0)
    gone = torch.zeros_like(alike, dtype=torch.bool).scatter_(-1, alike.topk(count, largest=False).indices, True)
    return gone[None, :, :, None, None]


def drift_gate(query: Tensor, reference: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Similarity of mean queries [..., head, dim] to the calibrated ones, and the gate e^{−λ(1 − similarity)}."""
    similarity = cosine(query.flatten(-2), reference.flatten(-2)).clamp(-1, 1)
    return similarity, torch.exp(-strength * (1 - similarity))


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of scores [..., token] in order of index, those at −∞ left out → (index, valid) [..., count].

    How many are valid depends on the data and stays on the device: valid ones come first, the rest are padding.
    """
    kept = min(count, scores.shape[-1])
    values, index = scores.topk(kept, dim=-1)
    beyond = scores.shape[-1]
    index = torch.where(values > -torch.inf, index, beyond).sort(-1).values
    index = torch.nn.functional.pad(index, (0, count - kept), value=beyond)
    valid = index < beyond
    return torch.where(valid, index, 0), valid


def difference_rates(new_keys: Tensor, old_keys: Tensor, least: float, most: float) -> Tensor:
    """Rates at which old tokens [..., token, head, dim] fade: the more one disagrees with the new scene's token in the
    same place, the faster. Disagreement 1 − cos is stretched to 0..1 over the frame."""
    difference = 1 - cosine(new_keys.float().flatten(-2), old_keys.float().flatten(-2))
    low, high = difference.amin(-1, keepdim=True), difference.amax(-1, keepdim=True)
    spread = high - low
    stretched = torch.where(spread > 1e-6, (difference - low) / spread.clamp(min=1e-6), torch.zeros_like(difference))
    return most - (most - least) * stretched


def fold(
    keys: Tensor, values: Tensor, query_mean: Tensor, base_weight: float, weighted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidate frames [..., frame, token, head, dim] → the recall frame of a scene, and how much of each
    candidate is in each of its tokens [..., frame, token].

    A frame's claim on a token is how well its key matches the scene's mean query. `weighted`: mostly the first frame,
    blended with the softmax mean of all; otherwise each token is taken from the frame with the highest claim.
    """
    claims = (keys.float() * query_mean.unsqueeze(-3).unsqueeze(-3)).sum(-1).mean(-1)  # [..., frame, token]
    if weighted and keys.shape[-4] > 1:
        share = (1 - base_weight) * claims.softmax(-2)
        share = torch.cat((share.narrow(-2, 0, 1) + base_weight, share.narrow(-2, 1, share.shape[-2] - 1)), -2)
        key, value = ((share[..., None, None] * x.float()).sum(-4).to(x.dtype) for x in (keys, values))
        return key, value, share
    chosen = claims.argmax(-2, keepdim=True)  # [..., 1, token]
    share = torch.zeros_like(claims).scatter(-2, chosen, 1.0)
    key, value = (torch.take_along_dim(x, chosen[..., None, None], -4).squeeze(-4) for x in (keys, values))
    return key, value, share


def position_jump(similarity: float, pool: Sequence[float], least: int, most: int) -> int:
    """How far a recall jumps: the share of the chosen scene's gap in all gaps, as in the release."""
    if not pool:
        return most
    total = sum(max(0.0, 1 - other) for other in pool)
    share = max(0.0, 1 - similarity) / total if total > 1e-6 else 0.0
    return round(least + share * (most - least))


def gap_jump(similarity: float, least: int, most: int) -> int:
    """How far a recall jumps by the chosen scene's own gap: near 0 for the same place, far for an unrelated one."""
    return round(least + min(1.0, max(0.0, 1 - similarity)) * (most - least))
