"""Looking at a model while it trains: kept, exact on resume, without a trace in the weights, and
never the end of a run.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from chatling.config.recipe import Recipe
from chatling.config.stages import DPOConfig, FinetuneConfig, LoopConfig, MixtureEntry
from chatling.data.config import POCKET, DataConfig
from chatling.data.loaders import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.data.shard_writer import write_conversation_shards, write_token_shards
from chatling.evals import samples
from chatling.evals.config import EvalConfig
from chatling.hardware.distributed import DistContext
from chatling.messages import Part
from chatling.model.config import ModelRecipe
from chatling.optim.param_groups import OptimConfig, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import Rendered
from chatling.toy.core_bundle import write_core_bundle
from chatling.toy.heldout import SKILLS
from chatling.train import callbacks, stage_base
from chatling.train.checkpoint import load_model
from chatling.train.context import Context, build
from chatling.train.datasets import own_questions
from chatling.train.finetune import MID, SFT
from chatling.train.metrics import read_metrics
from chatling.train.pretrain import BASE
from chatling.train.runtime import RuntimeConfig
from chatling.train.stage_base import token_evaluation, train_stage
from chatling.train.trainer import Trainer

from .conftest import Silent

STAGES = {stage.name: stage for stage in (BASE, MID, SFT)}


class Died(Exception):
    pass


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_TOKENS", 6)


def train(
    folder: Path,
    name: str = "base",
    *,
    steps: int = 12,
    die_at: int | None = None,
    core: Path | None = None,
    every: int = 4,
) -> Context:
    """A tiny stage that saves every 4 steps, evaluates every 2, and may die in the middle of a
    step.
    """
    tokenizer = Tokenizer([bytes([byte]) for byte in range(256)], digits=1)
    ids = [[tokenizer.bos, *tokenizer.encode(f"{i} is one more than {i - 1}. ")] for i in range(60)]
    documents = [Rendered(row, [True] * len(row)) for row in ids]
    shards = write_conversation_shards(
        folder / "shards", documents, tokenizer.vocab_size, fingerprint="test"
    )
    execution = RuntimeConfig("cpu", "float32", "plain", False, 1, 128)
    loop = LoopConfig(save_every=4, evaluate_every=2)
    evals = EvalConfig(core=str(core), core_every=every, core_examples=5)
    shape = ModelRecipe(depth=2, width=32, head_width=16, context=64)
    recipe = Recipe(seed=3, model=shape, loop=loop, eval=evals)
    context = Context(
        RunFolder(folder), recipe, tokenizer, execution, DistContext(), Silent(), core
    )
    batches = PretrainBatches(PackedRows(shards, 64, tokenizer.bos, 7), 4, 2, 0, 1)

    class Dying:
        def steps(self, state: dict[str, Any] | None = None) -> Any:
            for count, step in enumerate(batches.steps(state)):
                if count == die_at:
                    raise Died
                yield step

    rates = resolve_optim(OptimConfig(), "classic", 32, 192)
    model, optimizer = build(context, shape.resolve(tokenizer.vocab_size), rates)
    train_stage(
        context,
        STAGES[name],
        model,
        optimizer,
        Schedule(steps),
        Dying() if die_at else batches,  # type: ignore[arg-type]
        token_evaluation(context, model, batches.once(128)),
    )
    return context


def kept(folder: Path, name: str = "base") -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (folder / f"evals/{name}-samples.jsonl").read_text().splitlines()
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "base/model").state_dict()


def test_samples_are_kept_at_every_evaluation_and_a_resume_leaves_the_same_file(
    tmp_path: Path,
) -> None:
    train(tmp_path / "whole")
    lines = kept(tmp_path / "whole")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert [each["prompt"] for each in lines[0]["samples"]] == [
        probe.opening for probe in samples.PROBES
    ]
    with pytest.raises(Died):
        train(
            tmp_path / "cut", die_at=7
        )  # after the evaluation at 6, which step 4's checkpoint does not know of
    assert [line["step"] for line in kept(tmp_path / "cut")] == [2, 4, 6]
    train(tmp_path / "cut")
    assert kept(tmp_path / "cut") == lines


def test_a_chat_stage_is_asked_questions(tmp_path: Path) -> None:
    train(tmp_path, "sft", steps=2)
    assert [each["prompt"] for each in kept(tmp_path, "sft")[0]["samples"]] == [
        probe.question for probe in samples.PROBES
    ]


def test_questions_are_those_of_the_run_s_own_data(tmp_path: Path) -> None:
    own = tmp_path / "talks.jsonl"
    rows = [
        [{"role": "user", "content": f"Who plays {i}?"}, {"role": "assistant", "content": "Ada."}]
        for i in range(200)
    ]
    own.write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    recipe = Recipe(
        sft=FinetuneConfig(mixture=(MixtureEntry(POCKET), MixtureEntry(str(own), count=3)))
    )
    tokenizer = Tokenizer([bytes([byte]) for byte in range(256)], digits=1)
    found = samples.first_questions(own_questions(recipe), tokenizer, 1, 512)
    assert [each.topic for each in found] == [*SKILLS, "talks"]
    assert samples.first_questions(own_questions(recipe), tokenizer, 1, 8) == []
    assert found[-1].text == "Who plays 0?"  # the first ones of a file are held out
    assert found[0].judge
    assert found[-1].judge
    assert found[0].judge((Part("text", "I don't know."),)) is False
    assert found[-1].judge((Part("text", "Ada."),)) is None


def test_preferences_that_own_questions_watch_show_these(tmp_path: Path) -> None:
    """As `improve` trains: no conversations and no evaluation, but what must not be unlearned."""
    held = tmp_path / "held-out.jsonl"
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
    held.write_text(json.dumps({"messages": turns, "key": "Ada", "skill": "rephrased"}))
    recipe = Recipe(dpo=DPOConfig(data="pairs", watch=(str(held),)))
    assert [task[0].messages[0].text for task in own_questions(recipe).values()] == ["Who?"]


def test_looking_leaves_no_trace_in_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = callbacks.sample_texts

    def careless(*args: Any, **options: Any) -> Any:
        torch.rand(7)  # an evaluation that draws random numbers
        return drawn(*args, **options)

    monkeypatch.setattr(callbacks, "sample_texts", careless)
    torch.manual_seed(1)
    train(tmp_path / "watched")
    after = torch.get_rng_state()
    torch.manual_seed(1)
    with monkeypatch.context() as patch:
        patch.setattr(stage_base, "LiveEvals", lambda *args, **options: None)
        train(tmp_path / "alone")
    assert not (tmp_path / "alone/evals").exists()
    assert torch.equal(torch.get_rng_state(), after)
    watched, alone = weights(tmp_path / "watched"), weights(tmp_path / "alone")
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


def test_a_failing_look_is_told_of_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise ValueError("no such prompt")

    monkeypatch.setattr(callbacks, "sample_texts", broken)
    context = train(tmp_path, steps=4)
    told = [message for message in context.progress.messages if "samples failed" in message]  # type: ignore[attr-defined]
    assert told == ["base: samples failed (ValueError: no such prompt); training continues."] * 2
    assert weights(tmp_path)
    assert not (tmp_path / "evals/base-samples.jsonl").exists()


def test_a_compiled_model_is_looked_at_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def record(engine: Any, *args: Any) -> list[Any]:
        seen.append([block._compiled_call_impl for block in engine.model.layers])
        return []

    monkeypatch.setattr(callbacks, "sample_texts", record)
    made = Trainer.__post_init__

    def spy(self: Trainer) -> None:
        made(self)
        for block in self.model.layers:
            block._compiled_call_impl = block._call_impl  # as Module.compile leaves it
        self.callback.on_eval(0)  # type: ignore[union-attr]
        raise Died

    monkeypatch.setattr(Trainer, "__post_init__", spy)
    with pytest.raises(Died):
        train(tmp_path)
    assert seen == [[None, None]]


@pytest.mark.parametrize(
    ("every", "due"), [(4, [3, 7, 11]), (5, [5, 9]), (1, [1, 3, 5, 7, 9, 11]), (0, [])]
)
def test_core_is_scored_at_the_evaluation_that_is_due(
    tmp_path: Path, every: int, due: list[int]
) -> None:
    write_core_bundle(tmp_path / "bundle", 1)
    train(tmp_path / "run", core=tmp_path / "bundle", every=every)
    scored = {
        line["step"]: line["core"]
        for line in read_metrics(tmp_path / "run/base/metrics.jsonl")
        if "core" in line
    }
    assert list(scored) == due
    if due:
        found = json.loads((tmp_path / "run/evals/base-core.json").read_text())
        assert (found["step"], found["results"]["core"]) == (due[-1] + 1, scored[due[-1]])
        assert {task["count"] for task in found["results"]["tasks"].values()} == {5}


def test_core_is_of_base_alone(tmp_path: Path) -> None:
    write_core_bundle(tmp_path / "bundle", 1)
    train(tmp_path / "run", "mid", core=tmp_path / "bundle", every=2)
    assert not any("core" in line for line in read_metrics(tmp_path / "run/mid/metrics.jsonl"))


def test_a_broken_bundle_does_not_end_training(tmp_path: Path) -> None:
    write_core_bundle(tmp_path / "bundle", 1)
    (tmp_path / "bundle/eval_meta_data.csv").unlink()
    context = train(tmp_path / "run", core=tmp_path / "bundle", every=6)
    told = [message for message in context.progress.messages if "failed" in message]  # type: ignore[attr-defined]
    assert len(told) == 2
    assert "training continues" in told[0]
    assert len(read_metrics(tmp_path / "run/base/metrics.jsonl")) == 12
    assert [line["step"] for line in kept(tmp_path / "run")] == [2, 4, 6, 8, 10, 12]


def test_a_base_model_continues_what_the_user_s_own_text_holds_out(tmp_path: Path) -> None:
    context = train(tmp_path / "run", steps=2)
    texts = [f"{name} kommt nie zu spät in die Werkstatt." for name in ("Anna", "Jost", "Maik")]
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
    context.tokenizer.save(context.run.tokenizer)
    folder = context.run.data / "base-validation"
    write_token_shards(folder, [tmp_path / "texts.parquet"], context.tokenizer)
    own = replace(context.recipe, data=DataConfig(source=str(tmp_path)))
    model = load_model(tmp_path / "run/base/model")
    callbacks.LiveEvals(replace(context, recipe=own), "base", model, chats=False).on_eval(9)
    found = kept(tmp_path / "run")[-1]["samples"]
    assert found
    assert all(any(text.startswith(each["prompt"]) for text in texts) for each in found)
