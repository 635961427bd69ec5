"""`bench memory` and `bench compare`: memories side by side, and two results side by side. Parses, measures, prints."""

import csv
import io
import json as json_text
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli import complete
from echo_cli.cli.messages import tell
from echo_cli.cli.options import Debug, Device, Dtype, Json
from echo_cli.errors import Exit, Interrupted, UsageError
from echo_cli.machine import cores
from echo_cli.models.running import FastPart
from echo_cli.storyboard.nouns import SEEDS
from echo_cli.text import plural

if TYPE_CHECKING:
    from echo_cli.bench.contestants import Contestant
    from echo_cli.bench.memory import Bench
    from echo_cli.bench.results import Report
    from echo_cli.bench.reuse import Earlier
    from echo_cli.bench.scenarios import Scenario
    from echo_cli.spec import ModelSpec

STORIES = 10  # the fewest that can distinguish all contestants
_QUICK_STORIES, _QUICK_BLOCKS = 4, 15
_QUICK_SCENARIOS = ("long", "chain", "cuts", "recall-1")
_MEASURED, _REUSED, _RESULTS = "What is measured", "Earlier results", "Results"  # sections of the help


Scenarios = Annotated[list[str] | None, typer.Option(
    help="A scenario; may be repeated. Default: all.", rich_help_panel=_MEASURED)]
Policies = Annotated[list[str] | None, typer.Option(
    help="A memory, MEMORY:NAME=VALUE, or +SETTING for echo-forcing with a setting beyond the release, or +ONE+OTHER; "
    "may be repeated. Default: every built-in memory, one-frame, everything and never-left.",
    autocompletion=complete.policies, rich_help_panel=_MEASURED)]
Seeds = Annotated[int | None, typer.Option(
    min=1, show_default=str(STORIES), help="The number of stories of each scenario.", rich_help_panel=_MEASURED)]
FirstSeed = Annotated[int, typer.Option(
    min=0, max=SEEDS[1], help="The first seed; other seeds are other stories.", rich_help_panel=_MEASURED)]
Long = Annotated[float | None, typer.Option(
    min=6, metavar="SECONDS", help="Length of the long scene; 18 by default.", rich_help_panel=_MEASURED)]
Against = Annotated[str, typer.Option(help="The memory that all others are compared with.", rich_help_panel=_MEASURED)]
Quick = Annotated[bool, typer.Option(
    "--quick", help="Four seeds of four scenarios, a shorter long scene, memories alone.", rich_help_panel=_MEASURED)]
Out = Annotated[Path | None, typer.Option(
    "--out", "-o", metavar="NAME", help="Also write NAME.json, NAME.csv and NAME.html.", rich_help_panel=_RESULTS)]
Html = Annotated[Path | None, typer.Option(
    metavar="REPORT.html", help="Write only the page.", rich_help_panel=_RESULTS)]
Sheets = Annotated[int, typer.Option(
    min=0, help="The number of seeds that the page shows in pictures.", rich_help_panel=_RESULTS)]
Detail = Annotated[bool, typer.Option(
    "--detail", help="Also print the figures of every scenario.", rich_help_panel=_RESULTS)]
JsonInstead = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.", rich_help_panel=_RESULTS)]
CsvInstead = Annotated[bool, typer.Option(
    "--csv", help="Print one line for each figure instead.", rich_help_panel=_RESULTS)]
Reuse = Annotated[list[Path] | None, typer.Option(
    metavar="FILE.json", help="Take the figures of films that are in this earlier result of the same model, and render "
    "only the others; may be repeated. A memory whose code has changed since must be named with --again.",
    rich_help_panel=_REUSED)]
Again = Annotated[list[str] | None, typer.Option(
    metavar="MEMORY", help="A memory that has changed: its films are rendered although --reuse has them; may be "
    "repeated. After `none`, with which all are compared, only films of one scene are reused.",
    autocompletion=complete.policies, rich_help_panel=_REUSED)]
Model = Annotated[str, typer.Option(help="The model: a name, or the folder of its weights.")]
Jobs = Annotated[int | None, typer.Option(
    min=1, help="The number of processes; by default one for each core, or one on a GPU.")]
Fast = Annotated[FastPart | None, typer.Option(
    help="Compute this part of --fast in eight bits, in all layers; a CPU rounds in the same way, but is slow.",
    show_default=False, rich_help_panel=_MEASURED)]
Together = Annotated[int, typer.Option(min=1, help="Films that one process renders at once.")]


