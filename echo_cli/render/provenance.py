"""What a film claims about its origin, and whether a film that somebody has is what its manifest and its signature say.

Knows films and manifests; how credentials are signed and read, `signing` knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echo_cli import __version__
from echo_cli.errors import UsageError
from echo_cli.files import sha256, why_unreadable
from echo_cli.render import manifest
from echo_cli.render.manifest import Identity
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.video import signing
from echo_cli.video.encoding import CONTAINERS
from echo_cli.video.signing import Ingredient, Signed

if TYPE_CHECKING:
    from echo_cli.render.job import Job

LABEL = "org.echo-cli.film"  # of our own assertion
_FILMS = f"Films end in {', '.join(CONTAINERS)}; name a sequence of pictures as in frames/%06d.png."


def sign(job: "Job", identity: Identity, film: Path) -> None:
    """Sign a film that is whole, before it has its name."""
    credentials = job.credentials
    assert credentials is not None, "asked to sign without credentials"
    credentials.sign(film, claim(job, identity), [Ingredient(file.name, file) for file, _ in _inputs(job, identity)])


def _inputs(job: "Job", identity: Identity) -> list[tuple[Path, str]]:
    """Every file that came into the film, once, with its sha256."""
    files = {each.file: each.sha256 for each in job.inputs}
    if job.request.audio:
        files[Path(job.request.audio)] = identity.settings["audio"]
    return list(files.items())


def claim(job: "Job", identity: Identity) -> dict[str, Any]:
    """C2PA's manifest in plain values: made by this tool and model, from this storyboard and seed."""
    model = Path(job.model).name
    facts = {"storyboard": identity.storyboard, "weights": identity.weights, "seed": identity.seed,
             "model": model, "memory": job.policy, "version": __version__,
             "inputs": [{"name": file.name, "sha256": digest} for file, digest in _inputs(job, identity)]}
    return {
        "title": job.storyboard.title or job.outputs.film.path.name,
        "claim_generator_info": [{"name": "echo-cli", "version": __version__}],
        "assertions": [signing.created(model, {LABEL: facts}),
                       {"label": LABEL, "data": facts}],
    }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about a film. `wrong` says what does not fit; if it is empty, the film is what it claims to be.
    Without a manifest and a signature nothing can be said."""

    film: Path
    manifest: Path | None
    signed: Signed | None
    facts: Mapping[str, Any]  # of the manifest's identity, or of the signature
    wrong: tuple[str, ...]


def verify(film: Path) -> Verdict:
    """Compare a film with the manifest beside it and with its own signature. An MP4 may be named without its suffix."""
    try:
        outputs = outputs_of(str(film), "")
    except UsageError:
        raise UsageError(f"{film}: is not a film that echo writes", _FILMS) from None
    files = list(outputs.film.existing())
    if not files:
        raise UsageError(f"{film}: there is no such film", "Name a film that echo wrote.")
    if not film.suffix and not film.exists():
        film = outputs.film.path
    try:
        return _verdict(film, files, outputs)
    except OSError as error:
        raise UsageError(f"{film}: cannot be read: {why_unreadable(error)}",
                         "Check its permissions, and that nothing moves it in the meantime.") from None


def _verdict(film: Path, files: list[Path], outputs: Outputs) -> Verdict:
    path, signed = outputs.manifest, None if outputs.film.encoder else signing.read(film)
    content = manifest.read(path) if path else None
    facts = content["identity"] if content else {}
    wrong = []
    if path and path.exists() and content is None:
        wrong.append(f"{path} is damaged, or not a manifest of echo")
    if path and content:
        wrong += _against_manifest(film, files, path, content)
    if signed:
        wrong += _against_signature(signed, facts)
        facts = facts or signed.assertion(LABEL)
    if not (content or signed or wrong):
        wrong.append("there is neither a manifest beside the film nor a signature in it")
    return Verdict(film, path if content else None, signed, facts, tuple(wrong))


def _against_manifest(film: Path, files: list[Path], path: Path, content: Mapping[str, Any]) -> list[str]:
    output = content["outputs"].get("film", {})
    if output.get("name") != film.name:
        return [f"{path} belongs to {output.get('name')}"]
    if output.get("sha256") != sha256(*files):
        return [f"the film is not the one that {path} describes: its sha256 differs"]
    return []


def _against_signature(signed: Signed, facts: Mapping[str, Any]) -> list[str]:
    """What the signature says against the film, and against the manifest's facts, if there are any."""
    wrong = []
    if signed.state == "invalid":
        wrong.append(f"the signature does not fit the film: {'; '.join(signed.problems)}")
    theirs = signed.assertion(LABEL)
    if facts and theirs:
        wrong += [f"the signature names another {name} than the manifest" for name in ("storyboard", "weights", "seed")
                  if theirs.get(name) != facts.get(name)]
    return wrong
