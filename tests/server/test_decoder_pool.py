"""Decoders: limits of memory and CPU time, lost processes, hostile files."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_server import make_voice, to_wav
from media_files import encode, wav

from benchmarks.fuzz_damage import damage
from emimic.media import decode
from emimic.server import decoder_child
from emimic.server.decoder_pool import Decoder, DecoderPool, LostError, Sound
from emimic.server.errors import ApiError
from emimic.server.limits import Limits

VOICE = to_wav(make_voice(0.5))


def run(limits: Limits, function: Callable[[DecoderPool], Awaitable[Any]]) -> tuple[Any, list[str]]:
    """Run a coroutine with a pool; return its result, and the reasons of lost decoders."""
    lost: list[str] = []

    async def live() -> Any:
        pool = DecoderPool(limits, lost.append)
        await pool.start()
        try:
            return await function(pool)
        finally:
            await pool.close()

    return asyncio.run(live()), lost


def test_sounds_are_those_of_this_process_whatever_the_others_are() -> None:
    stereo = encode(np.stack([make_voice(0.5), 0 * make_voice(0.5)], axis=1), "m4a")
    damaged = VOICE[:-2000]

    async def decode_all(pool: DecoderPool) -> Any:
        sounds = [await pool.decode(content) for content in (VOICE, stereo, damaged)]
        pids = set(pool.pids)
        with pytest.raises(ApiError) as failed:
            await pool.decode(b"no sound")
        with pytest.raises(ApiError) as missing:
            await pool.decode(VOICE, 1)
        assert set(pool.pids) == pids
        return [*sounds, await pool.decode(stereo, 0)], failed.value, missing.value

    (sounds, failed, missing), lost = run(Limits(at_work=1), decode_all)
    notes: list[str] = []
    expected = [
        decode.load(VOICE), decode.load(stereo), decode.load(damaged, name="x", notes=notes),
        decode.load(stereo, channel=0),
    ]  # fmt: skip
    for sound, samples in zip(sounds, expected, strict=True):
        np.testing.assert_array_equal(sound.samples, samples)
    assert [len(sound.notes) for sound in sounds] == [0, 0, 1, 0]
    assert f"x: {sounds[2].notes[0]}" == notes[0]
    assert (failed.code, missing.code) == ("undecodable", "undecodable")
    assert str(failed).startswith("the recording: is no audio or video")
    assert not lost


def test_a_decoder_that_someone_kills_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def kill_waiting(pool: DecoderPool) -> int:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        assert len((await pool.decode(VOICE)).samples) == 8000
        assert pid not in pool.pids
        return pid

    pid, lost = run(Limits(at_work=1), kill_waiting)
    assert len(lost) == 1
    assert not Path(f"/proc/{pid}").exists()

    genuine, killed = Decoder.decode, []

    async def decode_and_die(self: Decoder, *given: Any) -> Sound:
        if len(killed) < deaths:
            killed.append(self.process.pid)
            self.process.send_signal(signal.SIGKILL)
        return await genuine(self, *given)

    async def kill_working(pool: DecoderPool) -> str:
        try:
            return "decoded" if len((await pool.decode(VOICE)).samples) == 8000 else ""
        except ApiError as error:
            return error.code

    monkeypatch.setattr(Decoder, "decode", decode_and_die)
    deaths = 3
    assert run(Limits(at_work=1), kill_working) == ("decoder_failed", ["crashed"] * deaths)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the kernel")
def test_memory_and_time_of_a_decoder_are_limited() -> None:
    async def decode_large(pool: DecoderPool) -> list[str]:
        codes = []
        for content in (to_wav(np.zeros(8_000_000, np.float32)), VOICE):
            try:
                await pool.decode(content)
                codes.append("decoded")
            except ApiError as error:
                codes.append(error.code)
        return codes

    codes, _ = run(Limits(at_work=1, memory=40_000_000), decode_large)
    assert codes[0] in ("undecodable", "decoder_failed")
    assert codes[1] == "decoded"
    long = to_wav(make_voice(30.0))

    async def decode_long(pool: DecoderPool) -> str:
        with pytest.raises(ApiError) as error:
            await pool.decode(long)
        return error.value.code

    assert run(Limits(at_work=1, decoding=1e-5), decode_long) == ("decoder_failed", ["too slow"])
    code = "from emimic.server.decoder_child import limit_cpu; limit_cpu(0)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], timeout=120)
    assert done.returncode == -signal.SIGXCPU


def test_a_canceled_request_ends_its_decoder() -> None:
    async def cancel(pool: DecoderPool) -> Sound:
        (pid,) = pool.pids
        task = asyncio.create_task(pool.decode(to_wav(np.zeros(8_000_000, np.float32))))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sound = await pool.decode(VOICE)
        assert pid not in pool.pids
        return sound

    sound, _ = run(Limits(at_work=1), cancel)
    assert len(sound.samples) == 8000


HOSTILE = {
    "a huge claim": wav(b"\0\0" * 100, claimed=0xFFFFFFF0),
    "a rate of 0": wav(b"\0\0" * 100, rate=0),
    "channels": wav(b"\0\0" * 70_000, channels=65_000),
    "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "a list": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "HTML": b"<html><audio src=http://example.org></html>",
    "zeros": bytes(5000),
    "an ID3 tag alone": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + b"a" * 100,
}


def test_hostile_files_end_nothing() -> None:
    files = [*HOSTILE.values()]
    rng = random.Random(0)
    for kind in ("mp3", "m4a", "flac", "opus", "webm", "ts"):
        whole = encode(make_voice(0.3), kind, 48_000)
        files += [damage(whole, rng, text=False) for _ in range(3)]

    async def decode_all(pool: DecoderPool) -> list[str]:
        codes = []
        for content in files:
            try:
                codes.append("decoded" if len((await pool.decode(content)).samples) else "")
            except ApiError as error:
                codes.append(error.code)
        return codes

    codes, lost = run(Limits(at_work=1, sound=60.0), decode_all)
    assert set(codes[: len(HOSTILE)]) <= {"undecodable", "decoded"}
    assert codes[3:6] == ["undecodable"] * 3
    assert set(codes) <= {"decoded", "undecodable", "sound_too_long", "decoder_failed"}
    assert len(lost) <= 1


def test_a_recording_that_is_too_long_is_not_decoded_to_its_end() -> None:
    reply, sound = decoder_child.decode_content(to_wav(make_voice(25.0)), 160_000, None)
    assert (reply["code"], len(sound)) == ("sound_too_long", 0)
    reply, sound = decoder_child.decode_content(to_wav(make_voice(10.0)), 160_000, None)
    assert (reply, len(sound)) == ({"notes": []}, 160_000)


def test_a_decoder_that_can_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LostError, match="a decoder ended with 1"):
        run(Limits(at_work=1), lambda pool: pool.decode(VOICE))
