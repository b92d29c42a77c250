"""Reinforcement learning: the gradient against brute force, rollouts that depend on their seed
alone, kills, the recipe's options.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chatling.config.stages import RLConfig
from chatling.data import IGNORE
from chatling.data.loaders import MicroBatches, Step
from chatling.data.shuffle import seeded_order
from chatling.errors import RecipeError
from chatling.evals.chat import judge
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.messages import Conversation, Part
from chatling.model.adapter import AdapterConfig
from chatling.model.gpt import GPT
from chatling.model.losses import POLICY_VARIANTS
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render, render_prompt
from chatling.train import rl
from chatling.train.adapter_files import add_adapter
from chatling.train.batch_sources import finetune_batches
from chatling.train.checkpoint import load_model
from chatling.train.metrics import read_metrics
from chatling.train.replay import with_replay
from chatling.train.rollouts import sample_seed

from .rl_world import (
    CONFIG,
    Digits,
    batches_of,
    context,
    first,
    known,
    tiny_model,
    tiny_tokenizer,
    train,
)

SCRIPT = Path(__file__).with_name("rl_world.py")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


def gradients(model: GPT, config: RLConfig, step: Step) -> list[torch.Tensor]:
    """As the loop accumulates them."""
    model.zero_grad()
    for micro in step.micro_batches:
        tensors = {name: torch.from_numpy(array) for name, array in vars(micro).items()}
        value, _ = rl.policy_loss(model, config, **tensors)
        (value / step.count).backward()
    return [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]


def objective(
    model: GPT, tokenizer: Tokenizer, answers: list[tuple[tuple[int, ...], Completion, float]]
) -> torch.Tensor:
    """Sum over all sampled tokens of -A log p, over their number: one answer and one token at a
    time, from the definition.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for prompt, answer, advantage in answers:
        said = list(zip(answer.ids, answer.injected, strict=True)) + (
            [(answer.closing, False)] if answer.closing is not None else []
        )
        read = list(prompt)
        for token, injected in said:
            if not injected:
                logits = model.logits(model(torch.tensor([read])))[0, -1]
                total = total - advantage * logits.log_softmax(-1)[token]
                count += 1
            read.append(token)
    return total / count


