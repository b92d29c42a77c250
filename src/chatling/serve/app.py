"""The application: routes, gate, errors in one shape, and what happens at its start and end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from chatling.errors import ChatlingError, nearest
from chatling.serve import openai, runs_api, static
from chatling.serve.completion import Service
from chatling.serve.errors import ApiError, Limits
from chatling.serve.faults import fault
from chatling.serve.metrics import Metrics
from chatling.serve.middleware import SecurityMiddleware
from chatling.serve.model_manager import ModelManager
from chatling.tokenizer.bpe import valid_text
from chatling.version import __version__

log = logging.getLogger(__name__)


def create_app(
    models: ModelManager,
    limits: Limits,
    *,
    key: str | None = None,
    origins: Sequence[str] = (),
    local_only: bool = False,
    log_text: bool = False,
) -> FastAPI:
    """The server. `key` asks for a bearer key, `origins` may call it from their web pages,
    `local_only` refuses other hosts' names.

    `log_text` writes messages and answers into the access log.
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(models, limits, metrics, log_text)
        warming = asyncio.ensure_future(_warm(models))
        yield
        warming.cancel()
        await models.close()

    middleware = [
        Middleware(
            SecurityMiddleware,
            metrics=metrics,
            most_bytes=limits.body,
            key=key,
            local_only=local_only,
        )
    ]
    if origins:  # outside the gate: a browser asks before it sends the key
        allowed: dict[str, Any] = {
            "allow_origins": list(origins),
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["*"],
        }
        middleware.insert(0, Middleware(CORSMiddleware, **allowed))
    app = FastAPI(
        title="chatling",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
        redirect_slashes=False,  # the gate takes them away
    )
    for router in (openai.router, static.router, runs_api.router):
        app.include_router(router)
    app.mount("/ui", static.files(), name="ui")
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


async def _warm(models: ModelManager) -> None:
    """Load the default model before anybody asks for it."""
    if models.first is None:
        return
    run, stage = models.first
    try:
        async with models.acquire(f"{run.name}/{stage}"):
            pass
    except ApiError as error:
        log.warning("%s", error.message)


def _response(error: ApiError) -> JSONResponse:
    body = error.body
    body["error"]["message"] = valid_text(
        error.message
    )  # it may quote half a surrogate pair, which UTF-8 cannot hold
    return JSONResponse(body, error.status, error.headers)


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _response(error)


async def _mendable(_: Request, error: Exception) -> JSONResponse:
    """What a person can mend in their request."""
    return _response(ApiError(400, str(error)))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """A body that does not fit the schema: the first fault, by its path."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    kind = request.headers.get("content-type", "")
    if first["loc"] == ("body",) and not re.fullmatch(
        r"application/(.+\+)?json", kind.partition(";")[0].strip(), re.IGNORECASE
    ):
        sent = f"it came as {kind!r}" if kind else "it came without one"
        return _response(
            ApiError(
                400,
                "The body must be JSON and say so: send the header Content-Type: application/json"
                f" ({sent}).",
            )
        )
    message, param = fault(first)
    return _response(ApiError(400, message, param=param))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: unknown paths, methods, bodies that are too large or come too
    slowly.
    """
    assert isinstance(error, HTTPException)
    message, path, headers = (
        f"{error.detail}.".replace("..", "."),
        request.scope["path"],
        dict(error.headers or {}),
    )
    if error.status_code == 404:
        message = (
            f"There is nothing at {path}."
            f" {nearest(path, request.app.openapi()['paths']) or 'The API is at /v1.'}"
        )
    elif error.status_code == 405:
        message = f"{path} takes {headers.get('Allow', 'other methods')}, not {request.method}."
    return _response(ApiError(error.status_code, message, headers=headers))


async def _defect(_: Request, error: Exception) -> JSONResponse:
    """Our own fault; the log has the traceback."""
    return _response(ApiError(500, f"The server failed on this request ({type(error).__name__})."))


_HANDLERS = {
    ApiError: _api_error,
    ChatlingError: _mendable,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
    Exception: _defect,
}
