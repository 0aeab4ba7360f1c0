"""What is asked over plain HTTP: continuing a file, health, metrics; and who may ask."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from loopback import CHUNK, RATE, Samples, Served, floats, model_of, recorded, same, serving, until

from wavslm_core.data.audio import resample
from wavslm_serve.gate import Gate


def wav(samples: Samples, rate: int = RATE, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return file.getvalue()


def test_a_file_goes_in_and_a_wav_comes_out(served: Served) -> None:
    heard = recorded(6 * CHUNK)
    status, body = served.ask("/v1/continue?seconds=1.25&seed=5", wav(heard, form="FLAC"))
    said, rate = soundfile.read(io.BytesIO(body), dtype="int16")
    assert (status, rate, len(said)) == (200, RATE, 1.25 * RATE)
    expected = served.model.continue_speech(floats(heard), sample_rate=RATE, seconds=1.25, seed=5)[0]
    assert same(said, np.rint(expected.numpy() * 32768).clip(-32768, 32767).astype(np.int16))
    until(lambda: served.scheduler.sessions == 0)


def test_it_is_resampled_and_the_sampler_is_the_clients(served: Served) -> None:
    heard = recorded(24000)
    query = "seconds=0.5&sampler=%7B%22name%22%3A%22greedy%22%7D"
    status, body = served.ask(f"/v1/continue?{query}", wav(heard, 24000))
    said, _ = soundfile.read(io.BytesIO(body), dtype="int16")
    model = served.model
    # One second: twelve chunks, and a half that is cut off.
    whole = resample(floats(heard), 24000, RATE)[: 12 * CHUNK]
    expected = model.continue_speech(whole, sample_rate=RATE, seconds=0.5, sampler={"name": "greedy"})[0]
    assert status == 200
    assert same(said, np.rint(expected.numpy() * 32768).clip(-32768, 32767).astype(np.int16))


@pytest.fixture(scope="module")
def small(_any_machine_is_fast_enough: None) -> Iterator[Served]:
    with serving(model_of(), upload_bytes=200_000, upload_s=2.5, max_sessions=1) as served:
        yield served


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", b"no audio at all", 422, "bad_request"),
        ("", b"", 422, "bad_request"),
        ("", wav(recorded(CHUNK - 1)), 422, "nothing_heard"),
        ("", wav(recorded(RATE * 3)), 422, "bad_request"),
        ("", bytes(200_001), 413, "too_much"),
        ("seconds=0", b"", 422, "bad_request"),
        ("seconds=nan", b"", 422, "bad_request"),
        ("second=3", b"", 422, "bad_request"),
        ("seconds=61", wav(recorded(CHUNK)), 422, "too_long"),
        ("sampler=%7B", wav(recorded(CHUNK)), 422, "bad_message"),
        ("sampler=%7B%22name%22%3A%22no%22%7D", wav(recorded(CHUNK)), 422, "bad_request"),
    ],
)
def test_what_cannot_be_continued_is_told_in_words(
    small: Served, query: str, body: bytes, status: int, code: str
) -> None:
    answered, text = small.ask(f"/v1/continue?{query}", body)
    error = json.loads(text)
    assert (answered, error["code"]) == (status, code), error
    assert len(error["message"]) > 20
    until(lambda: small.scheduler.sessions == 0)


def test_no_room_is_a_status_of_its_own(small: Served) -> None:
    small.client()
    status, text = small.ask("/v1/continue", wav(recorded(CHUNK)))
    assert (status, json.loads(text)["max_sessions"]) == (503, 1)
    small.part()


def test_health_and_metrics(small: Served) -> None:
    client = small.client()
    client.hear(recorded(CHUNK))
    client.speak(0.4)
    health = json.loads(small.ask("/health")[1])
    assert (health["status"], health["sessions"], health["max_sessions"]) == ("busy", 1, 1)
    assert (health["sample_rate"], health["chunk_ms"]) == (RATE, 80)
    small.part()
    assert json.loads(small.ask("/health")[1])["status"] == "ok"
    status, text = small.ask("/metrics")
    lines = text.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert status == 200
    assert (values["wavslm_sessions"], values["wavslm_max_sessions"]) == ("0", "1")
    assert int(values["wavslm_sessions_total"]) >= 1
    assert int(values["wavslm_underruns_total"]) >= 0
    median, late = (
        float(values[f'wavslm_speak_step_seconds{{quantile="{share}"}}']) for share in (0.5, 0.99)
    )
    assert 0 < median <= late
    named = {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}
    described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {re.sub("_(sum|count)$", "", name) for name in named} == described


def test_it_answers_to_its_own_names_alone(served: Served) -> None:
    own = f"localhost:{served.port}"
    for host, status in ((own, 200), (f"127.0.0.1:{served.port}", 200), ("stranger.example", 403), ("", 403)):
        assert served.ask("/health", headers={"Host": host})[0] == status, host
    for origin, status in ((f"http://{own}", 200), ("https://stranger.example", 403), ("null", 403)):
        assert served.ask("/health", headers={"Host": own, "Origin": origin})[0] == status, origin


@pytest.mark.parametrize(
    ("host", "names", "asked", "origin", "passes"),
    [
        ("0.0.0.0", (), "192.0.2.7:8998", "http://192.0.2.7:8998", True),
        ("0.0.0.0", (), "[2001:db8::7]:8998", None, True),
        ("0.0.0.0", (), "stranger.example:8998", None, False),
        ("localhost", (), "192.0.2.7:8998", None, False),
        ("localhost", (), "[::1]:8998", None, True),
        ("localhost", (), "[::1", None, False),
        ("localhost", ("talk.example",), "talk.example", "https://talk.example", True),
        ("localhost", ("talk.example",), "Talk.Example", None, True),
        ("localhost", ("talk.example",), "talk.example", "https://talk.example.evil.example", False),
    ],
)
def test_other_addresses_are_reached_by_number_or_by_names_that_were_given(
    host: str, names: tuple[str, ...], asked: str, origin: str | None, passes: bool
) -> None:
    reached: list[str] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    async def send(message: Any) -> None:
        reached.append(message.get("status", "body"))

    headers = [(b"host", asked.encode()), *([(b"origin", origin.encode())] if origin else [])]
    gate = Gate(inside, host=host, names=names)
    asyncio.run(gate({"type": "http", "headers": headers}, None, send))  # type: ignore[arg-type]
    assert reached == (["http"] if passes else [403, "body"])
