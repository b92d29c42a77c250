"""Answers that follow a JSON schema: which tokens may come next, and none but these are drawn."""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chatling.errors import ChatlingError
from chatling.inference import grammar
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

MAX_SCHEMA = 32_768  # characters of its JSON
PATIENCE = 20.0  # seconds for the check of a schema, whose processor time is limited by itself
REMEMBERED = 32  # compiled schemas


@dataclass(frozen=True)
class StructuredOutputsParams:
    """What an answer has to be: an instance of a JSON schema (`json`, kept as its text), or any
    JSON object. Raises ChatlingError for what is no schema.
    """

    json: str | Mapping[str, Any] | None = None
    json_object: bool = False

    def __post_init__(self) -> None:
        if (self.json is not None) == bool(self.json_object):
            raise ChatlingError("Structured outputs need either json or json_object.")
        schema = {"type": "object"} if self.json is None else self.json
        try:
            text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
            parsed = json.loads(text, object_hook=_checked)
        except (TypeError, ValueError, RecursionError) as error:
            raise ChatlingError(f"The schema is not JSON: {error}.") from None
        if not isinstance(parsed, dict):
            raise ChatlingError("The schema must be a JSON object.")
        if len(text) > MAX_SCHEMA:
            raise ChatlingError(
                f"The schema has {len(text):,} characters of JSON.",
                f"At most {MAX_SCHEMA:,} are taken.",
            )
        if self.json is not None:
            object.__setattr__(self, "json", text)

    @property
    def schema(self) -> str:
        """As JSON."""
        return '{"type": "object"}' if self.json is None else str(self.json)


def _checked(node: dict[str, Any]) -> dict[str, Any]:
    """One object of a schema. A name may come twice in JSON and counts once, which no grammar sees,
    so that only names that are required make sure of a number of them.
    """
    least, required = node.get("minProperties"), node.get("required")
    if isinstance(least, int | float) and least > len(
        required if isinstance(required, list) else ()
    ):
        raise ChatlingError(
            "The schema asks for minProperties beyond what is required, which cannot be enforced.",
            "Name the properties in required.",
        )
    return node


class Grammar:
    """Where one answer stands in its grammar: `allowed` (V,) bool are the tokens that may come
    next.
    """

    def __init__(self, matcher: Any, vocab_size: int):
        """Raises ChatlingError when nothing may come."""
        self._matcher, self.vocab_size = matcher, vocab_size
        self.allowed = self._next()

    def start(self) -> "Grammar":
        """Another answer of the same grammar."""
        other = copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    def push(self, token: int) -> None:
        """Go on behind a token. Raises ChatlingError where it was not allowed, or what may follow
        takes too long to find.
        """
        self._matcher.consume_token(token)
        self.allowed = self._next()

    def _next(self) -> Tensor:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if fault := grammar.fault(self._matcher):
            raise ChatlingError(f"The schema cannot be followed: {fault}.")
        allowed = np.unpackbits(bits, count=self.vocab_size, bitorder="little")
        return torch.from_numpy(allowed).bool()


class GrammarCompiler:
    """The grammars of a tokenizer's tokens, the latest of them remembered. From any thread."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._tokens: Any = None  # made at first use
        self._compiled = lru_cache(REMEMBERED)(self._compile)
        self._lock = threading.Lock()

    def start(self, params: StructuredOutputsParams) -> Grammar:
        """The beginning of an answer. Raises ChatlingError for a schema that cannot be compiled in
        the time and memory that `grammar.py` sets.
        """
        with self._lock:
            return self._compiled(params.schema).start()

    def _compile(self, schema: str) -> Grammar:
        _check(schema)
        t = self.tokenizer
        if self._tokens is None:
            closing = (t.assistant_end, t.bos)
            self._tokens = grammar.vocabulary(t.pieces, SPECIAL_TOKENS, closing)
        return Grammar(grammar.matcher(self._tokens, schema), t.vocab_size)


def _check(schema: str) -> None:
    """Compile in a limited process, whose end harms nobody."""
    command = [sys.executable, "-P", grammar.__file__]
    try:
        done = subprocess.run(
            command, input=schema.encode(), capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        fault = "it takes too long"
    else:
        fault = done.stdout.decode().strip()
        if done.returncode < 0:
            fault = "it takes too much time or memory"
        elif done.returncode:
            fault = done.stderr.decode().strip().splitlines()[-1]
    if fault:
        raise ChatlingError(f"The schema cannot be compiled: {fault}.")
