"""A publisher of models on loopback: as much of the real one's manners as a fetch needs, and some bad ones on
request."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`repositories` are folders by name. `asked` lists what was asked for; `breaks` names files whose answer ends
    after so many bytes, each time; `changed` names files that arrive with other bytes than were published."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.asked: list[tuple[str, str | None]] = []
        self.breaks: dict[str, int] = {}
        self.changed: set[str] = set()
        self.refuses: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    hub = Hub(repositories)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append((path, self.headers.get("Range")))
        if self.server.refuses:
            self._send(self.server.refuses, b"{}")
        elif path.startswith("api/models/"):
            self._describe(path.removeprefix("api/models/").partition("/revision/")[0])
        else:
            repository, _, rest = path.partition("/resolve/")
            self._file(repository, rest.partition("/")[2])

    def _describe(self, repository: str) -> None:
        folder = self.server.repositories.get(repository)
        if folder is None:
            self._send(404, b"{}", **{"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            results = {"rfilename": path.relative_to(folder).as_posix(), "size": len(data),
                    "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
            if path.suffix in (".pt", ".pth", ".safetensors", ".model"):
                results["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(results)
        self._send(
            200,
            json.dumps(
                {
                    "id": repository,
                    "modelId": repository,
                    "sha": COMMIT,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "cardData": {"license": "test-licence"},
                    "siblings": siblings,
                }
            ).encode(),
        )

    def _file(self, repository: str, name: str) -> None:
        path = self.server.repositories.get(repository, Path("nowhere")) / name
        if not path.is_file():
            self._send(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        data = path.read_bytes()
        if name in self.server.changed:
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("Accept-Ranges", "bytes")
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[begin:self.server.breaks.get(name, len(data))])
        if name in self.server.breaks:
            self.close_connection = True

    def _send(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
