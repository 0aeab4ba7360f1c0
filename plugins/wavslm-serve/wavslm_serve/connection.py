"""A client of `/v1/speech`: messages in, messages out, and an end that it is told of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from wavslm_core.plugin import WavslmError
from wavslm_serve.conversation import Conversation
from wavslm_serve.protocol import (
    VERSION,
    ClientError,
    End,
    Ended,
    Event,
    Failed,
    Reason,
    Reset,
    Speak,
    Start,
    Stop,
    event_message,
    read_audio_message,
    read_message,
)
from wavslm_serve.scheduler import Scheduler

_numbers = count(1)


class Connection:
    """One WebSocket. What its client does, and how slowly, is no matter to others."""

    def __init__(self, websocket: WebSocket, scheduler: Scheduler) -> None:
        self._websocket, self._scheduler, self._limits = websocket, scheduler, scheduler.limits
        self._outbox: asyncio.Queue[Event | str] = asyncio.Queue()
        self._tell = to_queue(self._outbox)
        self._conversation: Conversation | None = None

    async def run(self) -> None:
        """Serve the client until either side ends it."""
        await self._websocket.accept()
        # Whoever is done first ends the other: a client may be gone while nothing can be sent to it.
        tasks = [asyncio.create_task(part) for part in (self._listen(), self._talk())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            if self._conversation is not None:
                self._conversation.drop()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            # Errors of ours are the server's to log; a client that is gone, or takes nothing, is none.
            if isinstance(result, Exception) and not isinstance(result, _Gone):
                raise result

    async def _talk(self) -> None:
        """Send what happens, in order, and close after the end."""
        while True:
            event = await self._outbox.get()
            message = event if isinstance(event, str) else event_message(event)
            send = self._websocket.send_text if isinstance(message, str) else self._websocket.send_bytes
            try:
                async with asyncio.timeout(self._limits.send_s):
                    await send(message)  # type: ignore[arg-type]
                    if isinstance(event, Ended):
                        await self._websocket.close(1000 if event.reason == "end" else 1008)
                        return
            except (TimeoutError, WebSocketDisconnect, OSError) as error:
                raise _Gone from error

    async def _listen(self) -> None:
        """Do what the client says until it leaves, errs, is silent for too long, or its time is up."""
        reason: Reason = "error"
        try:
            async with asyncio.timeout(self._limits.start_s):
                conversation = self._start(await self._receive())
            async with asyncio.timeout(self._limits.session_s):
                reason = await self._serve(conversation)
        except TimeoutError:
            reason = "limit" if self._conversation is not None else "idle"
        except WavslmError as error:
            known = error if isinstance(error, ClientError) else ClientError("bad_start", str(error))
            self._outbox.put_nowait(Failed(known))
            reason = "busy" if known.code == "busy" else "error"
        if self._conversation is None:
            self._outbox.put_nowait(Ended(reason))
        else:
            self._conversation.end(reason)
        # Whatever else the client says is not heard, but that it is gone is.
        while True:
            await self._anything()

    async def _serve(self, conversation: Conversation) -> Reason:
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    message = await self._receive()
            except TimeoutError:
                if conversation.busy:
                    continue
                return "idle"
            if isinstance(message, bytes):
                conversation.hear(read_audio_message(message))
                continue
            match read_message(message):
                case Speak(seconds=seconds):
                    conversation.speak(seconds)
                case Stop():
                    conversation.stop()
                case Reset():
                    conversation.reset()
                case End():
                    return "end"
                case Start():
                    raise ClientError("bad_message", "a session is started once; `reset` begins it anew")

    def _start(self, message: str | bytes) -> Conversation:
        start = read_message(message) if isinstance(message, str) else None
        if not isinstance(start, Start):
            raise ClientError("bad_start", 'the first message is {"type": "start"}')
        codec = self._scheduler.model.codec
        if start.sample_rate not in (None, codec.sample_rate_in):
            raise ClientError(
                "bad_start",
                f"sample_rate is {start.sample_rate}, but this model hears {codec.sample_rate_in} Hz: "
                "resample before sending",
                sample_rate=codec.sample_rate_in,
            )
        self._conversation = self._scheduler.join(self._tell, seed=start.seed, sampler=start.sampler)
        started = {
            "type": "started",
            "protocol": VERSION,
            "session": next(_numbers),
            "sample_rate": codec.sample_rate_out,
            "sample_rate_in": codec.sample_rate_in,
            "chunk_ms": round(1000 * self._scheduler.chunk_s),
        }
        self._outbox.put_nowait(json.dumps(started))
        return self._conversation

    async def _receive(self) -> str | bytes:
        """Return the next message. Raises: ClientError for one that is too long."""
        content = await self._anything()
        if len(content) > self._limits.message_bytes:
            raise ClientError(
                "too_much",
                f"a message of {len(content)} bytes came; at most {self._limits.message_bytes} are taken",
            )
        return content

    async def _anything(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise _Gone
        content: bytes | None = message.get("bytes")
        return cast("str", message.get("text")) if content is None else content


def to_queue(queue: asyncio.Queue[Any]) -> Callable[[Event], None]:
    """Return what puts events into a queue of this loop, from any thread."""
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        # The loop is closed when the server stops.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, event)

    return tell


class _Gone(Exception):
    """The client left, or takes nothing any more."""
