"""The server under load and abuse, as a process of its own on this machine.

    python -m benchmarks.server [cold contract hostile broken crowd kill steady speed memory] [--cases 10000]
        [--minutes 60]

Parts that are named are measured again; the others stay as they are in docs/results/server.json. `contract`:
schemathesis makes cases of the OpenAPI document. `crowd`: 200 clients at once, each with a clip of its own and a known
result. `steady`: memory over time. `speed`: requests a second beside `predict_files` in one process, on the same clips.
`memory`: its peak, by requests at work.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import emimic
from benchmarks import results, server_clients
from benchmarks.command import make_parser
from benchmarks.server_contract import to_wav
from benchmarks.server_process import Running, run_server
from emimic.cpus import count_cores
from emimic.inference.predictor import Predictor
from emimic.media import decode
from emimic.sample import get_folder
from emimic.task import SAMPLE_RATE

OUT = results.RESULTS / "server.json"
CLIENTS = 200
Given = argparse.Namespace


def make_clips(count: int) -> list[bytes]:
    """Return WAV files of the sample's clips, in turn from their start and from later on, so that each differs."""
    files = sorted((get_folder() / "audio").iterdir())
    return [
        to_wav(decode.load(files[number % len(files)])[1600 * (number // len(files)) :])
        for number in range(count)
    ]


def measure_cold(_: Given) -> dict[str, Any]:
    """Measure the time from the start of the process to /ready, and its CPU time until then, nine times."""
    seconds, cpu = [], []
    for _number in range(9):
        with run_server() as server:
            seconds.append(round(server.seconds, 2))
            text = httpx.get(f"{server.url}/metrics").text
            cpu.append(round(float(text.partition("\nprocess_cpu_seconds_total ")[2].split()[0]), 2))
    return {
        "seconds": seconds,
        "median": statistics.median(seconds),
        "cpu_seconds": cpu,
        "cpu_seconds_median": statistics.median(cpu),
    }


def measure_contract(given: Given) -> dict[str, Any]:
    """Send cases of the OpenAPI document, in rounds of 100 per operation with parameters.

    One round in four goes to a server with tight limits that is at work for others, so that it refuses much.
    """
    from benchmarks.fuzz_files import encode
    from benchmarks.server_contract import add_counts, call_operations, make_voices, register_files

    voices = make_voices()
    register_files([*voices, encode("wav", "pcm_s16le"), encode("mp4", "aac")])
    tight = ("--at-work", "1", "--waiting", "3", "--timeout", "1", "--seconds", "10", "--megabytes", "0.4")
    figures: dict[str, Any] = {}
    with run_server() as usual, run_server(*tight) as strict:
        paths = httpx.get(f"{usual.url}/openapi.json").json()["paths"]
        seed = 0
        while figures.get("cases", 0) < given.cases:
            is_tight = seed % 4 == 3
            with server_clients.keep_busy(strict, voices[0], clients=4 if is_tight else 0):
                url = (strict if is_tight else usual).url
                one = call_operations(url, dict.fromkeys(paths, 100), seed=seed)
            figures = add_counts(figures, one)
            print(f"{figures['cases']} cases: {figures['statuses']}", flush=True)
            seed += 1
    return figures


def measure_hostile(_: Given) -> dict[str, Any]:
    """Send 60 hostile files."""
    with run_server() as server:
        figures = server_clients.send_hostile(server, server_clients.make_hostile_files(60))
        return figures | {"healthy_after": is_healthy(server)}


def measure_broken(_: Given) -> dict[str, Any]:
    """Open 240 broken and slow connections."""
    (voice,) = make_clips(1)
    with run_server() as server:
        return server_clients.send_broken(server, voice, 240) | {"healthy_after": is_healthy(server)}


def measure_crowd(_: Given) -> dict[str, Any]:
    """Send 200 clips at once."""
    clips = make_clips(CLIENTS)
    known = predict_known(clips)
    values = np.array([list(one.values()) for one in known])
    differences = np.abs(values[:, None] - values[None]).max(axis=2)
    nearest = float(differences[~np.eye(len(values), dtype=bool)].min())
    with run_server() as server:
        figures = asyncio.run(server_clients.send_at_once(server, clips, known))
        return figures | {
            "smallest_difference_of_known": round(nearest, 5),
            "healthy_after": is_healthy(server),
        }


def predict_known(clips: list[bytes]) -> list[dict[str, float]]:
    """Return each clip's intensities, predicted here."""
    predictor = emimic.load()
    return [predictor(clip, name="clip.wav").intensities for clip in clips]


def measure_kill(_: Given) -> dict[str, Any]:
    """Kill a decoder every second while clients send clips."""
    clips, killed = make_clips(20), []

    def kill(server: Running) -> None:
        if decoders := server.list_decoders():
            killed.append(random.choice(decoders))
            try:
                os.kill(killed[-1], signal.SIGKILL)
            except ProcessLookupError:
                killed.pop()

    with run_server() as server:
        steady = server_clients.send_steadily(server, clips, seconds=20.0, clients=4, on_second=kill)
        figures = asyncio.run(steady)
        return {"killed": len(killed), "statuses": figures["statuses"], "healthy_after": is_healthy(server)}


def measure_steady(given: Given) -> dict[str, Any]:
    """Send recordings of .3 to 60 s for every format; the drift compares the memory of two quarters."""
    fields = [{}, {"hop": "0.5"}, *({"response_format": name} for name in ("csv", "vtt", "html", "json"))]
    with run_server() as server:
        steady = server_clients.send_steadily(
            server,
            make_varied(140),
            seconds=60.0 * given.minutes,
            clients=3,
            fields=fields,
            pause=given.pause,
        )
        figures = asyncio.run(steady)
    memory = [(seconds, sample["server"]) for seconds, sample in figures.pop("memory")]
    quarter = len(memory) // 4
    second, last = (
        statistics.fmean(value for _, value in part)
        for part in (memory[quarter : 2 * quarter], memory[-quarter:])
    )
    every = max(1, len(memory) // 20)
    return figures | {
        "server_megabytes": {"second_quarter": round(second, 1), "last_quarter": round(last, 1)},
        "drift_percent": round(100 * (last / second - 1), 2),
        "megabytes_by_second": [[round(seconds), round(value)] for seconds, value in memory[::every]],
    }


def make_varied(count: int) -> list[bytes]:
    """Return WAV files of clips and of several clips joined, .3 to 60 s long."""
    rng = random.Random(0)
    files = sorted((get_folder() / "audio").iterdir())
    sounds = [decode.load(file) for file in files[:40]]
    lengths = (0.3, 0.7, 1.0, 2.0, 3.0, 5.0, 8.0, 11.0, 12.0, 15.0, 20.0, 30.0, 45.0, 60.0)
    varied = []
    for number in range(count):
        joined = np.concatenate(rng.sample(sounds, len(sounds)))
        size = round(lengths[number % len(lengths)] * rng.uniform(0.9, 1.0) * SAMPLE_RATE)
        varied.append(to_wav(np.resize(joined, size)))
    return varied


def measure_speed(_: Given) -> dict[str, Any]:
    """Compare requests a second with `predict_files` on the same clips, in turn, three times each."""
    clips = make_clips(140)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, clip in enumerate(clips):
            (folder / f"{number:03d}.wav").write_bytes(clip)
        threads = count_cores()
        predictor = Predictor(threads=threads, streams=threads)
        predictor.predict_files(folder)
        program, server_speed = [], []
        with run_server() as server:
            asyncio.run(server_clients.send_steadily(server, clips, seconds=5.0, clients=4))
            for _number in range(3):
                start = time.perf_counter()
                predictor.predict_files(folder)
                program.append(round(len(clips) / (time.perf_counter() - start), 1))
                figures = asyncio.run(server_clients.send_steadily(server, clips, seconds=15.0, clients=4))
                server_speed.append(figures["requests_per_second"])
    ratio = statistics.median(server_speed) / statistics.median(program)
    return {
        "requests_per_second": server_speed,
        "predict_files_per_second": program,
        "ratio": round(ratio, 2),
    }


def measure_memory(_: Given) -> dict[str, Any]:
    """Measure the peak memory of 1 and of 2 requests at work, each a comparison of two channels of 300 s."""
    sounds = [decode.load(file) for file in sorted((get_folder() / "audio").iterdir())[:40]]
    pair = to_wav(np.resize(np.concatenate(sounds), (2, 300 * SAMPLE_RATE)).T)
    peaks = {}
    for at_work in (1, 2):
        with run_server("--at-work", str(at_work), "--timeout", "3600") as server:
            send = partial(
                httpx.post, f"{server.url}/v1/mimicry", files={"seed": ("x.wav", pair)}, timeout=3600
            )
            with ThreadPoolExecutor(at_work) as threads:
                for response in [threads.submit(send) for _number in range(at_work)]:
                    response.result().raise_for_status()
            peaks[at_work] = round(server.measure_peak())
            print(f"{at_work} at work: {peaks[at_work]} MB", flush=True)
    return {"peak_megabytes_by_requests_at_work": peaks}


def is_healthy(server: Running) -> bool:
    """Return True if the server predicts, and its process never ended."""
    (voice,) = make_clips(1)
    response = httpx.post(f"{server.url}/v1/emotions", files={"file": ("x", voice)}, timeout=60)
    return response.status_code == 200 and server.process.poll() is None


def describe_machine() -> dict[str, Any]:
    """Return the machine and the versions of the libraries that serve."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = ("onnxruntime", "fastapi", "uvicorn", "starlette", "schemathesis")
    return {
        "cores": count_cores(),
        "cpu": text.partition("model name\t: ")[2].partition("\n")[0],
        "versions": {name: version(name) for name in names},
    }


PARTS: dict[str, Callable[[Given], dict[str, Any]]] = {
    "cold": measure_cold, "contract": measure_contract, "hostile": measure_hostile, "broken": measure_broken,
    "crowd": measure_crowd, "kill": measure_kill, "steady": measure_steady, "speed": measure_speed,
    "memory": measure_memory,
}  # fmt: skip


def main() -> None:
    """Measure the named parts, and write them."""
    parser = make_parser(__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between requests of steady load")
    given = parser.parse_args()
    figures = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    machine = describe_machine()
    for name in given.parts or PARTS:
        start, load = time.monotonic(), os.getloadavg()[0]
        figures[name] = PARTS[name](given) | {"load_before": round(load, 1), "cpu": machine["cpu"]}
        print(f"{name} ({time.monotonic() - start:.0f} s): {json.dumps(figures[name])}", flush=True)
        if not given.parts:
            figures["machine"] = machine
        OUT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
