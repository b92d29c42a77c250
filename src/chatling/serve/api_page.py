"""`/v1` for a person: how to use the API, in examples to copy."""

import asyncio
import json
import shlex
from html import escape
from string import Template

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from chatling.serve.static import UI

router = APIRouter()


@router.get("/v1", include_in_schema=False)
async def api_page(request: Request) -> HTMLResponse:
    """Examples with this server's address and default model, which a server with a key keeps to
    itself.
    """
    models, locked = request.app.state.service.models, request.app.state.locked
    entries = [] if locked else await asyncio.to_thread(models.entries)
    model = entries[0].id if entries else "RUN/STAGE"
    key = "YOUR_KEY" if locked else "none"
    base, port = f"{request.base_url}v1", request.url.port or 80
    ask = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    authorization = f"-H 'Authorization: Bearer {key}' " if locked else ""
    python = (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={base!r}, api_key={key!r})\n"
        f"answer = client.chat.completions.create(model={model!r}, messages={ask['messages']!r})\n"
        "print(answer.choices[0].message.content)"
    )
    docker = (
        "docker run -p 3000:8080 --add-host=host.docker.internal:host-gateway \\\n"
        f"  -e OPENAI_API_BASE_URL=http://host.docker.internal:{port}/v1 \\\n"
        f"  -e OPENAI_API_KEY={key} ghcr.io/open-webui/open-webui:main"
    )
    curl = (
        f"curl {shlex.quote(base)}/chat/completions {authorization}"
        f"-H 'Content-Type: application/json' \\\n  -d {shlex.quote(json.dumps(ask))}"
    )
    examples = {"curl": curl, "python": python, "address": base, "docker": docker}
    page = Template((UI / "api.html").read_text("utf-8"))
    return HTMLResponse(page.substitute({name: escape(text) for name, text in examples.items()}))
