"""Eight-bit weights against rounding done by hand."""

import copy
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from chatling.errors import MachineError
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.inference.quantize import HEAD, quantize
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer


@torch.no_grad()
def test_a_weight_is_off_by_half_a_step_at_most(make_model: Callable[..., GPT]) -> None:
    model = make_model("modern")
    whole = copy.deepcopy(model)
    ids = torch.randint(0, 260, (2, 40), generator=torch.Generator().manual_seed(1))
    quantize(model)
    for (name, module), before in zip(model.named_modules(), whole.modules(), strict=True):
        if isinstance(module, nn.Linear) and isinstance(before, nn.Linear):
            found = module(torch.eye(module.in_features)).T  # its matrix, as its products see it
            step = before.weight.abs().amax(1, keepdim=True) / 127.5
            assert torch.equal(found, before.weight) == (name == HEAD)
            assert ((found - before.weight).abs() <= 0.51 * step).all()
    assert (model(ids) - whole(ids)).abs().mean() < 0.05 * whole(ids).abs().mean()


def test_an_engine_answers_with_it(make_model: Callable[..., GPT], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer, max_batch_size=4, dtype=torch.bfloat16)
    request = Request((1, 2, 3), SamplingParams(0.0, max_tokens=3))
    before = engine.generate([request])[0]
    quantize(engine.model)
    engine.scheduler.prefixes.forget()
    after = engine.generate([request])[0]
    assert before.ids == after.ids  # the first tokens are clear enough to survive the rounding
    assert before.logprobs != after.logprobs


def test_without_torchao_it_says_what_to_install(
    make_model: Callable[..., GPT], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MachineError, match="torchao is not installed"):
        quantize(make_model())
