"""The one thread in which the model computes: step by step, in each of which all take part that can."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, RLock, Thread

import torch

from wavslm_core.plugin import SamplerLike, SpeechLM, WavslmError, summary
from wavslm_serve.conversation import HEARD_AT_ONCE, Conversation, Limits, Turn
from wavslm_serve.metrics import Metrics
from wavslm_serve.pace import Pace, StepTimes
from wavslm_serve.protocol import ClientError, Ended, Event, Failed
from wavslm_serve.trial import step_times

logger = logging.getLogger(__name__)

BUSY_SHARE = 0.9
"""The share of the time in which it computes at most, so that the rest is not late."""


class Scheduler:
    """All conversations with a model, as rows of one session of it.

    In a step, every conversation hears a few chunks or says one, if it is its time: what many do at once
    costs little more than what one does. What one of them says does not depend on the others, and what goes
    wrong in one ends that one alone.
    """

    def __init__(self, model: SpeechLM, limits: Limits | None = None) -> None:
        self.model = model
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._session = model.session()
        self._pace = Pace(StepTimes({}, {}), heard_chunk_s=self._heard_chunk_s, chunk_s=self.chunk_s)
        self._changed = Condition(RLock())
        self._conversations: list[Conversation] = []
        self._closing = False
        self._thread = Thread(target=self._run, name="wavslm-serve", daemon=True)

    def start(self) -> None:
        """See how fast the machine is, and let conversations join."""
        times = step_times(self.model, self._pace, most=self.limits.max_sessions, share=BUSY_SHARE)
        self._pace = self._pace.of(times)
        for name, found in (("hear_step_seconds", times.hear), ("speak_step_seconds", times.speak)):
            # Until somebody comes.
            self.metrics.observe(name, found[1])
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
        """How many there may be: what the machine serves in real time, or the limit.

        That is judged by steps of so many at once that were tried at the start, and by how much slower or
        faster the last ones were. At least one: a machine too slow for that shows it by its underruns.
        """
        return self._pace.room(most=self.limits.max_sessions, share=BUSY_SHARE)

    @property
    def load(self) -> float:
        """The share of the time that one conversation takes which hears and speaks all the time."""
        return self._pace.load(1)

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
                self._session,
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

    def _run(self) -> None:
        # A thread takes the number over when it first asks for it.
        torch.get_num_threads()
        while (ready := self._ready()) is not None:
            self._step(ready)

    def _ready(self) -> list[Conversation] | None:
        """Wait for the next step and return who takes part, the one first that is furthest behind.

        None when all is over.
        """
        with self._changed:
            while True:
                now = time.monotonic()
                steps = [(due, each) for each in self._conversations if (due := each.next_step()) is not None]
                company = sum(due.patience_s > 0 for due, _ in steps) > 1
                latest = [due.may + (due.patience_s if company else 0.0) for due, _ in steps]
                if latest and min(latest) <= now:
                    ready = [(due, each) for due, each in steps if due.may <= now]
                    return [each for _, each in sorted(ready, key=lambda found: found[0].by)]
                if self._closing and not self._conversations:
                    return None
                self._changed.wait(min(latest) - now if latest else None)

    def _step(self, ready: list[Conversation]) -> None:
        """Let conversations take their turn, all at once."""
        chunks = HEARD_AT_ONCE
        for conversation in ready:
            due = conversation.next_step()
            # One that is about to falter is not kept waiting by others that hear much at once.
            if due is not None and due.patience_s and due.by - time.monotonic() < due.patience_s:
                chunks = 1
        turns: dict[Conversation, Turn] = {}
        for conversation in ready:
            with self._guarded(conversation):
                turn = conversation.begin_turn(chunks)
                if turn is not None:
                    turns[conversation] = turn
        if turns:
            self._advance(turns)
        for conversation in ready:
            if conversation.over:
                with self._changed:
                    self._conversations.remove(conversation)
                try:
                    conversation.leave()
                except Exception:
                    logger.exception("what a session held could not be given back")

    def _advance(self, turns: dict[Conversation, Turn]) -> None:
        heard = {turn.row: turn.heard_S for turn in turns.values() if turn.heard_S is not None}
        speaking = [turn.row for turn in turns.values() if turn.heard_S is None]
        began = time.monotonic()
        try:
            audio, failed = self._session.advance(heard, speaking=speaking)
        except Exception as error:
            # Whatever went wrong, it did for all that took part.
            audio, failed = {}, {turn.row: error for turn in turns.values()}
        seconds = time.monotonic() - began
        self.metrics.observe("step_sessions", len(turns))
        most = max((len(heard_S) for heard_S in heard.values()), default=0)
        chunks = most // self.model.codec.facts.chunk_samples_in
        self._pace.took(seconds, hearing=len(heard), speaking=len(speaking), chunks=chunks)
        for conversation, turn in turns.items():
            with self._guarded(conversation):
                if turn.row in failed:
                    conversation.fail_turn(failed[turn.row])
                else:
                    conversation.end_turn(turn, audio[turn.row], began)

    @contextmanager
    def _guarded(self, conversation: Conversation) -> Iterator[None]:
        """End a conversation in which anything goes wrong."""
        try:
            yield
        except Exception as error:
            self._give_up(conversation, error)

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
