"""The trace as one page for a director: the film, a strip of it with memory beneath on the same time axis, then scene
by scene.

One file, no script, no network; light and dark; a page for ten thousand blocks has few elements. What a pointer shows,
a finger reaches too: scenes are links, and what each block remembered can be unfolded. The drawings come from `svg`,
the answers from `inspect`; this module arranges them.
"""

import base64
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from urllib.parse import quote

from echo_cli.storyboard.nouns import CONTINUE
from echo_cli.text import clock, number, plural, size, ticks
from echo_cli.trace import svg
from echo_cli.trace.inspect import SceneAnswer, Summary, Survey, flat, summarise, survey
from echo_cli.trace.look import ROLE_WORDS, SCENE_COLOURS
from echo_cli.trace.reader import Trace
from echo_cli.trace.records import KEYFRAMES, DecayMap, SceneFacts
from echo_cli.trace.rows import to_row
from echo_cli.trace.thumbnails import thumbnails

BLOCKS = 20_000  # drawn one by one; a longer film is drawn in even strides
STRIP = 14  # pictures in the film strip
CARDS = 48  # scenes with a card of their own
LISTED = 500  # lists of candidates and settings are cut at this length
EMBEDDED = 24 << 20  # bytes of a film that the page carries itself; a larger one stays beside it

PLAYED = {".mp4": "video/mp4", ".webm": "video/webm"}  # what browsers play

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data: 'self' file:"


def page(trace: Trace) -> str:
    surveyed = survey(trace, BLOCKS)
    summary = summarise(trace, surveyed)
    pictures = Pictures(trace, summary)
    body = "\n".join((_head(trace, summary), _player(trace, pictures), _answers(trace, summary),
                      _film(trace, surveyed, pictures), _scenes(trace, summary, surveyed, pictures), _costs(summary),
                      _settings(trace)))
    style = files("echo_cli.trace").joinpath("report.css").read_text("utf-8")
    colours = "".join(f".s{index}{{--scene:{colour}}}" for index, colour in enumerate(SCENE_COLOURS))
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(trace.header.storyboard.title)}: what memory held</title>"
            f"<style>\n{style}{colours}\n</style></head>\n<body><main>\n{body}\n</main></body></html>\n")


class Pictures:
    """The film beside the trace, if there is one, and thumbnails of it: a strip, and the opening of each scene with a
    card."""

    def __init__(self, trace: Trace, summary: Summary) -> None:
        film = trace.header.film
        self.strip = [film.seconds * (index + 0.5) / STRIP for index in range(STRIP)]
        self.openings = {each.scene: min(each.start + 0.4, film.seconds - 0.1) for each in summary.scenes[:CARDS]}
        video = trace.path.parent / film.video if film.video else None
        self.video = video if video is not None and video.is_file() else None
        self.kept = {each.scene: self._kept(trace, each) for each in summary.scenes[:CARDS]}
        times = [*self.strip, *self.openings.values(), *(time for kept in self.kept.values() for time in kept)]
        self.uris = thumbnails(self.video, times) if self.video else {}

    @staticmethod
    def _kept(trace: Trace, entry: SceneAnswer) -> list[float]:
        """When some of the scene's keyframes are seen, if it is remembered by such."""
        record, film = entry.recall_frame, trace.header.film
        if record is None or record.method != KEYFRAMES:
            return []
        pictures = [film.geometry.pictures(frame) for frame in record.frames[::2]]
        return [min(picture, film.pictures - 1) / film.fps for picture in pictures]

    def keyframes(self, entry: SceneAnswer) -> str:
        """What is remembered of a scene, as it looks."""
        seen = [self.uris[time] for time in self.kept.get(entry.scene, []) if time in self.uris]
        images = "".join(f'<img src="{uri}" alt="{escape(f"Keyframe of {entry.id}")}">' for uri in seen)
        return f'<figure class="kept">{images}<figcaption>remembered</figcaption></figure>' if seen else ""

    def opening(self, scene: int, words: str) -> str:
        uri = self.uris.get(self.openings.get(scene, -1.0))
        return f'<img src="{uri}" alt="{escape(words)}">' if uri else ""


# ---------------------------------------------------------------- above the film


def _head(trace: Trace, summary: Summary) -> str:
    header, film = trace.header, trace.header.film
    facts = (clock(summary.seconds), plural(len(header.timeline), "scene"), plural(summary.blocks, "block"),
             f"{film.width} × {film.height} at {film.fps:g} pictures a second", f"memory {header.policy.name}",
             f"model {header.model.name}", f"seed {header.seed}", f"{header.device.name}, {header.device.dtype}")
    state = "The film is still being rendered" if trace.growing else "The run did not finish"
    notice = "" if not trace.notice else (
        f'<p class="notice">{state}: {summary.blocks:,} of {summary.of_blocks:,} blocks are recorded.</p>')
    return (f"<header><h1>{escape(header.storyboard.title)}</h1><ul class=\"facts\">"
            + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + f"</ul>{notice}</header>")