def test_the_gradient_is_that_of_the_objective_in_float64(tokenizer: Tokenizer) -> None:
    model = tiny_model(tokenizer, torch.float64)
    step = first(batches_of(model, tokenizer))
    assert len(step.micro_batches) > 2
    ours = gradients(model, CONFIG, step)
    # the same answers once more, alone in an engine of their own
    single = Engine(model, tokenizer, max_batch_size=1)
    batches = batches_of(model, tokenizer)
    answers, calls = [], 0
    for place in range(3):
        question = Digits()[batches.question(place)]
        prompt = tuple(render_prompt(tokenizer, question.prompt))
        ways = [
            SamplingParams(1.0, 6, seed=sample_seed(11, place, j), max_tokens=10) for j in range(5)
        ]
        completions = [single.generate([Request(prompt, way)])[0] for way in ways]
        rewards = [judge(tokenizer, Digits(), question, each) for each in completions]
        calls += sum(any(each.injected) for each in completions)
        answers += [
            (prompt, each, reward - sum(rewards) / 5)
            for each, reward in zip(completions, rewards, strict=True)
        ]
    assert calls >= 3  # forced tokens are among them
    model.zero_grad()
    objective(model, tokenizer, answers).backward()
    for mine, parameter in zip(ours, model.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(
            mine, parameter.grad, rtol=1e-6, atol=1e-9
        )  # advantages travel in fp32
    # and by moving weights a little
    draw = np.random.default_rng(0)
    for parameter in (
        model.lm_head.weight,
        model.layers[0].self_attn.q_proj.weight,
        model.layers[1].mlp.fc2.weight,
    ):
        assert isinstance(parameter, torch.nn.Parameter)
        assert parameter.grad is not None
        rows, columns = parameter.shape
        for _ in range(3):
            at = (int(draw.integers(rows)), int(draw.integers(columns)))
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[at] += sign * 1e-5
                    values.append(objective(model, tokenizer, answers).item())
                    parameter[at] -= sign * 1e-5
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(
                float(parameter.grad[at]), rel=1e-4, abs=1e-8
            )


def final(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "rl/model/model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_it_learns_and_logs(whole: Path, tmp_path: Path) -> None:
    lines = read_metrics(whole / "rl/metrics.jsonl")
    assert lines[0]["event"] == "start"
    assert {"val_accuracy", "pass@1", "pass@2"} <= lines[0].keys()
    steps = lines[1:]
    assert [line["step"] for line in steps] == list(range(6))
    assert all(
        {"reward", "equal_groups", "answer_tokens", "batch_seconds", "seconds"} <= line.keys()
        for line in steps
    )
    assert [line["step"] for line in steps if "pass@2" in line] == [2, 5]
    train(tmp_path, replace(CONFIG, steps=25, learning_rate_fraction=0.5))
    rewards = [line["reward"] for line in read_metrics(tmp_path / "rl/metrics.jsonl")[1:]]
    assert sum(rewards[-5:]) > 1.5 * sum(rewards[:5])


@pytest.mark.parametrize(
    ("moment", "call"),
    [
        ("rollout", 95),
        pytest.param("rollout", 30, marks=pytest.mark.slow),
        pytest.param("update", 2, marks=pytest.mark.slow),
        pytest.param("update", 14, marks=pytest.mark.slow),
    ],
)
def test_kill_9_in_rollout_or_update_goes_on_to_the_same_bits(
    whole: Path, tmp_path: Path, moment: str, call: int
) -> None:
    killed_at(tmp_path, moment, call)
    train(tmp_path)
    assert same(final(whole), final(tmp_path))
    ours, theirs = (read_metrics(folder / "rl/metrics.jsonl") for folder in (whole, tmp_path))
    assert [(line["step"], line.get("loss"), line.get("reward")) for line in ours] == [
        (line["step"], line.get("loss"), line.get("reward")) for line in theirs
    ]


def killed_at(folder: Path, *arguments: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.kill()
    assert process.wait() == -9
    process.stdout.close()


@pytest.mark.slow
def test_a_kill_between_updates_of_one_step_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = replace(CONFIG, updates=2, clip=0.2, kl=0.05, replay=0.5, save_every=1)
    train(tmp_path / "whole", config)
    folder = tmp_path / "killed"
    killed_at(folder, "update", 12, "several")
    saved = [
        json.loads(path.read_text())
        for path in sorted(folder.glob("rl/checkpoints/step_*/loop.json"))
    ]
    train(folder, config)
    assert same(final(tmp_path / "whole"), final(folder))
    lines = read_metrics(folder / "rl/metrics.jsonl")
    assert len(lines) == 1 + 12
    assert saved
    assert all("kl" in line for line in lines[1::2])


@pytest.mark.parametrize(
    "options", [{"kl": 0.1}, {"clip": 0.2}, {"clip": 0.2, "updates": 2, "kl": 0.1}]
)
def test_options_anchor_to_the_weights_before(
    tokenizer: Tokenizer, options: dict[str, Any]
) -> None:
    """Before any update all ratios are one and the reference is the model: the gradient is the
    plain one.
    """
    model = tiny_model(tokenizer, torch.float64)
    plain = gradients(model, CONFIG, first(batches_of(model, tokenizer)))
    config = replace(CONFIG, **options)
    reference = tiny_model(tokenizer, torch.float64) if config.kl else None
    step = first(batches_of(model, tokenizer, config, reference=reference))
    for mine, theirs in zip(gradients(model, config, step), plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    if config.kl:
        assert step.metrics["kl"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_two_ranks_share_the_questions(tmp_path: Path) -> None:
    train(tmp_path / "one", replace(CONFIG, questions_per_step=4, replay=0.5))
    context(tmp_path / "run")  # written once, before both begin
    ranks = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path / "run"), "rank", str(rank)])
        for rank in range(2)
    ]
    assert [process.wait(120) for process in ranks] == [0, 0]
    one, two = (read_metrics(tmp_path / name / "rl/metrics.jsonl") for name in ("one", "run"))
    # the first step's answers are the same; later ones differ where a rounding error decides a
    # token
    for key in ("reward", "equal_groups", "answer_tokens", "tokens"):
        assert one[1][key] == two[1][key]
    assert one[1]["loss"] == pytest.approx(two[1]["loss"], abs=1e-6)
    assert one[1]["gradient_norm"] == pytest.approx(two[1]["gradient_norm"], rel=1e-4)
    assert one[0] == two[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 1},
        {"updates": 2},
        {"temperature": 0.0},
        {"clip": 1.5},
        {"steps": 0},
        {"questions_per_step": 0},
        {"interpolation": 0.0},
        {"replay": -1.0},
        {"variant": "grpo"},
        {"variant": "dr_grpo", "normalize_advantage": True},
        {"variant": "cispo", "clip": 0.2},
        {"clip_high": 0.3},
    ],
)
def test_a_table_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        RLConfig(**wrong)


