"""Rollouts: they depend on their seed alone, and count what was sampled."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from chatling.data import IGNORE
from chatling.errors import DataError, RecipeError
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.messages import Conversation, Part
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render_prompt
from chatling.train.rollouts import RolloutBatches, advantages, rollout, sample_seed

from .rl_world import CONFIG, Digits, batches_of, first, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batched_rollout_is_the_single_one_token_for_token(
    tokenizer: Tokenizer, dtype: torch.dtype
) -> None:
    model = tiny_model(tokenizer, dtype)
    batches = batches_of(model, tokenizer)
    groups, _ = batches._roll_out(4)
    alone = Engine(model, tokenizer, max_batch_size=CONFIG.max_batch_size)
    for place, group in zip(range(4, 7), groups, strict=True):
        prompt = tuple(render_prompt(tokenizer, Digits()[batches.question(place)].prompt))
        for sample, found in enumerate(group):
            way = SamplingParams(1.0, 6, seed=sample_seed(11, place, sample), max_tokens=10)
            answer = alone.generate([Request(prompt, way)])[0]
            assert found.ids == [
                *prompt,
                *answer.ids,
                *([] if answer.closing is None else [answer.closing]),
            ]
    assert len({tuple(each.ids) for group in groups for each in group}) > 10


def test_prompt_and_tool_output_are_not_learnt() -> None:
    answer = Completion(
        ids=[5, 6, 7, 8], injected=[False, True, True, False], logprobs=[0.0] * 4, closing=9
    )
    found = rollout((1, 2), answer, 0.5, 1.0)
    assert found.ids == [1, 2, 5, 6, 7, 8, 9]
    assert found.loss_mask == [False, False, True, False, False, True, True]
    assert rollout((1, 2), replace(answer, closing=None), 0.5, 1.0).ids == [1, 2, 5, 6, 7, 8]


def test_advantages() -> None:
    assert advantages([1.0, 0.0, 0.0, 1.0], False) == [0.5, -0.5, -0.5, 0.5]
    assert advantages([1.0, 0.0, 0.0, 1.0], True) == [1.0, -1.0, -1.0, 1.0]
    assert advantages([0.1] * 3, True) == [0.0] * 3


class Equal(Digits):
    """The first question's answers are all worth the same."""

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        return (
            0.3
            if conversation.messages[0].text.endswith("s")
            else super().reward(conversation, completion)
        )


def test_equal_groups_are_counted_but_not_passed_through(tokenizer: Tokenizer) -> None:
    model, config = tiny_model(tokenizer), replace(CONFIG, questions_per_step=7)
    plain, equal = (
        first(batches_of(model, tokenizer, config, task=task)) for task in (Digits(), Equal())
    )
    rows = [sum(len(micro.inputs) for micro in step.micro_batches) for step in (plain, equal)]
    assert rows == [35, 30]
    assert plain.count == equal.count  # the denominator keeps their tokens
    assert equal.metrics["equal_groups"] == pytest.approx(1 / 7)
    leashed = first(
        batches_of(
            model, tokenizer, replace(config, kl=0.1), task=Equal(), reference=tiny_model(tokenizer)
        )
    )
    assert sum(len(micro.inputs) for micro in leashed.micro_batches) == 35


def test_micro_batches_hold_answers_alike_in_length_and_fit(tokenizer: Tokenizer) -> None:
    step = first(batches_of(tiny_model(tokenizer), tokenizer))
    widths = [micro.inputs.shape[1] for micro in step.micro_batches]
    assert widths == sorted(widths, reverse=True)
    assert all(micro.inputs.size <= 64 or len(micro.inputs) == 1 for micro in step.micro_batches)
    assert sum(int((micro.targets != IGNORE).sum()) for micro in step.micro_batches) <= step.count
    same = first(batches_of(tiny_model(tokenizer), tokenizer, one_shape=True, micro_tokens=192))
    assert len({micro.inputs.shape for micro in same.micro_batches}) == 1


def test_from_any_state_the_next_step_is_the_same(tokenizer: Tokenizer) -> None:
    """Every state, those between updates included, gives the batch that came after it, for as long
    as the weights stay.
    """
    config = replace(CONFIG, updates=3, clip=0.2)
    batches = batches_of(tiny_model(tokenizer), tokenizer, config)
    steps = batches.steps()
    made = [next(steps) for _ in range(7)]
    for before, after in pairwise(made):
        again = next(batches.steps(json.loads(json.dumps(before.state))))
        assert (again.position, again.count, again.tokens) == (
            after.position,
            after.count,
            after.tokens,
        )
        for mine, theirs in zip(again.micro_batches, after.micro_batches, strict=True):
            assert all(
                np.array_equal(array, vars(theirs)[name]) for name, array in vars(mine).items()
            )


def test_what_does_not_fit_is_left_out_or_refused(tokenizer: Tokenizer) -> None:
    model = tiny_model(tokenizer)
    engine = Engine(model, tokenizer, max_batch_size=8, context=20)
    some = RolloutBatches(model, engine, Digits(), CONFIG, DistContext(), 11, 64)
    assert 0 < some.left_out < 7
    assert {some.question(place) for place in range(20)} == set(some.usable)
    with pytest.raises(DataError, match="No question of Digits fits"):
        RolloutBatches(
            model, Engine(model, tokenizer, context=5), Digits(), CONFIG, DistContext(), 11, 64
        )
    with pytest.raises(RecipeError, match="do not divide over 2 processes"):
        batches_of(model, tokenizer, world=DistContext(0, 2))
