"""Tables of README and model card, written from docs/results: `python -m benchmarks.tables` (`--check`: fail when they
differ).

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is a function below.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "src" / "emimic" / "default" / "README.md",
    ROOT / "docs" / "training.md",
    ROOT / "docs" / "speed.md",
    ROOT / "docs" / "evidence.md",
    ROOT / "docs" / "mimicry.md",
)
MODELS = {
    "ridge": "ridge regression on Whisper base, frozen (layer 3, mean and standard deviation)",
    "before": "an earlier model, taught by seven categories of bursts",
    "run": "the default model, float32",
    "shipped": "**the default model as shipped, int8**",
    "seed1": "the same training command with seed 1, float32",
    "seed2": "the same training command with seed 2, float32",
}
BURSTS = {
    "scratch": "(a) small WavLM-style encoder from scratch, the paper's whole head",
    "frozen": "(b) frozen Whisper base, the paper's head, cached features",
    "finetuned": "(c) the same encoder fine-tuned end to end",
}


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _interval(score: dict[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def bursts() -> str:
    """Mean Pearson of the recorded runs on the unseen speakers of the burst corpus."""
    results = _read("bursts")
    lines = ["| run | parameters (trained) | mean Pearson [95 %] | epochs | wall time | peak memory |"]
    lines.append("|---|---|---|---|---|---|")
    for name, label in BURSTS.items():
        if name not in results:
            continue
        run = results[name]
        parameters, cost = run["parameters"], run["cost"]
        lines.append(
            f"| {label} | {parameters['all'] / 1e6:.1f} M ({parameters['trained'] / 1e6:.1f} M) "
            f"| {_interval(run['test']['metrics']['pearson']['mean'])} | {run['epochs_run']} "
            f"| {cost['wall_seconds'] / 60:.0f} min | {cost['peak_memory_mb'] / 1024:.1f} GB |"
        )
    return "\n".join(
        [*lines, "", f"{results['note']} Machine: {results['machine']}. Code: {results['code']}."]
    )


def bursts_by_emotion() -> str:
    """Pearson per emotion of the same runs."""
    results = _read("bursts")
    runs = [name for name in BURSTS if name in results]
    lines = [
        "| emotion | " + " | ".join(BURSTS[name][:3] for name in runs) + " |",
        "|---" * (len(runs) + 1) + "|",
    ]
    for emotion in results[runs[0]]["test"]["metrics"]["pearson"]["targets"]:
        cells = [_interval(results[name]["test"]["metrics"]["pearson"]["targets"][emotion]) for name in runs]
        lines.append(f"| {emotion} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def default() -> str:
    """Scores of the default model on bursts of unseen speakers, beside ridge regression and an earlier model."""
    results = _read("default")
    lines = [
        "| model | Pearson, 30 categories | AUC, 30 categories | Pearson, 7 categories, 5 emotions |",
        "|---|---|---|---|",
    ]
    for name, label in MODELS.items():
        if name in results:
            found = results[name]["bursts"]
            means = [found[key]["mean"] for key in ("pearson", "auc", "pearson_seven_categories")]
            lines.append(f"| {label} | " + " | ".join(map(_interval, means)) + " |")
    return "\n".join([*lines, "", f"{results['note']} Machine: {results['machine']}."])


def default_by_emotion() -> str:
    """Pearson, AUC and calibration error per emotion of the model as shipped, beside ridge regression."""
    results = _read("default")
    shipped, ridge = results["shipped"], results["ridge"]["bursts"]
    lines = [
        "| emotion | Pearson [95 %] | AUC [95 %] | calibration error [95 %] | ridge: Pearson | ridge: AUC |",
        "|---" * 6 + "|",
    ]
    for name in shipped["bursts"]["auc"]["targets"]:
        cells = [
            *(_interval(shipped["bursts"][key]["targets"][name]) for key in ("pearson", "auc")),
            _interval(shipped["calibration"]["after"]["targets"][name]),
            *(f"{ridge[key]['targets'][name]['value']:.3f}" for key in ("pearson", "auc")),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def speech() -> str:
    """Joy in acted speech: what tells happy from angry and from any other, and what plain speech gets."""
    results = _read("default")
    rows = {
        "German (EmoDB), each speaker left out of training": results.get("folds", {}).get("joy"),
        "Amharic (ASED), the default model as shipped": results["shipped"]["ased"],
        "Amharic (ASED), the earlier model": results.get("before", {}).get("ased"),
    }
    lines = [
        "| speech | clips, speakers | AUC, happy against angry | AUC, happy against the rest | Joy: happy, angry "
        "| mean of the six, neutral |",
        "|---" * 6 + "|",
    ]
    for label, found in rows.items():
        if found is not None:
            neutral = found["mean_of_six_of_neutral"]
            lines.append(
                f"| {label} | {found['clips']}, {found['speakers']} | {_interval(found['happy_against_angry'])} "
                f"| {_interval(found['happy_against_rest'])} "
                f"| {found['joy_of_happy']:.3f}, {found['joy_of_angry']:.3f} "
                f"| {'-' if neutral is None else f'{neutral:.3f}'} |"
            )
    return "\n".join(lines)


def speech_by_sex() -> str:
    """Joy in acted speech for women and men."""
    results = _read("default")
    rows = {
        "German (EmoDB), each speaker left out of training": results["folds"]["joy"]["by_sex"],
        "Amharic (ASED), speakers that settings were chosen on": results["shipped"]["ased_odd"]["by_sex"],
        "Amharic (ASED), speakers that nothing was chosen on": results["shipped"]["ased"]["by_sex"],
    }
    lines = [
        "| speech | sex | clips | AUC, happy against angry | AUC, happy against the rest |",
        "|---" * 5 + "|",
    ]
    for label, found in rows.items():
        for sex, own in found.items():
            lines.append(
                f"| {label} | {sex} | {own['clips']} | {_interval(own['happy_against_angry'])} "
                f"| {_interval(own['happy_against_rest'])} |"
            )
    return "\n".join(lines)


def conditions() -> str:
    """Scores of the default model on bursts recorded badly."""
    found = _read("default")["shipped"]["conditions"]
    lines = ["| condition | Pearson | AUC |", "|---|---|---|"]
    lines += [
        f"| {name} | {_interval(own['pearson'])} | {_interval(own['auc'])} |" for name, own in found.items()
    ]
    return "\n".join(lines)


def ratings() -> str:
    """V/A/D of acted sentences against crowd ratings, nothing of that corpus in training."""
    results = _read("default")
    lines = ["| model | valence | arousal | dominance |", "|---|---|---|---|"]
    for name in ("before", "shipped"):
        if name in results:
            found = results[name]["tava"]["targets"]
            cells = [_interval(found[key]) for key in ("Valence", "Arousal", "Dominance")]
            lines.append(f"| {MODELS[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lengths() -> str:
    """How far the prediction for a whole recording is from the mean over its windows, by length."""
    found = _read("default")["shipped"]["lengths"]
    lines = ["| length | mean of the six | V/A/D | largest of the nine |", "|---|---|---|---|"]
    for length, own in found.items():
        if isinstance(own, dict):
            largest = max((value, key) for key, value in own.items() if key not in ("six", "V/A/D"))
            lines.append(
                f"| {length} | {own['six']:.3f} | {own['V/A/D']:.3f} | {largest[0]:.3f} ({largest[1]}) |"
            )
    return "\n".join([*lines, "", f"{found['recordings']} recordings, cut or repeated to each length."])


def novelty() -> str:
    """Sounds made by a program, and how many are marked as unlike the training data."""
    kinds = _read("novelty")["kinds"]
    lines = ["| sound | clips | marked | novelty, median |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {own['clips']} | {own['marked']:.0%} | {own['quartiles'][1]:.2f} |"
        for name, own in kinds.items()
    ]
    return "\n".join(lines)


def mimicry() -> str:
    """How often unrelated pairs are found similar at a level of 5 %, over all kinds of curves."""
    results = _read("mimicry")
    cases: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in results["unrelated"]:
        cases.setdefault((row["clock"], row["seconds"]), []).append(row)
    lines = [
        "| clock | seconds of voice | kinds of curves, pairs each | found similar overall: mean (least, most) "
        "| in any dimension: mean (least, most) |",
        "|---|---|---|---|---|",
    ]
    for (clock, seconds), rows in cases.items():
        rates = [[row[name] for row in rows] for name in ("overall", "any_dimension")]
        cells = [
            f"{100 * sum(own) / len(own):.1f} % ({100 * min(own):.1f}, {100 * max(own):.1f})" for own in rates
        ]
        lines.append(f"| {clock} | {seconds} | {len(rows)}, {rows[0]['pairs']} | {' | '.join(cells)} |")
    return "\n".join(lines)


STUDENTS = {
    "teacher": "its teacher, the model in the package, int8",
    "student": "a student, float32",
    "student_int8": "the same student, int8",
}


def student() -> str:
    """A student beside its teacher: size, arithmetic, speed on one core, mean Pearson on the unseen speakers."""
    results = _read("student")
    arithmetic = results["arithmetic"]
    lines = [
        "| model | MB | GFLOP a second of audio | seconds of audio a second, one core | mean Pearson [95 %] |"
    ]
    lines.append("|---|---|---|---|---|")
    for name, label in STUDENTS.items():
        own = arithmetic["teacher_gflop_per_second" if name == "teacher" else "gflop_per_second"]
        score = results["scores"][name]
        lines.append(
            f"| {label} | {score['megabytes']:.0f} | {own if name == 'teacher' else own['all']:.2f} "
            f"| {results['speed']['engines'][name]['per_cpu_second']:.0f} | {_interval(score['mean'])} |"
        )
    low, middle, high = (-value for value in reversed(results["scores"]["student"]["below_teacher"]))
    return "\n".join(
        [
            *lines,
            "",
            f"{arithmetic['parameters'] / 1e6:.1f} million parameters, {arithmetic['times_fewer_than_the_paper']:.0f} "
            f"times fewer operations than the paper's model ({arithmetic['paper_gflop_per_second']} GFLOP). Its mean "
            f"Pearson less its teacher's: {middle:+.3f} [{low:+.3f}, {high:+.3f}]. {results['note']} Machine: "
            f"{results['machine']}.",
        ]
    )


def _machine(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return f"Machine: {found['cores']} cores, {found['cpu']}; {versions}."


def bench() -> str:
    """What `benchmarks.bench` found last: engines, threads, batches, and a cold start."""
    return bench_table(_read("bench"))


def bench_table(results: dict[str, Any]) -> str:
    """The figures of `benchmarks.bench` as Markdown."""
    lines = [
        "| model | threads | batch | clips a second | x real time | x the loop | GFLOP/s (of peak) | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        batch = "one clip" if row["batch_seconds"] is None else f"{row['batch_seconds']:g} s"
        loop = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        counted = "-" if row["gflops"] is None else f"{row['gflops']:.0f} ({row['share']:.0%})"
        lines.append(
            f"| {row['model']} | {row['threads']} | {batch} | {row['clips_per_second']:.2f} "
            f"| {row['times_real_time']:.1f} | {loop} | {counted} | {row['peak_mb']} MB |"
        )
    lines += ["", "| `emimic predict one.flac`, whole process | wall | CPU | memory |", "|---|---|---|---|"]
    lines += [
        f"| {one['model']} | {one['wall']:.2f} s | {one['cpu']:.2f} s | {one['peak_mb']} MB |"
        for one in results["starts"]
    ]
    peaks = ", ".join(f"{value:.0f} ({threads})" for threads, value in results["peak"].items())
    clips = f"{results['clips']['count']} clips, medians of {results['clips']['turns']} turns."
    return "\n".join(
        [
            *lines,
            "",
            f"{clips} Peak of float32 products, GFLOP/s (threads): {peaks}. {_machine(results['machine'])}"
            + (f" {results['note']}" if "note" in results else ""),
        ]
    )


def training() -> str:
    """An epoch's seconds a clip, each way of training beside the clip-by-clip loops."""
    results = _read("training")
    titles = {"frozen": "paper's size, encoder frozen", "tiny": "tiny encoder, all of it"}
    lines = [
        "| model | way | threads | CPU s a clip | x as released, CPU (wall) | x clip by clip, CPU (wall) | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, title in titles.items():
        for threads, part in sorted(results["threads"].items()):
            for way, found in part[kind].items():
                if way == "waiting":
                    continue
                ratios = [
                    f"{found[f'cpu_times_{base}']:.1f} ({found[f'wall_times_{base}']:.1f})"
                    for base in ("as_released", "clip_by_clip")
                ]
                memory = f"{found['peak_mb']} MB" if "peak_mb" in found else "-"
                lines.append(
                    f"| {title} | {way} | {threads} | {found['cpu_s_per_clip']:.3f} | {' | '.join(ratios)} | {memory} |"
                )
    return "\n".join(
        [*lines, "", " ".join([_machine(results["machine"]), *filter(None, [results.get("note")])])]
    )


PAPERS = {
    "encoder frozen": ".262, -",
    "fine-tuned": ".386, .461",
    "fine-tuned, LSTM dropout": ".389, .465",
    "trained on train and valid": "-, .522",
    "trained on both, longer": "-, .554",
}
"""The paper's rows on audio in its Table 1."""


def systems() -> str:
    """Every system that `emimic baselines` knows, from the code: what it hears and what its source says of it."""
    from emimic.baselines.system import NAMES, system

    lines = [
        "| system | `baseline=` | hears | published: validation, test | train, evaluate, submit |",
        "|---|---|---|---|---|",
        *(f"| the paper's, {row} | - | voice | {figures} | works |" for row, figures in PAPERS.items()),
    ]
    for name in NAMES:
        found = system(name)
        unsure = f" ({found.unsure})" if found.unsure else ""
        figures = ", ".join(
            "-" if value is None else f"{value:.3f}".removeprefix("0") + unsure
            for value in found.published.values()
        )
        lines.append(f"| {found.title} | `{name}` | {', '.join(found.modalities)} | {figures} | works |")
    return "\n".join(lines)


UNSURE = {"wavlm_tcn": "unreviewed"}
STAND_INS = {
    "w2v2-l": "never trained (in the place of W2V2-L); global vector",
    "xlsr": "Whisper base, four layers (in the place of XLSR); global vector",
}


def _grid(name: str) -> str:
    """A finished grid on vocal bursts, the paper's figures beside."""
    results = _read("evidence")
    grid = results[name]
    labels = {row["name"]: STAND_INS.get(row["name"], row["label"]) for row in grid["rows"]}
    lines = [
        "| row | vocal bursts, test | epochs | published on Hume-Vidmimic2, validation | published, test "
        f"| less {labels[grid['reference']]} [95 %] | p over seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in grid["rows"]:
        if row["mean"] is None:
            continue
        mark = f" ({UNSURE[row['name']]})" if row["name"] in UNSURE else ""
        paper = [
            "-" if row["paper"][split] is None else f"{row['paper'][split]:.3f}{mark}"
            for split in ("validation", "test")
        ]
        epochs = "/".join(dict.fromkeys(str(run["epochs"]) for run in row["runs"]))
        spread = "" if row["standard_deviation"] is None else f" ± {row['standard_deviation']:.3f}"
        apart, p = row["difference"], "-"
        if apart is not None and apart["paired_t_over_seeds"] is not None:
            found = apart["paired_t_over_seeds"]["p"]
            p = "<0.001" if found < 0.001 else f"{found:.3f}"
        inside = "-"
        if apart is not None:
            inside = f"{apart['value']:+.3f} [{apart['low']:+.3f}, {apart['high']:+.3f}]"
        lines.append(
            f"| {labels[row['name']]} | {row['mean']:.3f}{spread} | {epochs} | {' | '.join(paper)} | {inside} | {p} |"
        )
    return "\n".join([*lines, "", f"{grid['clips']} clips, seeds {', '.join(map(str, grid['seeds']))}."])


def evidence() -> str:
    """What all tables of the grids have in common."""
    results = _read("evidence")
    return f"{results['note']} {results['encoders']} Machine: {results['machine']}."


TABLES = {
    "systems": systems,
    "evidence": evidence,
    "ablation": lambda: _grid("ablation"),
    "losses": lambda: _grid("losses"),
    "padding": lambda: _grid("padding"),
    "baselines": lambda: _grid("baselines"),
    "bench": bench,
    "training": training,
    "default": default,
    "default_by_emotion": default_by_emotion,
    "speech": speech,
    "ratings": ratings,
    "lengths": lengths,
    "speech_by_sex": speech_by_sex,
    "conditions": conditions,
    "novelty": novelty,
    "bursts": bursts,
    "bursts_by_emotion": bursts_by_emotion,
    "student": student,
    "mimicry": mimicry,
}


def filled(text: str) -> str:
    """`text` with every table in it made again."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: found[1] + TABLES[found[2]]() + "\n" + found[3],
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write the tables, or check them."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if before != after and "--check" in sys.argv:
            sys.exit(f"{page.name}: a table differs from docs/results; run python -m benchmarks.tables")
        if before != after:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
