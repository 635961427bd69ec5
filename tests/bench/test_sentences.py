"""Words and tables say what the figures say, and no more."""

from echo_cli.bench.results import Report, Row
from echo_cli.bench.sentences import changes, sentences, table, won

SEEDS = range(10)


def report(seeds: range = SEEDS) -> Report:
    """`window` recalls worse, `+suppress` leaves less over and recalls as well, `+true_places` wins here and loses
    there."""
    shifts = {"window": (-3.0, 20.0), "echo-forcing": (0.0, 0.0), "+suppress": (0.0, -2.0), "+true_places": (2.0, 3.0)}
    rows = [
        Row(
            "mixed",
            policy,
            seed,
            {"recall": 20 + seed % 5 + recall, "left over": 10 + seed % 2 + left, "memory": 12.0},
            {},
        )
        for policy, (recall, left) in shifts.items()
        for seed in seeds
    ]
    settings = {"+suppress": {"forgetting": "suppress"}, "+true_places": {"true_places": True}}
    return Report(
        {"seeds": list(seeds)},
        {"mixed": {"words": "all"}},
        {name: {"settings": settings.get(name, {})} for name in shifts},
        "echo-forcing",
        tuple(rows),
    )


def test_the_table_marks_what_is_better_and_what_is_worse():
    lines = {line.split()[0]: line for line in table(report())[2:]}
    assert "19.0 ±" in lines["window"] and lines["window"].count("▼") == 2
    assert lines["+suppress"].count("▲") == 1 and "▼" not in lines["+suppress"]
    assert not set("▲▼?") & set(lines["echo-forcing"])
    assert (
        "20 " not in lines["+true_places"] and lines["+true_places"].count("▲") == lines["+true_places"].count("▼") == 1
    )


def test_sentences_say_who_is_better_and_which_settings_win():
    said = "\n".join(sentences(report()))
    assert "recall: echo-forcing 22.0" in said and "better than window 19.0" in said
    assert "+suppress (forgetting=suppress): better: left over 10.5 → 8.5." in said
    assert "win, better in something and worse in nothing: +suppress." in said
    assert "Too few seeds" not in said


def test_too_few_seeds_call_nobody_better():
    said = "\n".join(sentences(report(range(3))))
    assert "not distinguished from window" in said and "better than" not in said and "Too few seeds" in said
    assert "worse in nothing: none." in said


def test_intervals_that_overlap_are_told():
    assert "(intervals overlap)" not in "\n".join(sentences(report()))
    rows = [
        Row("mixed", policy, seed, {"recall": 5.0 * seed + shift}, {})
        for policy, shift in (("window", 0.0), ("echo-forcing", 0.5))
        for seed in SEEDS
    ]
    near = Report(
        {"seeds": list(SEEDS)},
        {"mixed": {"words": ""}},
        {"window": {"settings": {}}, "echo-forcing": {"settings": {}}},
        "echo-forcing",
        tuple(rows),
    )
    assert "better than window 22.5 (intervals overlap)" in "\n".join(sentences(near))


def test_costs_are_told_and_not_judged():
    assert changes(report(), "window") == ([], ["recall", "left over"])
    assert won(report(), "+suppress") and not won(report(), "+true_places") and not won(report(), "window")


def test_a_cell_that_is_so_by_construction_is_marked_and_not_judged():
    rows = [Row("cuts", policy, seed, {"left over": left + seed % 3, "unaided": unaided}, {})
            for policy, left, unaided in (("none", 0.0, 100.0), ("echo", 9.0, 0.0)) for seed in SEEDS]
    made = Report({"seeds": list(SEEDS)}, {"cuts": {"words": "all"}},
                  {"none": {"settings": {}}, "echo": {"settings": {}}}, "echo", tuple(rows))
    plain, echo = table(made)[2:]
    assert plain.endswith("=") and "▲" not in plain and not echo.endswith("=")
