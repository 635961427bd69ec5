"""Command lines in processes of their own, forked from one that has torch loaded: as real as new ones, and quick."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PROCESSES = multiprocessing.get_context("forkserver")
# Not our own modules: what they read at import may depend on `site`.
_PROCESSES.set_forkserver_preload(["torch", "numpy", "yaml", "typer", "safetensors.torch", "rich.progress"])


def run(*arguments: str | Path, cwd: Path, env: Mapping[str, str] = os.environ, site: Path | None = None
        ) -> subprocess.CompletedProcess[str]:
    """`echo-cli` with these arguments; packages in `site` count as installed."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _PROCESSES.Process(target=_run, args=(words, cwd, dict(env), site, out, err))
        process.start()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def _run(words: list[str], cwd: Path, env: dict[str, str], site: Path | None, out: Path, err: Path) -> None:
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if site:
        sys.path.insert(0, str(site))
    from echo_cli.cli.app import main

    sys.argv = ["echo-cli", *words]
    main()
