"""What is wrong with a request, in a sentence: fields that are not supported, and pydantic's
findings in plain words.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from chatling.tokenizer.bpe import valid_text

_TOOLS = "the model calls nothing but its own calculator"
_PENALTY = "there is repetition_penalty, a factor (1 changes nothing)"
# Fields of the OpenAI API that would change the answer: the values, beside null, that ask for
# nothing, and why others are refused.
REQUEST_FIELDS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), _TOOLS),
    "tool_choice": (("none", "auto"), _TOOLS),
    "functions": (([],), _TOOLS),
    "function_call": (("none", "auto"), _TOOLS),
    "frequency_penalty": ((0,), _PENALTY),
    "presence_penalty": ((0,), _PENALTY),
    "modalities": ((["text"],), "answers are text"),
    "audio": ((), "answers are text"),
    "web_search_options": ((), "the model searches nothing"),
    "verbosity": (("medium",), "max_tokens bounds an answer's length"),
    "suffix": (("",), "a text is only continued at its end"),
}
MESSAGE_FIELDS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "tool_calls": (([],), _TOOLS),
    "function_call": ((), _TOOLS),
    "audio": ((), "messages are text"),
    "refusal": (("",), "send what was said as content"),
}
FOREIGN_ROLES = ("tool", "function")
# pydantic's name of a bound, and ours
BOUNDS = {
    "less_than_equal": ("le", "at most"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "greater_than": ("gt", "above"),
}
# What a list or table holds, for "at most 16 stop strings".
_UNITS = {
    "stop": "stop strings",
    "prompt": "prompts or token ids",
    "messages": "messages",
    "logit_bias": "entries",
}


def refuse_unsupported(data: Any, fields: Mapping[str, tuple[tuple[Any, ...], str]]) -> Any:
    """`data` unchanged. Raises PydanticCustomError, with the field as `param`, for one that asks
    for what is not supported.
    """
    for name, (neutral, why) in fields.items() if isinstance(data, dict) else ():
        value = data.get(name)
        if value is not None and value not in neutral:
            raise PydanticCustomError(
                "unsupported",
                "{param} is not supported: {why}. Leave it out",
                {"param": name, "why": why},
            )
    return data


def wrong(message: str, param: str) -> PydanticCustomError:
    """A fault of one field, found where the whole body is looked at."""
    return PydanticCustomError("invalid", "{message}", {"message": message, "param": param})


def fault(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """The sentence for one of pydantic's errors, and the path of the field that it concerns."""
    context = error.get("ctx", {})
    path = [
        str(part) for part in error["loc"][1:] if not str(part).startswith("[")
    ]  # tags of unions are written [so]
    path += [context["param"]] if "param" in context else []
    param = valid_text(".".join(path)) or None
    return f"{_sentence(error, context, param or 'The body')}.", param


def _sentence(error: Mapping[str, Any], context: Mapping[str, Any], param: str) -> str:
    kind, unit = error["type"], _UNITS.get(param, "items")
    given = valid_text(json.dumps(error.get("input"), default=str, ensure_ascii=False))
    but = f", not {given if len(given) <= 40 else f'{given[:40]} …'}"
    match kind:
        case "json_invalid":
            return f"The body is not valid JSON: {context.get('error', error['msg'])}"
        case "unsupported" | "invalid":
            return str(error["msg"])
        case "missing":
            return f"{param} is missing"
        case "model_attributes_type" | "dict_type":
            return f"{param} must be a JSON object{but}"
        case "too_long":
            return (
                f"{param} takes at most {context['max_length']:,} {unit}, not"
                f" {context.get('actual_length') or 'more'}"
            )
        case "string_too_long":
            return (
                f"{param} takes at most {context['max_length']:,} characters, not"
                f" {len(error['input']):,}"
            )
        case "too_short" | "string_too_short":
            return (
                f"{param} is empty"
                if context["min_length"] == 1
                else f"{param} takes at least {context['min_length']:,} {unit}"
            )
        case "less_than_equal" | "greater_than_equal" | "less_than" | "greater_than":
            key, word = BOUNDS[kind]
            return f"{param} must be {word} {context[key]:,.15g}{but}"
    message = error["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{param} {message}{but if kind.endswith('_type') else ''}"
