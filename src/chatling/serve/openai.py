"""`/v1`: the OpenAI API's models, chat completions and completions."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from chatling.data.passages import Passage
from chatling.messages import Conversation
from chatling.serve import protocol, responses
from chatling.serve.completion import (
    ChatFormat,
    CompletionJob,
    Format,
    PlainFormat,
    Read,
    RequestOptions,
    Service,
)
from chatling.serve.documents import sources, with_passages
from chatling.serve.errors import ApiError, Limits, too_many
from chatling.serve.model_manager import Loaded
from chatling.tokenizer.chat_template import fit, render_prompt

DEFAULT_TOKENS = 16  # of a plain completion, as in the OpenAI API
GONE = 499  # for the log: the client left before its answer
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": responses.ErrorResponse},
    "5XX": {"model": responses.ErrorResponse},
}
STREAMS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
router = APIRouter(prefix="/v1", responses=ERRORS)


@router.get("/models", response_model=responses.ModelList)
async def models(request: Request) -> JSONResponse:
    """Every finished stage of every run, the one that is served by default first."""
    models = request.app.state.service.models
    entries = await asyncio.to_thread(models.entries)
    return JSONResponse({"object": "list", "data": [models.model_card(entry) for entry in entries]})


@router.get("/models/{name:path}", response_model=responses.ModelCard)
async def model(name: str, request: Request) -> JSONResponse:
    """One of them."""
    models = request.app.state.service.models
    return JSONResponse(models.model_card(await asyncio.to_thread(models.find, name)))


@router.post("/chat/completions", response_model=responses.ChatCompletion, responses=STREAMS)
async def chat(body: protocol.ChatRequest, request: Request) -> Response:
    """The assistant's next message in a conversation."""
    job = CompletionJob(request.app.state.service, request.state.facts)
    limits = job.service.limits
    if len(body.messages) > limits.messages:
        raise too_many(
            f"The conversation has {len(body.messages):,} messages",
            limits.messages,
            "messages",
            "messages",
        )
    characters = sum(len(part.text) for message in body.messages for part in message.content_parts)
    check_characters(characters, limits, "messages")
    messages, job.place = job.service.answers.restore(body.messages)
    conversation = protocol.conversation_of(messages)
    if job.service.log_text:
        job.facts["messages"] = conversation.to_dict()["messages"]

    found = await _passages(job.service, body, conversation)

    def read(model: Loaded) -> list[list[int]]:
        kept = conversation
        room = model.context - min(body.max_new_tokens or model.context, model.context // 4)
        if body.truncation == "auto":
            kept, job.dropped = fit(model.tokenizer, conversation, room)
        kept, job.sources = with_passages(model.tokenizer, kept, found, room)
        return [render_prompt(model.tokenizer, kept, continues=True)]

    options = RequestOptions(body.max_new_tokens, body.top_logprobs or 0)
    return await _answer(
        job, ChatFormat(logprobs=bool(body.logprobs)), request, body, options, characters, read
    )


async def _passages(
    service: Service, body: protocol.ChatRequest, conversation: Conversation
) -> list[Passage]:
    """What the server's documents say about the last question, where they are to be read."""
    last = conversation.messages[-1]
    if service.documents is None or body.documents is False or last.role != "user":
        return []
    return await asyncio.to_thread(service.documents.search, last.text)


@router.post("/completions", response_model=responses.Completion, responses=STREAMS)
async def completions(body: protocol.CompletionRequest, request: Request) -> Response:
    """How a text continues. Text is read as a document of its own; token ids are read as they
    are.
    """
    job = CompletionJob(request.app.state.service, request.state.facts)
    characters = sum(map(len, body.prompts))
    check_characters(characters, job.service.limits, "prompt")
    if job.service.log_text:
        job.facts["prompts"] = body.prompts

    def read(model: Loaded) -> list[list[int]]:
        t = model.tokenizer
        return [
            [t.bos, *t.encode(prompt)] if isinstance(prompt, str) else prompt
            for prompt in body.prompts
        ]

    tokens = DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    options = RequestOptions(
        tokens, body.logprobs or 0, bool(body.echo), int(isinstance(body.prompts[0], str))
    )
    return await _answer(
        job,
        PlainFormat(logprobs=body.logprobs is not None),
        request,
        body,
        options,
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
    """Server-sent events of a job, which is closed however they end."""

    def __init__(self, job: CompletionJob, form: Format, *, usage: bool):
        super().__init__(
            _events(job, form, usage),
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self.job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.job.close()


async def _events(job: CompletionJob, form: Format, usage: bool) -> AsyncIterator[bytes]:
    head: dict[str, Any] = job.head(form.chunk) | ({"usage": None} if usage else {})
    if job.dropped:
        head["dropped_messages"] = job.dropped
    before = json.dumps(head, ensure_ascii=False)[:-1]  # the same in every chunk

    def chunks(choices: list[dict[str, Any]], more: dict[str, Any] | None = None) -> bytes:
        begin = json.dumps(head | more, ensure_ascii=False)[:-1] if more else before
        return b"".join(
            format_sse_event(
                data_str=f'{begin}, "choices": [{json.dumps(choice, ensure_ascii=False)}]}}'
            )
            for choice in choices
        )

    try:
        if opening := form.opening(job):
            yield chunks(opening, sources(job.sources))
        async for batch in job.batches():
            if deltas := [
                delta for choice, fresh in batch for delta in form.deltas(job, choice, fresh)
            ]:
                yield chunks(deltas)
        if usage:
            yield format_sse_event(
                data_str=json.dumps({**head, "choices": [], "usage": job.usage()})
            )
    except (
        ApiError
    ) as error:  # the status has been sent: the error is the stream's last event but one
        yield format_sse_event(data_str=json.dumps(error.body))
    yield format_sse_event(data_str="[DONE]")


async def _answer(
    job: CompletionJob,
    form: Format,
    request: Request,
    body: protocol.SamplingFields,
    options: RequestOptions,
    characters: int,
    read: Read,
) -> Response:
    try:
        await job.open(body, options, characters, read)
    except BaseException:
        await job.close()
        raise
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return AnswerStream(job, form, usage=usage)

    async def finished() -> None:
        async for _ in job.batches():
            pass

    try:
        if not await _while_there(request, finished()):
            return Response(status_code=GONE)
        content = job.head(form.kind) | {
            "choices": [form.whole(job, choice) for choice in job.choices]
        }
        extra = {"dropped_messages": job.dropped} if job.dropped else {}
        return JSONResponse(content | extra | sources(job.sources) | {"usage": job.usage()})
    finally:
        await job.close()


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
