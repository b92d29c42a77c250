"""What requests may hold and responses do hold: the OpenAI API's types, and how its messages become a conversation.

Fields of the API that change nothing here (`user`, `metadata`, …) are ignored; those that would change the answer and are not supported
are refused by name. Our own additions to it: `top_k`, `min_p`, `repetition_penalty`, `truncation`, and assistant content parts of the
types `python` and `output` (calculator calls).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from chatling.conversation import Conversation, Message, Part, Role
from chatling.inference.sampling import MAX_ALTERNATIVES
from chatling.tokenizer.bpe import valid_text

MAX_STOPS = 16
INT64 = 2**63

Text = Annotated[str, AfterValidator(valid_text)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(valid_text)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Model(BaseModel):
    """Numbers are numbers (no NaN, no strings for integers); what is not known is ignored."""

    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", strict=True)


class ContentPart(Model):
    type: Literal["text", "python", "output"]
    text: Text


class ChatMessage(Model):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart]

    @property
    def parts(self) -> tuple[Part, ...]:
        if isinstance(self.content, str):
            return (Part("text", self.content),)
        return tuple(Part(part.type, part.text) for part in self.content)


class StreamOptions(Model):
    include_usage: bool | None = None


class SamplingFields(Model):
    """What chat and plain completions share."""

    model: Annotated[str, Field(min_length=1, max_length=256, description="An id of /v1/models, or a run's name for its last stage.")]
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=INT64)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0, description="Only 0: see `repetition_penalty`.")] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0, description="Only 0: see `repetition_penalty`.")] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @model_validator(mode="after")
    def _streaming(self) -> SamplingFields:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        for key in self.logit_bias or {}:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise ValueError("the keys of logit_bias are token ids")
        return self


class ResponseFormat(Model):
    type: Literal["text"]


class ChatRequest(SamplingFields):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    truncation: Literal["auto", "disabled"] | None = Field(None, description="auto leaves out the oldest turns where they do not fit.")
    tools: Annotated[list[Any], Field(max_length=0, description="Not supported.")] | None = None
    functions: Annotated[list[Any], Field(max_length=0, description="Not supported.")] | None = None
    response_format: ResponseFormat | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @model_validator(mode="after")
    def _logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self


class CompletionRequest(SamplingFields):
    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=1024)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=1024)]
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    suffix: Annotated[str, Field(max_length=0, description="Not supported.")] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    @model_validator(mode="after")
    def _choices(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of is supported only where it equals n")
        return self


class RenderRequest(Model):
    text: Text


def conversation_of(messages: Iterable[ChatMessage]) -> Conversation:
    """System and developer messages come first as one; neighbours of one role are joined by a blank line.

    Raises DataError where no order of turns can be made of them: the assistant begins, a message is empty, a user holds tool parts.
    """
    gathered = sorted(messages, key=lambda message: ROLES[message.role] != "system")  # stable
    turns = []
    for role, group in groupby(gathered, key=lambda message: ROLES[message.role]):
        turns.append(Message(role, _joined([message.parts for message in group], tools=role == "assistant")))
    return Conversation(tuple(turns))


def _joined(messages: list[tuple[Part, ...]], *, tools: bool) -> tuple[Part, ...]:
    if tools:
        between = (Part("text", "\n\n"),)
        return tuple(part for i, parts in enumerate(messages) for part in ((between if i else ()) + parts))
    others = [part for parts in messages for part in parts if part.kind != "text"]
    text = "\n\n".join("".join(part.text for part in parts) for parts in messages)
    return (Part("text", text), *others)  # others: for Conversation to refuse


# ---- responses: what the schema promises; the server writes them as plain dicts ----


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    error: ErrorBody


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    run: str
    stage: str
    context_length: int
    loaded: bool


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Alternative(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative):
    top_logprobs: list[Alternative]


class ChatLogprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None


class Answer(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None
    parts: list[ContentPart] | None = Field(None, description="There when the calculator was used: text, expressions and results.")


class ChatChoice(BaseModel):
    index: int
    message: Answer
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class Body(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage


class ChatCompletion(Body):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    dropped_messages: int | None = Field(None, description="How many of the oldest messages `truncation` left out.")


class PlainLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PlainChoice(BaseModel):
    index: int
    text: str
    logprobs: PlainLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(Body):
    object: Literal["text_completion"]
    choices: list[PlainChoice]


class Rendered(BaseModel):
    html: str