def memory(
    scenario: Scenarios = None,
    policy: Policies = None,
    seeds: Seeds = None,
    first_seed: FirstSeed = 0, long: Long = None,
    against: Against = "echo",
    quick: Quick = False,
    out: Out = None, html: Html = None,
    sheets: Sheets = 1,
    detail: Detail = False,
    as_json: JsonInstead = False, as_csv: CsvInstead = False,
    reuse: Reuse = None, again: Again = None,
    model: Model = "tiny",
    device: Device = "auto", dtype: Dtype = "auto",
    jobs: Jobs = None, together: Together = 10, fast: Fast = None,
    debug: Debug = False,
) -> int:
    """Measure memories side by side: scenarios x memories x seeds.

    Each scenario is rendered under each memory with the same stories and the same noise. Intervals are of 95 %, by
    bootstrap over seeds. A memory is called better or worse if its films are, seed by seed, with chance ruled out for a
    whole column.
    """
    from echo_cli.models.registry import spec_named

    _check_outputs(as_json, as_csv, out, html)
    spec = spec_named(model)
    scenarios, contestants = _scenarios(scenario, quick, long, spec), _contestants(policy, quick, against)
    numbers = range(first_seed, first_seed + (seeds or (_QUICK_STORIES if quick else STORIES)))
    results = _earlier(reuse or [], again or [], contestants)

    from echo_cli.bench.memory import measure
    from echo_cli.bench.order import Order

    order = Order(model, scenarios, contestants, tuple(numbers), against, device, dtype,
                  jobs or _processes(device, dtype), together, sheets, fast)
    bench = measure(order, spec, lambda line: print(line, file=sys.stderr, flush=True), results, again or [])
    _write(bench, out, html, spec)
    return _answer(bench, out, as_json, as_csv, detail)


def _check_outputs(as_json: bool, as_csv: bool, out: Path | None, html: Path | None) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv ask for different things", "Give one of them at a time.")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html: '{html}' does not end in .html", f"Try --html {html.with_suffix('.html')}.")
    _check_files(out, html)


def _check_files(out: Path | None, html: Path | None) -> None:
    """What lies where the results will go was written by an earlier run: known before the hours that they take."""
    from echo_cli.bench.results import CSV_COLUMNS, MEMORY
    from echo_cli.files import check_replaceable, is_json_of, is_page

    head = ",".join(CSV_COLUMNS).encode()
    if out is not None:
        for path, ours in zip(_files(out), (is_json_of(MEMORY), lambda data: data.startswith(head), is_page),
                              strict=True):
            check_replaceable(path, ours)
    if html is not None:
        check_replaceable(html, is_page, "--html")


def _files(out: Path) -> tuple[Path, Path, Path]:
    """The three that --out writes."""
    return out.with_name(out.name + ".json"), out.with_name(out.name + ".csv"), out.with_name(out.name + ".html")


def _scenarios(names: list[str] | None, quick: bool, long: float | None, spec: "ModelSpec") -> "tuple[Scenario, ...]":
    from echo_cli.bench.scenarios import SCENARIOS

    short = _QUICK_BLOCKS if quick and long is None else None
    chosen = names or (_QUICK_SCENARIOS if quick else tuple(SCENARIOS))
    return tuple(_scenario(name, short, long, spec) for name in dict.fromkeys(chosen))


def _contestants(policies: list[str] | None, quick: bool, against: str) -> "tuple[Contestant, ...]":
    """Those that are named, or every memory of ours and the rows to compare with, in the order of the table."""
    from echo_cli.bench.contestants import COMPARED, CONTESTANTS, contestant
    from echo_cli.memory.table import POLICIES

    chosen = policies or (*POLICIES.own, *(() if quick else COMPARED))
    places = {name: place for place, name in enumerate(CONTESTANTS)}
    return tuple(sorted(map(contestant, dict.fromkeys((*chosen, against))),
                        key=lambda each: places.get(each.name, len(places))))


def _earlier(reuse: list[Path], again: list[str], contestants: "Sequence[Contestant]") -> "list[Earlier]":
    """The results that --reuse names; --again names memories of this run."""
    from echo_cli.bench.contestants import BLANK
    from echo_cli.bench.reuse import earlier
    from echo_cli.errors import did_you_mean

    known = {name: None for each in contestants for name in (each.name, each.policy)} | {BLANK: None}
    for name in again:
        if not reuse:
            raise UsageError(f"--again {name}: there is nothing to reuse", "Add --reuse FILE.json, or leave it out.")
        if name not in known:
            raise UsageError(f"--again {name}: no memory of this run{did_you_mean(name, tuple(known))}",
                             hint=f"There are {', '.join(known)}.")
    return [earlier(path) for path in dict.fromkeys(reuse)]


