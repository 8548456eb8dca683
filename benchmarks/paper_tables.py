"""Tables of the paper's systems: on vocal bursts, in grids, in mimicry, and as published."""

import statistics
from typing import Any, Final

from benchmarks.results import format_interval, make_table, read_results

BURSTS: Final = {
    "scratch": "(a) small WavLM-style encoder from scratch, the paper's whole head",
    "frozen": "(b) frozen Whisper base, the paper's head, cached features",
    "finetuned": "(c) the same encoder fine-tuned end to end",
}
PAPERS: Final = {
    "encoder frozen": ".262, -",
    "fine-tuned": ".386, .461",
    "fine-tuned, LSTM dropout": ".389, .465",
    "trained on train and valid": "-, .522",
    "trained on both, longer": "-, .554",
}
"""The paper's rows on audio in its Table 1."""
UNSURE: Final = {"wavlm_tcn": "unreviewed"}
GRIDS: Final = ("ablation", "losses", "padding", "baselines")
STAND_INS: Final = {
    "w2v2-l": "never trained (in the place of W2V2-L); global vector",
    "xlsr": "Whisper base, four layers (in the place of XLSR); global vector",
}

FINDINGS: Final = (
    ("a regression head on the global vector helps", "gv-head", "gv"),
    ("an LSTM in place of the global vector helps", "head-lstm", "gv-head"),
    ("the global vector beside the LSTM helps", "gv-head-lstm", "head-lstm"),
    ("V/A/D beside the LSTM alone does not help", "head-lstm-vad", "head-lstm"),
    ("V/A/D beside the LSTM and the global vector helps", "full", "gv-head-lstm"),
    ("all four together are best", "full", "head-lstm-vad"),
)
"""Findings of the paper's section 6.1, as pairs of rows of Table 2: the first less the second."""


def make_bursts() -> str:
    """Make the mean Pearson of the recorded runs on the unseen speakers of the burst corpus."""
    results = read_results("bursts")
    rows = []
    for name, label in BURSTS.items():
        if name in results:
            run = results[name]
            parameters, cost = run["parameters"], run["cost"]
            rows.append(
                (
                    label,
                    f"{parameters['all'] / 1e6:.1f} M ({parameters['trained'] / 1e6:.1f} M)",
                    format_interval(run["test"]["metrics"]["pearson"]["mean"]),
                    run["epochs_run"],
                    f"{cost['wall_seconds'] / 60:.0f} min",
                    f"{cost['peak_memory_mb'] / 1024:.1f} GB",
                )
            )
    header = "run | parameters (trained) | mean Pearson [95 %] | epochs | wall time | peak memory"
    table = make_table(header, rows)
    return f"{table}\n\n{results['note']} Machine: {results['machine']}. Code: {results['code']}."


def make_bursts_by_emotion() -> str:
    """Make the Pearson per emotion of the same runs."""
    results = read_results("bursts")
    scores = {
        BURSTS[name][:3]: results[name]["test"]["metrics"]["pearson"]["targets"]
        for name in BURSTS
        if name in results
    }
    rows = (
        (emotion, *(format_interval(score[emotion]) for score in scores.values()))
        for emotion in next(iter(scores.values()))
    )
    return make_table(" | ".join(("emotion", *scores)), rows)


def make_mimicry() -> str:
    """Make the rate at which unrelated pairs are found similar at a level of 5 %, over all kinds of timelines."""
    cases: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in read_results("mimicry")["unrelated"]:
        cases.setdefault((row["alignment"], row["seconds"]), []).append(row)

    def summarize(rates: list[float]) -> str:
        return f"{100 * sum(rates) / len(rates):.1f} % ({100 * min(rates):.1f}, {100 * max(rates):.1f})"

    rows = [
        (
            alignment,
            seconds,
            f"{len(kinds)}, {kinds[0]['pairs']}",
            *(summarize([kind[name] for kind in kinds]) for name in ("overall", "any_dimension")),
        )
        for (alignment, seconds), kinds in cases.items()
    ]
    header = (
        "alignment | seconds of voice | kinds of timelines, pairs each "
        "| found similar overall: mean (minimum, maximum) | in any dimension: mean (minimum, maximum)"
    )
    return make_table(header, rows)


def make_systems() -> str:
    """Make the table of all systems that `emimic baselines` trains: modalities and published figures, from the code."""
    from emimic.baselines.system import NAMES, get_system

    def make_row(name: str) -> tuple[str, ...]:
        system = get_system(name)
        unsure = f" ({system.unsure})" if system.unsure else ""
        figures = (
            "-" if value is None else f"{value:.3f}".removeprefix("0") + unsure
            for value in system.published.values()
        )
        return system.title, f"`{name}`", ", ".join(system.modalities), ", ".join(figures)

    rows = [
        *((f"the paper's, {row}", "-", "voice", figures) for row, figures in PAPERS.items()),
        *map(make_row, NAMES),
    ]
    return make_table("system | `baseline=` | uses | published: validation, test", rows)