def _player(trace: Trace, pictures: Pictures) -> str:
    """The film itself, in the page if it is small enough to be sent along."""
    video, film = pictures.video, trace.header.film
    kind = PLAYED.get(video.suffix.lower()) if video else None
    if video is None or kind is None:
        return ""
    source = quote(video.name)
    if video.stat().st_size <= EMBEDDED:
        source = f"data:{kind};base64," + base64.b64encode(video.read_bytes()).decode()
    poster = pictures.uris.get(pictures.strip[0])
    shown = f' poster="{poster}"' if poster else ""
    return (f'<section class="player"><video controls playsinline preload="metadata"{shown} src="{source}" '
            f'style="aspect-ratio:{film.width}/{film.height}" aria-label="The film"></video></section>')


def _answers(trace: Trace, summary: Summary) -> str:
    budget = summary.budget
    recalls, longest = summary.recalls, summary.longest
    cards = [
        (
            "Is memory bounded?",
            f"Yes, by {budget.tokens:,} tokens" if budget.bounded else "Still growing at the end",
            f"{size(budget.bytes)} at most; the window was full from {clock(budget.reached_at)}"
            if budget.bounded
            else f"{budget.tokens:,} tokens and {size(budget.bytes)} so far",
        ),
        (
            "Which scene was recalled?",
            f"{recalls[0].recalled}, in {recalls[0].id}" if recalls else "None",
            "; ".join(f"{each.recalled} in {each.id}" for each in recalls[1:4])
            or (recalls[0].chosen_by or "" if recalls else summary.no_recall(trace.header.policy.name)),
        ),
        (
            "What lingered longest?",
            f"{longest[1].source}, in {longest[0].id}" if longest else "Nothing",
            longest[1].words if longest else "no scene kept anything from another",
        ),
    ]
    if summary.block_times:
        speed = f"{sum(summary.block_times):.0f} ms a block"
        rate = trace.header.film.pictures / summary.wall_seconds if summary.wall_seconds else None
        cards.append(("How fast was it?", speed, f"{rate:.0f} pictures a second overall" if rate else
                      "denoising, clean pass, memory and decoding"))
    return '<section class="answers" aria-label="At a glance">' + "".join(
        f"<div><h2>{escape(question)}</h2><p class=\"big\">{escape(answer)}</p><p>{escape(more)}</p></div>"
        for question, answer, more in cards) + "</section>"


# ---------------------------------------------------------------- the film and its memory


def _film(trace: Trace, surveyed: Survey, pictures: Pictures) -> str:
    if not surveyed.columns:
        return '<section><p class="notice">No block was finished, so there is nothing to draw.</p></section>'
    rows = [_row("scenes", "", _scene_bar(trace))]
    if any(at in pictures.uris for at in pictures.strip):
        images = "".join(f'<img src="{pictures.uris[at]}" alt="The film at {clock(at)}">' if at in pictures.uris
                         else "<i></i>" for at in pictures.strip)
        rows.append(_row("film", "", f'<div class="strip">{images}</div>'))
    lanes = "".join(_row(role.value, f"{most:,} tokens", drawing, role.value) for role, most, drawing in
                    svg.lanes(trace, surveyed))
    curves = _curves(trace, surveyed)
    memory = f'<div class="lanes">{lanes}{curves}{_row("", "", svg.hover_columns(trace, surveyed), "over")}</div>'
    legend = "".join(f"<div><dt>{role.value}</dt><dd>{ROLE_WORDS[role]}</dd></div>" for role in svg.ORDER
                     if any(cell.role is role for column in set(surveyed.columns) for cell in column))
    stride = "" if surveyed.stride == 1 else f" Every {surveyed.stride}th block is drawn."
    return (f'<section class="panel film" aria-label="The film and its memory" data-blocks="{surveyed.blocks}">'
            f"<h2>The film and its memory</h2>{''.join(rows)}{memory}{_row('', '', _ticks(trace), 'axis')}"
            f'<p class="note">Colour shows which scene a token came from; fainter tokens have faded more. Point at a '
            f"column for details, or unfold a scene below.{stride}</p><dl class=\"legend\">{legend}</dl></section>"
            f'<section class="panel"><h2>Where memory looked</h2><p class="note">Upwards: the moment of the film '
            f"that was remembered. The diagonal is the present; below it is the past that is still in memory.</p>"
            f"{svg.reach(trace, surveyed)}{_ticks(trace)}</section>")


