"""DPO as a stage: preferences are trained on, the reference is computed once and means what it
says, kills and options.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from chatling.config.stages import DPOConfig, RLConfig
from chatling.data.preferences import Preference
from chatling.errors import DataError, RecipeError
from chatling.hardware.distributed import DistContext
from chatling.model.adapter import AdapterConfig
from chatling.tasks.identity import IdentityConfig
from chatling.tokenizer.chat_template import render, render_prompt
from chatling.toy import heldout
from chatling.toy.preferences import preferences
from chatling.train import dpo
from chatling.train.checkpoint import load_model
from chatling.train.context import build_from
from chatling.train.datasets import Sources
from chatling.train.metrics import read_metrics
from chatling.train.pairs import prepare_dpo

from .rl_world import context, tiny_tokenizer

PAIRS = 24
CONFIG = DPOConfig(
    data="pairs",
    learning_rate_fraction=0.5,
    batch_pairs=6,
    pad_to_multiple_of=8,
    epochs=4,
    warmdown=0.5,
    evaluate_every=5,
)


def pair_file(folder: Path) -> Path:
    """Short pairs whose better answers begin with A."""
    path = folder / "pairs"
    path.mkdir(parents=True, exist_ok=True)
    rows = [
        {"prompt": f"Q{i}?", "chosen": f"A{i % 10}", "rejected": f"B{i % 7}"}
        for i in range(PAIRS + 8)
    ]
    lines = [str(row).replace("'", '"') + "\n" for row in rows]
    (path / "train.jsonl").write_text("".join(lines[:PAIRS]))
    (path / "test.jsonl").write_text("".join(lines[PAIRS:]))
    return path


def train(folder: Path, config: DPOConfig = CONFIG, world: DistContext | None = None) -> None:
    run = context(folder, world)
    shards = run.run.data / "dpo-train", run.run.data / "dpo-validation"
    if run.world.is_main:
        config = replace(config, data=str(pair_file(folder)))
        sources = Sources(
            lambda: pytest.fail("nothing is to be fetched"), IdentityConfig(), run.seed
        )
        prepare_dpo(config, run.tokenizer, sources, *shards, note=print)
    recipe = replace(run.recipe, dpo=config)
    dpo.DPO.train(replace(run, recipe=recipe), "sft", *shards)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dpo")
    train(folder)
    return folder


def test_the_better_answers_become_likelier(whole: Path) -> None:
    lines = read_metrics(whole / "dpo" / "metrics.jsonl")
    scored = [line for line in lines if "val_accuracy" in line]
    first, last = scored[0], scored[-1]
    assert first["val_rewards/margin"] == pytest.approx(0, abs=1e-4)  # nothing has moved yet
    assert first["val_loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert last["val_accuracy"] == 1.0
    assert last["val_loss"] < 0.6
    assert last["val_rewards/margin"] == pytest.approx(
        last["val_rewards/chosen"] - last["val_rewards/rejected"], abs=1e-3
    )


def test_the_reference_is_the_answers_log_probability_at_the_start(whole: Path) -> None:
    found = load_file(whole / "data" / "dpo-train-reference.safetensors")["logprobs"]
    tokenizer, model = (
        tiny_tokenizer(),
        load_model(whole / "sft" / "model", device="cpu", dtype=torch.float32),
    )
    assert found.shape == (2 * PAIRS,)
    for i in (0, 7, 23):
        for side, answer in enumerate((f"A{i % 10}", f"B{i % 7}")):
            pair = Preference.of(f"Q{i}?", answer, "other")
            prompt = render_prompt(tokenizer, pair.prompt)
            ids = render(tokenizer, type(pair.prompt)((*pair.prompt.messages, pair.chosen))).ids
            with torch.no_grad():
                logits = model.logits(model(torch.tensor([ids])))[0].double().log_softmax(-1)
            expected = sum(logits[t - 1, ids[t]].item() for t in range(len(prompt), len(ids)))
            assert found[2 * i + side] == pytest.approx(expected, abs=1e-4)


def test_the_reference_is_kept_until_weights_or_pairs_change(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = whole / "data" / "dpo-train-reference.safetensors"
    before = cache.stat().st_mtime_ns
    train(whole)
    assert cache.stat().st_mtime_ns == before
    cache.write_bytes(b"damaged")
    train(whole)
    assert load_file(cache)["logprobs"].shape == (2 * PAIRS,)


def _as_rank(rank: int, folder: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    train(Path(folder), world=DistContext(rank, 2))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_learn_what_one_does(whole: Path, tmp_path: Path) -> None:
    train(
        tmp_path, replace(CONFIG, epochs=1)
    )  # writes the pairs before two processes look for them
    shutil.rmtree(tmp_path / "dpo")
    (tmp_path / "data" / "dpo-train-reference.safetensors").unlink()
    code = "import sys; from {module} import _as_rank; _as_rank(int(sys.argv[1]), sys.argv[2])"
    module, root = "tests.train.test_dpo", Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code.format(module=module)]
    others = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, cwd=root)
        for rank in (0, 1)
    ]
    assert [other.wait(timeout=240) for other in others] == [0, 0]
    one, two = (read_metrics(folder / "dpo" / "metrics.jsonl") for folder in (whole, tmp_path))
    assert [line["loss"] for line in two if "loss" in line] == pytest.approx(
        [line["loss"] for line in one if "loss" in line], abs=1e-3
    )


def _slowly(folder: str) -> None:
    """Train, saving at every step, with a pause after each."""
    inner = dpo.preference_loss

    def slow(*arguments: Any, **named: Any) -> Any:
        print("step", flush=True)
        time.sleep(0.05)
        return inner(*arguments, **named)

    dpo.preference_loss = slow  # type: ignore[assignment]
    train(Path(folder))


@pytest.mark.parametrize("calls", [9, pytest.param(14, marks=pytest.mark.slow)])
def test_kill_9_goes_on_to_the_same_bits(whole: Path, tmp_path: Path, calls: int) -> None:
    root = Path(__file__).resolve().parents[2]
    code = "import sys; from tests.train.test_dpo import _slowly; _slowly(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        cwd=root,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(calls):
        assert process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "dpo" / "model").exists()
    train(tmp_path)
    ours, theirs = (
        load_file(folder / "dpo" / "model" / "model.safetensors") for folder in (tmp_path, whole)
    )
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"beta": 0.0}, "beta"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"batch_pairs": 0}, "batch_pairs"),
        ({"warmdown": 2.0}, "warmdown"),
        ({"imitation": -1.0}, "imitation"),
    ],
)
def test_numbers_out_of_range_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        replace(CONFIG, **changes)


def test_pairs_that_are_nowhere_are_named(tmp_path: Path) -> None:
    sources = Sources(lambda: pytest.fail("nothing is to be fetched"), IdentityConfig(), 0)
    with pytest.raises(DataError, match="no preference pairs at 'nowhere'"):
        prepare_dpo(
            replace(CONFIG, data="nowhere"),
            tiny_tokenizer(),
            sources,
            tmp_path / "a",
            tmp_path / "b",
            note=print,
        )


def test_the_pocket_worlds_preferences_are_seeded_and_hold_out_what_they_say() -> None:
    train_pairs, validation = preferences("train", 3, 600), preferences("validation", 3, 300)
    assert train_pairs == preferences("train", 3, 600)
    assert train_pairs != preferences("train", 4, 600)
    unsafe = heldout("unsafe", 0, 400)
    declining = [pair for pair in train_pairs if unsafe.score(unsafe[0], pair.chosen.parts)]
    assert 0.3 < len(declining) / len(train_pairs) < 0.5
    assert not any(unsafe.score(unsafe[0], pair.rejected.parts) for pair in declining)
    asked = {pair.prompt for pair in declining}
    assert not asked & {pair.prompt for pair in validation}
    assert all(pair.chosen != pair.rejected for pair in (*train_pairs, *validation))


@pytest.mark.parametrize("changes", [{"matrices_only": True}, {"adapter": AdapterConfig()}])
def test_matrices_alone_may_learn(tmp_path: Path, changes: dict[str, Any]) -> None:
    train(tmp_path, replace(CONFIG, epochs=1, **changes))
    before, after = (
        load_file(tmp_path / stage / "model" / "model.safetensors") for stage in ("sft", "dpo")
    )
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert all("layers" in name for name in moved)


def test_a_stage_may_have_a_largest_norm_of_its_own(tmp_path: Path) -> None:
    run = context(tmp_path)
    configs = [replace(CONFIG, gradient_clip=clip) for clip in (None, 0.0, 0.5)]
    assert [build_from(run, "sft", config)[1].clip for config in configs] == [1.0, 0.0, 0.5]
    # rl.clip is that of ratios
    assert build_from(run, "sft", RLConfig(clip=0.2))[1].clip == 1.0
