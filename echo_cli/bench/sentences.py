"""The results of a memory bench in words and in a table of plain text. The page shows the same graphically."""

from collections.abc import Iterator, Sequence

from echo_cli.bench.columns import METRICS
from echo_cli.bench.results import ALL, Cell, Report
from echo_cli.bench.statistics import Verdict, least_pairs
from echo_cli.text import plural

HEADLINE = ("recall", "return", "shared recall", "identity", "held", "sharpness kept", "left over", "response", "seam",
            "drift", "motion", "alignment", "memory", "block")
CLAIMED = ("recall", "return", "shared recall", "identity", "held", "sharpness kept", "left over", "response", "seam",
           "drift", "understood", "alignment")
CONSTRUCTED = ("left over", "response")  # compared with the prompt alone
CONSTRUCTED_MARK = "="
MARKS = {
    Verdict.BETTER: "▲",
    Verdict.WORSE: "▼",
    Verdict.DIFFERENT: "≠",
    Verdict.SAME: " ",
    Verdict.UNDECIDED: "?",
    None: " ",
}
LEGEND = ("▲ better, ▼ worse than {against}, seed by seed; no mark: no difference could be shown; =: by construction, "
          "as the film after a cut is that of the prompt alone.")
_COLUMN = 13


def origins(report: Report) -> Iterator[str]:
    """Where films come from that were not rendered for this report."""
    for source in report.about.get("reused", ()):
        yield f"{plural(source['films'], 'film')} reused from {source['file']} ({source['machine']})"


def number(value: float, metric: str) -> str:
    return f"{value:.{METRICS[metric].digits}f}"


def plus_minus(cell: Cell) -> str:
    """23.1 ±0.4: the mean, and half of its interval."""
    half = (cell.interval.high - cell.interval.low) / 2
    return f"{number(cell.interval.mean, cell.metric)} ±{number(half, cell.metric)}"


def mark(report: Report, cell: Cell | None) -> str:
    """What is said of a cell; nothing is better or worse where a memory that starts empty is compared with itself."""
    if cell is None:
        return " "
    unaided = report.cell(cell.policy, "unaided", cell.scenario)
    if cell.metric in CONSTRUCTED and unaided and unaided.interval.low == 100:
        return CONSTRUCTED_MARK
    return MARKS[cell.verdict]


def table(report: Report, scenario: str = ALL, metrics: Sequence[str] | None = None) -> list[str]:
    """A line for each policy."""
    shown = [metric for metric in metrics or HEADLINE if metric in report.measured(scenario)]
    wide = max(map(len, report.policies)) + 1
    units = (METRICS[metric].unit for metric in shown)
    lines = [f"{'':<{wide}}" + "".join(f"{metric:>{_COLUMN}} " for metric in shown),
             f"{'':<{wide}}" + "".join(f"{unit:>{_COLUMN}} " for unit in units)]
    for policy in report.policies:
        cells = [report.cell(policy, metric, scenario) for metric in shown]
        lines.append(f"{policy:<{wide}}" + "".join(
            f"{plus_minus(cell) if cell else '–':>{_COLUMN}}{mark(report, cell)}" for cell in cells))
    return [line.rstrip() for line in lines]


def sentences(report: Report) -> Iterator[str]:
    """How the policy that all are compared with ranks, metric by metric; then what each setting beyond the release
    does."""
    against, rivals = (
        report.against,
        [name for name in report.policies if not name.startswith("+") and name != report.against],
    )
    for metric in CLAIMED:
        own = report.cell(against, metric)
        if own is None:
            continue
        yield f"{metric}: {against} {_interval(own)}{_standing(report, own, rivals)}"
    yield from (
        f"{name} ({_settings(report, name)}): {_effect(report, name)}"
        for name in report.policies
        if name.startswith("+")
    )
    alone = [name for name in report.policies if name.startswith("+") and len(report.policies[name]["settings"]) == 1]
    if alone:
        winners = [name for name in alone if won(report, name)]
        yield (
            "Settings beyond the release that win, better in something and worse in nothing: "
            f"{', '.join(winners) or 'none'}."
        )
    least = least_pairs(len(report.policies) - 1) if len(report.policies) > 1 else 0
    if len(report.about["seeds"]) < least:
        yield (f"Too few seeds to call anything different: with {plural(len(report.policies) - 1, 'comparison')} in a "
               f"column, {least} seeds are the minimum.")


def _interval(cell: Cell) -> str:
    low, high = (number(edge, cell.metric) for edge in (cell.interval.low, cell.interval.high))
    return f"{number(cell.interval.mean, cell.metric)} [{low}, {high}] {METRICS[cell.metric].unit}".rstrip()


def _standing(report: Report, own: Cell, rivals: Sequence[str]) -> str:
    names: dict[str, list[str]] = {}
    for rival in rivals:
        cell = report.cell(rival, own.metric)
        if cell is None or cell.verdict is None:
            continue
        # The verdict is about the rival; the sentence is about the policy.
        said = {Verdict.BETTER: "worse than", Verdict.WORSE: "better than", Verdict.SAME: "no difference to",
                Verdict.DIFFERENT: "different from", Verdict.UNDECIDED: "not distinguished from"}[cell.verdict]
        overlaps = cell.verdict in (Verdict.BETTER, Verdict.WORSE) and not cell.interval.apart(own.interval)
        names.setdefault(said, []).append(
            f"{rival} {number(cell.interval.mean, own.metric)}{' (intervals overlap)' if overlaps else ''}"
        )
    return "".join(f"; {said} {', '.join(each)}" for said, each in names.items()) + "."


def _settings(report: Report, name: str) -> str:
    return ", ".join(f"{key}={value}".lower() for key, value in report.policies[name]["settings"].items())


def changes(report: Report, name: str) -> tuple[list[str], list[str]]:
    """The metrics in which a policy is better, and in which it is worse."""
    cells = [cell for metric in METRICS if (cell := report.cell(name, metric))]
    better, worse = (
        [cell.metric for cell in cells if cell.verdict is verdict] for verdict in (Verdict.BETTER, Verdict.WORSE)
    )
    return better, worse


def won(report: Report, name: str) -> bool:
    better, worse = changes(report, name)
    return bool(better) and not worse


def _effect(report: Report, name: str) -> str:
    better, worse = changes(report, name)
    if not better and not worse:
        return "no difference could be shown."
    parts = [f"{word} {', '.join(_change(report, name, metric) for metric in metrics)}"
             for word, metrics in (("better:", better), ("worse:", worse)) if metrics]
    return "; ".join(parts) + "."


def _change(report: Report, name: str, metric: str) -> str:
    mine, other = report.cell(name, metric), report.cell(report.against, metric)
    return (
        f"{metric} {number(other.interval.mean, metric)} → {number(mine.interval.mean, metric)}"
        if mine and other
        else metric
    )
