"""What responses hold: the schema's promise, in the OpenAI API's types. The server writes them as
plain dicts.
"""

from typing import Literal

from pydantic import BaseModel, Field

from chatling.serve.protocol import ContentPart


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
    # why it could not be loaded when it was last asked for
    error: str | None


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    content: list[ChatTokenLogprob]
    refusal: None


class Answer(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None
    parts: list[ContentPart] | None = Field(
        None, description="There when the calculator was used: text, expressions and results."
    )


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


class Source(BaseModel):
    file: str
    text: str


class ChatCompletion(Body):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    dropped_messages: int | None = Field(
        None, description="How many of the oldest messages `truncation` left out."
    )
    sources: list[Source] | None = Field(
        None, description="The passages of the server's documents that stood before the question."
    )


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


class Feedback(BaseModel):
    marks: int
    pairs: int
    corrections: int
    path: str = Field(description="Of the pairs, for `[dpo] data`.")


class Examples(BaseModel):
    prompts: list[str]
