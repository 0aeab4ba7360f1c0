"""One client's place at the model: what waits to be heard and said, and what it is told of."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavslm_core.plugin import SamplerLike, Session, SpeechLM, StreamingError
from wavslm_serve.metrics import Metrics
from wavslm_serve.protocol import ClientError, Ended, Event, Failed, Floats, Reason, Spoke, Spoken

HEARD_AT_ONCE = 4
"""Chunks that a step hears at most: what waits is heard faster so, and nobody waits long for a step."""
PATIENCE = 0.25
"""The part of its lead for which one that speaks waits for others, so that they share a step."""


@dataclass(frozen=True)
class Limits:
    """What a client may ask for, and how long the server waits for it."""

    max_sessions: int = 4
    """Sessions at a time, if the machine serves that many in real time."""
    message_bytes: int = 1 << 20
    """A message: 32 s of audio at 16 kHz."""
    unheard_s: float = 120.0
    """Audio that waits to be heard, such as what comes in while the model speaks."""
    speak_s: float = 60.0
    """One speaking."""
    queued: int = 16
    """Speakings that wait for what is before them."""
    session_s: float = 1800.0
    """A session, from start to end."""
    idle_s: float = 120.0
    """No word of a client to which nothing is said either."""
    start_s: float = 10.0
    """Until a client's first message."""
    send_s: float = 10.0
    """Until a client takes a message."""
    upload_bytes: int = 32 << 20
    """A file to continue."""
    upload_s: float = 120.0
    """Audio in it."""
    lead_s: float = 0.3
    """How far the model is ahead of what a client can have heard of it."""


@dataclass
class _Speaking:
    samples: int
    asked_at: float
    said: int = 0


class Due(NamedTuple):
    """When a step of a conversation is made, as `time.monotonic` counts."""

    may: float
    """When it may begin."""
    by: float
    """When its audio is due."""
    patience_s: float = 0.0
    """How long it may wait for others that speak, so that they share a step."""


class Turn(NamedTuple):
    """What the model is to do next for a conversation."""

    row: int
    heard_S: Tensor | None
    """What is heard, whole chunks; None: it speaks a chunk."""


