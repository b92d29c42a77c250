"""Log-probabilities as the OpenAI API writes them."""

import math
from collections.abc import Sequence
from typing import Any

from chatling.inference.detokenizer import TokenLogprob
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """`logprobs.content` of a chat choice."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text, data = token_text(tokenizer, token)
        return {"token": text, "logprob": finite(logprob), "bytes": list(data)}

    return [
        # one figure a token: the two ways to compute it differ in the last bits
        entry(token, logprob)
        | {"top_logprobs": [entry(t, logprob if t == token else p) for t, p in top_logprobs]}
        for token, logprob, top_logprobs, _ in tokens
    ]


def plain_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenLogprob]) -> dict[str, list[Any]]:
    """`logprobs` of a plain completion's choice. The chosen token is always among the top ones."""
    found: dict[str, list[Any]] = {
        "tokens": [],
        "token_logprobs": [],
        "top_logprobs": [],
        "text_offset": [],
    }
    for token, logprob, top_logprobs, offset in tokens:
        text, _ = token_text(tokenizer, token)
        score = None if math.isnan(logprob) else finite(logprob)  # the first token has no score
        top = {token_text(tokenizer, other)[0]: finite(value) for other, value in top_logprobs}
        row = (text, score, None if score is None else {**top, text: score}, offset)
        for column, value in zip(found.values(), row, strict=True):
            column.append(value)
    return found


def token_text(tokenizer: Tokenizer, token: int) -> tuple[str, bytes]:
    """A token as log-probabilities show it, and its bytes: half a character is written
    `bytes:\\xe4`, a special token by its name.
    """
    if token >= tokenizer.bos:
        return SPECIAL_TOKENS[token - tokenizer.bos], b""
    data = tokenizer.pieces[token]
    try:
        return data.decode(), data
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data), data


def finite(logprob: float) -> float:
    """JSON knows no infinity; -9999 stands for it in the OpenAI API."""
    return max(logprob, -9999.0)
