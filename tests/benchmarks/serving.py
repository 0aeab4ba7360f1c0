"""`wavslm serve` on loopback: people come until it is busy, and talk in real time by turns.

`python -m tests.benchmarks.serving tiny` or `small` or `full`, the last two with random weights. Each client
talks for a while and is then spoken to, at its own times; it plays what it gets and counts what comes late.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from tests.benchmarks.models import build_codec, build_speech_lm
from tests.benchmarks.tables import print_table

TURN_S = 2.0
"""How long a client talks, and is spoken to."""
TALK_S = 30.0
"""How long they go on when no more are let in."""
MESSAGE_S = 0.02
MOST = 32
PROGRAM = "from wavslm_core.cli.main import main; main()"


@dataclass
class Heard:
    """What a client got."""

    first_s: list[float] = field(default_factory=list)
    """From the wish to the first audio of each turn."""
    late_s: list[float] = field(default_factory=list)
    """By how much pieces came after the sound before them was over."""
    pieces: int = 0
    asked: int = 0
    """Samples that were asked for in turns that are over."""
    got: int = 0
    ended: str | None = None
    """How it was ended, if the server did."""


def run() -> None:
    for size in ("tiny", "small"):
        serve(size)


def serve(size: str) -> None:
    """Serve a model and print what its clients got."""
    with tempfile.TemporaryDirectory() as folder, served(size, Path(folder)) as (process, address):
        began = _cpu_s(process)
        heard, refusal, took_s = asyncio.run(_crowd(address))
        metrics, cpu_s = _metrics(address), _cpu_s(process) - began
    first = np.array([seconds for each in heard for seconds in each.first_s])
    late = [seconds for each in heard for seconds in each.late_s]
    print_table(
        f"serving {size}: {len(heard)} sessions, turns of {TURN_S:g} s for {took_s:.0f} s; "
        f"the next was told that there are {refusal}",
        ["what", "median ms", "p99 ms"],
        [
            ["computing a chunk that is said", *_of(metrics, "speak_step_seconds")],
            ["computing a chunk that is heard", *_of(metrics, "hear_step_seconds")],
            ["from the wish to the first audio", *(1000 * np.quantile(first, (0.5, 0.99)))],
        ],
    )
    print_table(
        "what the clients got",
        ["pieces", "late", "worst ms", "underruns", "in a step", "samples lost", "ended", "CPU"],
        [
            [
                sum(each.pieces for each in heard),
                len(late),
                1000 * max(late, default=0.0),
                int(metrics["underruns_total"]),
                metrics["step_sessions_sum"] / metrics["step_sessions_count"],
                sum(each.asked - each.got for each in heard),
                sum(each.ended is not None for each in heard),
                f"{100 * cpu_s / took_s:.0f} %",
            ]
        ],
    )


@contextmanager
def served(size: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Run `wavslm serve` in a process of its own; yield its id and address."""
    options = [size]
    if size != "tiny":
        codec = build_codec(size)
        codec.save(folder / "codec")
        build_speech_lm(size, codec).save(folder / "lm")
        options = [str(folder / "lm"), "--codec", str(folder / "codec")]
        if size == "full":
            options += ["--weights", "int8"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", *options, "--port", "0", "--max-sessions", str(MOST)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        print(f"\n{line.strip()}")
        yield process.pid, line.split()[0]
    finally:
        process.terminate()
        process.wait()


async def _crowd(address: str) -> tuple[list[Heard], str, float]:
    """Let clients come until one is refused, and talk; return what they got, the refusal, and the time."""
    heard: list[Heard] = []
    clients: list[asyncio.Task[None]] = []
    refusal, began = "nobody", time.monotonic()
    over = asyncio.Event()
    while len(clients) < MOST:
        connection = await connect(f"{address.replace('http', 'ws')}/v1/speech", proxy=None, max_queue=None)
        await connection.send(json.dumps({"type": "start", "seed": len(clients)}))
        answer = json.loads(await connection.recv())
        if answer["type"] != "started":
            refusal = f"{answer['sessions']} of {answer['max_sessions']}"
            await connection.close()
            break
        heard.append(Heard())
        clients.append(asyncio.create_task(_talk(connection, answer, heard[-1], over)))
        # At no whole number of chunks, so that no two are in step by chance.
        await asyncio.sleep(0.77)
    await asyncio.sleep(TALK_S)
    over.set()
    await asyncio.gather(*clients)
    return heard, refusal, time.monotonic() - began


async def _talk(
    connection: ClientConnection, started: dict[str, Any], heard: Heard, over: asyncio.Event
) -> None:
    rate_in, rate = started["sample_rate_in"], started["sample_rate"]
    noise = np.random.default_rng(started["session"]).normal(0, 0.05, round(rate_in * TURN_S))
    speech = (noise * 32767).astype("<i2")
    size = round(rate_in * MESSAGE_S)
    async with _closing(connection):
        while not over.is_set():
            began = time.monotonic()
            for start in range(0, len(speech), size):
                await asyncio.sleep(max(0.0, began + (start + size) / rate_in - time.monotonic()))
                await connection.send(b"\x01" + speech[start : start + size].tobytes())
            wished = time.monotonic()
            await connection.send(json.dumps({"type": "speak", "seconds": TURN_S}))
            played_until, got = None, 0
            while isinstance(message := await connection.recv(), bytes):
                now = time.monotonic()
                if played_until is None:
                    heard.first_s.append(now - wished)
                    played_until = now
                elif now > played_until:
                    heard.late_s.append(now - played_until)
                    played_until = now
                played_until += (len(message) - 1) / 2 / rate
                got += (len(message) - 1) // 2
                heard.pieces += 1
            told = json.loads(message)
            if told["type"] != "spoke":
                heard.ended = str(told)
                return
            heard.asked += round(rate * TURN_S)
            heard.got += got
            # It is played to the end before the other answers.
            await asyncio.sleep(max(0.0, (played_until or 0.0) - time.monotonic()))


@asynccontextmanager
async def _closing(connection: ClientConnection) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await connection.close()


def _cpu_s(process: int) -> float:
    """Return how long a process has computed (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer:
        return str(answer.read().decode())


def _of(metrics: dict[str, float], name: str) -> list[object]:
    """Return median and 99th percentile of a summary, in ms."""
    return [1000 * metrics[f'{name}{{quantile="{share}"}}'] for share in (0.5, 0.99)]


def _metrics(address: str) -> dict[str, float]:
    lines = _fetch(f"{address}/metrics").splitlines()
    pairs = (line.removeprefix("wavslm_").rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


if __name__ == "__main__":
    for name in sys.argv[1:] or ["tiny"]:
        serve(name)
