"""A film in segments: every LENGTH pictures a new encoder begins, so that no encoder's state is ever needed again.

An encoder's state cannot be saved, so a resumed film encodes its last segment again: the pictures of that segment
lie beside it as they came (`.raw`) until it is complete. Where segments begin depends on nothing but the count of
pictures, and each is encoded by itself, so a film comes out the same however often it was interrupted. Segments of a
film are joined without encoding again; the pictures of a sequence are files of their own.

Knows pictures and files. What else a run needs to resume, and when to save it, is not known here.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from echo_cli.errors import Damaged
from echo_cli.files import flush, output_errors, sha256, write_whole
from echo_cli.video import lossless
from echo_cli.video.encoding import Encoding
from echo_cli.video.joining import join
from echo_cli.video.sound import Sound
from echo_cli.video.subtitles import Caption
from echo_cli.video.tags import Tags
from echo_cli.video.target import Images, Movie, Output
from echo_cli.video.writer import FilmWriter

LENGTH = 240  # pictures in a segment: about as many as an encoder puts between two key pictures anyway
PIECE = 12  # pictures given to an encoder at once when a segment is encoded again
# segments and where they grow, pictures as they came, the joined film and what joining needs, encoders' own folders
_OURS = re.compile(r"segment-\d{6,}(-[0-9a-f]+)?(\.\w+)?|pictures-\d{6,}\.raw|(film-signed-)?film-[0-9a-f]+\.\w+"
                   r"|segments\.txt|chapters\.txt|palette\.png|silent\.\w+|echo-film-\w+")


def is_ours(name: str) -> bool:
    """Whether something in a film's folder was written here, or by an encoder."""
    return bool(_OURS.fullmatch(name))


@dataclass(frozen=True, slots=True)
class Written:
    """How far a film has got: complete segments, and the pictures of the one in progress."""

    pictures: int
    segments: int
    segments_sha256: str  # of the hashes of all complete segments
    raw_sha256: str  # of the pictures that are in no complete segment

    @property
    def rest(self) -> int:
        """Pictures that are in no complete segment."""
        return self.pictures - self.segments * LENGTH


