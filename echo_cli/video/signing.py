"""Content credentials (C2PA) in a film: signed with a person's certificate, and read back. Needs the extra `sign`.

Knows files, claims in plain values and certificates; what a film claims about itself is said above.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from echo_cli import __version__
from echo_cli.errors import MissingError, UsageError
from echo_cli.files import output_errors
from echo_cli.video.tags import SOURCE_TYPE

KINDS = {".mp4": "video/mp4", ".mov": "video/quicktime", ".gif": "image/gif"}  # films that c2pa-python can sign
MARK = b"jumdc2pa"  # begins the credentials in every kind of file
# how files begin: at which byte, with what
_BEGIN = (
    (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"\x89PNG", "image/png"), (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"), (8, b"WAVE", "audio/wav"), (8, b"AVI ", "video/avi"), (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"), (4, b"ftyp", "video/mp4"), (0, b"fLaC", "audio/flac"), (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"), (0, b"OggS", "audio/ogg"), (0, b"\x1aE\xdf\xa3", "video/x-matroska"),
)
_ANY = "application/octet-stream"
_CURVES = {256: "es256", 384: "es384", 521: "es512"}
# the smallest picture that can be signed, for a trial
_PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c6360"
                       "6060000000040001f61738550000000049454e44ae426082")


class Ingredient(NamedTuple):
    """A file that came into the film, by the name that it is shown with."""

    name: str
    file: Path


@dataclass(frozen=True, slots=True)
class Credentials:
    """A chain of certificates and the key of the first, both in PEM."""

    certificates: Path
    key: Path

    def check(self) -> None:
        """Sign one pixel, so that a film is not rendered for a certificate that cannot sign it."""
        self._sign({"title": "trial", "assertions": [created("trial", {})]}, (), io.BytesIO(_PIXEL), "image/png",
                   io.BytesIO())

    def sign(self, film: Path, claim: Mapping[str, Any], ingredients: Sequence[Ingredient]) -> None:
        """Put the claim into the film, signed."""
        signed = film.with_name(f"film-signed-{film.name}")
        with output_errors(film):
            try:
                with film.open("rb") as source, signed.open("w+b") as target:
                    self._sign(claim, ingredients, source, KINDS[film.suffix], target)
                os.replace(signed, film)
            finally:
                signed.unlink(missing_ok=True)

    def _sign(self, claim: Mapping[str, Any], ingredients: Sequence[Ingredient], source: Any, kind: str,
              target: Any) -> None:
        c2pa = library()
        certificates, key = (_read(path) for path in (self.certificates, self.key))
        try:
            info = c2pa.C2paSignerInfo(_algorithm(key, self.key).encode(), certificates, key, None)
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(claim)) as builder:
                for each in ingredients:
                    _add(builder, each)
                builder.sign(signer, kind, source, target)
        except c2pa.C2paError as error:
            raise UsageError(f"--sign {self.certificates}: cannot sign with it: {error}",
                             "Use a certificate for signing with its whole chain, and its own key, in PEM.") from None


@dataclass(frozen=True, slots=True)
class Signed:
    """What a film's credentials say: whether they fit the film, who signed, and the claim in plain values."""

    state: str  # valid, trusted or invalid
    problems: tuple[str, ...]
    signer: str
    claim: Mapping[str, Any]

    def assertion(self, label: str) -> Mapping[str, Any]:
        """One assertion of the claim; empty if it is not there."""
        return next((each["data"] for each in self.claim.get("assertions", ()) if each["label"] == label), {})

    @property
    def ingredients(self) -> list[str]:
        return [each.get("title", "?") for each in self.claim.get("ingredients", ())]


def created(model: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The assertion that this program made it, with a model."""
    return {"label": "c2pa.actions.v2", "data": {"actions": [{
        "action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "description": f"Rendered with the model {model}.",
        "softwareAgent": {"name": "echo-cli", "version": __version__}, "parameters": dict(parameters)}]}}


def read(film: Path) -> Signed | None:
    """The credentials of a film; None for one without."""
    if not _has_credentials(film):
        return None
    c2pa = library()
    try:
        with c2pa.Reader(film) as reader:
            report, state = json.loads(reader.json()), str(reader.get_validation_state())
    except c2pa.C2paError as error:
        return Signed("invalid", (str(error),), "unknown", {})
    claim = report["manifests"][report["active_manifest"]]
    problems = tuple(each.get("explanation") or each["code"] for each in report.get("validation_status", ()))
    by = claim.get("signature_info", {})
    signer = ", ".join(part for part in (by.get("common_name"), by.get("issuer")) if part) or "unknown"
    return Signed(state.lower(), problems, signer, claim)


def library() -> ModuleType:
    """c2pa-python; a MissingError if the extra is not installed."""
    try:
        import c2pa
    except ImportError:
        raise MissingError("content credentials need c2pa-python, which is not installed",
                           "Run `pip install 'echo-cli[sign]'`.") from None
    module: ModuleType = c2pa
    return module


def _add(builder: Any, ingredient: Ingredient) -> None:
    """An ingredient with its own credentials and a thumbnail, if its content is of a kind that has them; one that the
    library cannot read is named and no more."""
    with _opened(ingredient.file) as file:
        head = file.read(16)
        kind = next((kind for at, words, kind in _BEGIN if head[at:].startswith(words)), _ANY)
        for form in dict.fromkeys((kind, _ANY)):
            file.seek(0)
            with suppress(library().C2paError):
                builder.add_ingredient({"title": ingredient.name, "relationship": "inputTo"}, form, file)
                return


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}",
                         "Leave the files that come into a film where they are until it is made.") from None


def _has_credentials(film: Path) -> bool:
    before = b""
    with film.open("rb") as file:
        while chunk := file.read(1 << 20):
            if MARK in before + chunk:
                return True
            before = chunk[-len(MARK):]
    return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "Name the files of a certificate and its key, in PEM.") from None


def _algorithm(key: bytes, path: Path) -> str:
    """C2PA's name of what a key signs with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--key {path}: {error}", "Use a private key in PEM, without a password.") from None
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.key_size in _CURVES:
        return _CURVES[private.curve.key_size]
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise UsageError(f"--key {path}: C2PA has no signatures of this kind of key", "Use a P-256, RSA or Ed25519 key.")