def _row(name: str, more: str, drawing: str, of: str = "") -> str:
    label = f"<b>{escape(name)}</b> <span>{escape(more)}</span>" if name else ""
    return f'<div class="row {of}"><div class="label">{label}</div><div class="axis-wide">{drawing}</div></div>'


def _scene_bar(trace: Trace) -> str:
    total = trace.header.film.pictures
    parts = []
    for index, scene in enumerate(trace.header.timeline):
        left, width = (100 * part / total for part in (scene.pictures[0], scene.pictures[1] - scene.pictures[0]))
        begins = f", {scene.transition.value}" if scene.transition else ""
        words = f"{scene.id}{begins}: {clock(scene.pictures[0] / trace.header.film.fps)}. {scene.prompt}"
        link = f' href="#scene-{index}"' if index < CARDS else ""
        parts.append(f'<a class="s{index % len(SCENE_COLOURS)}"{link} style="left:{left:.3f}%;width:{width:.3f}%" '
                     f'title="{escape(words)}">{escape(scene.id) if width > 2 else ""}</a>')
    if len(parts) > LISTED:  # too narrow to distinguish: the lanes show their colours
        return f'<div class="bar"><em>{plural(len(parts), "scene")}</em></div>'
    return f'<div class="bar">{"".join(parts)}</div>'


def _curves(trace: Trace, surveyed: Survey) -> str:
    rows = []
    drift = [value for value in surveyed.drift if value is not None]
    if drift:
        low = min(0.0, *drift)
        rows.append(_row("drift", f"{number(min(drift))} to {number(max(drift))}", svg.curve(
            trace, surveyed, surveyed.drift, low, 1.0, "Similarity of the queries to the scene's beginning"), "thin"))
    gates = [value for value in surveyed.gates if value is not None]
    if gates:
        rows.append(_row("gate", f"{number(min(gates))} to {number(max(gates))}", svg.curve(
            trace, surveyed, surveyed.gates, 0.0, 1.0, "How far the queries' gates opened"), "thin"))
    spent = [sum(times) if times else None for times in surveyed.times]
    known = [value for value in spent if value is not None]
    if known:
        rows.append(_row("time", f"{min(known):.0f} to {max(known):.0f} ms", svg.curve(
            trace, surveyed, spent, 0.0, max(known), "Milliseconds spent on each block"), "thin"))
    most = max(surveyed.bytes, default=0)
    rows.append(
        _row("bytes", size(most), svg.curve(trace, surveyed, surveyed.bytes, 0.0, most, "Bytes held by memory"), "thin")
    )
    return "".join(rows)


def _ticks(trace: Trace) -> str:
    seconds = trace.header.film.seconds
    return '<div class="ticks" aria-hidden="true">' + "".join(
        f'<span style="left:{100 * at / seconds:.3f}%">{clock(at)}</span>'
        for at in ticks(seconds, 11) if at < 0.96 * seconds) + "</div>"


# ---------------------------------------------------------------- scene by scene


def _scenes(trace: Trace, summary: Summary, surveyed: Survey, pictures: Pictures) -> str:
    if not summary.scenes:
        return ""
    remembered = svg.words_by_scene(trace, surveyed)
    cards = "".join(_card(trace, each, pictures, remembered.get(each.scene, ())) for each in summary.scenes[:CARDS])
    rest = summary.scenes[CARDS:CARDS + LISTED]
    table = "" if not rest else _table(("scene", "begins", "at", "memory brought in"), (
        (each.id, each.begins, clock(each.start), each.recalled or "–") for each in rest))
    hidden = len(summary.scenes) - CARDS - len(rest)
    more = f'<p class="note">… and {hidden:,} more: <code>echo-cli inspect-cache --json</code> lists them all.</p>'
    return (f'<section><h2>Scene by scene</h2><div class="cards">{cards}</div>{table}{more if hidden > 0 else ""}'
            f"</section>")


def _card(trace: Trace, entry: SceneAnswer, pictures: Pictures, remembered: Iterable[str]) -> str:
    facts, source = trace.header.timeline[entry.scene], trace.opening(entry.scene).recalled
    facts_list = []
    if entry.recalled:
        why = f": {entry.chosen_by}" if entry.chosen_by else ""
        facts_list.append(("memory from", entry.recalled + why))
    facts_list += [("lingering", f"{left.source}, {left.words}") for left in entry.lingering]
    if entry.jump is not None:
        facts_list.append(("jump", plural(entry.jump, "position")))
    if entry.refusal:
        facts_list.append(("no recall", entry.refusal))
    if entry.remembered_by:
        facts_list.append(entry.remembered_by)
    details = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts_list)
    begins = "opens the film" if entry.begins == "start" else entry.begins
    blocks = "\n\n".join(remembered)
    unfolded = f"<details><summary>Block by block</summary><pre>{escape(blocks)}</pre></details>" if blocks else ""
    return (f'<article id="scene-{entry.scene}" class="card s{entry.scene % len(SCENE_COLOURS)}">'
            f'<div class="look">{pictures.opening(entry.scene, f"Opening of {entry.id}")}'
            f"{_given(facts)}{pictures.keyframes(entry)}{_decay(trace, entry, source, pictures)}</div>"
            f"<div><h3>{escape(entry.id)} <small>{escape(begins)} · {clock(entry.start)} · "
            f"{plural(entry.blocks, 'block')}</small></h3>"
            f'<p class="prompt">{escape(facts.prompt)}</p><dl>{details}</dl>'
            f"{_candidates(entry)}{unfolded}</div></article>")


