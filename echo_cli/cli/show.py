"""A film's report, written beside the film and opened as a desktop opens files. Knows nothing of what is in either."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from echo_cli.errors import UsageError


def write_report(trace_path: Path) -> Path:
    """The page of a film's trace, written beside it: NAME.html for NAME.trace.json."""
    from echo_cli.files import write_page
    from echo_cli.trace.html import page
    from echo_cli.trace.reader import read_trace

    report = trace_path.with_name(trace_path.name.removesuffix(".trace.json") + ".html")
    write_page(report, page(read_trace(trace_path)), None)
    return report


def trace_of(name: str) -> Path:
    """The trace of a film that is named by its file, its trace, its manifest, its storyboard, or what these have in
    common."""
    trace = trace_named(name)
    if trace is None:
        raise UsageError(f"{name} is not a film", "Name a film that `echo-cli generate` rendered, or its trace.")
    if not trace.exists():
        raise UsageError(f"{trace} does not exist", "Name a film that `echo-cli generate` rendered; its trace lies "
                                                    "beside it.")
    return trace


def trace_beside(file: Path) -> Path:
    """The same, finished or not; a trace of any name, and what names no trace, stay as they are."""
    from echo_cli.files import partial
    from echo_cli.trace.reader import is_trace

    trace = None if is_trace(file) else trace_named(str(file))
    return trace if trace and (trace.exists() or partial(trace).exists()) else file


def trace_named(name: str) -> Path | None:
    """Where the trace of a film lies, if there is one of that name."""
    from echo_cli.render.outputs import outputs_of

    path = Path(name)
    for ending in (".trace.json", ".manifest.json", ".html", ".yaml", ".yml"):
        if name.endswith(ending):
            path = path.with_name(path.name.removesuffix(ending))
    try:
        return None if path.is_dir() else outputs_of(str(path), "").trace
    except UsageError:
        return None


def show(page: Path) -> bool:
    """Opens a page; False where there is no desktop to open it on."""
    if sys.platform == "win32":
        os.startfile(page.absolute())
        return True
    desktop = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    opener = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if desktop and opener:
        subprocess.Popen([opener, page.absolute()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, start_new_session=True)
        return True
    if desktop or os.environ.get("BROWSER"):
        import webbrowser

        return webbrowser.open(page.absolute().as_uri())
    return False
