"""A memory bench as one page: the words, the figures with their intervals, the curves, and the films side by side.

One file, no script, no network; light and dark. It looks like the page of a trace and shares its style.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from PIL import Image

from echo_cli.bench.columns import METRICS
from echo_cli.bench.results import ALL, Cell, Report
from echo_cli.bench.sentences import CONSTRUCTED_MARK, LEGEND, mark, number, origins, plus_minus, sentences
from echo_cli.text import plural, ticks
from echo_cli.trace.html import POLICY
from echo_cli.trace.look import SCENE_COLOURS
from echo_cli.trace.svg import svg
from echo_cli.video.still import data_uri

Strip = Sequence[tuple[str, np.ndarray]]  # label, picture [y, x, 3]

_WIDTH, _GAP = 132, 3  # pixels of a picture on the page, and between two
_PLOTTED = ("recall", "return", "held", "left over", "response", "seam", "drift", "alignment", "motion")
_TALL = 26  # height of a policy's line in a plot


def page(report: Report, strips: Mapping[tuple[str, str, int], Strip]) -> str:
    style = "".join(files(package).joinpath(name).read_text("utf-8") for package, name in (
        ("echo_cli.trace", "report.css"), ("echo_cli.bench", "bench.css")))
    colours = "".join(f".s{index}{{--scene:{colour}}}" for index, colour in enumerate(SCENE_COLOURS))
    body = "\n".join((_head(report), _words(report), _plots(report), _table(report, ALL, "All scenarios together"),
                      *(_scenario(report, name, strips) for name in report.scenarios), _about(report)))
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>Memories side by side</title>'
            f"<style>\n{style}{colours}\n</style></head>\n<body><main>\n{body}\n</main></body></html>\n")


def _head(report: Report) -> str:
    about = report.about
    facts = (
        f"model {about['model']}" + (f", {about['fast']} in eight bits" if "fast" in about else ""),
        plural(len(report.scenarios), "scenario"),
        f"{len(report.policies)} memories",
        plural(len(about["seeds"]), "seed"),
        plural(about["films"], "film"),
        f"{about['device']}, {about['seconds']:.0f} s",
    )
    return (
        '<header><h1>Memories side by side</h1><ul class="facts">'
        + "".join(f"<li>{escape(str(fact))}</li>" for fact in facts)
        + "</ul>"
        + "".join(
            f'<p class="notice">{escape(name)} was left out: {escape(why)}</p>'
            for name, why in about["lacking"].items()
        )
        + "".join(f'<p class="notice">{escape(line)}, without pictures</p>' for line in origins(report))
        + "</header>"
    )


def _words(report: Report) -> str:
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(report))
    return f'<section class="panel words"><h2>In words</h2><ul>{said}</ul></section>'


# ---------------------------------------------------------------- figures


def _plots(report: Report) -> str:
    plots = "".join(_whiskers(report, metric) for metric in _PLOTTED if metric in report.measured())
    return (f'<section><h2>At a glance</h2><div class="plots">{plots}</div>'
            '<p class="note">A mark is the mean over seeds; a bar is its 95 % interval.</p></section>')


def _whiskers(report: Report, metric: str) -> str:
    cells = [(policy, cell) for policy in report.policies if (cell := report.cell(policy, metric))]
    low = min(0.0, *(cell.interval.low for _, cell in cells))
    high = max(cell.interval.high for _, cell in cells)
    span = (high - low) or 1.0

    def across(value: float) -> float:
        return 2 + 96 * (value - low) / span

    rows = []
    for policy, cell in cells:
        left, middle = across(cell.interval.low), across(cell.interval.mean)
        wide = max(across(cell.interval.high) - left, 0.3)
        drawn = (f'<path d="M{left:.2f} {_TALL / 2 - 3}h{wide:.2f}v6h-{wide:.2f}z" opacity=".35"/>'
                 f'<path d="M{middle - 0.6:.2f} {_TALL / 2 - 7}h1.2v14h-1.2z"/>')
        rows.append(f'<div class="whisker"><span>{escape(policy)}</span>'
                    f'{svg(100, _TALL, drawn, f"{policy}: {plus_minus(cell)}", _colour(report, policy))}'
                    f"<b>{plus_minus(cell)}{_mark(report, cell)}</b></div>")
    column = METRICS[metric]
    good = {True: "Higher is better.", False: "Lower is better.", None: ""}[column.more]
    unit = f", {column.unit}" if column.unit else ""
    return (
        f'<figure class="panel plot"><figcaption><b>{escape(metric)}</b>{escape(unit)}: {escape(column.words)}. {good}'
        f"</figcaption>{''.join(rows)}</figure>"
    )


def _colour(report: Report, policy: str) -> str:
    """Each policy has its own colour; variations are grey."""
    plain = [name for name in report.policies if not name.startswith("+")]
    return f"s{plain.index(policy) % len(SCENE_COLOURS)}" if policy in plain else "grey"


def _mark(report: Report, cell: Cell) -> str:
    shown, verdict = mark(report, cell).strip(), cell.verdict
    if shown == CONSTRUCTED_MARK:
        return f' <i class="same" title="by construction">{shown}</i>'
    return f' <i class="{verdict.name.lower()}" title="{verdict.value}">{shown}</i>' if verdict and shown else ""


def _table(report: Report, scenario: str, title: str) -> str:
    metrics = report.measured(scenario)
    head = "".join(
        f'<th title="{escape(METRICS[metric].words)}">{escape(metric)}<br>'
        f"<small>{escape(METRICS[metric].unit)}</small></th>"
        for metric in metrics
    )
    rows = "".join(
        f"<tr><th>{escape(policy)}</th>"
        + "".join(_figure(report, policy, metric, scenario) for metric in metrics)
        + "</tr>"
        for policy in report.policies
    )
    return (f'<section class="panel"><h2>{escape(title)}</h2><div class="scrolled"><table class="figures">'
            f"<tr><th></th>{head}</tr>{rows}</table></div>"
            f'<p class="note">{escape(LEGEND.format(against=report.against))}</p></section>')


def _figure(report: Report, policy: str, metric: str, scenario: str) -> str:
    cell = report.cell(policy, metric, scenario)
    if cell is None:
        return "<td>–</td>"
    low, high = (number(edge, metric) for edge in (cell.interval.low, cell.interval.high))
    return f'<td title="{low} to {high}, {plural(cell.seeds, "seed")}">{plus_minus(cell)}{_mark(report, cell)}</td>'


# ---------------------------------------------------------------- scenario by scenario


def _scenario(report: Report, name: str, strips: Mapping[tuple[str, str, int], Strip]) -> str:
    about = report.scenarios[name]
    curves = "".join(_curve(report, name, curve) for curve in report.curves(name))
    seeds = sorted({seed for scenario, _, seed in strips if scenario == name})
    sheets = "".join(_sheet(report, name, seed, strips) for seed in seeds)
    return (
        f'<section class="scenario"><h2>{escape(name)} <small>{escape(about["words"])}</small></h2>{sheets}'
        + (f'<div class="plots">{curves}</div>' if curves else "")
        + f"</section>{_table(report, name, f'{name} in figures')}"
    )


def _sheet(report: Report, scenario: str, seed: int, strips: Mapping[tuple[str, str, int], Strip]) -> str:
    shown = {policy: strips[key] for policy in report.policies if (key := (scenario, policy, seed)) in strips}
    labels = [label for label, _ in next(iter(shown.values()))]
    head = "".join(f"<span>{escape(label)}</span>" for label in labels)
    rows = "".join(
        f'<div class="take"><b>{escape(policy)}</b><img src="{_uri(strip)}" '
        f'alt="{escape(f"{scenario} under {policy}: {len(strip)} pictures in order")}"></div>'
        for policy, strip in shown.items()
    )
    said = "".join(f"<li>{escape(prompt)}</li>" for prompt in report.scenarios[scenario]["prompts"][str(seed)])
    return (f'<div class="panel sheet"><div class="take labels"><b>seed {seed}</b>'
            f'<div style="grid-template-columns:repeat({len(labels)},1fr)">{head}</div></div>'
            f"{rows}<details><summary>Its prompts</summary><ol>{said}</ol></details></div>")


def _uri(strip: Strip) -> str:
    """All pictures of a take as one JPEG."""
    height, width, _ = strip[0][1].shape
    tall = round(_WIDTH * height / width)
    whole = Image.new("RGB", (len(strip) * (_WIDTH + _GAP) - _GAP, tall), "white")
    for place, (_, picture) in enumerate(strip):
        whole.paste(
            Image.fromarray(picture).resize((_WIDTH, tall), Image.Resampling.LANCZOS), (place * (_WIDTH + _GAP), 0)
        )
    return data_uri(np.asarray(whole))


def _curve(report: Report, scenario: str, name: str) -> str:
    lines = {policy: points for policy in report.policies if (points := report.curve(scenario, policy, name))}
    every = [y for points in lines.values() for _, y in points]
    low, high = min(0.0, *every), max(0.0, *every)
    span, last = (high - low) or 1.0, max(x for points in lines.values() for x, _ in points) or 1.0
    drawn = "".join(
        f'<path class="line {_colour(report, policy)}" d="M'
        + "L".join(f"{100 * x / last:.2f} {100 * (1 - (y - low) / span):.2f}" for x, y in points)
        + f'"><title>{escape(policy)}</title></path>'
        for policy, points in sorted(lines.items(), key=lambda line: not line[0].startswith("+"))
    )
    unit = "s" if "drift" in name else "pictures after the cut"
    axis = "".join(
        f'<span style="left:{100 * at / last:.2f}%">{at:g}</span>' for at in ticks(last, 6) if at < 0.95 * last
    )
    legend = "".join(
        f'<span class="{_colour(report, policy)}">{escape(policy)}</span>'
        for policy in lines
        if not policy.startswith("+")
    )
    return (
        f'<figure class="panel plot"><figcaption><b>{escape(name)}</b>, {low:.0f} to {high:.0f} %</figcaption>'
        f"{svg(100, 100, drawn, f'{name} in the course of {scenario}, one line for each memory', 'curves')}"
        f'<div class="ticks">{axis}</div><p class="note">{unit}; variations are grey</p>'
        f'<p class="key">{legend}</p></figure>'
    )


def _about(report: Report) -> str:
    rows = [(name, str(value)) for name, value in report.about.items() if name not in ("lacking", "reused")]
    rows += [(name, ", ".join(f"{key} {value}" for key, value in policy["settings"].items()) or "defaults")
             for name, policy in report.policies.items()]
    table_rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return ('<section class="panel"><details><summary>What was run</summary>'
            f'<div class="scrolled"><table>{table_rows}</table></div></details></section>')
