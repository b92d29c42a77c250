"""Our model under lm-eval, against lm-eval's own `hf` model on the same weights exported to
`transformers`.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from chatling.bench.peers import to_transformers
from chatling.data.parquet import iter_texts
from chatling.inference.engine import Engine
from chatling.messages import Conversation
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render_prompt

from .conftest import MakeModel

pytest.importorskip("accelerate")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
CONTEXT = 96


@pytest.fixture(scope="module")
def both(
    make_model: MakeModel, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any]]:
    """(ours, lm-eval's), in fp32."""
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    from chatling.evals.lm_eval_adapter import LMEvalAdapter

    logging.disable(logging.WARNING)
    model = make_model(context=CONTEXT, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.bos :] = (
            0  # random weights would end answers and call the calculator
        )
    folder = tmp_path_factory.mktemp("export") / "tokenizer"
    tokenizer.save(folder)
    exported = PreTrainedTokenizerFast.from_pretrained(folder)
    peer = HFLM(
        pretrained=to_transformers(model),
        tokenizer=exported,
        batch_size=8,
        max_length=CONTEXT,
        add_bos_token=True,
    )
    # the exported tokenizer begins no text with bos by itself; ours does, as the model was trained
    exported.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.bos)]
    )
    yield LMEvalAdapter(Engine(model, tokenizer, max_batch_size=4)), peer
    logging.disable(logging.NOTSET)  # of the whole process, which has other tests to run


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]  # type: ignore[arg-type]


def test_200_real_examples(both: tuple[Any, Any], data_pack: Path) -> None:
    """Questions of ARC with their choices; some do not fit the context, one has no context at all,
    one trailing spaces.
    """
    ours, theirs = both
    with open(
        data_pack / "eval_bundle/eval_data/world_knowledge/arc_easy.jsonl", encoding="utf-8"
    ) as file:
        rows = [json.loads(line) for line, _ in zip(file, range(50), strict=False)]
    pairs = [
        (f"{row['query']}\nAnswer:", f" {choice}") for row in rows for choice in row["choices"]
    ]
    pairs += [("", "No context at all"), ("Spaces at the end  ", "belong to what follows")]
    assert len(pairs) >= 200
    asked = requests("loglikelihood", pairs)
    found, expected = ours.loglikelihood(asked), theirs.loglikelihood(asked, disable_tqdm=True)
    assert sum(len(ours.tokenizer.encode(a + b)) > CONTEXT for a, b in pairs) > 10
    assert max(abs(a[0] - b[0]) for a, b in zip(found, expected, strict=True)) <= 1e-4
    assert [a[1] for a in found] == [b[1] for b in expected]


def test_rolling_over_long_texts(both: tuple[Any, Any], data_pack: Path) -> None:
    """Windows and all. lm-eval puts its prefix in front by itself here, so its tokenizer must
    not.
    """
    ours, theirs = both
    texts = [
        "Short.",
        *itertools.islice(iter_texts([data_pack / "pretrain_en/shard_00005.parquet"]), 4),
    ]
    assert max(map(len, texts)) > 2000
    processor, theirs.add_bos_token = theirs.tokenizer.backend_tokenizer.post_processor, False
    try:
        theirs.tokenizer.backend_tokenizer.post_processor = None
        asked = requests("loglikelihood_rolling", [(text,) for text in texts])
        found, expected = (
            ours.loglikelihood_rolling(asked),
            theirs.loglikelihood_rolling(asked, disable_tqdm=True),
        )
    finally:
        theirs.tokenizer.backend_tokenizer.post_processor, theirs.add_bos_token = processor, True
    assert found == [pytest.approx(value, rel=1e-6) for value in expected]


def test_greedy_texts_up_to_a_stop(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    settings = {"until": ["e", "\n\n"], "max_gen_toks": 12, "do_sample": False}
    asked = requests(
        "generate_until",
        [
            (f"The capital of {place} is", settings)
            for place in ("France", "Japan", "Peru", "Kenya")
        ],
    )
    found = ours.generate_until(asked)
    assert found == theirs.generate_until(asked, disable_tqdm=True)
    assert not any("e" in text for text in found)


def test_chat_puts_a_question_to_the_assistant(both: tuple[Any, Any]) -> None:
    from chatling.evals.lm_eval_adapter import LMEvalAdapter

    ours = LMEvalAdapter(both[0].engine, chat=True)
    request = ours._request("Who are you?", {"until": "x", "max_gen_toks": 5})
    assert list(request.prompt) == render_prompt(ours.tokenizer, Conversation.of("Who are you?"))
    assert request.sampling.stop == ("x",)
    assert len(ours._request("word " * 500, {"max_gen_toks": 5}).prompt) == CONTEXT - 5


def test_lm_eval_drives_it_through_a_task_of_its_own(both: tuple[Any, Any], tmp_path: Path) -> None:
    """A local task, since the Hub's need a network: the accuracy is that of the log-likelihoods."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    rows = [
        {"question": f"Is {i} even?", "choices": ["yes", "no"], "gold": i % 2} for i in range(10)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "even.yaml").write_text(f"""
task: even
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{tmp_path}/rows.jsonl"}}, cache_dir: "{tmp_path}"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list: [{{metric: acc}}]
""")
    ours, _ = both
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = simple_evaluate(ours, tasks=["even"], task_manager=manager, bootstrap_iters=0)
    asked = requests(
        "loglikelihood",
        [(row["question"], f" {choice}") for row in rows for choice in row["choices"]],
    )
    logprobs = [value for value, _ in ours.loglikelihood(asked)]
    right = [
        (no > yes) == bool(row["gold"])
        for row, yes, no in zip(rows, logprobs[::2], logprobs[1::2], strict=True)
    ]
    assert found["results"]["even"]["acc,none"] == sum(right) / 10
