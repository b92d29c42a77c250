"""What requests may hold: the OpenAI API's types, and how its messages become a conversation.

Fields of the API that change nothing here (`user`, `metadata`, …) are ignored; those that would
change the answer and are not supported are refused by name (`faults.py` lists them). Our own
additions to it: `top_k`, `min_p`, `repetition_penalty`, `truncation`, and assistant content parts
of the types `python` and `output` (calculator calls), also as `parts` beside the content, as
answers have them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from chatling.errors import ChatlingError
from chatling.inference.sampling import LIMITS, MAX_BIAS, MAX_TOP_LOGPROBS, SamplingParams
from chatling.inference.structured_outputs import StructuredOutputsParams
from chatling.messages import PART_KINDS, Conversation, Message, Part, PartKind, Role
from chatling.serve.faults import (
    FOREIGN_ROLES,
    MESSAGE_FIELDS,
    REQUEST_FIELDS,
    refuse_unsupported,
    wrong,
)
from chatling.tokenizer.bpe import valid_text

MAX_STOPS = 16
INT64 = 2**63
CHOICE_STRIDE = 0x9E3779B97F4A7C15  # seeds of a request's further choices lie this far apart

Text = Annotated[str, AfterValidator(valid_text)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(valid_text)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def _within(name: str) -> Any:
    least, most = LIMITS[name]
    return Field(ge=least, le=most)


class Model(BaseModel):
    """Numbers are numbers (no NaN, no strings for integers); what is not known is ignored."""

    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", strict=True)


def _known_kind(kind: Any) -> Any:
    if isinstance(kind, str) and kind not in PART_KINDS:
        raise PydanticCustomError(
            "unsupported",
            "Content parts of type {kind} are not supported: messages are text",
            {"kind": repr(kind)},
        )
    return kind


def _known_role(role: Any) -> Any:
    if role in FOREIGN_ROLES:
        raise PydanticCustomError(
            "unsupported",
            "Messages of the role {role} are not supported: there are no tools",
            {"role": repr(role)},
        )
    return role


def _shape(value: Any) -> str | None:
    """Which member of a union a JSON value can be, so that its errors are that member's alone: a
    text, or a list by its first item.
    """
    if isinstance(value, str):
        return "[text]"
    if not isinstance(value, list):
        return None
    return (
        "[lists]"
        if value and isinstance(value[0], list)
        else "[ids]"
        if value and isinstance(value[0], int)
        else "[texts]"
    )


def _text_or_list(value: Any) -> str | None:
    return "[text]" if isinstance(value, str) else "[list]" if isinstance(value, list) else None


def _union(shape: Any, message: str) -> Discriminator:
    return Discriminator(shape, custom_error_type="wrong_type", custom_error_message=message)


class ContentPart(Model):
    type: Annotated[PartKind, BeforeValidator(_known_kind)]
    text: Text


Content = Annotated[
    Annotated[Text, Tag("[text]")] | Annotated[list[ContentPart], Tag("[list]")],
    _union(_text_or_list, "must be a text, or a list of parts"),
]
Stops = Annotated[
    Annotated[Stop, Tag("[text]")]
    | Annotated[list[Stop], Field(max_length=MAX_STOPS), Tag("[list]")],
    _union(_text_or_list, "must be a text, or a list of texts"),
]
Prompt = Annotated[
    Annotated[Text, Tag("[text]")]
    | Annotated[list[Text], Field(min_length=1, max_length=1024), Tag("[texts]")]
    | Annotated[list[TokenId], Field(min_length=1), Tag("[ids]")]
    | Annotated[
        list[Annotated[list[TokenId], Field(min_length=1)]],
        Field(min_length=1, max_length=1024),
        Tag("[lists]"),
    ],
    _union(_shape, "must be a text, a list of texts, a list of token ids, or a list of such lists"),
]


class ChatMessage(Model):
    role: Annotated[
        Literal["system", "developer", "user", "assistant"], BeforeValidator(_known_role)
    ]
    content: Content | None = Field(None, description="Only the assistant's may be null.")
    parts: list[ContentPart] | None = Field(
        None,
        description="As answers have them: taken for content that they spell, or that is null.",
    )

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, data: Any) -> Any:
        return refuse_unsupported(data, MESSAGE_FIELDS)

    @model_validator(mode="after")
    def _has_content(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise wrong("content is missing", "content")
        return self

    @property
    def content_parts(self) -> tuple[Part, ...]:
        """The message's parts; of an assistant's with its calculator calls, if it has them."""
        content = self.content
        if (
            self.parts
            and self.role == "assistant"
            and content in (None, "".join(part.text for part in self.parts if part.type == "text"))
        ):
            content = self.parts
        if content is None or isinstance(content, str):
            return (Part("text", content or ""),)
        return tuple(Part(part.type, part.text) for part in content)


class StreamOptions(Model):
    include_usage: bool | None = None


class JsonSchema(Model):
    """`strict` changes nothing: a schema is always kept to."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Model):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise wrong("json_schema is missing", "json_schema")
        try:
            _ = self.structured_outputs
        except ChatlingError as error:
            raise wrong(str(error).removesuffix("."), "json_schema.schema") from None
        return self

    @property
    def structured_outputs(self) -> StructuredOutputsParams | None:
        if self.type == "json_schema" and self.json_schema is not None:
            return StructuredOutputsParams(json=self.json_schema.schema_)
        return StructuredOutputsParams(json_object=True) if self.type == "json_object" else None


