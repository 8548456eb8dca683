"""The program of a decoder: a child process that decodes untrusted media within limits of memory and CPU time.

It reads requests from standard input and writes sounds to standard output, until its input ends:

    request: LENGTHS (bytes of the content, maximum samples, channel or -1), the content
    reply: one line of JSON (code, message, samples, notes), then samples as float32

A kernel limit ends it, or its parent does; the server notices neither.
"""

import json
import os
import struct
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO, Final

import numpy as np

from emimic.inference.channels import read_blocks
from emimic.media.waveform import Wave
from emimic.task import SAMPLE_RATE, AudioError

LENGTHS: Final = struct.Struct("<QQi")
LABEL: Final = "the recording"
READY: Final = b"ready\n"
BLOCK: Final = 10.0
"""Seconds decoded at a time."""


def main() -> None:
    """Decode until standard input ends."""
    memory, seconds = int(sys.argv[1]), float(sys.argv[2])
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with replies
    limit_process(memory)
    target.write(READY)
    target.flush()
    with suppress(ImportError):
        import_module("av")  # now, not in the first request for which libsndfile is not enough
    while len(header := source.read(LENGTHS.size)) == LENGTHS.size:
        size, most, channel = LENGTHS.unpack(header)
        content = source.read(size)
        if len(content) < size:
            break
        limit_cpu(seconds)
        reply, sound = decode_content(content, most, None if channel < 0 else channel)
        del content
        write_reply(target, reply, sound)


def decode_content(content: bytes, most: int, channel: int | None) -> tuple[dict[str, Any], Wave]:
    """Return a reply and the samples (sample,) at 16 kHz of a media file's content.

    Args:
        content: Of the file.
        most: Samples beyond which decoding stops: the recording is too long.
        channel: Counted from 0; None averages all.
    """
    notes: list[str] = []
    blocks: list[Wave] = []
    try:
        for block in read_blocks(content, seconds=BLOCK, name=LABEL, channel=channel, notes=notes):
            blocks.append(block)
            if sum(map(len, blocks)) > most:
                message = f"the recording is longer than {most / SAMPLE_RATE:g} s. Split it."
                return {"code": "sound_too_long", "message": message}, np.empty(0, np.float32)
        sound = np.concatenate(blocks)
    except AudioError as error:
        return {"code": "undecodable", "message": str(error)}, np.empty(0, np.float32)
    except MemoryError:
        message = "decoding the recording takes too much memory. Convert it to WAV, FLAC or MP3."
        return {"code": "decoder_failed", "message": message}, np.empty(0, np.float32)
    return {"notes": [note.removeprefix(f"{LABEL}: ") for note in notes]}, sound


def write_reply(target: BinaryIO, reply: dict[str, Any], sound: Wave) -> None:
    """Write a reply and its samples."""
    target.write(json.dumps({**reply, "samples": len(sound)}).encode() + b"\n")
    target.write(sound.astype("<f4", copy=False).data)
    target.flush()


def limit_process(memory: int) -> None:
    """Limit this process: to `memory` further bytes, to no file that grows, few open files and no core dump.

    Windows has no such limits; there the parent's time limit alone holds.
    """
    if sys.platform == "win32":
        return
    import resource

    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 64}
    if size := _read_address_space():
        limits[resource.RLIMIT_AS] = size + memory
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def limit_cpu(seconds: float) -> None:
    """Let the kernel end this process after further seconds of CPU time."""
    if sys.platform == "win32":
        return
    import resource
    import time

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))


def _read_address_space() -> int:
    """Return this process's address space in bytes; 0 where the system doesn't show it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib would be one more import
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    main()
