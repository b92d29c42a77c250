"""chatling: grow your own ChatGPT, on the machine you have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatling.llm import (
        LLM,
        SamplingParams,
        StructuredOutputsParams,
        load_model,
        load_tokenizer,
        train_recipe,
    )

__all__ = [
    "LLM",
    "SamplingParams",
    "StructuredOutputsParams",
    "load_model",
    "load_tokenizer",
    "train_recipe",
]


def __getattr__(name: str) -> Any:
    """The Python API, imported when it is used: `chatling --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from chatling.hardware.environment import set_environment

    set_environment()
    from chatling import llm

    return getattr(llm, name)
