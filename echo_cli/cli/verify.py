"""`verify`: whether a film is what its manifest and its content credentials say."""

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli.options import Debug, Json
from echo_cli.errors import Exit

if TYPE_CHECKING:
    from echo_cli.render.provenance import Verdict

_HEADLINES = {"verified": "verified", "different": "not what it claims to be", "unknown": "cannot be verified"}
Film = Annotated[Path, typer.Argument(metavar="FILM", help="A film that echo wrote.", show_default=False)]


def verify(film: Film, json: Json = False, debug: Debug = False) -> int:
    """Compare a film with the manifest beside it, and check its content credentials (C2PA) if it is signed.

    Says who signed it, with what it was made and what came into it. The exit code is 2 if something does not fit, or if
    there is neither a manifest nor a signature. A film without a signature is compared with its manifest alone.
    """
    from echo_cli.render.provenance import verify as compared

    verdict = compared(film)
    if json:
        print(json_text.dumps(_plain(verdict)))
    else:
        _show(verdict)
    return Exit.USAGE if verdict.wrong else Exit.DONE


def _plain(verdict: "Verdict") -> dict[str, Any]:
    signed = verdict.signed
    return {
        "film": str(verdict.film), "status": _status(verdict), "wrong": list(verdict.wrong),
        "manifest": str(verdict.manifest) if verdict.manifest else None,
        "signature": signed and {"state": signed.state, "signer": signed.signer, "notes": list(signed.problems),
                                 "ingredients": signed.ingredients},
        "facts": dict(verdict.facts),
    }


def _status(verdict: "Verdict") -> str:
    if not verdict.wrong:
        return "verified"
    return "different" if verdict.facts or verdict.signed else "unknown"


def _show(verdict: "Verdict") -> None:
    signed, facts = verdict.signed, verdict.facts
    print(f"{verdict.film}: {_HEADLINES[_status(verdict)]}")
    print(f"manifest: {verdict.manifest or 'none'}")
    if signed is None:
        print("signature: none")
    else:
        trust = "" if signed.state != "valid" else "; nobody here vouches for the certificate"
        print(f"signature: {signed.state}, by {signed.signer}{trust}")
        if signed.ingredients:
            print(f"made from: {', '.join(signed.ingredients)}")
    for name in ("storyboard", "weights", "seed"):
        if name in facts:
            print(f"{name}: {facts[name]}")
    for what in verdict.wrong:
        print(f"wrong: {what}", file=sys.stderr)