def make_grid(name: str) -> str:
    """Make the table of a finished grid on vocal bursts, with the published figures beside."""
    grid = read_results("evidence")[name]
    labels = {row["name"]: STAND_INS.get(row["name"], row["label"]) for row in grid["rows"]}
    header = (
        "row | vocal bursts, test | epochs | published on Hume-Vidmimic2, validation | published, test "
        f"| less {labels[grid['reference']]} [95 %] | p over seeds"
    )
    rows = [_make_grid_row(row, labels[row["name"]]) for row in grid["rows"] if row["mean"] is not None]
    return f"{make_table(header, rows)}\n\n{grid['clips']} clips, seeds {', '.join(map(str, grid['seeds']))}."


def _make_grid_row(row: dict[str, Any], label: str) -> tuple[str, ...]:
    unsure = f" ({UNSURE[row['name']]})" if row["name"] in UNSURE else ""
    published = (row["paper"][split] for split in ("validation", "test"))
    epochs = "/".join(dict.fromkeys(str(run["epochs"]) for run in row["runs"]))
    std = "" if row["standard_deviation"] is None else f" ± {row['standard_deviation']:.3f}"
    difference, interval, p = row["difference"], "-", "-"
    if difference is not None:
        interval = f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
        if difference["paired_t_over_seeds"] is not None:
            value = difference["paired_t_over_seeds"]["p"]
            p = "<0.001" if value < 0.001 else f"{value:.3f}"
    figures = ("-" if value is None else f"{value:.3f}{unsure}" for value in published)
    return (label, f"{row['mean']:.3f}{std}", epochs, *figures, interval, p)


def make_equal_budgets() -> str:
    """Make the scores of the paper's rows and of the baselines after the same budget."""
    results = read_results("equal_budgets")
    rows = [
        (
            row["label"],
            ", ".join(f"{rate} {score:.3f}" for rate, score in row["held_out"].items()),
            row["rate"],
            f"{statistics.mean(row['test']):.3f} ± {statistics.stdev(row['test']):.3f}",
            "/".join(map(str, row["best_epochs"])),
        )
        for row in results["rows"].values()
    ]
    header = "row | learning rates tried, and their held-out scores | kept | vocal bursts, test | best epochs"
    table = make_table(header, rows)
    return f"{table}\n\n{results['epochs']} epochs, three seeds. Machine: {results['machine']}."


def make_findings() -> str:
    """Make the differences between rows that a finding of the paper is about, there and on vocal bursts."""
    rows = {row["name"]: row for row in read_results("evidence")["ablation"]["rows"]}
    made = []
    for finding, one, other in FINDINGS:
        first, second = rows[one], rows[other]
        paper = first["paper"]["validation"] - second["paper"]["validation"]
        seeds = [
            a["mean"] - b["mean"] for a, b in zip(first["runs"], second["runs"], strict=True)
        ]  # both have the same seeds, in order
        here = f"{first['mean'] - second['mean']:+.3f} ({min(seeds):+.3f} to {max(seeds):+.3f})"
        made.append((finding, f"{first['label']} - {second['label']}", f"{paper:+.3f}", here))
    paper = float(PAPERS["fine-tuned"].split(",")[0]) - float(PAPERS["encoder frozen"].split(",")[0])
    runs = read_results("bursts")
    tuned, frozen = (runs[name]["test"]["metrics"]["pearson"]["mean"] for name in ("finetuned", "frozen"))
    difference = f"{tuned['value'] - frozen['value']:+.3f} (one seed)"
    results = "[the results](results.md#the-papers-system-on-bursts)"
    made.append(("fine-tuning beats freezing", f"(c) - (b) of {results}", f"{paper:+.3f}", difference))
    return make_table(
        "the paper | rows | difference there, validation | here, test (seeds: minimum to maximum)", made
    )


def make_inside() -> str:
    """Make the scores inside splits that are divided 2:1."""
    results = read_results("inside")
    scored = [(name, row) for name, variant in results["variants"].items() for row in variant["rows"]]
    paper = next(iter(results["variants"].values()))["paper"]
    rows = [
        (
            {"frozen": "frozen", "tuned": "fine-tuned"}[name], row["split"], row["unit"], row["trained"],
            row["scored"], f"{row['shared']:.0%}",
            format_interval({"value": row["pearson"], "low": row["low"], "high": row["high"]}),
            f"about {paper}" if row["unit"] == "clip" else "-",
        )
        for name, row in scored
    ]  # fmt: skip
    header = (
        "encoder | split | divided by | trained on | scored on | of known speakers | mean Pearson [95 %] "
        "| paper, vision"
    )
    over = ", ".join(dict.fromkeys(row["resampled"] for _, row in scored))
    chose = " The scored clips chose the epoch, too." if any(row["chose_epoch"] for _, row in scored) else ""
    machines = "; ".join(dict.fromkeys(variant["machine"] for variant in results["variants"].values()))
    note = f"{results['note']} Intervals resample {over} of the scored clips.{chose}"
    return f"{make_table(header, rows)}\n\n{note} Machines: {machines}."


def make_evidence() -> str:
    """Make the note that holds for all grids."""
    results = read_results("evidence")
    return f"{results['note']} {results['encoders']} Machine: {results['machine']}."
