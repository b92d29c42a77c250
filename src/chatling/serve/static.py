"""The web page's files, Markdown rendering for it, health and metrics."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse

from chatling.files import read_plain
from chatling.serve import protocol, responses
from chatling.serve.errors import ApiError
from chatling.serve.markdown import MAX_MARKDOWN, render_markdown
from chatling.serve.model_manager import ModelManager
from chatling.serve.openai import ERRORS
from chatling.serve.runs_api import REPORT

UI = Path(__file__).parent / "ui"
FRESH = {"Cache-Control": "no-cache"}  # kept, but asked about: the page always fits the server
MOST_REPORT = 64 << 20  # bytes
# its styles stand in the page; it may run nothing, load nothing, and is no page of this server's
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; sandbox"
)
router = APIRouter()


@router.get("/", include_in_schema=False)
async def chat_page() -> FileResponse:
    return FileResponse(UI / "index.html", headers=FRESH)


@router.get("/runs", include_in_schema=False)
async def runs_page() -> FileResponse:
    return FileResponse(UI / "runs.html", headers=FRESH)


@router.get("/runs/{name}/report", include_in_schema=False)
async def report(name: str, request: Request) -> HTMLResponse:
    """The page that a run's report stage wrote. It is untrusted: nothing in it runs or loads."""

    def read() -> bytes:
        folder = request.app.state.service.models.folder(name)
        folder.check_entries()
        try:
            return read_plain(folder.report / REPORT, MOST_REPORT)
        except FileNotFoundError:
            raise ApiError(
                404, f"Run {name!r} has no report yet; `chatling report` writes one."
            ) from None

    return HTMLResponse(
        await asyncio.to_thread(read), headers={"Content-Security-Policy": REPORT_POLICY}
    )


@router.post("/api/render", response_model=responses.Rendered, responses=ERRORS)
async def render(body: protocol.RenderRequest) -> JSONResponse:
    """Markdown to HTML that a page may show: no raw HTML, no scripts, no images, no styles."""
    if len(body.text) > MAX_MARKDOWN:
        raise ApiError(
            400,
            f"The text has {len(body.text):,} characters; at most {MAX_MARKDOWN:,} are rendered.",
            param="text",
        )
    return JSONResponse({"html": await asyncio.to_thread(render_markdown, body.text)})


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The server answers."""
    return {"status": "ok"}


NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "It is loading its model, could not load it, or is shutting down."}
}


@router.get("/health/ready", responses=NOT_READY)
@router.get("/health", responses=NOT_READY)
async def ready(request: Request) -> JSONResponse:
    """The server takes requests and has its model in memory (or no model of its own to load). One
    that could not be loaded is tried again when a request asks for it.
    """
    models: ModelManager = request.app.state.service.models
    reason = models.failures.get(models.default or "")
    if models.closing:
        status = "shutting down"
    elif reason is not None:
        status = "failed"
    else:
        status = "loading" if models.default and not models.loaded else "ok"
    found = {"status": status, "models": list(models.loaded)}
    why = {"reason": reason} if status == "failed" else {}
    return JSONResponse(found | why, 200 if status == "ok" else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """For Prometheus."""
    text = request.app.state.service.metrics.render()
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
