"""What every request passes: its host, its key, its pace; security headers on the way out, and one
line in the log.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatling.serve.errors import PATIENCE, ApiError
from chatling.serve.metrics import Metrics

log = logging.getLogger("chatling.access")

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
OPEN_PATHS = (
    "/",
    "/runs",
    "/v1",
    "/health",
    "/health/live",
    "/health/ready",
)  # and /ui/…: the page must load to ask for the key


@dataclass(frozen=True)
class SecurityMiddleware:
    """ASGI middleware.

    `max_bytes` bounds a request's body. `key` is the bearer key that everything but the page's own
    files and /health asks for.
    `local_only` refuses other names than localhost in the Host header, so that no web page can
    reach a server on its reader's machine
    under a name of its own (DNS rebinding).
    """

    app: ASGIApp
    metrics: Metrics
    max_bytes: int
    key: str | None = None
    local_only: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        came, scope = scope, _plain(scope)
        start, status = time.perf_counter(), 500
        facts: dict[str, object] = {}
        scope.setdefault("state", {})["facts"] = facts

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await JSONResponse(refusal.body, refusal.status, refusal.headers)(
                    scope, receive, sending
                )
            else:
                await self.app(scope, self._in_bounds(scope, receive), sending)
        finally:
            seconds = time.perf_counter() - start
            # the path as the routes write it, so that made-up ones do not become metrics
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, status, seconds)
            if status >= 400 or scope["path"].startswith("/v1/"):
                _write_log(came, status, seconds, facts)

    def _refusal(self, scope: Scope) -> ApiError | None:
        headers, path = Headers(scope=scope), scope["path"]
        if self.local_only and _host(headers.get("host", "")) not in LOCAL_HOSTS:
            message = (
                "This server answers to localhost only. To serve it under another name, give it a"
                " key with --api-key."
            )
            return ApiError(403, message, code="wrong_host")
        if "content-length" in headers and "transfer-encoding" in headers:
            message = "A request has a Content-Length or a Transfer-Encoding, not both."
            return ApiError(400, message, headers={"Connection": "close"})
        if self.key is None or path in OPEN_PATHS or path.startswith("/ui/"):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(
            _digest(given.strip()), _digest(self.key)
        ):
            return None
        missing = "This server wants a key: send the header Authorization: Bearer KEY."
        message = "The key that was sent is wrong." if given.strip() else missing
        return ApiError(
            401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
        )

    def _in_bounds(self, scope: Scope, receive: Receive) -> Receive:
        """The client's body must come in time and not be too large, by what it says and by what
        comes; after it, waiting for the client to leave has no end.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE
        declared = Headers(scope=scope).get("content-length", "")
        size, read, reading = int(declared) if declared.isdecimal() else 0, 0, True

        async def receiving() -> Message:
            nonlocal read, reading
            if not reading:
                return await receive()
            if max(size, read) > self.max_bytes:
                raise HTTPException(
                    413, f"The request's body is larger than {self.max_bytes:,} bytes."
                )
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, f"The request's body did not come within {PATIENCE:g} seconds."
                ) from None
            read += len(message.get("body", b""))
            reading = message.get("more_body", False) or read > self.max_bytes
            return message if read <= self.max_bytes else await receiving()

        return receiving


def _plain(scope: Scope) -> Scope:
    """A copy for the routes: the path without doubled slashes and slashes at its end, and HEAD as
    GET.

    The server keeps its own scope, and sends no body for a HEAD.
    """
    path = re.sub("/+", "/", scope["path"]).rstrip("/") or "/"
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "path": path, "method": method}


def _digest(text: str) -> bytes:
    """Of one length whatever the text's, so that comparing takes the same time."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _host(header: str) -> str:
    """A Host header without its port."""
    name, _, port = header.rpartition(":")
    return (name if name and port.isdigit() else header).lower()


def _write_log(scope: Scope, status: int, seconds: float, facts: dict[str, object]) -> None:
    client = scope.get("client") or ("", 0)
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "client": client[0],
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 4),
    }
    log.log(logging.ERROR if status >= 500 else logging.INFO, json.dumps(line | facts))