class SegmentedFilm:
    """Takes pictures in order and makes one film, as a FilmWriter does. To make a place resumable, `mark` it, let any
    thread collect its state (`Mark.written`), and `rely` on it once that is saved; one mark at a time. `folder`
    belongs to the film, and leaving the `with` keeps its contents. `seal` is called with the whole film, before it is
    hashed."""

    def __init__(
        self,
        target: Movie | Images,
        folder: Path,
        width: int,
        height: int,
        fps: float,
        encoding: Encoding = Encoding(),
        *,
        scale: float = 1,
        burn: Sequence[Caption] = (),
        font: Path | None = None,
        tags: Tags = Tags(),
        sound: Sound | None = None,
        seal: Callable[[Path], None] | None = None,
        written: Written | None = None,
    ) -> None:
        self.target, self.pictures = target, 0
        self._folder, self._shape, self._fps, self._encoding = folder, (height, width, 3), fps, encoding
        self._scale, self._burn, self._font, self._tags, self._sound = scale, burn, font, tags, sound
        self._seal = seal
        self._token = secrets.token_hex(4)  # an encoder that outlives a killed run does not write where this one does
        self._whole, self._chain = 0, hashlib.sha256()  # segments
        self._current: _Segment | None = None
        self._ending: _Segment | None = None
        self._relied: Path | None = None  # pictures as they came, from which a resumed film would start
        self._marked: Path | None = None  # the same for the marked place
        self._joined: Movie | None = None
        with output_errors(target.path):
            folder.mkdir(parents=True, exist_ok=True)
            target.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._go_on(written or Written(0, 0, self._chain.hexdigest(), hashlib.sha256().hexdigest()))
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def write(self, pictures: np.ndarray) -> None:
        """`pictures` [picture, height, width, 3] uint8; returns at once unless the encoder is far behind."""
        if pictures.dtype != np.uint8 or pictures.shape[1:] != self._shape:
            raise ValueError(f"pictures are {pictures.dtype}{list(pictures.shape)}, not uint8 of {self._shape}")
        while len(pictures):
            if self._current is None:
                self._current = self._begin()
            part, pictures = np.split(pictures, [LENGTH - self._current.writer.pictures])
            with output_errors(self.target.path):
                self._current.raw.write(part)
            self._current.writer.write(part)
            if isinstance(self._current.writer.target, Images):
                self._current.writer.target.collect()
            self.pictures += len(part)
            if self._current.writer.pictures == LENGTH:
                self._turn()

    def mark(self) -> "Mark":
        """A mark at the current picture. What lies there now stays, whatever is written after it."""
        raw: _RawMark | None = None
        if self._current:
            with output_errors(self.target.path):
                raw = self._current.raw.marked()
        self._marked = raw.path if raw else None
        return Mark(self.target.path, self._folder, self.pictures, self._whole, self._chain.copy(), self._ending, raw)

    def unmark(self) -> None:
        """The marked place was copied, and nobody resumes from it."""
        before, self._marked = self._marked, self._relied
        self._remove(before)

    def rely(self) -> None:
        """An interrupted film now resumes from the marked place: what only an earlier one needed is removed."""
        before, self._relied = self._relied, self._marked
        self._remove(before)

    def _remove(self, raw: Path | None) -> None:
        """Remove pictures as they came, unless they are still needed."""
        if raw and raw not in self._needed:
            with output_errors(self.target.path):
                raw.unlink(missing_ok=True)

    @property
    def _needed(self) -> set[Path]:
        """The raw pictures of segments that are incomplete or relied on."""
        raws = {segment.raw.path for segment in (self._current, self._ending) if segment}
        return raws | {path for path in (self._relied, self._marked) if path}

    def finish(self) -> Output:
        """All pictures are in: wait for the encoder, and join the segments. The film is complete, but not yet named."""
        if self._current:
            self._turn()
        self._settle()
        if isinstance(self.target, Images):
            self.target.trim(self.pictures)
            return self.target.finish(self.pictures)
        self._joined = Movie(self.target.path, self._folder / f"film-{self._token}{self.target.suffix}")
        names = [self._segment(number).path.name for number in range(self._whole)]
        join(self._joined, self._folder, names, self._encoding, self._tags, self._fps,
             self._sound)
        if self._seal:
            self._seal(self._joined.grows)
        return self._joined.finish(self.pictures)

    def publish(self) -> None:
        (self._joined or self.target).publish()

    def abort(self) -> None:
        """Stop the encoders; finished segments and everything needed to resume stay."""
        for segment in (self._current, self._ending):
            if segment:
                segment.abort()
        if self._joined:
            self._joined.discard()

    # One segment after the other

    def _segment(self, number: int) -> Movie | Images:
        return _segment(self.target, self._folder, number, self._encoding.segments, self._token)

    def _begin(self) -> "_Segment":
        number = self._whole + (self._ending is not None)
        with output_errors(self.target.path):
            raw = _Raw(self._raw(number))
        return _Segment(self._encoder(number), raw)

    def _encoder(self, number: int) -> FilmWriter:
        height, width, _ = self._shape
        return FilmWriter(
            self._segment(number),
            width,
            height,
            self._fps,
            self._encoding,
            scale=self._scale,
            burn=self._burn,
            font=self._font,
            first=number * LENGTH,
            folder=self._folder,
        )

    def _raw(self, number: int) -> Path:
        return raw_of(self._folder, number)

    def _turn(self) -> None:
        """The segment has all its pictures: its encoder ends while the next one begins."""
        ending = self._current
        assert ending is not None
        self._settle()
        self._current, self._ending = None, ending
        ending.end()

    def _settle(self) -> None:
        """Wait for the segment that was ending."""
        if self._ending is None:
            return
        self._chain.update(self._ending.digest().encode())
        self._whole += 1
        ended, self._ending = self._ending, None
        self._remove(ended.raw.path)

    # Resuming

    def _go_on(self, written: Written) -> None:
        """Verify everything that `written` lists, and give the segment in progress to a new encoder."""
        for number in range(written.segments):
            self._chain.update(_digest(self._segment(number)).encode())
        _check_chain(self._chain, self._folder, written)
        self._whole, self.pictures = written.segments, written.segments * LENGTH
        rest = written.rest
        assert 0 <= rest < LENGTH, f"{written.pictures} pictures in {written.segments} whole segments"
        self._relied = self._raw(self._whole) if rest else None
        with output_errors(self.target.path):
            stay = {self._segment(number).path.name for number in range(self._whole)} | {
                self._relied and self._relied.name
            }
            for path in list(self._folder.iterdir()):
                if not is_ours(path.name) or path.name in stay:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)  # an encoder that outlives its run may still write there
                else:
                    path.unlink()
        if not rest:
            return
        assert self._relied is not None
        size = rest * int(np.prod(self._shape))
        raw = _Raw(self._relied, size)
        if raw.marked().digest() != written.raw_sha256:
            raise Damaged(f"{self._relied} is not what was written")
        self._current = _Segment(self._encoder(self._whole), raw)
        for start in range(0, rest, PIECE):
            self._current.writer.write(raw.pictures(start, min(PIECE, rest - start), self._shape))
        self.pictures = written.pictures


