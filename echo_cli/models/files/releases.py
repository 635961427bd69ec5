"""What has been released, by model name: repositories, and their files as they were published when this was written.
Nothing is fetched here; `download` asks what is published today.

Sizes and hashes are of one commit of each repository, which does not change; a machine without internet can be given
the files by hand.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from echo_cli.models.files.folders import RELEASED_CODEC, RELEASED_TEXT, RELEASED_TOKENIZER
from echo_cli.spec import WAN_1_3B

PUBLISHER = "https://huggingface.co"  # unless HF_ENDPOINT names a mirror


class Recorded(NamedTuple):
    """A file as it was published."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one repository; a name that ends in a slash is everything in that folder. `recorded` is of `commit`."""

    repository: str
    files: tuple[str, ...]
    licence: str
    commit: str
    recorded: Mapping[str, Recorded]


_BASE = Source(
    "Wan-AI/Wan2.1-T2V-1.3B",
    ("config.json", RELEASED_CODEC, RELEASED_TEXT, f"{RELEASED_TOKENIZER}/"),
    "apache-2.0",
    "37ec512624d61f7aa208f7ea8140a131f93afc9a",
    MappingProxyType({
        "config.json": Recorded(249, "ab37994c43740513f94b3ba6233a784035a67b43c8cde83c8f31aa90468c67ce"),
        RELEASED_CODEC: Recorded(507_609_880, "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981"),
        RELEASED_TEXT: Recorded(11_361_920_418, "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d"),
        f"{RELEASED_TOKENIZER}/special_tokens_map.json": Recorded(
            6_623, "7b8a9f5040adb67b5805abdfd42c1f8d0f3d0e711f10726580eb3789cd0ad61d"),
        f"{RELEASED_TOKENIZER}/spiece.model": Recorded(
            4_548_313, "e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458"),
        f"{RELEASED_TOKENIZER}/tokenizer.json": Recorded(
            16_837_417, "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b"),
        f"{RELEASED_TOKENIZER}/tokenizer_config.json": Recorded(
            61_728, "ed9a3a8b0faa71a70a32847e0435fe036e6e112d4df4edb7bb48a921e344dc05"),
    }),
)
_SELF_FORCING = Source(
    "gdhe17/Self-Forcing",
    ("checkpoints/self_forcing_dmd.pt",),
    "cc-by-nc-sa-4.0",
    "2f8b779212da279d212c22a509b66ad6552f350e",
    MappingProxyType({
        "checkpoints/self_forcing_dmd.pt": Recorded(
            5_676_252_553, "a0413986d9734e02c09504e1520f5697ba6df731bb2f0f35577485e9cc8f56a3"),
    }),
)
_LONGLIVE = Source(
    "Efficient-Large-Model/LongLive-1.3B",
    ("models/longlive_base.pt", "models/lora.pt"),
    "cc-by-nc-sa-4.0",
    "cda9138d93872ef109d9a74c270184eb3a5acc6e",
    MappingProxyType({
        "models/longlive_base.pt": Recorded(
            5_676_334_208, "10a2aa8fcf89c77d9033f4c117405412a690e289625766619d293f0c5a208ee7"),
        "models/lora.pt": Recorded(2_800_056_690, "c4e43b87d62d4b0614b496773639f1ab170a7ee486dc23407901e9d3a5ebc07a"),
    }),
)
_CAUSAL_FORCING = Source(  # recorded as others have published them; no file was at hand
    "zhuhz22/Causal-Forcing",
    ("chunkwise/causal_forcing.pt",),
    "apache-2.0",
    "2f8eb8bb6eeb1238da9d13e5420d342a74d634a6",
    MappingProxyType({
        "chunkwise/causal_forcing.pt": Recorded(
            5_676_282_643, "cf75ee5cc6f4e2e336c59c973f5544655d8f0aa481761efe6de1b9cb2eb0cd9d"),
    }),
)
_FRAMEWISE = replace(_CAUSAL_FORCING, files=("framewise/causal_forcing.pt",), recorded=MappingProxyType({
    "framewise/causal_forcing.pt": Recorded(
        5_676_220_819, "70cae8c3b0b7191fa9840b4f6fe8655ba0cf5c6520c87ba85a46b861c3735cd3"),
}))
RELEASES: Mapping[str, tuple[Source, ...]] = MappingProxyType({
    WAN_1_3B.name: (_BASE, _SELF_FORCING),
    f"{WAN_1_3B.name}-longlive": (_BASE, _LONGLIVE),
    f"{WAN_1_3B.name}-causal-forcing": (_BASE, _CAUSAL_FORCING),
    f"{WAN_1_3B.name}-causal-forcing-framewise": (_BASE, _FRAMEWISE),
})


def listing(release: str) -> Iterator[dict[str, Any]]:
    """Every file of a release: its address, its place in the model's folder, its size and its hash."""
    publisher = os.environ.get("HF_ENDPOINT", PUBLISHER).rstrip("/")
    for source in RELEASES[release]:
        for name, (size, sha256) in source.recorded.items():
            url = f"{publisher}/{source.repository}/resolve/{source.commit}/{name}"
            yield {"url": url, "file": name, "bytes": size, "sha256": sha256}


def placing(release: str, models: Path) -> dict[str, Any]:
    """How to get a release into the models folder, for a model that is not there."""
    files = list(listing(release))
    return {
        "files": {file["file"]: {name: file[name] for name in ("bytes", "sha256", "url")} for file in files},
        "licences": {source.repository: source.licence for source in RELEASES[release]},
        "bytes": sum(file["bytes"] for file in files),
        "put them in": f"{models / release}/",
        "hint": f"echo-cli models get {release} downloads them; with --manifest it lists them for another machine.",
    }
