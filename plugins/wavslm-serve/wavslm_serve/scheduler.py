"""The one thread in which the model computes: chunk by chunk, for whoever is furthest behind."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from threading import Condition, RLock, Thread

import torch

from wavslm_core.plugin import SamplerLike, SpeechLM, WavslmError, summary
from wavslm_serve.conversation import Conversation, Limits
from wavslm_serve.metrics import Metrics
from wavslm_serve.protocol import ClientError, Ended, Event, Failed

logger = logging.getLogger(__name__)

TRIED_CHUNKS = 6
"""Chunks that are heard and said at least to see how fast the machine is."""
BUSY_SHARE = 0.9
"""The share of the time in which it computes at most, so that the rest is not late."""


class Scheduler:
    """All conversations with a model, a step at a time.

    A step is a few chunks that are heard or one that is said, for the conversation whose audio is due first.
    What one of them says does not depend on the others, and what goes wrong in one ends that one alone.
    """

    def __init__(self, model: SpeechLM, limits: Limits | None = None) -> None:
        self.model = model
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._changed = Condition(RLock())
        self._conversations: list[Conversation] = []
        self._closing = False
        self._thread = Thread(target=self._run, name="wavslm-serve", daemon=True)

    def start(self) -> None:
        """See how fast the machine is, and let conversations join.

        Raises: StreamingError when a part of the model does not stream.
        """
        self._try()
        self._thread.start()

    def close(self) -> None:
        """End all conversations, telling them, and the thread."""
        with self._changed:
            self._closing = True
            for conversation in self._conversations:
                conversation.end("shutdown")
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def chunk_s(self) -> float:
        """How long a chunk of the model lasts: the codec's or the head's, whichever is longer."""
        facts = self.model.codec.facts
        return max(facts.chunk_tokens, self.model.chunk_tokens) / facts.token_rate_hz

    @property
    def _heard_chunk_s(self) -> float:
        return self.model.codec.facts.chunk_samples_in / self.model.codec.sample_rate_in

    @property
    def sessions(self) -> int:
        """Conversations that are there."""
        with self._changed:
            return len(self._conversations)

    @property
    def max_sessions(self) -> int:
        """How many there may be: what the machine serves in real time by its last steps, or the limit.

        At least one: a machine too slow for that shows it by its underruns.
        """
        return min(self.limits.max_sessions, max(1, int(BUSY_SHARE / self.load)))

    @property
    def load(self) -> float:
        """The share of the time that one conversation takes which hears and speaks all the time."""
        hear, speak = (
            self.metrics.quantiles(f"{step}_step_seconds").get(0.5, 0.0) for step in ("hear", "speak")
        )
        return max(hear / self._heard_chunk_s + speak / self.chunk_s, 1e-9)

    def join(
        self,
        tell: Callable[[Event], None],
        *,
        seed: int = 0,
        sampler: SamplerLike = None,
        lead_s: float | None = None,
    ) -> Conversation:
        """Let a conversation begin, which `tell`s what happens from the scheduler's thread.

        `lead_s`: how far it may be ahead of real time. Raises: ClientError "busy" when there is no room;
        RecipeError, StreamingError for a sampler that cannot be used.
        """
        with self._changed:
            here, room = len(self._conversations), self.max_sessions
            if self._closing or here >= room:
                self.metrics.count("refused_total")
                raise ClientError(
                    "busy",
                    f"{here} of {room} sessions are taken; try again later",
                    sessions=here,
                    max_sessions=room,
                )
            conversation = Conversation(
                self.model,
                self.limits,
                self.metrics,
                self._changed,
                tell,
                seed=seed,
                sampler=sampler,
                lead_s=self.limits.lead_s if lead_s is None else lead_s,
            )
            self._conversations.append(conversation)
            self.metrics.count("sessions_total")
            return conversation

    def _try(self) -> None:
        """Hear and say for a while, and keep how long that took."""
        session = self.model.session()
        row = session.join()
        chunk = self.model.codec.facts.chunk_samples_in
        noise_1S = 0.1 * torch.randn(1, chunk, generator=torch.Generator().manual_seed(0))
        heard = max(TRIED_CHUNKS, math.ceil(1.0 / self._heard_chunk_s))
        for number in range(heard + TRIED_CHUNKS):
            began = time.monotonic()
            if number < heard:
                name = "hear_step_seconds"
                session.hear(noise_1S, [row])
            else:
                name = "speak_step_seconds"
                session.speak([row])
            if number not in (0, heard):
                # The first of a kind makes what the others find.
                self.metrics.observe(name, time.monotonic() - began)

    def _run(self) -> None:
        while (conversation := self._chosen()) is not None:
            try:
                conversation.step()
            except Exception as error:
                self._give_up(conversation, error)
            if conversation.over:
                with self._changed:
                    self._conversations.remove(conversation)

    def _chosen(self) -> Conversation | None:
        """Wait for the next step and return whose it is; None when all is over."""
        with self._changed:
            while True:
                now = time.monotonic()
                steps = [(each.next_step(), each) for each in self._conversations]
                timed = [(step, each) for step, each in steps if step is not None]
                ready = [(due, each) for (may, due), each in timed if may <= now]
                if ready:
                    return min(ready, key=lambda found: found[0])[1]
                if self._closing and not self._conversations:
                    return None
                self._changed.wait(min((may - now for (may, _), _ in timed), default=None))

    def _give_up(self, conversation: Conversation, error: Exception) -> None:
        """End a conversation in which a step failed, telling it so, without harm to the others."""
        self.metrics.count("failed_total")
        if not isinstance(error, WavslmError):
            logger.error("a session failed", exc_info=error)
        message = str(error) if isinstance(error, WavslmError) else f"the server failed: {summary(error)}"
        conversation.drop()
        try:
            conversation.tell(Failed(ClientError("failed", message)))
            conversation.tell(Ended("error"))
        except Exception:
            logger.exception("a session could not be told of its end")
