"""CORE's fast path on a model that this project trained, against the one-at-a-time reference on
real tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from chatling.evals.core import score_task
from chatling.evals.core_bundle import read_bundle
from chatling.evals.loglikelihood import ModelScorer
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import load_model

from ..evals.core_reference import reference_example, reference_rows, reference_tasks

TIE = 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_every_outcome_is_the_reference_s(
    tiny_run: Callable[..., list[str]],
    finish: Callable[[list[str]], str],
    tmp_path: Path,
    data_pack: Path,
    preset: str,
) -> None:
    finish(tiny_run("run", "--base.steps", "60", "--model.preset", preset))
    folder, bundle = tmp_path / "runs/run", data_pack / "eval_bundle"
    model, tokenizer = load_model(folder / "base/model"), Tokenizer.load(folder / "tokenizer")
    ties: list[str] = []
    for task, plain in zip(read_bundle(bundle)[0], reference_tasks(bundle), strict=True):
        outcomes, _ = score_task(ModelScorer(model), tokenizer, task, limit=60)
        rows = reference_rows(bundle, plain, 60)
        with torch.no_grad():
            for i, outcome in enumerate(outcomes):
                verdict = reference_example(
                    rows,
                    i,
                    plain,
                    lambda ids: model.logits(model(ids)),
                    tokenizer.encode,
                    tokenizer.bos,
                    model.config.context,
                )
                if outcome.correct != verdict.correct:
                    assert verdict.margin < TIE, f"{task.label}, line {outcome.line}"
                    ties.append(f"{task.label}, line {outcome.line}")
    print(f"{len(ties)} ties: {'; '.join(ties)}")
