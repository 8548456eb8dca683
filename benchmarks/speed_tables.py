"""Tables of speed: prediction, training, and a student beside its teacher."""

from typing import Any, Final

from benchmarks.results import format_interval, format_machine, make_table, read_results

STUDENTS: Final = {
    "teacher": "its teacher, the default model, int8",
    "student": "a student, float32",
    "student_int8": "the same student, int8",
}


def make_student() -> str:
    """Make a student beside its teacher: size, operations, speed on one core, mean Pearson on unseen speakers."""
    results = read_results("student")
    arithmetic, scores, speed = results["arithmetic"], results["scores"], results["speed"]["engines"]
    gflops = dict.fromkeys(STUDENTS, arithmetic["gflop_per_second"]["all"])
    gflops["teacher"] = arithmetic["teacher_gflop_per_second"]
    rows = [
        (
            label,
            f"{scores[name]['megabytes']:.0f}",
            f"{gflops[name]:.2f}",
            f"{speed[name]['per_cpu_second']:.0f}",
            format_interval(scores[name]["mean"]),
        )
        for name, label in STUDENTS.items()
    ]
    header = (
        "model | MB | GFLOP a second of audio | seconds of audio a second, one core | mean Pearson [95 %]"
    )
    low, middle, high = (-value for value in reversed(scores["student"]["below_teacher"]))
    return (
        f"{make_table(header, rows)}\n\n"
        f"{arithmetic['parameters'] / 1e6:.1f} million parameters, {arithmetic['times_fewer_than_the_paper']:.0f} "
        f"times fewer operations than the paper's model ({arithmetic['paper_gflop_per_second']} GFLOP). Its mean "
        f"Pearson less its teacher's: {middle:+.3f} [{low:+.3f}, {high:+.3f}]. {results['note']} Machine: "
        f"{results['machine']}."
    )


def make_bench() -> str:
    """Make the table of the last recorded `benchmarks.bench`."""
    return make_bench_of(read_results("bench"))


def make_bench_of(results: dict[str, Any]) -> str:
    """Make the tables of a report of `benchmarks.bench`: engines, threads, batches; and whole processes."""
    header = (
        "model | threads | batch | clips a second | x real time | x the loop | GFLOP/s (of peak) | memory"
    )
    rows = [
        (
            row["model"],
            row["threads"],
            "one clip" if row["batch_seconds"] is None else f"{row['batch_seconds']:g} s",
            f"{row['clips_per_second']:.2f}",
            f"{row['times_real_time']:.1f}",
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            "-" if row["gflops"] is None else f"{row['gflops']:.0f} ({row['fraction_of_peak']:.0%})",
            f"{row['peak_mb']} MB",
        )
        for row in results["rows"]
    ]
    starts = [
        (start["model"], f"{start['wall']:.2f} s", f"{start['cpu']:.2f} s", f"{start['peak_mb']} MB")
        for start in results["starts"]
    ]
    peaks = ", ".join(f"{value:.0f} ({threads})" for threads, value in results["peak"].items())
    note = f" {results['note']}" if "note" in results else ""
    return (
        f"{make_table(header, rows)}\n\n"
        f"{make_table('`emimic predict one.flac`, whole process | wall | CPU | memory', starts)}\n\n"
        f"{results['clips']['count']} clips, medians of {results['clips']['turns']} turns. Peak of float32 products, "
        f"GFLOP/s (threads): {peaks}. {format_machine(results['machine'])}{note}"
    )


PARTS: Final = (
    "forward", "backward", "optimizer", "validation: forward", "loading", "collation", "logging", "validation: rest",
    "checkpoints", "other",
)  # fmt: skip


NOTHING: Final = {"cpu_s": 0.0, "wall_s": 0.0}


def make_profile() -> str:
    """Make the parts of a training epoch, before and after, and the speed of decoding."""
    results = read_results("profile")
    before, after = results["epochs"].get("before"), results["epochs"]["after"]

    def format_part(epoch: dict[str, Any] | None, part: str) -> str:
        if epoch is None:
            return "-"
        spent = epoch["parts"].get(part, NOTHING)
        totals = [sum(epoch["parts"].get(name, NOTHING)[kind] for name in PARTS) for kind in NOTHING]
        return f"{spent['cpu_s']:.3f} s, {spent['cpu_s'] / totals[0]:.1%} ({spent['wall_s'] / totals[1]:.1%})"

    rows = [(part, format_part(before, part), format_part(after, part)) for part in PARTS]
    outside = [
        "-" if epoch is None else f"{epoch['outside']['cpu']:.1%} ({epoch['outside']['wall']:.1%})"
        for epoch in (before, after)
    ]
    rows.append(("**outside forward, backward and optimizer**", *(f"**{part}**" for part in outside)))
    threads = (f"{epoch['other_threads_cpu_s']:.3f} s" if epoch else "-" for epoch in (before, after))
    rows.append(("beside: threads that scan, decode and write", *threads))
    speeds = [
        (workers, row["clips_per_second"], row["best_clips_per_second"], row["cpu_ms_per_clip"])
        for workers, row in results["decoding"].items()
    ]
    train, valid = results["clips"]
    return (
        f"{make_table('part of an epoch | before: CPU s, fraction (of wall) | after', rows)}\n\n"
        f"{make_table('decoding threads | clips a second | the best turn | CPU ms a clip', speeds)}\n\n"
        f"One epoch of {train} clips, validation on {valid}, a small WavLM, medians of {after['turns']} turns, before "
        f"and after in turn, with a load of {results['load']:g} on the machine. CPU: of the training thread. "
        f"{format_machine(results['machine'])}"
    )


def make_training() -> str:
    """Make the seconds a clip of an epoch, each way of training beside the clip-by-clip loops."""
    results = read_results("training")
    titles = {"frozen": "paper's size, encoder frozen", "tiny": "tiny encoder, all of it"}
    rows = [
        (
            title,
            way,
            threads,
            f"{cost['cpu_s_per_clip']:.3f}",
            *(
                f"{cost[f'cpu_times_{base}']:.1f} ({cost[f'wall_times_{base}']:.1f})"
                for base in ("as_released", "clip_by_clip")
            ),
            f"{cost['peak_mb']} MB" if "peak_mb" in cost else "-",
        )
        for kind, title in titles.items()
        for threads, part in sorted(results["threads"].items())
        for way, cost in part[kind].items()
        if way != "waiting"
    ]
    header = "model | way | threads | CPU s a clip | x as released, CPU (wall) | x clip by clip, CPU (wall) | memory"
    note = f" {results['note']}" if results.get("note") else ""
    return f"{make_table(header, rows)}\n\n{format_machine(results['machine'])}{note}"
