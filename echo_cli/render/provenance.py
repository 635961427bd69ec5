"""What a film claims about its origin, and whether a film that somebody has is what its manifest and its signature say.

Knows films and manifests; how credentials are signed and read, `signing` knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echo_cli import __version__
from echo_cli.errors import UsageError
from echo_cli.files import sha256, why_unreadable
from echo_cli.render import manifest
from echo_cli.render.manifest import Identity
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.video import signing
from echo_cli.video.signing import Ingredient, Signed

if TYPE_CHECKING:
    from echo_cli.render.job import Job

LABEL = "org.echo-cli.film"  # of our own assertion


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


@dataclass(slots=True)
class Verdict:
    """What was found about a film. `wrong` is what does not fit; without any the film is what it claims to be."""

    film: Path
    manifest: Path | None = None
    signed: Signed | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the manifest's identity, or of the signature
    wrong: list[str] = field(default_factory=list)


def verify(film: Path) -> Verdict:
    """Compare a film with the manifest beside it and with its own signature."""
    outputs = outputs_of(str(film), "")
    files = list(outputs.film.existing())
    if not files:
        raise UsageError(f"{film}: there is no such film", "Name a film that echo wrote.")
    try:
        return _verdict(film, files, outputs)
    except OSError as error:
        raise UsageError(f"{film}: cannot be read: {why_unreadable(error)}",
                         "Check its permissions, and that nothing moves it in the meantime.") from None


def _verdict(film: Path, files: list[Path], outputs: Outputs) -> Verdict:
    verdict = Verdict(film, signed=None if outputs.film.encoder else signing.read(film))
    path = outputs.manifest
    content = manifest.read(path) if path else None
    if path and path.exists() and content is None:
        verdict.wrong.append(f"{path} is damaged, or not a manifest of echo")
    if content:
        verdict.manifest, verdict.facts = path, content["identity"]
        output = content["outputs"].get("film", {})
        if output.get("name") != film.name:
            verdict.wrong.append(f"{path} belongs to {output.get('name')}")
        elif output.get("sha256") != sha256(*files):
            verdict.wrong.append(f"the film is not the one that {path} describes: its sha256 differs")
    if verdict.signed:
        _compare(verdict, verdict.signed)
    return verdict


def _compare(verdict: Verdict, signed: Signed) -> None:
    """What the signature says against the film and the manifest."""
    if signed.state == "invalid":
        verdict.wrong.append(f"the signature does not fit the film: {'; '.join(signed.problems)}")
    said = signed.assertion(LABEL)
    verdict.wrong += [f"the signature names another {name} than the manifest"
                      for name in ("storyboard", "weights", "seed")
                      if verdict.facts and said and said.get(name) != verdict.facts.get(name)]
    verdict.facts = verdict.facts or said
