"""Clients of `/v1/speech` over the loopback: they hear what is generated offline, whatever others do."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from loopback import (
    CHUNK,
    PATIENCE_S,
    RATE,
    Client,
    Served,
    floats,
    model_of,
    offline,
    recorded,
    same,
    serving,
    until,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus


@pytest.mark.parametrize("options", [{}, {"delay_samples": 700}, {"delay_samples": 3000, "chunk_tokens": 8}])
def test_what_is_said_is_the_offline_continuation(options: dict[str, Any]) -> None:
    model = model_of(**options)
    heard = recorded(8 * CHUNK + 900)
    with serving(model) as served:
        for seed, size in ((0, 4000), (7, 999)):
            client = served.client(seed=seed)
            client.hear(heard, size)
            assert same(client.speak(1.03), offline(model, heard, 1.03, seed=seed))
            # And on, to the sample.
            later = np.concatenate([client.speak(0.5), client.speak(0.25)])
            assert same(later, offline(model, heard, 1.78, seed=seed)[round(1.03 * RATE) :])


def test_a_session_starts_with_what_a_client_needs_to_know(served: Served) -> None:
    client = served.client(sample_rate=RATE)
    number = client.started.pop("session")
    assert client.started == {
        "type": "started",
        "protocol": 1,
        "sample_rate": RATE,
        "sample_rate_in": RATE,
        "chunk_ms": 80,
    }
    assert served.client().started["session"] > number


def test_the_sampler_is_the_clients(served: Served) -> None:
    heard = recorded(3 * CHUNK)
    for sampler in ({"name": "greedy"}, [{"name": "top_k", "k": 3}, {"name": "top_p", "p": 0.5}]):
        client = served.client(sampler=sampler, seed=1)
        client.hear(heard)
        assert same(client.speak(0.4), offline(served.model, heard, 0.4, seed=1, sampler=sampler))


def test_what_is_heard_while_it_speaks_is_context_afterwards() -> None:
    model = model_of()
    first, second = recorded(3 * CHUNK), recorded(2 * CHUNK, seed=1)
    with serving(model, lead_s=0.05) as served:
        client = served.client(seed=4)
        client.hear(first)
        client.send(type="speak", seconds=0.4)
        opening = client.receive()
        assert isinstance(opening, np.ndarray)
        client.hear(second)
        said = np.concatenate([opening, *(client.receive() for _ in range(4))])
        assert client.message() == {"type": "spoke", "samples": len(said)}
        after = client.speak(0.8)
    session = model.session()
    row = session.join(seed=4)
    session.hear(floats(first)[None])
    expected = [torch.cat([session.speak([row])[0] for _ in range(5)])]
    session.hear(floats(second)[None])
    expected += [torch.cat([session.speak([row])[0] for _ in range(10)])]
    for given, wanted in zip((said, after), expected, strict=True):
        assert same(given, np.rint(wanted.numpy() * 32768).clip(-32768, 32767).astype(np.int16))


def test_it_speaks_until_it_is_stopped() -> None:
    model = model_of(delay_samples=700)
    heard = recorded(4 * CHUNK)
    with serving(model, lead_s=0.1) as served:
        client = served.client(seed=2)
        client.hear(heard)
        client.send(type="speak")
        opening = client.receive()
        assert isinstance(opening, np.ndarray)
        client.send(type="stop")
        pieces = [opening]
        while isinstance(received := client.receive(), np.ndarray):
            pieces.append(received)
        said = np.concatenate(pieces)
        assert received == {"type": "spoke", "samples": len(said)}
        assert same(said, offline(model, heard, len(said) / RATE, seed=2))


def test_one_speaking_lasts_as_long_as_the_limit_at_most() -> None:
    with serving(model_of(), speak_s=0.5) as served:
        client = served.client()
        client.hear(recorded(CHUNK))
        client.send(type="speak")
        assert len(client.spoken()) == RATE / 2


def test_after_a_reset_nothing_of_before_is_known(served: Served) -> None:
    heard, other = recorded(3 * CHUNK), recorded(5 * CHUNK + 700, seed=9)
    client = served.client(seed=6)
    client.hear(other)
    client.speak(0.3)
    client.hear(other)
    client.send(type="reset")
    client.hear(heard)
    assert same(client.speak(0.6), offline(served.model, heard, 0.6, seed=6))


def test_sessions_know_nothing_of_each_other() -> None:
    model = model_of(delay_samples=200)

    def converse(served: Served, seed: int) -> None:
        client = served.client(seed=seed)
        heard = recorded((2 + seed) * CHUNK, seed=seed)
        client.hear(heard, 500 + 300 * seed)
        assert same(client.speak(1.2), offline(model, heard, 1.2, seed=seed))
        client.send(type="end")
        assert client.ending() == [{"type": "ended", "reason": "end"}]

    with serving(model, max_sessions=3) as served, ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(converse, served, seed) for seed in range(3)]:
            done.result()
        assert served.scheduler.metrics.counted("sessions_total") == 3


def test_who_finds_no_room_is_told_so_with_a_number() -> None:
    with serving(model_of(), max_sessions=1) as served:
        first = served.client()
        assert json.loads(served.ask("/health")[1])["status"] == "busy"
        second = Client(served.connect())
        second.send(type="start")
        error, end = second.ending()
        assert (error["code"], error["sessions"], error["max_sessions"]) == ("busy", 1, 1)
        assert end == {"type": "ended", "reason": "busy"}
        first.send(type="end")
        first.ending()
        until(lambda: served.scheduler.sessions == 0)
        assert served.client().started["type"] == "started"


START = '{"type":"start"}'
BAD: dict[str, tuple[list[str | bytes], str]] = {
    "garbage": ([START, "garbage"], "bad_message"),
    "garbage first": (["{"], "bad_message"),
    "a list": ([START, "[1]"], "bad_message"),
    "brackets": ([START, "[" * 100_000], "bad_message"),
    "another type": ([START, '{"type":"sing"}'], "bad_message"),
    "another key": ([START, '{"type":"stop","now":true}'], "bad_message"),
    "another kind of byte": ([START, b"\x02\x00\x00"], "bad_message"),
    "no byte": ([START, b""], "bad_message"),
    "half a sample": ([START, b"\x01\x00\x00\x00"], "bad_audio"),
    "audio first": ([b"\x01\x00\x00"], "bad_start"),
    "speaking first": (['{"type":"speak"}'], "bad_start"),
    "two starts": ([START, START], "bad_message"),
    "a seed below zero": (['{"type":"start","seed":-1}'], "bad_message"),
    "another rate": (['{"type":"start","sample_rate":48000}'], "bad_start"),
    "no sampler": (['{"type":"start","sampler":{"name":"nucleus"}}'], "bad_start"),
    "a sampler of wholes": (['{"type":"start","sampler":{"name":"best_of","candidates":3}}'], "bad_start"),
    "hours": ([START, '{"type":"speak","seconds":7200}'], "too_long"),
    "no time": ([START, '{"type":"speak","seconds":-1}'], "bad_message"),
    "endless": ([START, '{"type":"speak","seconds":1e999}'], "bad_message"),
    "a long message": ([START, b"\x01" + bytes((1 << 20) + 2)], "too_much"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_clients_are_told_and_nobody_else_hears_of_it(served: Served, name: str) -> None:
    messages, code = BAD[name]
    heard = recorded(3 * CHUNK)
    bystander = served.client(seed=1)
    bystander.hear(heard)
    begun = bystander.speak(0.3)
    bad = Client(served.connect())
    for message in messages:
        bad.connection.send(message)
    *_, error, end = bad.ending()
    assert (error["type"], error["code"]) == ("error", code)
    assert len(error["message"]) > 20
    assert end == {"type": "ended", "reason": "error"}
    said = np.concatenate([begun, bystander.speak(0.3)])
    assert same(said, offline(served.model, heard, 0.6, seed=1))


def test_a_message_of_megabytes_is_not_even_read(served: Served) -> None:
    client = served.client()
    with suppress(ConnectionClosed):
        client.connection.send(bytes(8 << 20))
    with pytest.raises(ConnectionClosed) as caught:
        client.connection.recv(timeout=PATIENCE_S)
    assert caught.value.rcvd is None or caught.value.rcvd.code == 1009
    until(lambda: served.scheduler.sessions == 0)


def test_who_has_heard_nothing_can_say_nothing_but_may_go_on(served: Served) -> None:
    client = served.client()
    client.hear(recorded(CHUNK - 1))
    client.send(type="speak", seconds=1.0)
    assert client.message()["code"] == "nothing_heard"
    assert client.message() == {"type": "spoke", "samples": 0}
    heard = recorded(CHUNK, seed=3)
    client.hear(heard)
    assert same(client.speak(0.2), offline(served.model, heard, 0.2))


def ends_abruptly(client: Client) -> None:
    client.connection.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("end", [lambda client: client.connection.close(), ends_abruptly])
def test_one_that_is_gone_leaves_its_place(end: Callable[[Client], None]) -> None:
    with serving(model_of(), lead_s=0.1) as served:
        client = served.client()
        client.hear(recorded(CHUNK))
        client.send(type="speak")
        client.receive()
        end(client)
        until(lambda: served.scheduler.sessions == 0)


def test_a_flood_ends_whoever_sends_it() -> None:
    with serving(model_of(), unheard_s=1.0, lead_s=0.1) as served:
        client = served.client()
        client.hear(recorded(CHUNK))
        client.send(type="speak")
        client.receive()
        with suppress(ConnectionClosed):
            client.hear(recorded(3 * RATE))
        *_, spoke, end = client.ending()
        assert (spoke["type"], end["reason"]) == ("spoke", "error")
        wishing = served.client()
        wishing.hear(recorded(CHUNK))
        for _ in range(18):
            wishing.send(type="speak", seconds=60.0)
        assert "too_much" in [message.get("code") for message in wishing.ending()]


def test_one_that_takes_nothing_is_left(served: Served) -> None:
    with serving(model_of(), speak_s=1200.0, lead_s=1e6, send_s=0.5) as served:
        # A window of its own, so that what it does not read stays with the server.
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", served.port))
        client = Client(served.connect(sock=lazy))
        client.send(type="start")
        client.hear(recorded(CHUNK))
        client.send(type="speak")
        assert client.message()["type"] == "started"
        until(lambda: served.scheduler.sessions == 0)
        heard = recorded(2 * CHUNK)
        other = served.client()
        other.hear(heard)
        assert same(other.speak(0.3), offline(served.model, heard, 0.3))
        ends_abruptly(client)


@pytest.mark.parametrize(
    ("limit", "reason"), [("start_s", "idle"), ("idle_s", "idle"), ("session_s", "limit")]
)
def test_time_is_limited(limit: str, reason: str) -> None:
    with serving(model_of(), lead_s=0.1, **{limit: 0.4}) as served:
        if limit == "start_s":
            client = Client(served.connect())
        else:
            client = served.client()
            client.hear(recorded(CHUNK))
            client.send(type="speak", **({"seconds": 0.8} if limit == "idle_s" else {}))
        messages = client.ending()
        assert messages[-1] == {"type": "ended", "reason": reason}
        if limit == "idle_s":
            # It listened all the while.
            assert messages[-2] == {"type": "spoke", "samples": 0.8 * RATE}


def test_a_server_that_stops_says_so() -> None:
    with serving(model_of(), lead_s=0.1) as served:
        client = served.client()
        client.hear(recorded(CHUNK))
        client.send(type="speak")
        client.receive()
        served.server.should_exit = True
        assert [message["type"] for message in client.ending()] == ["spoke", "ended"]


@pytest.mark.parametrize("origin", ["http://stranger.example", "http://localhost:1", "null"])
def test_pages_of_others_are_refused_before_anything_starts(served: Served, origin: str) -> None:
    before = served.scheduler.metrics.counted("sessions_total")
    with pytest.raises(InvalidStatus) as caught:
        served.connect(origin=origin)
    assert caught.value.response.status_code == 403
    assert b'"foreign"' in caught.value.response.body
    assert served.scheduler.metrics.counted("sessions_total") == before
    with served.connect(origin=f"http://localhost:{served.port}"):
        pass


def test_first_audio_is_measured_from_the_wish(served: Served) -> None:
    client = served.client()
    client.hear(recorded(CHUNK))
    began = time.monotonic()
    client.speak(0.1)
    assert 0 < served.scheduler.metrics.quantiles("first_audio_seconds")[0.5] < time.monotonic() - began + 1
