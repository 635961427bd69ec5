"""The columns of a memory bench: what each metric says, in which unit, and which way is better. No tensor, no
number."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Metric(NamedTuple):
    """One column: what it is, in which unit, whether more is better (None: neither), and how many digits are
    significant. Costs are never called better or worse."""

    words: str
    unit: str
    more: bool | None
    digits: int
    cost: bool = False


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "recall": Metric("a returned place against the place itself, PSNR of the background", "dB", True, 1),
        "gain": Metric("the same, minus what the prompt alone brings back", "dB", True, 1),
        "return": Metric(
            "the same, minus the similarity of the scene before the return: a film that never left cannot return",
            "dB",
            True,
            1,
        ),
        "shared recall": Metric(
            "a returned place against one that is the same for every memory, PSNR of the background", "dB", True, 1),
        "recall SSIM": Metric("a returned place against the place itself, structure", "", True, 3),
        "recall distance": Metric("a returned place against the place itself, perceptual distance", "", False, 3),
        "eye distance": Metric("a returned scene against the scene itself, as the eye sees both", "", False, 3),
        "identity": Metric(
            "returns that show the shape and colour of the scene itself, where both prompts name the same", "%", True, 0
        ),
        "held": Metric("a returned place against the place itself after half a minute, PSNR of the background", "dB",
                       True, 1),
        "sharpness kept": Metric("100 less the change of sharpness over that time, either way", "%", True, 1),
        "motion kept": Metric("motion at the end of that time, of what the scene itself had", "%", None, 0),
        "left over": Metric("share of the old place that is left in the two blocks after a hard cut", "%", False, 1),
        "response": Metric("pictures until the new scene is there after a hard cut", "pictures", False, 1),
        "unaided": Metric("cuts whose first pictures are those of the prompt alone", "%", None, 0),
        "seam": Metric("step across a smooth change against the usual step", "x", False, 2),
        "place kept": Metric(
            "the place after a smooth change against before it, PSNR of the background", "dB", True, 1
        ),
        "drift": Metric("change of colour, contrast and sharpness by the end of a long scene", "%", False, 1),
        "slope": Metric("how fast that grows", "%/min", False, 1),
        "motion": Metric("picture change in a quarter of a second", "%", None, 2),
        "alignment": Metric("how well a scene fits its prompt, as the eye sees it", "", True, 3),
        "place": Metric("scenes with the right place", "%", True, 0),
        "time": Metric("scenes with the right hour", "%", True, 0),
        "colour": Metric("scenes with the subject's right colour", "%", True, 0),
        "shape": Metric("scenes with the right subject", "%", True, 0),
        "motion right": Metric("scenes with the right motion", "%", True, 0),
        "understood": Metric(
            "pictures until the scene fits its own prompt better than the one before", "pictures", False, 1
        ),
        "memory": Metric("what memory holds", "MB", False, 1, cost=True),
        "block": Metric("processor time of a block", "ms", False, 0, cost=True),
    }
)
