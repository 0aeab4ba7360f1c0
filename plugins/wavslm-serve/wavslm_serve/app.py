"""What is at which address of the server."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from wavslm_core.plugin import AudioBytes, AudioError, WavslmError, audio_info, read_audio
from wavslm_serve.connection import Connection, to_queue
from wavslm_serve.conversation import Conversation
from wavslm_serve.gate import Gate
from wavslm_serve.protocol import (
    MOST_SEED,
    ClientError,
    Event,
    Failed,
    Floats,
    Spoke,
    Spoken,
    pcm,
    read_sampler,
)
from wavslm_serve.scheduler import Scheduler

PAGE = Path(__file__).parent / "page"
_STATUS = {"busy": 503, "too_much": 413, "too_slow": 408}
"""HTTP's words for errors that are not just 422."""


def make_app(scheduler: Scheduler, *, host: str = "localhost", names: Iterable[str] = ()) -> Starlette:
    """Return the server for a scheduler, which is started and closed with it.

    `host` and `names`: as `Gate` takes them.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(scheduler.close)

    async def speech(websocket: WebSocket) -> None:
        await Connection(websocket, scheduler).run()

    return Starlette(
        routes=[
            WebSocketRoute("/v1/speech", speech),
            Route("/v1/continue", partial(_continue, scheduler=scheduler), methods=["POST"]),
            Route("/health", partial(_health, scheduler=scheduler)),
            Route("/metrics", partial(_metrics, scheduler=scheduler)),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Gate, host=host, names=tuple(names))],
        lifespan=lifespan,
    )


async def _health(request: Request, *, scheduler: Scheduler) -> Response:
    codec = scheduler.model.codec
    room = scheduler.max_sessions
    return JSONResponse(
        {
            "status": "busy" if scheduler.sessions >= room else "ok",
            "sessions": scheduler.sessions,
            "max_sessions": room,
            "sample_rate_in": codec.sample_rate_in,
            "sample_rate": codec.sample_rate_out,
            "chunk_ms": round(1000 * scheduler.chunk_s),
            "speak_s": scheduler.limits.speak_s,
            "message_bytes": scheduler.limits.message_bytes,
        }
    )


async def _metrics(request: Request, *, scheduler: Scheduler) -> Response:
    text = scheduler.metrics.text(sessions=scheduler.sessions, max_sessions=scheduler.max_sessions)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


class _Wanted(BaseModel):
    """The query of `/v1/continue`."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    sampler: str | None = None
    """JSON, as in the message `start`."""


async def _continue(request: Request, *, scheduler: Scheduler) -> Response:
    """Take an audio file, and answer with the WAV of what the model says after it, while it says it."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    put = to_queue(events)
    conversation: Conversation | None = None

    def tell(event: Event) -> None:
        if isinstance(event, Spoke) and conversation is not None:
            # Others need not wait until a slow client has taken all.
            conversation.drop()
        put(event)

    try:
        wanted = _wanted(request)
        samples = await _uploaded(request, scheduler)
        conversation = scheduler.join(
            tell,
            seed=wanted.seed,
            sampler=None if wanted.sampler is None else read_sampler(wanted.sampler),
            lead_s=scheduler.limits.speak_s,
        )
        conversation.hear(samples)
        conversation.speak(wanted.seconds)
        first = await events.get()
        if isinstance(first, Failed):
            raise first.error
    except ClientDisconnect:
        return Response(status_code=400)
    except WavslmError as error:
        if conversation is not None:
            conversation.drop()
        known = error if isinstance(error, ClientError) else ClientError("bad_request", str(error))
        retry = {"Retry-After": "10"} if known.code == "busy" else None
        return JSONResponse(known.document(), _STATUS.get(known.code, 422), headers=retry)
    except BaseException:
        if conversation is not None:
            conversation.drop()
        raise
    rate = scheduler.model.codec.sample_rate_out
    header = _wav_header(round(wanted.seconds * rate), rate)
    return StreamingResponse(_wav(header, conversation, first, events), media_type="audio/wav")


async def _wav(
    header: bytes, conversation: Conversation, first: Event, events: asyncio.Queue[Event]
) -> AsyncIterator[bytes]:
    """Yield a WAV file piece by piece.

    Raises: RuntimeError when it cannot go on, so that the answer breaks off and is not taken for whole.
    """
    try:
        yield header
        event = first
        while not isinstance(event, Spoke):
            if not isinstance(event, Spoken):
                raise RuntimeError("the session ended before all was said")
            yield pcm(event.samples)
            event = await events.get()
    finally:
        conversation.drop()


def _wanted(request: Request) -> _Wanted:
    try:
        return _Wanted.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ClientError(
            "bad_request", f"{where[:100]}: {first['msg']}; the query may have seconds, seed, sampler"
        ) from None


async def _uploaded(request: Request, scheduler: Scheduler) -> Floats:
    """Return the samples (S,) of the request's body at the rate that the codec hears.

    Raises: ClientError, AudioError.
    """
    limits = scheduler.limits
    body = bytearray()
    try:
        async with asyncio.timeout(limits.idle_s):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.upload_bytes:
                    most = f"{limits.upload_bytes} bytes, the most that is taken"
                    raise ClientError("too_much", f"the file is larger than {most}")
    except TimeoutError:
        raise ClientError("too_slow", f"the file did not come within {limits.idle_s:g} s") from None
    return await run_in_threadpool(_decoded, bytes(body), scheduler)


def _decoded(body: bytes, scheduler: Scheduler) -> Floats:
    file = AudioBytes("the uploaded file", body)
    info = audio_info(file)
    seconds, most = info.samples / info.sample_rate_hz, scheduler.limits.upload_s
    if seconds > most:
        raise AudioError(f"the file lasts {seconds:.1f} s; at most {most:g} s are continued, so cut it")
    samples: Floats = read_audio(file, sample_rate_hz=scheduler.model.codec.sample_rate_in).numpy()
    return samples


def _wav_header(samples: int, rate_hz: int) -> bytes:
    """Return what stands before the samples of a mono 16-bit WAV file."""
    header = io.BytesIO()
    with wave.open(header, "wb") as file:
        file.setparams((1, 2, rate_hz, samples, "NONE", ""))
        file.writeframesraw(b"")
        # Before it is closed, which would write that there are no samples.
        return header.getvalue()
