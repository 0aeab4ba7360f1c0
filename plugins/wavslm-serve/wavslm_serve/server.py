"""The server around the app: it tells clients that it stops before it does."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable

import uvicorn
from starlette.concurrency import run_in_threadpool

from wavslm_serve.app import make_app
from wavslm_serve.scheduler import Scheduler

PARTING_S = 2.0
"""How long clients are waited for that are told of the end."""
OTHER_CONNECTIONS = 64
"""Connections besides those of sessions: pages that load, clients that are told there is no room."""


def make_server(
    scheduler: Scheduler, *, host: str = "localhost", names: Iterable[str] = ()
) -> uvicorn.Server:
    """Return a server for a scheduler that was started; run it with sockets that listen.

    `host` and `names`: as `Gate` takes them.
    """
    limits = scheduler.limits
    config = uvicorn.Config(
        make_app(scheduler, host=host, names=names),
        log_level="warning",
        access_log=False,
        # Twice what is refused with a word of ours.
        ws_max_size=2 * limits.message_bytes,
        ws_per_message_deflate=False,
        # It reads no more from a client than is taken, and waits where a client takes nothing.
        ws="websockets-sansio",
        limit_concurrency=limits.max_sessions + OTHER_CONNECTIONS,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
        server_header=False,
    )
    return _Server(config, scheduler)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, scheduler: Scheduler) -> None:
        super().__init__(config)
        self._scheduler = scheduler

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await run_in_threadpool(self._scheduler.close)
        until = time.monotonic() + PARTING_S
        while self.server_state.tasks and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