def _processes(device: str, dtype: str) -> int:
    from echo_cli.runtime import Runtime

    return 1 if Runtime.choose(device, dtype).device.type == "cuda" else cores()


def _scenario(name: str, short: int | None, long: float | None, spec: "ModelSpec") -> "Scenario":
    from echo_cli.bench.scenarios import SCENARIOS, geometry_for, with_length
    from echo_cli.errors import did_you_mean

    if name not in SCENARIOS:
        raise UsageError(f"no scenario is called '{name}'{did_you_mean(name, tuple(SCENARIOS))}",
                         hint=f"The scenarios are: {', '.join(SCENARIOS)}.")
    scenario = SCENARIOS[name]
    if len(scenario.acts) > 1:
        return scenario
    blocks = round(long * spec.fps / geometry_for(spec).block_pictures) if long is not None else short
    return with_length(scenario, blocks) if blocks else scenario


def _write(bench: "Bench", out: Path | None, html: Path | None, spec: "ModelSpec") -> None:
    from echo_cli.files import write_page, write_whole

    if out is not None:
        figures, table, _ = _files(out)
        write_whole(figures, json_text.dumps(bench.report.as_dict(), ensure_ascii=False, indent=1) + "\n")
        write_whole(table, _csv(bench.report))
    for path in filter(None, (html, out and _files(out)[2])):
        from echo_cli.bench.memory import strips
        from echo_cli.bench.page import page
        from echo_cli.bench.scenarios import geometry_for

        write_page(path, page(bench.report, strips(bench, geometry_for(spec))), "--html" if path == html else "-o")
        print(path, file=sys.stderr)


def _csv(report: "Report") -> str:
    from echo_cli.bench.results import CSV_COLUMNS, csv_rows

    held = io.StringIO()
    lines = csv.DictWriter(held, CSV_COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(csv_rows(report))
    return held.getvalue()


def _answer(bench: "Bench", out: Path | None, as_json: bool, as_csv: bool, detail: bool) -> Exit:
    """Print the results; the exit code says whether they are all."""
    report = bench.report
    if as_json:
        print(json_text.dumps(report.as_dict()))
    elif as_csv:
        print(_csv(report), end="")
    else:
        _print(report, detail)
    if not bench.stopped:
        return Exit.DONE
    tell(Interrupted("stopped before all films were rendered; the results are of the films that were",
                     f"Add --reuse {_files(out)[0]} to render only the others." if out else
                     "With --out NAME, a later run could render only the others, with --reuse NAME.json."))
    return Exit.INTERRUPTED


def _print(report: "Report", detail: bool) -> None:
    from echo_cli.bench.sentences import LEGEND, origins, sentences, table

    about = report.about
    fast = f", {about['fast']} in eight bits" if "fast" in about else ""
    print(
        f"{about['model']}, weights {about['weights'][:12]}{fast}; {plural(len(report.scenarios), 'scenario')}, "
        f"{plural(len(about['seeds']), 'seed')}, {plural(about['films'], 'film')} in {about['seconds']:.0f} s "
        f"on {about['machine']}, {about['device'].rpartition(', ')[2]}"
    )
    for line in origins(report):
        print(line)
    for name, why in about["lacking"].items():
        print(f"{name} was left out: {why}")
    print(*table(report), sep="\n")
    print(LEGEND.format(against=report.against))
    if detail:
        for scenario in report.scenarios:
            print(f"\n{scenario}", *table(report, scenario, report.measured(scenario)), sep="\n")
    print()
    print(*sentences(report), sep="\n")


def compare(
    before: Annotated[Path, typer.Argument(
        metavar="A.json", show_default=False, help="The JSON of `bench memory` or `bench speed`.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", show_default=False,
                                          help="The same bench, run with another version, model or machine.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what changed from one result to another, memory by memory.

    Memories are compared film by film of the same story, with an interval of 95 % for each mean change. A block is
    called faster or slower if the quartiles of its times do not touch.
    """
    from echo_cli.bench.compare import compare as compared
    from echo_cli.bench.compare import lines
    from echo_cli.bench.results import read

    comparison = compared(read(before), read(after))
    if as_json:
        print(json_text.dumps(comparison.as_dict()))
        return
    print(*lines(comparison), sep="\n")
