"""The table of the page in the browser against Python."""

from typing import Any, Final

from benchmarks.results import make_table, read_results

ROWS: Final = {
    "as_they_are": "recordings as they are",
    "as_wav_of_44.1_and_48_khz": "the same as WAV of 44.1 and 48 kHz",
    "control_python_with_noise_of_-100_db": "control: both in Python, the WAVs with noise of -100 dB",
}


TIMINGS: Final = (
    "processes that wanted the two cores | page ready after | sound a second | microphone: from sound to line | "
    "late values, dropped"
)


def make_page() -> str:
    """Make the table of differences, and lines on delay, speed and size."""
    results = read_results("page")
    rows = [(label, *_list_differences(results[name])) for name, label in ROWS.items()]
    header = "compared | recordings | largest difference of a value | mean | values above 0.01 | equal voice segments"
    size = results["transfer"]
    timings = sorted(results["timings"], key=lambda timing: timing["load_average"])
    return (
        f"{make_table(header, rows)}\n\n{make_table(TIMINGS, map(_list_timings, timings))}\n\n"
        "Sound a second is at one value every 0.2 s. From sound to line is that of the newest value: half a window is "
        "1.25 s of it, the sound after a block 0.5 s, and the sound card's own come on top. The values of a block of "
        f"1 s come together. A visit transfers {size['gzip_mb']:.1f} MB with gzip, {size['mb']:.1f} MB "
        f"without. {results['browser']}; machine: "
        f"{results['machine']}."
    )


def _list_timings(timing: dict[str, Any]) -> tuple[str, ...]:
    live = timing["live"]
    delay = live["seconds_from_sound_to_line"]
    return (
        f"{timing['load_average']:.1f}",
        f"{timing['ready_seconds']:.1f} s",
        f"{timing['seconds_of_sound_per_second']:.1f} s",
        f"{delay['median']:.1f} s, at most {delay['largest']:.1f} s",
        str(live["dropped"]),
    )


def _list_differences(compared: dict[str, Any]) -> tuple[str, ...]:
    name, largest = max(compared["largest_difference"].items(), key=lambda item: item[1])
    return (
        str(compared["recordings"]),
        f"{largest:.3f} ({name})",
        f"{compared['mean_difference']:.4f}",
        f"{compared['differences_above_0.01']} of {compared['values']}",
        str(compared["recordings_with_equal_voice_segments"]),
    )
