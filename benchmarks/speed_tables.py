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
