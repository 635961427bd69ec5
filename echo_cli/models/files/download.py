"""Released weights, downloaded from their publisher into the models folder: each file is resumed where it stopped, and
gets its final name only if its hash is the publisher's.

huggingface_hub handles endpoint, login and offline mode. What the files mean is the business of `folders`.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from echo_cli.errors import EchoError, Interrupted, MissingError, OutputError, UsageError, did_you_mean
from echo_cli.files import REASONS, output_error, output_errors, partial, publish, read_json, write_whole
from echo_cli.models.files.hashes import forget, known_sha256, remember
from echo_cli.models.files.releases import RELEASES, Source
from echo_cli.models.registry import folders, models_folder
from echo_cli.spec import TINY
from echo_cli.text import size

RECEIPT = "download.json"  # what was downloaded into a folder; written last


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file as its publisher describes it. Large files have a sha256, small ones git's own hash."""

    repository: str
    commit: str
    name: str
    bytes: int
    sha256: str | None
    git: str | None

    @property
    def mark(self) -> str:
        """Distinguishes versions of the file in the name of its unfinished half."""
        return (self.sha256 or self.git or self.commit)[:8]

    def fits(self, path: Path) -> bool:
        if path.stat().st_size != self.bytes:
            return False
        return known_sha256(path) == self.sha256 if self.sha256 else _git_hash(path) == self.git


class Reporter(Protocol):
    """Is called as files arrive."""

    def licence(self, repository: str, licence: str) -> None: ...

    def file(self, wanted: Wanted, how: str) -> None:
        """`how` is one of: here, linked, fetched, resumed."""
        ...

    def progress(self, wanted: Wanted, done: int, whole_done: int, whole: int) -> None: ...


class Silent:
    """Reports nothing."""

    def licence(self, repository: str, licence: str) -> None:
        """Nothing."""

    def file(self, wanted: Wanted, how: str) -> None:
        """Nothing."""

    def progress(self, wanted: Wanted, done: int, whole_done: int, whole: int) -> None:
        """Nothing."""


def release_named(name: str) -> str:
    full = {known.replace("2.1-t2v", ""): known for known in RELEASES}.get(name, name)
    if full not in RELEASES:
        known = tuple(RELEASES)
        why = "is in the package" if full == TINY.name else f"cannot be downloaded{did_you_mean(name, known)}"
        raise UsageError(f"model '{name}' {why}", hint=f"These can be downloaded: {', '.join(known)}.")
    return full


def get(name: str, models: Path | None = None, reporter: Reporter = Silent()) -> Path:
    """Download the missing files of a released model; the folder, which is then complete."""
    release = release_named(name)
    folder = models_folder(models) / release
    try:
        from huggingface_hub import constants
        from huggingface_hub.utils import disable_progress_bars, logging
    except ImportError as error:
        raise MissingError(
            f"downloading weights needs huggingface_hub ({error})", hint="Run `pip install 'echo-cli[wan]'`."
        ) from None
    if constants.HF_HUB_OFFLINE:
        return _offline(release, folder)
    disable_progress_bars()
    logging.set_verbosity_error()
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _explained(release, folder):
        licences, wanted = _published(RELEASES[release])
        for repository, licence in licences.items():
            reporter.licence(repository, licence)
        _fetch_all(wanted, folder, models, reporter)
        files = {each.pop("name"): each for each in map(asdict, wanted)}
        content = {"model": release, "licences": licences, "files": files}
        write_whole(folder / RECEIPT, json.dumps(content, indent=2) + "\n")
    return folder


