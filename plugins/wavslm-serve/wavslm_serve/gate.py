"""Who may talk to the server: no page of a stranger, and none that only pretends to be ours."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine for itself."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Gate:
    """Refuses requests with a foreign Host or Origin, before anything else is done with them.

    A browser tells the page that asks in `Origin`: one of another site must not use this server. It tells
    the name in the address in `Host`: a stranger's name that resolves to this machine (DNS rebinding) makes
    the stranger's page look like ours. Clients that are no browsers send no Origin, and pass.
    """

    def __init__(self, app: ASGIApp, *, host: str, names: Iterable[str] = ()) -> None:
        """`host`: the address that the server listens at; `names`: others that it is reached by."""
        self._app = app
        self._public = host not in LOOPBACK
        own = {socket.gethostname(), socket.getfqdn()} if self._public else set()
        self._names = {name.lower() for name in (*LOOPBACK, host, *names, *own)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(Headers(scope=scope))
        if problem is not None:
            refusal = JSONResponse({"type": "error", "code": "foreign", "message": problem}, 403)
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(refusal)
            else:
                await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _problem(self, headers: Headers) -> str | None:
        """Return why a request is refused, if it is."""
        host = headers.get("host", "")
        name = _name(host)
        if name is None or not (name in self._names or (self._public and _is_address(name))):
            return (
                f"this server does not know itself as '{host[:100]}'; it is reached as localhost, or by a "
                "name that was given with --name"
            )
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"pages of {origin[:100]} may not use this server, only its own page"
        return None


def _name(host: str) -> str | None:
    """Return the name in `name:port`, None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    """Tell whether a name is an IP address, which nobody can make resolve to somewhere else."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
