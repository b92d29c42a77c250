"""`/v1` for a person: how to use the API, in examples to copy."""

import asyncio
import json
import shlex
from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>chatling · API</title>
<link rel="icon" href="/ui/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/ui/style.css">
<link rel="stylesheet" href="/ui/runs.css">
<script src="/ui/theme.js"></script>
<script type="module" src="/ui/api.js"></script>
</head>
<body class="runs api">
<header class="bar-top">
<div class="brand"><img src="/ui/icon.svg" alt="" width="28" height="28">\
<a href="/">chatling</a></div>
<nav data-label="pages">
<a href="/" data-t="chat">Chat</a>
<a href="/runs" data-t="runs">Training runs</a>
<a href="/v1/models" data-t="apiModels">Models</a>
<button type="button" id="language" class="plain" data-label="language">中文</button>
<button type="button" id="theme" class="plain" data-label="theme">◐</button>
</nav>
</header>
<main>
<h1 data-t="api">The API</h1>
<p data-t="apiIntro">It speaks OpenAI's protocol: chat completions, completions and models.</p>
{examples}
<p id="notice" class="hint" role="status"></p>
</main>
</body>
</html>
"""


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
    examples = (
        (
            "apiCurl",
            "curl",
            f"curl {shlex.quote(base)}/chat/completions {authorization}"
            f"-H 'Content-Type: application/json' \\\n  -d {shlex.quote(json.dumps(ask))}",
        ),
        ("apiPython", "Python (pip install openai)", python),
        ("apiWebUI", "Open WebUI: Settings, Connections, OpenAI; this address", base),
        (
            "apiDocker",
            "Open WebUI in Docker: on Linux the server has to listen beyond localhost, and wants a"
            " key then (chatling serve --host 0.0.0.0 --api-key @key.txt)",
            docker,
        ),
    )
    parts = (
        f'<h2 data-t="{name}">{escape(title)}</h2>\n'
        f'<pre tabindex="0"><code>{escape(text)}</code></pre>'
        for name, title, text in examples
    )
    return HTMLResponse(PAGE.replace("{examples}", "\n".join(parts)))