def test_variants_take_what_their_papers_say() -> None:
    bounds = {
        name: (RLConfig(variant=name).method.clip, RLConfig(variant=name).method.clip_high)  # type: ignore[arg-type]
        for name in POLICY_VARIANTS
    }
    assert bounds == {
        "reinforce": (0.0, 0.0),
        "dapo": (0.2, 0.28),
        "dr_grpo": (0.2, 0.2),
        "cispo": (0.0, 0.28),
    }
    assert RLConfig(clip=0.1).method.clip_high == 0.1
    assert RLConfig(variant="dapo", clip=0.1, clip_high=0.4, updates=3).method.clip_high == 0.4


@pytest.mark.parametrize("variant", POLICY_VARIANTS)
def test_variants_begin_with_the_plain_gradient(tokenizer: Tokenizer, variant: Any) -> None:
    """Before any update all ratios are one: what is left are advantages and divisor."""
    model = tiny_model(tokenizer, torch.float64)
    wide = replace(CONFIG, normalize_advantage=variant in ("dapo", "cispo"))
    plain = first(batches_of(model, tokenizer, wide))
    config = replace(CONFIG, variant=variant)
    step = first(batches_of(model, tokenizer, config))
    for mine, theirs in zip(
        gradients(model, config, step), gradients(model, wide, plain), strict=True
    ):
        torch.testing.assert_close(mine * step.count, theirs * plain.count, rtol=1e-4, atol=1e-4)
    if variant == "dr_grpo":
        assert step.count == CONFIG.questions_per_step * CONFIG.samples * CONFIG.max_tokens
    else:
        assert step.count == plain.count


class Sometimes(Digits):
    """Every other question is worth nothing, whatever the answer."""

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        worthless = conversation.messages[0].text.count("!") % 2
        return 0.0 if worthless else super().reward(conversation, completion)


def test_groups_of_equal_rewards_count_only_where_the_variant_says(tokenizer: Tokenizer) -> None:
    model = tiny_model(tokenizer)
    plain, dapo = (
        first(batches_of(model, tokenizer, replace(CONFIG, variant=variant), task=Sometimes()))
        for variant in ("reinforce", "dapo")
    )
    learnt = sum(int((micro.targets != IGNORE).sum()) for micro in dapo.micro_batches)
    assert 0 < plain.metrics["equal_groups"] < 1
    assert plain.count > dapo.count >= learnt > 0


