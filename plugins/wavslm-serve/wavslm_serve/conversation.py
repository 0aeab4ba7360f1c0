"""One client's place at the model: what waits to be heard and said, and what it is told of."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition

import numpy as np
import torch

from wavslm_core.plugin import SamplerLike, SpeechLM, StreamingError
from wavslm_serve.metrics import Metrics
from wavslm_serve.protocol import ClientError, Ended, Event, Failed, Floats, Reason, Spoke, Spoken

HEARD_AT_ONCE = 4
"""Chunks that a step hears at most: what waits is heard faster so, and nobody waits long for a step."""


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


class Conversation:
    """A session of the model and what is to be done in it. Made by `Scheduler.join`.

    Clients call `hear`, `speak`, `stop`, `reset`, `end` and `drop` from any thread; all of them return at
    once. The scheduler's thread calls `next_step` and `step`, and `tell` is called there with what happens.
    What is heard is read in whole chunks, in the order in which it and wishes to speak came: what comes
    while the model speaks is read after it has spoken. Samples before a speaking that fill no chunk are
    forgotten. Speaking on without hearing in between goes on where it stopped, to the sample.
    """

    def __init__(
        self,
        model: SpeechLM,
        limits: Limits,
        metrics: Metrics,
        changed: Condition,
        tell: Callable[[Event], None],
        *,
        seed: int,
        sampler: SamplerLike,
        lead_s: float,
    ) -> None:
        self._model, self._limits, self._metrics, self._changed = model, limits, metrics, changed
        self.tell, self._seed, self._lead_s = tell, seed, lead_s
        # Made once, so that what is wrong with it is told before anything starts.
        self._sampler = model.make_sampler(sampler)
        facts = model.codec.facts
        self._chunk_bytes = 4 * facts.chunk_samples_in
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
        self._begin()

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

    def next_step(self) -> tuple[float, float] | None:
        """Return when the next step may begin, and when its audio is due; None when there is nothing to do.

        Both as `time.monotonic` counts. Whoever is furthest behind comes first: a client that sends hours of
        audio at once is heard as fast as there is time, but takes none from those that are on time.
        """
        if self._stop or self._forget or self._ending or self.over:
            return 0.0, 0.0
        if self._speaking is not None:
            return self._clock_s - self._lead_s, self._clock_s
        return (0.0, self._clock_s) if self._waits() else None

    def step(self) -> None:
        """Hear a few chunks, say one, or do what was ordered meanwhile. Tells of whatever goes wrong."""
        with self._changed:
            if self.over:
                return
            stop, forget, ending, stopped = self._stop, self._forget, self._ending, self._stopped
            self._stop = self._forget = False
            self._stopped = 0
        if stop:
            if self._speaking is not None:
                self._finish()
            for _ in range(stopped):
                self.tell(Spoke(0))
        if forget:
            self._begin()
        if ending is not None:
            self.over = True
            self.tell(Ended(ending))
        if stop or forget or ending is not None:
            return
        if self._speaking is not None:
            self._say(self._speaking)
        else:
            piece = self._next()
            if isinstance(piece, _Speaking):
                self._clock_s = time.monotonic()
                self._speaking = piece
                self._say(piece)
            elif piece is not None:
                self._hear(piece)

    def _waits(self) -> bool:
        first = self._inbox[0] if self._inbox else b""
        return isinstance(first, _Speaking) or len(self._inbox) > 1 or len(first) >= self._chunk_bytes

    def _next(self) -> bytes | _Speaking | None:
        """Take the next whole chunks from the inbox, or the next wish."""
        with self._changed:
            while self._inbox:
                first = self._inbox[0]
                if isinstance(first, _Speaking):
                    self._inbox.popleft()
                    return first
                size = min(len(first) // self._chunk_bytes, HEARD_AT_ONCE) * self._chunk_bytes
                piece = bytes(first[:size])
                del first[:size]
                if piece:
                    return piece
                if len(self._inbox) == 1:
                    break
                # A wish to speak comes next: what fills no chunk is not waited for.
                self._inbox.popleft()
        return None

    def _begin(self) -> None:
        self._session = self._model.session(sampler=self._sampler)
        self._row = self._session.join(seed=self._seed)
        self._left = np.zeros(0, np.float32)
        """What was said already and is beyond the end of the last speaking."""

    def _hear(self, piece: bytes) -> None:
        began = time.monotonic()
        chunks = len(piece) // self._chunk_bytes
        waveform_1S = torch.frombuffer(bytearray(piece), dtype=torch.float32)[None]
        self._session.hear(waveform_1S, [self._row])
        self._left = self._left[:0]
        now = time.monotonic()
        for _ in range(chunks):
            self._metrics.observe("hear_step_seconds", (now - began) / chunks)
        duration_s = waveform_1S.shape[1] / self._model.codec.sample_rate_in
        self._clock_s = max(self._clock_s, began) + duration_s

    def _say(self, speaking: _Speaking) -> None:
        samples = self._left
        if not samples.size:
            began = time.monotonic()
            try:
                samples = self._session.speak([self._row])[0].float().cpu().numpy()
            except StreamingError:
                self.tell(Failed(ClientError("nothing_heard", _NOTHING_HEARD)))
                self._finish()
                return
            self._metrics.observe("speak_step_seconds", time.monotonic() - began)
        wanted = speaking.samples - speaking.said
        samples, self._left = samples[:wanted], samples[wanted:]
        if samples.size:
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
