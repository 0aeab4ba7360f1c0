"""Whose turn it is, how far the model may be ahead, and what a conversation that fails does to others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event as Signal

import numpy as np
import pytest
from loopback import CHUNK, PATIENCE_S, RATE, floats, model_of, offline, recorded, same, until
from torch import Tensor

from wavslm_core.parts.facts import SamplerFacts
from wavslm_core.parts.interfaces import Sampler, SamplingContext
from wavslm_core.testing.fake_configs import FakeSamplerConfig
from wavslm_serve import scheduler as scheduling
from wavslm_serve.conversation import HEARD_AT_ONCE, Conversation, Limits
from wavslm_serve.protocol import ClientError, Ended, Event, Failed, Spoke, Spoken
from wavslm_serve.scheduler import Scheduler


class Log:
    """What a conversation told, and when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []
        self.ended = Signal()

    def __call__(self, event: Event) -> None:
        self.events.append((time.monotonic(), event))
        if isinstance(event, Ended):
            self.ended.set()

    def of(self, kind: type) -> list[Event]:
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def said(self) -> np.ndarray:
        return np.concatenate([event.samples for event in self.of(Spoken)])  # type: ignore[union-attr]


def by_hand(count: int) -> tuple[Scheduler, list[Conversation], list[Log]]:
    """Return a scheduler that makes no step by itself, and conversations."""
    scheduler, logs = Scheduler(model_of()), [Log() for _ in range(count)]
    return scheduler, [scheduler.join(log) for log in logs], logs


def step(scheduler: Scheduler) -> list[Conversation]:
    """Make the next step; return who took part, whoever was furthest behind first."""
    ready = scheduler._ready()
    assert ready is not None
    scheduler._step(ready)
    return ready


def pcm(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)


def test_who_sends_much_at_once_takes_no_turn_of_those_who_are_on_time() -> None:
    scheduler, (flood, live), _ = by_hand(2)
    flood.hear(floats(recorded(100 * CHUNK)).numpy())
    assert step(scheduler) == [flood]
    for number in range(3):
        live.hear(floats(recorded(CHUNK)).numpy())
        assert step(scheduler) == [live, flood]
        assert live.next_step() is None
        left = flood._inbox[0]
        assert isinstance(left, bytearray)
        assert len(left) == 4 * CHUNK * (100 - (number + 2) * HEARD_AT_ONCE)


def test_one_that_is_about_to_falter_does_not_wait_for_much_that_is_heard() -> None:
    scheduler, (flood, live), (_, log) = by_hand(2)
    live.hear(floats(recorded(CHUNK)).numpy())
    live.speak(60.0)
    while not log.of(Spoken):
        step(scheduler)
    flood.hear(floats(recorded(100 * CHUNK)).numpy())
    before = len(log.of(Spoken))
    while (due := live.next_step()) is not None and due.by - time.monotonic() > 0.01:
        time.sleep(0.005)
    assert {*step(scheduler)} == {flood, live}
    assert len(log.of(Spoken)) == before + 1
    left = flood._inbox[0]
    assert isinstance(left, bytearray)
    assert len(left) == 4 * CHUNK * 99


def test_those_who_speak_at_the_same_time_share_their_steps() -> None:
    scheduler, logs = Scheduler(model_of(), Limits(lead_s=0.3)), [Log() for _ in range(3)]
    scheduler.start()
    for seed, log in enumerate(logs):
        conversation = scheduler.join(log, seed=seed)
        conversation.hear(floats(recorded(2 * CHUNK)).numpy())
        conversation.speak(2.4)
        time.sleep(0.05)
    until(lambda: all(log.of(Spoke) for log in logs))
    scheduler.close()
    # Of 90 chunks, the first four of each are said at once.
    assert scheduler.metrics.counted("step_sessions") < 0.6 * 90
    for seed, log in enumerate(logs):
        assert same(pcm(log.said), offline(scheduler.model, recorded(2 * CHUNK), 2.4, seed=seed))


def test_it_is_ahead_of_what_can_have_been_heard_by_the_lead_and_a_chunk_at_most() -> None:
    scheduler, log = Scheduler(model_of(), Limits(lead_s=0.2)), Log()
    scheduler.start()
    conversation = scheduler.join(log)
    conversation.hear(floats(recorded(2 * CHUNK)).numpy())
    conversation.speak(0.8)
    until(lambda: bool(log.of(Spoke)))
    scheduler.close()
    said_s, (first, _) = 0.0, log.events[0]
    for at, event in log.events:
        if isinstance(event, Spoken):
            assert said_s - (at - first) <= 0.2 + 0.001
            said_s += len(event.samples) / RATE
    assert said_s == pytest.approx(0.8)


class Breaking(Sampler):
    """Works twice."""

    def __init__(self) -> None:
        class Config(FakeSamplerConfig):
            def facts(self) -> SamplerFacts:
                return SamplerFacts()

        super().__init__(Config())
        self.left = 2

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        if self.left == 0:
            raise ZeroDivisionError("no more")
        self.left -= 1
        return logits_NV


def test_what_fails_in_one_conversation_ends_that_one_alone() -> None:
    scheduler, broken, sound = Scheduler(model_of(), Limits(lead_s=1e6)), Log(), Log()
    scheduler.start()
    heard = recorded(4 * CHUNK)
    for conversation in (scheduler.join(broken, sampler=Breaking()), scheduler.join(sound, seed=3)):
        conversation.hear(floats(heard).numpy())
        conversation.speak(0.8)
    assert broken.ended.wait(PATIENCE_S)
    (failed,) = broken.of(Failed)
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError: no more" in str(failed.error)
    assert isinstance(broken.events[-1][1], Ended)
    until(lambda: bool(sound.of(Spoke)))
    assert same(pcm(sound.said), offline(scheduler.model, heard, 0.8, seed=3))
    until(lambda: scheduler.sessions == 1)
    scheduler.close()
    assert sound.of(Ended) == [Ended("shutdown")]
    assert scheduler.metrics.counted("failed_total") == 1


