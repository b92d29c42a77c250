"""Headless Chromium, and a server whose models say what the test wants, token by token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatling.inference.async_engine import AsyncEngine, Ticket
from chatling.inference.engine import Engine
from chatling.inference.request import Event, Request
from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import load_model

from ..serve.conftest import Running, save_run, serving

HOSTILE = """# Title
<script>window.pwned = 1</script> <img src=x onerror="window.pwned = 2">
[link](javascript:window.pwned=3)
![picture](http://evil.test/x.png) <style>body { display: none }</style>

| a | b |
|:--|--:|
| 1 | <b onclick="window.pwned=4">2</b> |

```js
alert("</code><script>window.pwned = 5</script>")
```
"""
MATH = r"""So $x_1^2 \cdot \color{blue}{y}$ costs $5, and $3 more; \(a*b*c\).

$$
\begin{aligned}
x' &= \frac{1}{2} \\
  &- \sqrt{\mathscr{A}}
\end{aligned}
$$

$\href{javascript:alert(1)}{a}$ $\includegraphics{http://evil.test/x.png}$ $\frac{$
$\rule{9999em}{9999em}$ $\kern-500em\text{elsewhere}$ $\def\a{\a\a}\a$
$\style{color:red}{b}$ $\class{x}{<img src=x onerror=window.pwned=1>}$

9*3=27
#### 27"""
CONTEXT = 600  # tokens, nearly characters here
ANSWERS = {
    "hostile": HOSTILE,
    "formulas": MATH,
    "calculate": ["so ", "12+7", " it is."],
    "slowly": "word " * 60,
    "letters": "x " * 150,
}
SLOW = ("slowly", "letters")


class ScriptedService(AsyncEngine):
    """Says what ANSWERS has for the last message, else which model it is and which seed was asked
    for; `pause` seconds a token.
    """

    def __init__(self, engine: Engine, name: str):
        self.engine, self.name, self.engines, self.rows = engine, name, [engine], 1
        self.tickets: list[Ticket] = []

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> Ticket:
        ticket = Ticket(self, self.engine.prepare(request), on_event)
        self.tickets.append(ticket)
        threading.Thread(target=self._play, args=(ticket,), daemon=True).start()
        return ticket

    def _play(self, ticket: Ticket) -> None:
        t, request = self.engine.tokenizer, ticket.state.request
        asked = (
            t.decode(request.prompt)
            .rpartition("<|user_start|>")[2]
            .partition("<|user_end|>")[0]
            .rpartition("\n")[2]
            .removeprefix("<|bos|>")
        )
        answer = ANSWERS.get(
            asked, f"I am {self.name}, you said {asked}, seed {request.sampling.seed % 1000}."
        )
        if isinstance(answer, list):
            script = [
                *t.encode(answer[0]),
                t.python_start,
                *t.encode(answer[1]),
                t.python_end,
                *t.encode(answer[2]),
            ]
        else:
            script = t.encode(answer)
        state = ticket.state
        script.append(t.assistant_end)
        while state.completion.finish_reason is None:
            time.sleep(0.05 if asked in SLOW else 0.001)
            if ticket.cancelled:
                ticket.on_event(state.cancel())
                return
            token = 0 if state.queue else script.pop(0)
            others = ((token, -0.25), (ord("x"), -2.0), (0xC3, -3.0))[
                : request.sampling.top_logprobs
            ]
            ticket.on_event(state.advance(token, -0.25, others))

    def wake(self) -> None:
        pass

    def stats(self) -> dict[str, int]:
        running = sum(ticket.state.completion.finish_reason is None for ticket in self.tickets)
        return {"running": running, "waiting": 0, "rows": 1, "queue_limit": 1}

    def close(self, finish_within: float = 0.0) -> None:
        for ticket in self.tickets:
            ticket.cancelled = True


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait for a condition. Playwright's own way evaluates in the page, which our content policy
    forbids.
    """
    ends = time.monotonic() + 15
    while not page.evaluate(expression, argument):
        assert time.monotonic() < ends, expression
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    run = save_run(tmp_path / "runs" / "tiny", "base", "sft", context=CONTEXT)

    def load(folder: RunFolder, stage: str) -> AsyncEngine:
        return ScriptedService(
            Engine(load_model(folder.model(stage)), Tokenizer.load(folder.tokenizer)), stage
        )

    with serving(tmp_path / "runs", load=load, first=(run, "sft"), stages=STAGES) as running:
        yield running


@pytest.fixture
def open_page(chromium: Any, server: Running) -> Iterator[Callable[..., Any]]:
    """Opens a page of the server; at the end nothing may have gone wrong in any: no console
    message, no error, no foreign request.
    """
    troubles: list[str] = []
    contexts = []

    def open_one(path: str = "/", **options: Any) -> Any:
        context = chromium.new_context(
            **{"locale": "en-US", "viewport": {"width": 1200, "height": 800}, **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.url, "blob:"))
                else troubles.append(request.url)
            ),
        )
        page.set_default_timeout(15_000)
        page.goto(server.url + path)
        return page

    open_one.troubles = troubles  # type: ignore[attr-defined]
    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


def send(page: Any, text: str, *, wait: bool = True) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    if wait:
        until(
            page,
            "document.querySelector('.turn:last-child .answer') &&"
            " !document.querySelector('[aria-busy=true]')",
        )


def answers(page: Any) -> list[str]:
    return [body.inner_text() for body in page.locator(".answer .body").all()]