class _Segment:
    """One segment in progress: the encoder, and its pictures as they came."""

    def __init__(self, writer: FilmWriter, raw: "_Raw") -> None:
        self.writer, self.raw = writer, raw
        self._thread: threading.Thread | None = None
        self._output: Output | None = None
        self._error: Exception | None = None

    def end(self) -> None:
        """No more pictures come; the encoder finishes in the background."""
        self.raw.close()
        self._thread = threading.Thread(target=self._finish, daemon=True)
        self._thread.start()

    def digest(self) -> str:
        """The hash of the finished segment; waits until it is complete."""
        assert self._thread is not None, "a segment is hashed after its end"
        self._thread.join()
        if self._error:
            raise self._error
        assert self._output is not None
        self.writer.abort()
        return self._output.sha256

    def abort(self) -> None:
        self.writer.abort()
        if self._thread:
            self._thread.join()
        self.raw.close()

    def _finish(self) -> None:
        try:
            self._output = self.writer.finish()
            self.writer.publish()
        except Exception as error:  # raised by `digest`, in the thread that asks
            self._error = error


class _Raw:
    """The pictures of a segment as they came, in a file; with `size`, the first bytes of an existing one."""

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self.hash, self.hashed = hashlib.sha256(), 0  # of the pictures up to the last mark
        if size and not path.exists():
            raise Damaged(f"{path} is gone")
        self._file = path.open("r+b" if size else "wb")
        if os.fstat(self._file.fileno()).st_size < size:
            self._file.close()
            raise Damaged(f"{path} is shorter than what was written")
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, pictures: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(pictures).data)

    def pictures(self, start: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
        size = int(np.prod(shape))
        return np.fromfile(self.path, np.uint8, count * size, offset=start * size).reshape(count, *shape)

    def marked(self) -> "_RawMark":
        """A mark after the bytes written so far, which stay as they are."""
        self._file.flush()
        return _RawMark(self, self._file.tell())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was already reported where it mattered
            self._file.close()


class _RawMark:
    """The first bytes of pictures as they came."""

    def __init__(self, raw: _Raw, size: int) -> None:
        self.path, self._raw, self._size = raw.path, raw, size

    def digest(self) -> str:
        """Their hash, once they are on the disk; what an earlier mark hashed is not read again."""
        flush(self.path)
        raw = self._raw
        with self.path.open("rb") as file:
            file.seek(raw.hashed)
            while chunk := file.read(min(1 << 20, self._size - raw.hashed)):
                raw.hash.update(chunk)
                raw.hashed += len(chunk)
        return raw.hash.hexdigest()

    def compress(self, path: Path, width: int, height: int) -> None:
        lossless.compress(self.path, self._size // (width * height * 3), width, height, path)


@dataclass(frozen=True, slots=True)
class Kept:
    """Segments of a film that are kept in a folder; `suffix` is that of their files."""

    target: Movie | Images
    folder: Path
    suffix: str

    def files(self, written: Written) -> list[Path]:
        """Those of complete segments that lie in the folder: pictures of a sequence lie elsewhere."""
        if isinstance(self.target, Images):
            return []
        return [_segment(self.target, self.folder, number, self.suffix).path for number in range(written.segments)]

    def verify(self, written: Written, rest: Path, size: tuple[int, int]) -> None:
        """Damaged if the complete segments, or the compressed pictures of the one in progress, are not what was
        written."""
        chain, digest = hashlib.sha256(), hashlib.sha256()
        for number in range(written.segments):
            chain.update(_digest(_segment(self.target, self.folder, number, self.suffix)).encode())
        _check_chain(chain, self.folder, written)
        for piece in lossless.decompress(rest, written.rest, *size):
            digest.update(piece)
        if digest.hexdigest() != written.raw_sha256:
            raise Damaged(f"{rest} is not what was written")


def restore(rest: Path, folder: Path, written: Written, size: tuple[int, int]) -> None:
    """Put back the compressed pictures of a segment in progress, so that a film can be resumed there."""
    with raw_of(folder, written.segments).open("wb") as file:
        file.writelines(lossless.decompress(rest, written.rest, *size))


def _segment(target: Movie | Images, folder: Path, number: int, suffix: str, token: str = "") -> Movie | Images:
    """A segment of a film; `token` tells it from that of another process while it grows."""
    name = folder / f"segment-{number:06d}"
    if isinstance(target, Images):
        return Images(target.path, number * LENGTH, name.with_name(f"{name.name}-{token}"))
    return Movie(name.with_suffix(suffix), name.with_name(f"{name.name}-{token}{suffix}"))


def raw_of(folder: Path, number: int) -> Path:
    """Where the pictures of a segment in progress lie as they came."""
    return folder / f"pictures-{number:06d}.raw"


def _digest(segment: Movie | Images) -> str:
    """The hash of an existing segment."""
    paths = [segment.path]
    if isinstance(segment, Images):
        paths = [segment.picture(segment.first + index) for index in range(LENGTH)]
    try:
        return sha256(*paths)
    except OSError as error:
        raise Damaged(
            f"{error.filename} is gone" if isinstance(error, FileNotFoundError) else str(error)
        ) from error


def _check_chain(chain: "hashlib._Hash", folder: Path, written: Written) -> None:
    if chain.hexdigest() != written.segments_sha256:
        raise Damaged(f"{folder}: one of the {written.segments} segments is not what was written")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a film. `written` may be slow; the film continues meanwhile."""

    film: Path
    folder: Path
    pictures: int
    segments: int
    chain: "hashlib._Hash"
    ending: _Segment | None
    raw: _RawMark | None

    def written(self) -> Written:
        """Everything needed to resume from here, all of it on the disk."""
        segments = self.segments
        if self.ending:
            self.chain.update(self.ending.digest().encode())
            segments += 1
        with output_errors(self.film):
            raw = self.raw.digest() if self.raw else hashlib.sha256().hexdigest()
            flush(self.folder)
        return Written(self.pictures, segments, self.chain.hexdigest(), raw)

    def compress(self, path: Path, size: tuple[int, int]) -> None:
        """The pictures of the segment in progress, without loss, in a new file."""
        if self.raw:
            self.raw.compress(path, *size)
        else:
            write_whole(path, "")
