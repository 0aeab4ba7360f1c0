"""Servers on free ports of this machine, with models of fakes, and clients that talk to them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from wavslm_core import SpeechLM
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm
from wavslm_serve.conversation import Limits
from wavslm_serve.scheduler import Scheduler
from wavslm_serve.server import make_server

CHUNK = 1280
RATE = 16000
PATIENCE_S = 300.0
"""Longer than anything takes on a machine that does five things at once."""
Samples = npt.NDArray[np.int16]
PROGRAM = """
import sys
from wavslm_core.testing.fakes import register_fakes
from wavslm_core.cli.main import main
register_fakes()
sys.argv = ["wavslm", *sys.argv[1:]]
main()
"""


def model_of(*, chunk_tokens: int = 4, **options: Any) -> SpeechLM:
    torch.manual_seed(0)
    return fake_speech_lm(fake_codec(**options), chunk_tokens=chunk_tokens)


def recorded(samples: int, *, seed: int = 0) -> Samples:
    """Return speech of so many 16-bit samples."""
    noise = np.random.default_rng(seed).normal(0, 0.25, samples).clip(-1, 1)
    return (noise * 32767).astype(np.int16)


def floats(samples: Samples) -> torch.Tensor:
    return torch.from_numpy(samples.astype(np.float32) / 32768)


def offline(model: SpeechLM, heard: Samples, seconds: float, **options: Any) -> Samples:
    """Return what `continue_speech` says after the whole chunks of what was heard."""
    whole = floats(heard[: len(heard) // CHUNK * CHUNK])
    said = model.continue_speech(whole, sample_rate=RATE, seconds=seconds, **options)[0]
    return np.rint(said.numpy() * 32768).clip(-32768, 32767).astype(np.int16)


def same(given: Samples, expected: Samples) -> bool:
    """Tell whether two sounds differ by rounding to 16 bits alone."""
    return given.shape == expected.shape and bool(
        (np.abs(given.astype(np.int32) - expected) <= 1).all() and np.abs(expected).max() > 1000
    )


def until(done: Callable[[], bool]) -> None:
    """Wait for what happens in another thread."""
    last = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < last
        time.sleep(0.01)


@dataclass
class Served:
    """A server that runs, and how it is reached."""

    model: SpeechLM
    scheduler: Scheduler
    server: uvicorn.Server
    port: int
    connections: list[ClientConnection] = field(default_factory=list)

    def part(self) -> None:
        """Close all connections."""
        while self.connections:
            self.connections.pop().close()
        until(lambda: self.scheduler.sessions == 0)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def client(self, **start: Any) -> Client:
        """Return a client whose session has started."""
        client = Client(self.connect())
        client.send(type="start", **start)
        client.started = client.message()
        return client

    def connect(self, **options: Any) -> ClientConnection:
        settings = {"open_timeout": PATIENCE_S, "close_timeout": 10.0, "proxy": None, **options}
        self.connections.append(connect(f"ws://localhost:{self.port}/v1/speech", **settings))
        return self.connections[-1]

    def ask(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        request = urllib.request.Request(self.url + path, body, headers or {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


class Client:
    """A session as a client sees it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.started: dict[str, Any] = {}

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def hear(self, samples: Samples, size: int = 3000) -> None:
        """Send audio in pieces of that many samples."""
        for start in range(0, len(samples), size):
            self.connection.send(b"\x01" + samples[start : start + size].tobytes())

    def receive(self) -> dict[str, Any] | Samples:
        message = self.connection.recv(timeout=PATIENCE_S)
        if isinstance(message, str):
            found: dict[str, Any] = json.loads(message)
            return found
        assert message[0] == 1
        return np.frombuffer(message[1:], "<i2")

    def message(self) -> dict[str, Any]:
        """Return the next message, which must not be audio."""
        received = self.receive()
        assert isinstance(received, dict)
        return received

    def spoken(self) -> Samples:
        """Return all audio until the model has spoken."""
        pieces: list[Samples] = [np.zeros(0, np.int16)]
        while not isinstance(received := self.receive(), dict):
            pieces.append(received)
        said = np.concatenate(pieces)
        assert received == {"type": "spoke", "samples": len(said)}
        return said

    def speak(self, seconds: float) -> Samples:
        self.send(type="speak", seconds=seconds)
        return self.spoken()

    def ending(self) -> list[dict[str, Any]]:
        """Return all messages but audio until the connection is closed; the last is the end."""
        messages: list[dict[str, Any]] = []
        with suppress(ConnectionClosed):
            while True:
                message = self.receive()
                messages += [message] if isinstance(message, dict) else []
        assert [message["type"] for message in messages].index("ended") == len(messages) - 1
        return messages


@contextmanager
def serving(model: SpeechLM, **limits: Any) -> Iterator[Served]:
    """Serve a model; by default, it speaks as fast as it can."""
    scheduler = Scheduler(model, Limits(**{"lead_s": 1e6, "max_sessions": 16, **limits}))
    scheduler.start()
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(scheduler)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield (served := Served(model, scheduler, server, listening.getsockname()[1]))
        served.part()
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def command(folder: Path, model: SpeechLM, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `wavslm serve` with a model, which is saved in the folder; yield the process and its address."""
    if not folder.exists():
        model.codec.save(folder / "codec")
        model.save(folder / "lm")
    typed = [
        sys.executable,
        "-c",
        PROGRAM,
        "serve",
        folder / "lm",
        "--codec",
        folder / "codec",
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*map(str, typed), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("http://localhost:"), process.communicate()
        yield process, line.split()[0]
    finally:
        process.kill()
        process.wait(PATIENCE_S)