def test_one_that_was_dropped_says_nothing_more_and_frees_its_place() -> None:
    scheduler, (gone,), (log,) = by_hand(1)
    gone.hear(floats(recorded(CHUNK)).numpy())
    gone.speak(1.0)
    gone.drop()
    scheduler._closing = True
    scheduler._run()
    assert log.events == []
    assert scheduler.sessions == 0


def slowed(seconds: float, *, each: bool = True, **limits: int) -> Scheduler:
    """Return a scheduler on a machine whose steps take that long, for each that takes part or for all."""
    model = model_of()

    def wait(_module: object, inputs: tuple[Tensor, ...], _output: object) -> None:
        time.sleep(seconds * (len(inputs[0]) if each else 1))

    model.backbone.gru.register_forward_hook(wait)
    return Scheduler(model, Limits(**limits))


def test_a_slow_machine_has_room_for_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk lasts 80 ms; hearing and saying one takes more than half of that."""
    monkeypatch.setattr(scheduling, "BUSY_SHARE", 0.9)
    scheduler = slowed(0.025)
    scheduler.start()
    assert scheduler.max_sessions == 1
    only = scheduler.join(Log())
    with pytest.raises(ClientError, match="1 of 1 sessions are taken") as caught:
        scheduler.join(Log())
    assert caught.value.document() | {"message": ""} == {
        "type": "error",
        "code": "busy",
        "message": "",
        "sessions": 1,
        "max_sessions": 1,
    }
    only.end("end")
    until(lambda: scheduler.sessions == 0)
    scheduler.join(Log())
    scheduler.close()


def test_a_machine_that_does_many_at_once_has_room_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hearing and saying a chunk of 80 ms takes 50 ms and more: one by one, there would be room for two."""
    monkeypatch.setattr(scheduling, "BUSY_SHARE", 1.5)
    scheduler = slowed(0.025, each=False)
    scheduler.start()
    assert scheduler.max_sessions == scheduler.limits.max_sessions == 4
    for _ in range(4):
        scheduler.join(Log())
    with pytest.raises(ClientError, match="4 of 4 sessions are taken"):
        scheduler.join(Log())
    scheduler.close()


def test_a_machine_that_became_slow_has_room_for_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "BUSY_SHARE", 1.5)
    waits = [0.01]
    model = model_of()
    model.backbone.gru.register_forward_hook(lambda *_: time.sleep(waits[0]))
    scheduler, log = Scheduler(model), Log()
    scheduler.start()
    assert scheduler.max_sessions == 4
    waits[0] = 0.07
    conversation = scheduler.join(log)
    conversation.hear(floats(recorded(CHUNK)).numpy())
    conversation.speak(1.6)
    until(lambda: bool(log.of(Spoke)))
    assert scheduler.max_sessions == 1
    assert scheduler.load > 0.75
    with pytest.raises(ClientError, match="1 of 1 sessions are taken"):
        scheduler.join(Log())
    scheduler.close()


def test_chunks_that_come_too_late_are_counted() -> None:
    scheduler, log = slowed(0.1, max_sessions=1), Log()
    scheduler.start()
    conversation = scheduler.join(log)
    conversation.hear(floats(recorded(CHUNK)).numpy())
    conversation.speak(0.4)
    until(lambda: bool(log.of(Spoke)))
    scheduler.close()
    assert scheduler.metrics.counted("underruns_total") == 4
    assert scheduler.metrics.quantiles("speak_step_seconds")[0.5] >= 0.1


def events(scheduler: Scheduler, conversation: Conversation, log: Log) -> Sequence[Event]:
    while conversation.next_step() is not None and not conversation.over:
        scheduler._step([conversation])
    return [event for _, event in log.events]


@pytest.mark.parametrize("delay", [0, 960, 3000])
def test_the_first_audio_lasts_until_there_is_more(delay: int) -> None:
    """A decoder that lags by 60 of 80 ms gives 20 ms first, and one that lags by more gives nothing."""
    model, log = model_of(delay_samples=delay), Log()
    scheduler = Scheduler(model)
    conversation = scheduler.join(log, seed=4)
    heard = recorded(3 * CHUNK)
    conversation.hear(floats(heard).numpy())
    # Stopped when some was said, but none told, it goes on with that.
    conversation.speak(1.0)
    for _ in range(2):
        scheduler._step([conversation])
    conversation.stop()
    told = events(scheduler, conversation, log)
    assert [type(event) for event in told] == ([Spoken, Spoke] if delay == 0 else [Spoke])
    conversation.speak(0.5)
    conversation.speak(0.01)
    told = events(scheduler, conversation, log)
    sizes = [len(event.samples) for event in told if isinstance(event, Spoken)]
    assert sizes[0] >= CHUNK / 2
    assert sizes[-1] == 160
    said = pcm(log.said)
    assert same(said, offline(model, heard, len(said) / RATE, seed=4))


def test_wishes_are_stopped_together_and_each_is_told() -> None:
    scheduler, (conversation,), (log,) = by_hand(1)
    conversation.hear(floats(recorded(CHUNK)).numpy())
    for _ in range(3):
        conversation.speak(1.0)
    for _ in range(2):
        scheduler._step([conversation])
    conversation.stop()
    told = events(scheduler, conversation, log)
    assert isinstance(told[0], Spoken)
    assert told[1:] == [Spoke(len(told[0].samples)), Spoke(0), Spoke(0)]
    conversation.end("idle")
    assert events(scheduler, conversation, log)[-1] == Ended("idle")
