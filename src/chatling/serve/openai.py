"""`/v1`: the OpenAI API's models, chat completions and completions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from chatling.serve import protocol
from chatling.serve.completion import Asked, Exchange, Read
from chatling.serve.errors import ApiError, Limits, too_many
from chatling.serve.formats import ChatFormat, Format, PlainFormat
from chatling.serve.model_manager import Loaded
from chatling.tokenizer.chat_template import fit, render_prompt

DEFAULT_TOKENS = 16  # of a plain completion, as in the OpenAI API
GONE = 499  # for the log: the client left before its answer
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": protocol.ErrorResponse},
    "5XX": {"model": protocol.ErrorResponse},
}
STREAMS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
router = APIRouter(prefix="/v1", responses=ERRORS)


@router.get("/models", response_model=protocol.ModelList)
async def models(request: Request) -> JSONResponse:
    """Every finished stage of every run, the one that is served by default first."""
    shelf = request.app.state.service.shelf
    entries = await asyncio.to_thread(shelf.entries)
    return JSONResponse({"object": "list", "data": [shelf.card(entry) for entry in entries]})


@router.get("/models/{name:path}", response_model=protocol.ModelCard)
async def model(name: str, request: Request) -> JSONResponse:
    """One of them."""
    shelf = request.app.state.service.shelf
    return JSONResponse(shelf.card(await asyncio.to_thread(shelf.find, name)))


@router.post("/chat/completions", response_model=protocol.ChatCompletion, responses=STREAMS)
async def chat(body: protocol.ChatRequest, request: Request) -> Response:
    """The assistant's next message in a conversation."""
    exchange = Exchange(request.app.state.service, request.state.facts)
    limits = exchange.service.limits
    if len(body.messages) > limits.messages:
        raise too_many(
            f"The conversation has {len(body.messages):,} messages",
            limits.messages,
            "messages",
            "messages",
        )
    characters = sum(len(part.text) for message in body.messages for part in message.spoken)
    check_characters(characters, limits, "messages")
    conversation = protocol.conversation_of(body.messages)
    if exchange.service.log_text:
        exchange.facts["messages"] = conversation.to_dict()["messages"]

    def read(model: Loaded) -> list[list[int]]:
        kept = conversation
        if body.truncation == "auto":
            room = model.context - min(body.most_tokens or model.context, model.context // 4)
            kept, exchange.dropped = fit(model.tokenizer, conversation, room)
        return [render_prompt(model.tokenizer, kept)]

    asked = Asked(body.most_tokens, body.top_logprobs or 0)
    return await _answer(
        exchange, ChatFormat(logprobs=bool(body.logprobs)), request, body, asked, characters, read
    )


@router.post("/completions", response_model=protocol.Completion, responses=STREAMS)
async def completions(body: protocol.CompletionRequest, request: Request) -> Response:
    """How a text goes on. Text is read as a document of its own; token ids are read as they are."""
    exchange = Exchange(request.app.state.service, request.state.facts)
    characters = sum(map(len, body.prompts))
    check_characters(characters, exchange.service.limits, "prompt")
    if exchange.service.log_text:
        exchange.facts["prompts"] = body.prompts

    def read(model: Loaded) -> list[list[int]]:
        t = model.tokenizer
        return [
            [t.bos, *t.encode(prompt)] if isinstance(prompt, str) else prompt
            for prompt in body.prompts
        ]

    tokens = DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    asked = Asked(
        tokens, body.logprobs or 0, bool(body.echo), int(isinstance(body.prompts[0], str))
    )
    return await _answer(
        exchange,
        PlainFormat(logprobs=body.logprobs is not None),
        request,
        body,
        asked,
        characters,
        read,
    )


def check_characters(count: int, limits: Limits, param: str) -> None:
    """Raises ApiError when a request is longer than the server takes."""
    if count > limits.characters:
        raise too_many(
            f"The request has {count:,} characters", limits.characters, "characters", param
        )


class AnswerStream(EventSourceResponse):
    """Server-sent events of an exchange, which is closed however they end."""

    def __init__(self, exchange: Exchange, form: Format, *, usage: bool):
        super().__init__(
            _events(exchange, form, usage),
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self.exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.exchange.close()


async def _events(exchange: Exchange, form: Format, usage: bool) -> AsyncIterator[bytes]:
    head: dict[str, Any] = exchange.head(form.chunk) | ({"usage": None} if usage else {})
    if exchange.dropped:
        head["dropped_messages"] = exchange.dropped
    before = json.dumps(head, ensure_ascii=False)[:-1] + ', "choices": ['  # the same in every chunk

    def chunks(choices: list[dict[str, Any]]) -> bytes:
        return b"".join(
            format_sse_event(data_str=f"{before}{json.dumps(choice, ensure_ascii=False)}]}}")
            for choice in choices
        )

    try:
        if opening := form.opening(exchange):
            yield chunks(opening)
        async for batch in exchange.batches():
            if fresh := [
                delta for choice, pieces in batch for delta in form.deltas(exchange, choice, pieces)
            ]:
                yield chunks(fresh)
        if usage:
            yield format_sse_event(
                data_str=json.dumps({**head, "choices": [], "usage": exchange.usage()})
            )
    except (
        ApiError
    ) as error:  # the status has been sent: the error is the stream's last event but one
        yield format_sse_event(data_str=json.dumps(error.body))
    yield format_sse_event(data_str="[DONE]")


async def _answer(
    exchange: Exchange,
    form: Format,
    request: Request,
    body: protocol.SamplingFields,
    asked: Asked,
    characters: int,
    read: Read,
) -> Response:
    try:
        await exchange.open(body, asked, characters, read)
    except BaseException:
        await exchange.close()
        raise
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return AnswerStream(exchange, form, usage=usage)

    async def finished() -> None:
        async for _ in exchange.batches():
            pass

    try:
        if not await _while_there(request, finished()):
            return Response(status_code=GONE)
        content = exchange.head(form.kind) | {
            "choices": [form.whole(exchange, choice) for choice in exchange.choices]
        }
        extra = {"dropped_messages": exchange.dropped} if exchange.dropped else {}
        return JSONResponse(content | extra | {"usage": exchange.usage()})
    finally:
        await exchange.close()


async def _while_there(request: Request, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless the client leaves first, which cancels it."""

    async def leaves() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(leaves())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
