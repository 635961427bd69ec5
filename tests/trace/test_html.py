"""The page: whole in itself, safe from what a storyboard says, and drawn in a real browser block by block."""

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from echo_cli.layout import Role
from echo_cli.storyboard.nouns import Kind, Scene
from echo_cli.trace import html
from echo_cli.trace.html import BLOCKS, page
from echo_cli.trace.inspect import survey
from echo_cli.trace.reader import Trace, read_trace
from echo_cli.trace.records import DecayMap
from echo_cli.trace.svg import decay_cells
from echo_cli.trace.terminal import decay_map
from echo_cli.trace.thumbnails import thumbnails
from echo_cli.video import ffmpeg
from tests.trace.browser import Browser, find_browser
from tests.trace.story import STORY, timeline, write_story

NEEDS_BROWSER = pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
DRAWN = """[...document.querySelectorAll('.lane.%s path')].map(path => {
  const point = path.ownerSVGElement.createSVGPoint(), height = path.ownerSVGElement.viewBox.baseVal.height;
  return %s.map(x => { point.x = x; point.y = height - 0.01; return path.isPointInFill(point) ? 1 : 0; });
}).reduce((all, one) => all.map((count, at) => count + one[at]))"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up story beside a grey film of its length."""
    folder = tmp_path_factory.mktemp("run")
    pictures = timeline().pictures
    made = subprocess.run(
        [
            ffmpeg.executable(),
            *ffmpeg.QUIET,
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-s",
            "48x32",
            "-r",
            "16",
            "-i",
            "-",
            "-pix_fmt",
            "yuv420p",
            str(folder / "film.mp4"),
        ],
        input=np.repeat(np.arange(pictures) // 4, 48 * 32).astype(np.uint8).tobytes(),
    )
    assert made.returncode == 0
    return write_story(folder / "film.trace.json")


@pytest.fixture(scope="module")
def report(film: Path) -> Path:
    path = film.with_name("report.html")
    path.write_text(page(read_trace(film)), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


class Elements(HTMLParser):
    """Counts elements and checks that each is closed in its turn."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.count += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_needs_nothing_but_itself(report: Path) -> None:
    text = report.read_text("utf-8")
    assert not Elements(text).open
    assert "<script" not in text and "<link" not in text
    assert set(re.findall(r'(?:src|poster)="(.{11})', text)) == {"data:image/", "data:video/"}
    assert all(link.startswith("#scene-") for link in re.findall(r'href="([^"]*)"', text))
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


def test_what_a_storyboard_says_stays_text(tmp_path: Path) -> None:
    nasty = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    scenes = (replace(STORY[0], id="a", prompt=nasty), Scene(nasty, nasty, 6.0, Kind.RECALL, "a"))
    trace = read_trace(write_story(tmp_path / "film.trace.json", scenes, note=nasty))
    text = page(trace)
    assert "<script" not in text and "<img" not in text
    assert not Elements(text).open


def test_without_its_film_a_page_has_no_pictures(tmp_path: Path, report: Path) -> None:
    lonely = page(read_trace(write_story(tmp_path / "film.trace.json")))
    assert "<img" not in lonely and 'class="strip"' not in lonely
    assert report.read_text("utf-8").count("<img") > 14


def test_a_page_has_its_film_in_it_or_beside_it(film: Path, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def source(text: str) -> str:
        return re.search(r'<video controls [^>]*src="([^"]*)"', text)[1]

    data = source(report.read_text("utf-8")).removeprefix("data:video/mp4;base64,")
    assert base64.b64decode(data) == film.with_name("film.mp4").read_bytes()
    monkeypatch.setattr(html, "EMBEDDED", 0)
    assert source(page(read_trace(film))) == "film.mp4"


def test_what_a_pointer_shows_a_finger_reaches(film: Path, report: Path) -> None:
    text = report.read_text("utf-8")
    trace = read_trace(film)
    for index, _ in enumerate(trace.header.timeline):
        assert f'href="#scene-{index}"' in text and f'id="scene-{index}"' in text
    shown = re.findall(r"<title>(\d[^<]*)</title>", text)
    unfolded = "\n\n".join(re.findall(r"<pre>([^<]*)</pre>", text)).split("\n\n")
    assert shown == unfolded and len(shown) == len(trace)


def test_thumbnails_are_of_the_moment_asked_for(film: Path) -> None:
    result = thumbnails(film.with_name("film.mp4"), [1.0, 30.0, 9999.0])
    assert list(result) == [1.0, 30.0]
    assert result[1.0] != result[30.0]
    assert thumbnails(film, [1.0]) == {}


@pytest.mark.parametrize("blocks", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_ten_thousand_blocks_are_few_elements(tmp_path: Path, blocks: int) -> None:
    scenes = tuple(Scene(f"s{index}", "A red ball", blocks * 0.75 / 100, Kind.SMOOTH if index else None)
                   for index in range(100))
    trace = read_trace(write_story(tmp_path / "film.trace.json", scenes))
    assert len(trace) == blocks <= BLOCKS
    text = page(trace)
    assert Elements(text).count < 3_500
    assert len(text) < 1_500_000


def test_stopped_runs_make_a_page_too(tmp_path: Path) -> None:
    path = write_story(tmp_path / "film.trace.json", blocks=20)
    assert "20 of 52 blocks are recorded" in page(read_trace(path))
    path.write_bytes(path.read_bytes().split(b"\n")[0])
    assert "nothing to draw" in page(read_trace(path))


def test_the_fastest_fading_cell_has_the_thickest_veil(film: Path) -> None:
    decay = read_trace(film).block(36).measured.decay
    veils = {(int(row), int(col)): float(opacity)
             for opacity, path in re.findall(r'opacity="([\d.]+)" d="([^"]+)"', decay_cells(decay))
             for col, row in re.findall(r"M(\d+) (\d+)h1v1", path)}
    rates = {divmod(index, decay.cols): rate for index, rate in enumerate(decay.rates)}
    assert veils.keys() == rates.keys()
    assert veils[min(rates, key=rates.get)] == max(veils.values()) == 0.88
    assert veils[max(rates, key=rates.get)] == min(veils.values()) == 0


def test_the_decay_of_a_large_model_is_few_elements() -> None:
    drawn = decay_cells(DecayMap(30, 52, tuple(0.5 + index / 4000 for index in range(1560))))
    assert drawn.count("M") == 1560 and drawn.count("<path") < 20


def test_replaced_cells_are_not_told_as_fading() -> None:
    whole, replaced, fading = DecayMap(1, 2, (1.0, 1.0)), DecayMap(1, 2, (0.0, 1.0)), DecayMap(1, 2, (0.5, 1.0))
    assert [decay.replaces for decay in (whole, replaced, fading)] == [False, True, False]
    assert "what was replaced" in decay_map(replaced)[0].plain and "fades" in decay_map(fading)[0].plain


def middles(trace: Trace) -> list[float]:
    return [sum(trace.block(index).pictures) / 2 for index in range(len(trace))]


@pytest.mark.browser
@NEEDS_BROWSER
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_has_no_complaint_and_nothing_sticks_out(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    browser.open(report, width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [report.absolute().as_uri()]
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("[...document.images].every(image => image.naturalWidth > 0) && document.images.length > 14")
    bright = browser.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => +a + +b)")
    assert (bright < 200) == dark


@pytest.mark.browser
@NEEDS_BROWSER
@pytest.mark.parametrize("linked", [False, True])
def test_a_phone_plays_the_film_and_unfolds_a_scene(
    browser: Browser, film: Path, report: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if linked:
        monkeypatch.setattr(html, "EMBEDDED", 0)
        report = film.with_name("linked.html")
        report.write_text(page(read_trace(film)), "utf-8")
    browser.open(report, 390, 844)
    seconds = browser.ask("""new Promise((told, failed) => {
        const video = document.querySelector('video');
        const say = () => told(video.duration);
        video.onerror = () => failed(video.error.message);
        video.readyState ? say() : video.onloadedmetadata = say; })""")
    assert seconds == pytest.approx(read_trace(film).header.film.seconds, abs=0.1)
    assert browser.complaints == []
    browser.ask("document.querySelector('.bar a:last-child').click()")
    target = "document.querySelector('.card:target')"
    assert browser.ask(f"{target}.getBoundingClientRect().top < innerHeight")
    browser.ask(f"{target}.querySelector('summary').click()")
    assert browser.ask(f"{target}.querySelector('pre').offsetHeight") > 50
    assert browser.ask("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
@NEEDS_BROWSER
def test_every_block_is_drawn_where_its_pictures_are(browser: Browser, film: Path, report: Path) -> None:
    trace = read_trace(film)
    browser.open(report)
    assert browser.ask(DRAWN % ("current", middles(trace))) == [1] * len(trace)
    expected = [int(any(cell.role is Role.TRANSITION for cell in column)) for column in survey(trace).columns]
    assert 0 < sum(expected) == 11
    assert [int(drawn > 0) for drawn in browser.ask(DRAWN % ("transition", middles(trace)))] == expected
    assert browser.ask("document.querySelectorAll('.hover rect > title').length") == len(trace)


@pytest.mark.browser
@NEEDS_BROWSER
def test_drawings_have_names(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.ask("[...document.querySelectorAll('svg')].every(drawing => drawing.getAttribute('aria-label'))")
    assert browser.ask("[...document.images].every(image => image.alt)")


@pytest.mark.browser
@NEEDS_BROWSER
def test_a_truncated_run_is_drawn_as_far_as_it_got(browser: Browser, tmp_path: Path, film: Path) -> None:
    stopped = tmp_path / "report.html"
    stopped.write_text(page(read_trace(write_story(tmp_path / "film.trace.json", blocks=20))), "utf-8")
    browser.open(stopped)
    assert browser.ask(DRAWN % ("current", middles(read_trace(film)))) == [1] * 20 + [0] * 32


@pytest.mark.browser
@NEEDS_BROWSER
def test_a_recall_in_a_long_film_can_be_seen_at_the_foot_of_the_map(browser: Browser, tmp_path: Path) -> None:
    """One frame of ten minutes remembered for four seconds: it may be thin, not absent."""
    scenes = (Scene("first", "A ball", 300.0), Scene("last", "A ball again", 300.0, Kind.RECALL, "first"))
    trace = read_trace(write_story(tmp_path / "film.trace.json", scenes))
    report = tmp_path / "report.html"
    report.write_text(page(trace), "utf-8")
    browser.open(report)
    x, y = trace.header.timeline[1].pictures[0] + 6, trace.header.film.pictures - 20
    assert browser.ask(f"""[...document.querySelectorAll('.reach path.s0')].some(path => {{
        const point = path.ownerSVGElement.createSVGPoint(); point.x = {x}; point.y = {y};
        return path.isPointInFill(point); }})""")
