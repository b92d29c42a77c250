"""The application: routes, middleware, errors in one shape, and what its start and end bring."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from chatling.data.passages import PassageIndex
from chatling.errors import ChatlingError, nearest
from chatling.serve import api_page, examples, feedback, openai, runs_api, static
from chatling.serve.completion import Service
from chatling.serve.errors import ApiError, Limits
from chatling.serve.faults import fault
from chatling.serve.metrics import Metrics
from chatling.serve.middleware import SecurityMiddleware
from chatling.serve.model_manager import ModelManager
from chatling.tokenizer.bpe import valid_text
from chatling.train.stage_base import Stage
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
    documents: PassageIndex | None = None,
    stages: Sequence[Stage] = (),
) -> FastAPI:
    """The server. `key` asks for a bearer key, `origins` may call it from their web pages,
    `local_only` refuses other hosts' names.

    `log_text` writes messages and answers into the access log. `documents` are searched for
    passages that stand before questions. `stages` are those of the pipeline, in order, whose charts
    the dashboard draws.
    """
    metrics = Metrics(models)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(models, limits, metrics, log_text, documents)
        warming = asyncio.ensure_future(_warm(models))
        yield
        warming.cancel()
        await models.close()

    app = FastAPI(
        title="chatling",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,  # the middleware takes them away
    )
    app.state.locked, app.state.stages = key is not None, stages
    app.add_middleware(
        SecurityMiddleware,
        metrics=metrics,
        max_bytes=limits.body,
        key=key,
        local_only=local_only,
    )
    if origins:  # outermost: a browser asks before it sends the key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    for part in (openai, static, runs_api, examples, feedback, api_page):
        app.include_router(part.router)
    app.mount("/ui", StaticFiles(directory=static.UI), name="ui")
    for kind in (ApiError, ChatlingError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _respond)
    return app


async def _warm(models: ModelManager) -> None:
    """Load the default model before anybody asks for it."""
    if models.default is None:
        return
    try:
        async with models.acquire(models.default):
            pass
    except ApiError as error:  # it may be gone meanwhile
        models.failures[models.default] = error.message
        log.warning("%s", error.message)


async def _respond(request: Request, error: Exception) -> JSONResponse:
    """Any error, as the API words it."""
    found = _api_error(request, error)
    body = found.body
    # it may quote half a surrogate pair, which UTF-8 cannot hold
    body["error"]["message"] = valid_text(found.message)
    return JSONResponse(body, found.status, found.headers)


def _api_error(request: Request, error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case ChatlingError():  # what a person can mend in their request
            return ApiError(400, str(error))
        case RequestValidationError():
            return _invalid(request, error)
        case HTTPException():
            return _refused(request, error)
    # our own fault; the log has the traceback
    return ApiError(500, f"The server failed on this request ({type(error).__name__}).")


def _invalid(request: Request, error: RequestValidationError) -> ApiError:
    """A body that does not fit the schema: the first fault, by its path."""
    first = error.errors()[0]
    kind = request.headers.get("content-type", "")
    is_json = re.fullmatch(
        r"application/(.+\+)?json", kind.partition(";")[0].strip(), re.IGNORECASE
    )
    if first["loc"] == ("body",) and not is_json:
        sent = f"it came as {kind!r}" if kind else "it came without one"
        message = (
            "The body must be JSON and say so: send the header Content-Type: application/json"
            f" ({sent})."
        )
        return ApiError(400, message)
    message, param = fault(first)
    return ApiError(400, message, param=param)


def _refused(request: Request, error: HTTPException) -> ApiError:
    """What the framework refuses: unknown paths, methods, bodies that are too large or come too
    slowly.
    """
    path, headers = request.scope["path"], dict(error.headers or {})
    message = f"{error.detail}.".replace("..", ".")
    if error.status_code == 404:
        known = nearest(path, request.app.openapi()["paths"]) or "The API is at /v1."
        message = f"There is nothing at {path}. {known}"
    elif error.status_code == 405:
        message = f"{path} takes {headers.get('Allow', 'other methods')}, not {request.method}."
    return ApiError(error.status_code, message, headers=headers)
