"""A model of `transformers` through our CORE, against the one-at-a-time reference on its own
logits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from chatling.bench.peers import to_transformers
from chatling.errors import DataError
from chatling.evals.core import evaluate_core, score_task
from chatling.evals.core_bundle import read_bundle
from chatling.evals.hf_models import HFScorer, HFTokenizer, load_hub_model
from chatling.evals.loglikelihood import ModelScorer, Question
from chatling.tokenizer.bpe import Tokenizer
from chatling.toy.core_bundle import write_core_bundle

from .conftest import MakeModel
from .core_reference import reference_example, reference_rows, reference_tasks


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A GPT-2 with random weights and our tokenizer, saved as anybody's model is."""
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=48,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.4,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer")
    PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer").save_pretrained(folder)
    return folder


def test_every_example_as_the_reference_has_it(
    gpt2: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write_core_bundle(tmp_path / "bundle", seed=0)
    scorer, theirs = load_hub_model(str(gpt2))
    assert scorer.context == 48
    assert theirs.bos == tokenizer.bos
    right = cropped = 0
    for task, plain in zip(
        read_bundle(tmp_path / "bundle")[0], reference_tasks(tmp_path / "bundle"), strict=True
    ):
        outcomes, _ = score_task(scorer, theirs, task, limit=25)
        rows = reference_rows(tmp_path / "bundle", plain, limit=25)
        with torch.no_grad():
            expected = [
                reference_example(
                    rows,
                    i,
                    plain,
                    lambda ids: scorer.model(ids).logits,
                    tokenizer.encode,
                    tokenizer.bos,
                    48,
                )
                for i in range(len(rows))
            ]
        unlike = [
            b.margin for a, b in zip(outcomes, expected, strict=True) if a.correct != b.correct
        ]
        assert all(margin < 1e-5 for margin in unlike)
        right += sum(outcome.correct for outcome in outcomes)
        cropped += sum(outcome.cropped for outcome in outcomes)
    assert right > 10
    assert cropped > 10
    result = evaluate_core(scorer, theirs, tmp_path / "bundle", limit=25)
    assert sum(round(score.accuracy * score.count) for score in result.tasks.values()) == right


def test_our_weights_score_the_same_either_way(make_model: MakeModel) -> None:
    model = make_model(dtype=torch.float32)
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 500, length) for length in (3, 20, 50)]
    questions = [
        Question(
            tuple(np.append(prompt, random.integers(0, 500, n)) for n in (1, 4, 9)),
            (len(prompt),) * 3,
        )
        for prompt in prompts
    ]
    ours, theirs = (
        ModelScorer(model).score(questions),
        HFScorer(to_transformers(model), batch_tokens=100).score(questions),
    )
    for a, b in zip(
        (s for scores in ours for s in scores),
        (s for scores in theirs for s in scores),
        strict=True,
    ):
        assert (a.tokens, a.greedy) == (b.tokens, b.greedy)
        assert a.nats == pytest.approx(b.nats, abs=1e-4)


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot load the model"):
        load_hub_model(str(tmp_path))


def test_a_tokenizer_needs_a_beginning(gpt2: Path) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(gpt2)
    plain.bos_token = None
    assert (
        HFTokenizer(plain).bos == plain.eos_token_id
    )  # as GPT-2's own, whose end of text begins one, too
    plain.eos_token = None
    with pytest.raises(DataError, match="no token that begins a text"):
        HFTokenizer(plain)