def test_replayed_conversations_count_by_their_mean_loss(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Over two steps: the source's gradient, and the weight times that of the mean loss of two
    conversations' own tokens.
    """
    here = context(tmp_path, dtype="float64")
    model = tiny_model(tokenizer, torch.float64)
    plain = batches_of(model, tokenizer)
    replay = known(tmp_path)
    batches, loss = with_replay(
        here, model, plain, functools.partial(rl.policy_loss, model, CONFIG), 0.5, replay
    )
    order = [int(i) for i in seeded_order(5, here.seed, 0)]
    shown = [render(tokenizer, Conversation.of("Hello" + "!" * i, "12" * (i + 1))) for i in order]
    for at, (step, alone) in enumerate(
        islice(zip(batches.steps(), plain.steps(), strict=False), 2)
    ):
        expected = gradients(model, CONFIG, alone)
        model.zero_grad()
        total, count = torch.zeros((), dtype=torch.float64), 0
        for one in shown[2 * at : 2 * at + 2]:
            scores = model.logits(model(torch.tensor([one.ids[:-1]])))[0].log_softmax(-1)
            for place, (token, loss_mask) in enumerate(zip(one.ids[1:], one.mask[1:], strict=True)):
                total = total - scores[place, token] * loss_mask
                count += loss_mask
        (0.5 * total / count).backward()
        added = [
            parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
        ]
        model.zero_grad()
        for micro in step.micro_batches:
            value, _ = loss(
                **{name: torch.from_numpy(array) for name, array in vars(micro).items()}
            )
            (value / step.count).backward()
        for parameter, mine, more in zip(model.parameters(), expected, added, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, mine + more, rtol=1e-6, atol=1e-8)


def _batches_known(folder: Path) -> MicroBatches:
    replay = known(folder)
    return finetune_batches(
        context(folder), replay.config, replay.shards, tiny_model(tiny_tokenizer()).config
    )


def test_replay_keeps_what_rewards_would_undo(whole: Path, tmp_path: Path) -> None:
    """What SFT has shown stays likelier than after the same steps without it."""
    train(tmp_path, replace(CONFIG, replay=2.0))
    likely = []
    for folder in (whole, tmp_path):
        model, batches = load_model(folder / "rl" / "model"), _batches_known(folder)
        with torch.no_grad():
            losses = [
                model.loss(torch.from_numpy(micro.inputs), torch.from_numpy(micro.targets))[
                    0
                ].item()
                for micro in batches.once()
            ]
        likely.append(-sum(losses))
    assert likely[1] > likely[0] + 1


@pytest.mark.slow
def test_matrices_alone_may_learn(tmp_path: Path) -> None:
    train(tmp_path, replace(CONFIG, matrices_only=True))
    before, after = (
        load_file(tmp_path / stage / "model" / "model.safetensors") for stage in ("sft", "rl")
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("layers" in name for name in moved)
    assert len(moved) == sum(
        tensor.ndim == 2 and "layers" in name for name, tensor in before.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, AdapterConfig(rank=2)])
def test_the_finished_model_may_stand_on_the_way(
    tmp_path: Path, adapter: AdapterConfig | None
) -> None:
    config = replace(CONFIG, adapter=adapter)
    for name, part in (("whole", config), ("half", replace(config, interpolation=0.25))):
        train(tmp_path / name, part)
    before = load_file(tmp_path / "whole" / "sft" / "model" / "model.safetensors")
    after, between = (
        load_file(tmp_path / name / "rl" / "model" / "model.safetensors")
        for name in ("whole", "half")
    )
    for name, tensor in before.items():
        torch.testing.assert_close(between[name], 0.75 * tensor + 0.25 * after[name])
        assert torch.equal(tensor, after[name]) == bool(adapter and not re.search("proj|fc", name))
    last = read_metrics(tmp_path / "half" / "rl" / "metrics.jsonl")[-1]
    assert last["event"] == "interpolated"
    assert "pass@1" in last
    if adapter:
        model = load_model(tmp_path / "half/sft/model")
        add_adapter(model, tmp_path / "half/rl/adapter")
        assert same(model.state_dict(), between)