class SamplingFields(Model):
    """What chat and plain completions share."""

    prompt_field: ClassVar[str] = "prompt"
    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=256,
            description="An id of /v1/models, or a run's name for its last stage.",
        ),
    ]
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, _within("top_p")] | None = None
    top_k: Annotated[int, Field(ge=0, le=INT64)] | None = None
    min_p: Annotated[float, _within("min_p")] | None = None
    repetition_penalty: Annotated[float, _within("repetition_penalty")] | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: Stops | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]], Field(max_length=1024)
        ]
        | None
    ) = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, data: Any) -> Any:
        return refuse_unsupported(data, REQUEST_FIELDS)

    def sampling_params(self, max_tokens: int, top_logprobs: int) -> list[SamplingParams]:
        """The settings of each of the `n` answers to a prompt."""
        seed = secrets.randbits(63) if self.seed is None else self.seed
        form = self.response_format
        structured = None if form is None else form.structured_outputs
        return [
            SamplingParams(
                temperature=1.0 if self.temperature is None else self.temperature,
                top_k=self.top_k or 0,
                top_p=1.0 if self.top_p is None else self.top_p,
                min_p=self.min_p or 0.0,
                repetition_penalty=self.repetition_penalty or 1.0,
                seed=seed + i * CHOICE_STRIDE,
                max_tokens=max_tokens,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
                logit_bias=tuple((int(t), bias) for t, bias in (self.logit_bias or {}).items()),
                top_logprobs=top_logprobs,
                structured_outputs=structured,
            )
            for i in range(self.n or 1)
        ]

    @property
    def tokens_field(self) -> str:
        """Which field says how many tokens an answer may have."""
        return "max_tokens"

    @property
    def shorten(self) -> str:
        """What to do about a prompt that is too long."""
        return "Shorten it."

    @model_validator(mode="after")
    def _streaming(self) -> SamplingFields:
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options needs stream to be true", "stream_options")
        for key in self.logit_bias or {}:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise wrong(
                    "The keys of logit_bias must be token ids, written as texts", "logit_bias"
                )
        return self


class ChatRequest(SamplingFields):
    prompt_field: ClassVar[str] = "messages"
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto leaves out the oldest turns where they do not fit."
    )
    documents: bool | None = Field(
        None,
        description="false answers without the documents of `chatling serve --documents FOLDER`.",
    )

    @property
    def max_new_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def tokens_field(self) -> str:
        return "max_completion_tokens" if self.max_completion_tokens else "max_tokens"

    @property
    def shorten(self) -> str:
        if self.truncation == "auto":
            return "It is too long even without the older messages: shorten it."
        return 'Shorten it, or send "truncation": "auto", which leaves out the oldest messages.'

    @model_validator(mode="after")
    def _logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong("top_logprobs needs logprobs to be true", "top_logprobs")
        return self

    @model_validator(mode="after")
    def _asks_for_json(self) -> ChatRequest:
        """OpenAI's rule: a model that was not told would be forced into JSON unawares."""
        if self.response_format is not None and self.response_format.type == "json_object":
            parts = (part for message in self.messages for part in message.content_parts)
            if not any("json" in part.text.lower() for part in parts):
                raise wrong(
                    "With response_format json_object a message must ask for JSON by that word;"
                    " a json_schema needs none",
                    "messages",
                )
        return self


class CompletionRequest(SamplingFields):
    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    @model_validator(mode="after")
    def _choices(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise wrong("best_of is supported only where it equals n", "best_of")
        return self


class RenderRequest(Model):
    text: Text


def conversation_of(messages: Iterable[ChatMessage]) -> Conversation:
    """System and developer messages come first as one; neighbors of one role are joined by a blank
    line.

    Where the assistant or the system said nothing, nothing is left of it: an answer of ours may be
    empty, and comes back in the history. Raises DataError where no order of turns can be made of
    them: the assistant begins, a user's message is empty or holds tool parts.
    """
    kept = [
        message
        for message in messages
        if message.role == "user" or any(part.text.strip() for part in message.content_parts)
    ]
    gathered = sorted(kept, key=lambda message: ROLES[message.role] != "system")  # stable
    return Conversation(
        tuple(
            Message(role, _joined([message.content_parts for message in group], role))
            for role, group in groupby(gathered, key=lambda message: ROLES[message.role])
        )
    )


def _joined(messages: list[tuple[Part, ...]], role: Role) -> tuple[Part, ...]:
    if role == "assistant":
        between = (Part("text", "\n\n"),)
        return tuple(
            part for i, parts in enumerate(messages) for part in (between if i else ()) + parts
        )
    others = [part for parts in messages for part in parts if part.kind != "text"]
    text = "\n\n".join("".join(part.text for part in parts) for parts in messages)
    return (Part("text", text), *others)  # others: for Conversation to refuse