class Conversation:
    """A row of the model's session and what is to be done in it. Made by `Scheduler.join`.

    Clients call `hear`, `speak`, `stop`, `reset`, `end` and `drop` from any thread; all of them return at
    once. The scheduler's thread calls the rest, and `tell` is called there with what happens.
    What is heard is read in whole chunks, in the order in which it and wishes to speak came: what comes
    while the model speaks is read after it has spoken. Samples before a speaking that fill no chunk are
    forgotten. Speaking on without hearing in between goes on where it stopped, to the sample.
    """

    def __init__(
        self,
        model: SpeechLM,
        session: Session,
        limits: Limits,
        metrics: Metrics,
        changed: Condition,
        tell: Callable[[Event], None],
        *,
        seed: int,
        sampler: SamplerLike,
        lead_s: float,
    ) -> None:
        self._model, self._session = model, session
        self._limits, self._metrics, self._changed = limits, metrics, changed
        self.tell, self._seed, self._lead_s = tell, seed, lead_s
        # Made once, so that what is wrong with it is told before anything starts.
        self._sampler = session.make_sampler(sampler)
        facts = model.codec.facts
        self._chunk_bytes = 4 * facts.chunk_samples_in
        self._opening = facts.chunk_samples_out // 2
        self._unheard_bytes = round(4 * limits.unheard_s * model.codec.sample_rate_in)
        self._inbox: deque[bytearray | _Speaking] = deque()
        """What waits: float32 samples, and wishes to speak."""
        self._speaking: _Speaking | None = None
        self._stopped = 0
        """Wishes that were stopped before their turn came."""
        self._stop = self._forget = False
        self._ending: Reason | None = None
        self.over = False
        self._clock_s = 0.0
        """When the audio that was worked on so far would be over if it had been played as it came."""
        self._row: int | None = None
        """Its row of the session, from its first turn on."""
        self._left = np.zeros(0, np.float32)
        """What was said already, and not told: it was too little, or beyond the end of the last speaking."""

    def hear(self, samples: Floats) -> None:
        """Hear any number of samples (S,) in [-1, 1], at the codec's rate.

        Raises: ClientError when too much waits already.
        """
        with self._changed:
            waiting = sum(len(item) for item in self._inbox if isinstance(item, bytearray))
            if waiting + samples.nbytes > self._unheard_bytes:
                raise ClientError(
                    "too_much",
                    f"more than {self._limits.unheard_s:g} s of audio wait to be heard; send no faster than "
                    "in real time, and less while the model speaks",
                )
            if not (self._inbox and isinstance(self._inbox[-1], bytearray)):
                self._inbox.append(bytearray())
            last = self._inbox[-1]
            assert isinstance(last, bytearray)
            last += samples.astype(np.float32).tobytes()
            self._changed.notify()

    def speak(self, seconds: float | None) -> None:
        """Say what comes next after all that came before, for so long or until `stop`.

        Raises: ClientError for more than the limit, or when many wishes wait.
        """
        most = self._limits.speak_s
        if seconds is not None and seconds > most:
            raise ClientError(
                "too_long", f"{seconds:g} s were asked for; at most {most:g} s are said at once"
            )
        samples = round((most if seconds is None else seconds) * self._model.codec.sample_rate_out)
        with self._changed:
            if sum(isinstance(item, _Speaking) for item in self._inbox) >= self._limits.queued:
                raise ClientError(
                    "too_much", f"{self._limits.queued} wishes to speak wait; wait until some were spoken"
                )
            self._inbox.append(_Speaking(samples, time.monotonic()))
            self._changed.notify()

    def stop(self) -> None:
        """End what is being said, and what was to be said after it."""
        with self._changed:
            self._stop = True
            kept = [item for item in self._inbox if isinstance(item, bytearray)]
            self._stopped += len(self._inbox) - len(kept)
            self._inbox = deque([bytearray().join(kept)] if kept else [])
            self._changed.notify()

    def reset(self) -> None:
        """Forget all that was heard and said, also what waits, and begin anew with the same seed."""
        with self._changed:
            self.stop()
            self._inbox.clear()
            self._forget = True
            self._changed.notify()

    def end(self, reason: Reason) -> None:
        """Stop, tell of that, and then of the end."""
        with self._changed:
            self.stop()
            self._ending = self._ending or reason
            self._changed.notify()

    def drop(self) -> None:
        """End at once, and tell nobody."""
        with self._changed:
            self.over = True
            self._changed.notify()

    @property
    def busy(self) -> bool:
        """Whether something is being said or waits for its turn."""
        with self._changed:
            return self._speaking is not None or self._waits()

    def next_step(self) -> Due | None:
        """Return when the next step is made; None when there is nothing to do.

        Whoever is furthest behind comes first: a client that sends hours of audio at once is heard as fast as
        there is time, but takes none from those that are on time.
        """
        if self._stop or self._forget or self._ending or self.over:
            return Due(0.0, 0.0)
        if self._speaking is not None:
            return Due(self._clock_s - self._lead_s, self._clock_s, PATIENCE * self._lead_s)
        return Due(0.0, self._clock_s) if self._waits() else None

    def begin_turn(self, chunks: int) -> Turn | None:
        """Do what was ordered meanwhile; otherwise return what is next, at most so many chunks if heard.

        None when the model has nothing to do. Tells of what is over.
        """
        with self._changed:
            if self.over:
                return None
            stop, forget, ending, stopped = self._stop, self._forget, self._ending, self._stopped
            self._stop = self._forget = False
            self._stopped = 0
        if stop:
            if self._speaking is not None:
                self._finish()
            for _ in range(stopped):
                self.tell(Spoke(0))
        if forget:
            self.leave()
        if ending is not None:
            self.over = True
            self.tell(Ended(ending))
        if stop or forget or ending is not None:
            return None
        if self._speaking is None:
            piece = self._next(chunks)
            if isinstance(piece, bytes):
                return Turn(self._joined(), torch.frombuffer(bytearray(piece), dtype=torch.float32))
            if piece is None:
                return None
            self._clock_s = time.monotonic()
            self._speaking = piece
        if self._may_say():
            self._say()
            return None
        return Turn(self._joined(), None)

    def end_turn(self, turn: Turn, audio_S: Tensor, began: float) -> None:
        """Tell what the model said in a turn, of which the step began then and ends now."""
        now = time.monotonic()
        if turn.heard_S is None:
            self._metrics.observe("speak_step_seconds", now - began)
            self._left = np.concatenate([self._left, audio_S.float().cpu().numpy()])
            if self._may_say():
                self._say()
            return
        self._left = self._left[:0]
        chunks = 4 * turn.heard_S.numel() // self._chunk_bytes
        for _ in range(chunks):
            self._metrics.observe("hear_step_seconds", (now - began) / chunks)
        duration_s = turn.heard_S.numel() / self._model.codec.sample_rate_in
        self._clock_s = max(self._clock_s, began) + duration_s

    def fail_turn(self, error: Exception) -> None:
        """Tell that there is nothing to speak on after. Raises: any other error."""
        if not isinstance(error, StreamingError):
            raise error
        self.tell(Failed(ClientError("nothing_heard", _NOTHING_HEARD)))
        self._finish()

    def leave(self) -> None:
        """Give up its row, with all that was heard and said; the next turn begins another."""
        row, self._row = self._row, None
        self._left = self._left[:0]
        if row is not None:
            self._session.leave(row)

    def _joined(self) -> int:
        if self._row is None:
            self._row = self._session.join(seed=self._seed, sampler=self._sampler)
        return self._row

    def _waits(self) -> bool:
        first = self._inbox[0] if self._inbox else b""
        return isinstance(first, _Speaking) or len(self._inbox) > 1 or len(first) >= self._chunk_bytes

    def _next(self, chunks: int) -> bytes | _Speaking | None:
        """Take the next whole chunks from the inbox, so many at most, or the next wish."""
        with self._changed:
            while self._inbox:
                first = self._inbox[0]
                if isinstance(first, _Speaking):
                    self._inbox.popleft()
                    return first
                size = min(len(first) // self._chunk_bytes, chunks) * self._chunk_bytes
                piece = bytes(first[:size])
                del first[:size]
                if piece:
                    return piece
                if len(self._inbox) == 1:
                    break
                # A wish to speak comes next: what fills no chunk is not waited for.
                self._inbox.popleft()
        return None

    def _may_say(self) -> bool:
        """Tell whether there is something to say, at the beginning enough to last until there is more.

        The first audio of a decoder that lags is a part of a chunk, after which all others would be late.
        """
        speaking = self._speaking
        assert speaking is not None
        least = 1 if speaking.said else min(self._opening, speaking.samples)
        return self._left.size >= least

    def _say(self) -> None:
        speaking = self._speaking
        assert speaking is not None
        wanted = speaking.samples - speaking.said
        samples, self._left = self._left[:wanted], self._left[wanted:]
        now = time.monotonic()
        if not speaking.said:
            self._metrics.observe("first_audio_seconds", now - speaking.asked_at)
            self._clock_s = now
        elif now > self._clock_s:
            self._metrics.count("underruns_total")
            self._clock_s = now
        self._clock_s += samples.size / self._model.codec.sample_rate_out
        speaking.said += samples.size
        self.tell(Spoken(samples))
        if speaking.said == speaking.samples:
            self._finish()

    def _finish(self) -> None:
        assert self._speaking is not None
        said = self._speaking.said
        with self._changed:
            self._speaking = None
        self.tell(Spoke(said))


_NOTHING_HEARD = (
    "nothing was heard yet that fills a chunk, and the model speaks on after what it heard: send at least "
    "`chunk_ms` of audio first"
)