def receipt(folder: Path) -> Mapping[str, Any]:
    """What was downloaded into a folder; empty if its files came from elsewhere."""
    try:
        record = read_json(folder / RECEIPT)
        return record if isinstance(record["files"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def halves(folder: Path) -> list[Path]:
    """Files that were begun but not finished."""
    return sorted(folder.rglob("*.partial"))


def check_receipt(folder: Path) -> None:
    """Compare every downloaded file with its publisher's hash; a MissingError for the first that differs."""
    for name, record in receipt(folder).get("files", {}).items():
        wanted = Wanted(record["repository"], record["commit"], name, record["bytes"], record["sha256"], record["git"])
        path = folder / name
        if not path.is_file():
            raise MissingError(
                f"{path}: a downloaded file is missing",
                hint="Run `echo-cli models get` again; it resumes the download.",
            )
        if not wanted.fits(path):
            raise MissingError(f"{path}: not the file that was downloaded: it is damaged or was replaced",
                               hint="Remove it and download it again with `echo-cli models get`.")


def _offline(release: str, folder: Path) -> Path:
    record = receipt(folder).get("files", {})
    if record and all(
        (folder / name).is_file() and (folder / name).stat().st_size == file["bytes"] for name, file in record.items()
    ):
        return folder
    raise MissingError(
        f"model '{release}' is incomplete in {folder}, and nothing can be downloaded in offline mode",
        hint="Unset HF_HUB_OFFLINE (and TRANSFORMERS_OFFLINE), or copy the folder from a machine that has it.",
    )


def _published(sources: tuple[Source, ...]) -> tuple[dict[str, str], list[Wanted]]:
    """What is published now: licences, and each file."""
    from huggingface_hub import HfApi

    licences, wanted = {}, []
    for source in sources:
        info = HfApi().model_info(source.repository, files_metadata=True)
        licences[source.repository] = str((info.card_data or {}).get("license") or "not stated")
        published = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        for pattern in source.files:
            names = [name for name in published
                     if name == pattern or (pattern.endswith("/") and name.startswith(pattern))]
            if not names or not all(_proper(name) for name in names):
                raise MissingError(f"{source.repository} no longer has {pattern}",
                                   hint="Download it by hand, then use --model FOLDER/.")
            for name in names:
                file = published[name]
                wanted.append(Wanted(source.repository, str(info.sha), name, int(file.size or 0),
                                     file.lfs.sha256 if file.lfs else None, file.blob_id))
    return licences, wanted


def _proper(name: str) -> bool:
    """Whether a published name stays inside its folder."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _fetch_all(wanted: list[Wanted], folder: Path, models: Path | None, reporter: Reporter) -> None:
    whole, before = sum(one.bytes for one in wanted), 0
    lacking = []
    for one in wanted:
        path = folder / one.name
        if path.is_file() and one.fits(path):
            reporter.file(one, "here")
        elif path.exists() and one.name not in receipt(folder).get("files", {}):
            raise OutputError(f"{path} is not the file that {one.repository} publishes, and was not downloaded here",
                              "Move it away, or name another folder with --models-dir, then run the command again.")
        elif other := _elsewhere(one, folder, models):
            _link(other, path)
            reporter.file(one, "linked")
        else:
            lacking.append(one)
            continue
        before += one.bytes
    _check_room(folder, sum(one.bytes - _size(_half(folder, one)) for one in lacking))
    for one in lacking:
        _fetch(one, folder, reporter, before, whole)
        before += one.bytes


def _fetch(wanted: Wanted, folder: Path, reporter: Reporter, before: int, whole: int) -> None:
    """One file, from where an earlier download stopped; `before` of the `whole` bytes are already here."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    path, half = folder / wanted.name, _half(folder, wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _size(half) > wanted.bytes:
        half.unlink()
    begun = _size(half)
    reporter.file(wanted, "resumed" if begun else "fetched")

    def progress(done: int) -> None:
        reporter.progress(wanted, done, before + done, whole)

    with _Growing(half, progress) as file:
        progress(begun)
        http_get(hf_hub_url(wanted.repository, wanted.name, revision=wanted.commit), file, resume_size=begun,
                 headers=build_hf_headers(), expected_size=wanted.bytes)
    fits = wanted.fits(half)
    forget(half)  # it is about to be removed or renamed
    if not fits:
        half.unlink()
        raise MissingError(
            f"{wanted.name} of {wanted.repository}: what arrived is not what was published (the hash differs); "
            "it was deleted",
            hint="Run the command again. If this continues, something between you and the publisher changes files.",
        )
    half.replace(partial(path))
    publish(path)
    if wanted.sha256:
        remember(path, wanted.sha256)


class _Growing(io.BufferedWriter):
    """A file that is appended to, and that reports its length."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "a"))
        self._progress = progress

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._progress(self.tell())
        return written


def _half(folder: Path, wanted: Wanted) -> Path:
    path = folder / wanted.name
    return path.with_name(f"{path.name}.{wanted.mark}.partial")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _elsewhere(wanted: Wanted, folder: Path, models: Path | None) -> Path | None:
    """The same large file in the folder of another model."""
    for name in folders(models):
        other = models_folder(models) / name
        record = receipt(other).get("files", {}).get(wanted.name)
        if (
            other != folder
            and wanted.sha256
            and record
            and record["sha256"] == wanted.sha256
            and _size(other / wanted.name) == wanted.bytes
        ):
            return other / wanted.name
    return None


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, partial(target))
        publish(target)


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OutputError(
            f"{folder}: {size(wanted)} are to be downloaded, but {size(free)} are free on that disk",
            "Free some space, or name another folder with --models-dir or ECHO_MODELS.",
        )


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two downloads into one folder would write the same files."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".get.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MissingError(
            f"{folder}: another `echo-cli models get` is running here", hint="Wait for it, or run it again later."
        ) from None
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            (folder / ".get.lock").unlink()


# whichever library the installed huggingface_hub uses
_TRANSPORT = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


@contextmanager
def _explained(release: str, folder: Path) -> Iterator[None]:
    """Turns the ways in which a download fails into errors; half a file stays where it is."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    again = f"Run `echo-cli models get {release}` again; it resumes the download."
    try:
        yield
    except EchoError:
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"the download of '{release}' was interrupted", hint=again) from None
    except GatedRepoError as error:
        raise MissingError(
            f"the publisher of '{release}' requires you to accept its terms first ({_short(error)})",
            hint="Accept them on the repository's page, log in with `hf auth login`, and run the command again.",
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingError(
            f"a repository of '{release}' does not exist, or you have no access ({_short(error)})",
            hint="If HF_ENDPOINT names a mirror, it may not have it. Otherwise log in with `hf auth login`.",
        ) from error
    except HfHubHTTPError as error:
        refused = getattr(error.response, "status_code", None) in (401, 403)
        raise MissingError(
            f"the download of '{release}' failed: {_short(error)}",
            hint=f"{'Log in with `hf auth login`.' if refused else 'Try again later.'} {again}",
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in REASONS:
            raise output_error(error, Path(error.filename or folder)) from error
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _TRANSPORT:
            raise MissingError(
                f"the download of '{release}' failed: {constants.ENDPOINT} cannot be reached ({_short(error)})",
                hint=f"HF_ENDPOINT names another host, such as a mirror; HTTPS_PROXY names a proxy. {again} "
                f"For a machine without internet, `echo-cli models get {release} --manifest` lists the files.",
            ) from error
        raise


def _short(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
