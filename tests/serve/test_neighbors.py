"""Whatever a request asks for, its neighbors in the batch are answered with the same bits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.serve.protocol import ChatRequest
from chatling.tokenizer.bpe import Tokenizer

from .conftest import random_model

TOKENIZER = Tokenizer([bytes([byte]) for byte in range(256)], digits=2)
NEIGHBORS = [
    Request((1, 2, 3 + i), SamplingParams(temperature=i / 4, top_p=0.9, seed=i, max_tokens=4))
    for i in range(8)
]
NUMBER = st.one_of(
    st.floats(), st.floats(0, 2), st.integers(-3, 3), st.just(1e-300), st.just(1e-46)
)
COUNT = st.one_of(st.integers(0, 30), st.integers())
FIELDS = {
    "temperature": NUMBER,
    "top_p": NUMBER,
    "min_p": NUMBER,
    "repetition_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "top_k": COUNT,
    "seed": COUNT,
    "logit_bias": st.dictionaries(st.integers(0, 300).map(str), st.floats(-120, 120), max_size=3),
    "stop": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=3)),
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(random_model(TOKENIZER.vocab_size, 0), TOKENIZER, max_batch_size=9)


@pytest.fixture(scope="module")
def alone(engine: Engine) -> list[Completion]:
    return engine.generate(NEIGHBORS)


@settings(max_examples=80, deadline=None)
@given(fields=st.fixed_dictionaries({}, optional=FIELDS))
@example(fields={"repetition_penalty": 1e-300})
@example(fields={"top_p": 1e-46})
@example(fields={"top_p": 1e-6, "min_p": 1.0, "top_k": 1, "temperature": 1e-5})
@example(fields={"repetition_penalty": 0.01, "temperature": 1e-5, "logit_bias": {"5": -100.0}})
def test_a_request_leaves_its_neighbors_alone(
    engine: Engine, alone: list[Completion], fields: dict[str, Any]
) -> None:
    start = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    try:
        (sampling,) = ChatRequest.model_validate({**start, **fields}).sampling_params(4, 0)
    except ValidationError:
        return  # it is refused
    answers = engine.generate([*NEIGHBORS, Request((1, 2, 99), sampling)])
    assert answers[:-1] == alone
    assert answers[-1].finish_reason in ("stop", "length")