def _given(scene: SceneFacts) -> str:
    """The file that the scene begins with, beside its opening."""
    opening = scene.opening
    if opening is None:
        return ""
    words = (f"It continues {opening.path}." if opening.what == CONTINUE else
             f"It begins with the {opening.what} {opening.path}.")
    image = f'<img src="{escape(opening.thumbnail)}" alt="{escape(words)}">' if opening.thumbnail else ""
    return f"<figure>{image}<figcaption>{escape(words)}</figcaption></figure>"


def _decay(trace: Trace, entry: SceneAnswer, source: int | None, pictures: Pictures) -> str:
    decay = _decay_of(trace, entry)
    if decay is None or source is None:
        return ""
    under = pictures.opening(source, f"Opening of {entry.recalled}, the remembered scene")
    known = [rate for rate in decay.rates if rate is not None] or [1.0]
    said = (f"{entry.recalled}, remembered: bright cells keep {max(known):.2f} of their weight a block, veiled cells "
            f"{min(known):.2f}" if max(known) > min(known) else
            f"{entry.recalled}, remembered: every cell keeps {max(known):.2f} of its weight a block")
    if decay.replaces:
        said = f"{entry.recalled}, remembered: bright cells stay, veiled cells were replaced by the new scene's"
    return (f'<figure class="s{source % len(SCENE_COLOURS)}"><div class="decay" '
            f'style="aspect-ratio:{trace.header.film.width}/{trace.header.film.height}">{under}{svg.decay_cells(decay)}'
            f"</div><figcaption>{escape(said)}</figcaption></figure>")


def _decay_of(trace: Trace, entry: SceneAnswer) -> DecayMap | None:
    block = trace.opening(entry.scene).block
    measured = trace.block(block).measured if block < len(trace) else None
    return measured.decay if measured else None


def _candidates(entry: SceneAnswer) -> str:
    if not entry.candidates:
        return ""
    rows = "".join(
        f'<li{" class=chosen" if name == entry.recalled else ""}><span>{escape(name)}</span><span class="score">'
        f'<i style="width:{100 * max(0.0, min(1.0, score or 0.0)):.1f}%"></i></span><b>{number(score)}</b></li>'
        for name, score in entry.candidates[:6]
    )
    more = len(entry.candidates) - 6
    return ('<p class="note">Similarity of each earlier prompt:</p>'
            f'<ol class="candidates">{rows}</ol>' + (f'<p class="note">and {more:,} lower</p>' if more > 0 else ""))


# ---------------------------------------------------------------- below


def _costs(summary: Summary) -> str:
    times = summary.block_times
    if not times:
        return ""
    total = sum(times) or 1.0
    parts = "".join(f'<span class="{name}" style="flex-grow:{max(value / total, 0.004):.4f}" '
                    f'title="{name}: {value:.1f} ms"></span>'
                    for name, value in times._asdict().items())
    legend = "".join(f'<li class="{name}"><b>{name}</b> {value:.1f} ms <span>{100 * value / total:.0f} %</span></li>'
                     for name, value in times._asdict().items())
    return ("<section class=\"panel\"><h2>Where a block's time goes</h2>"
            f'<div class="cost">{parts}</div><ul class="costs">{legend}</ul></section>')


def _settings(trace: Trace) -> str:
    header = trace.header
    settings = list(flat(to_row(header.policy.settings)).items())[:LISTED]
    facts = [("storyboard", header.storyboard.source), ("storyboard sha256", header.storyboard.sha256),
             ("written by", f"{header.tool} {header.tool_version}"), ("model", header.model.name),
             ("layers", header.model.layers), ("token grid", f"{header.model.rows} × {header.model.cols}"),
             ("policy", header.policy.name)]
    return ('<section class="panel"><details><summary>Every setting of this run</summary>'
            f"{_table(('setting', 'value'), [*facts, *settings])}</details></section>")


def _table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scrolled"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
