"""lm-eval's own `local-completions` against the server: the same scores as the model's own forward
pass.
"""

from __future__ import annotations

import pytest
import torch

from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import load_model

from .conftest import Running

pytestmark = pytest.mark.slow  # it imports transformers


def test_loglikelihood_and_generation(server: Running) -> None:
    completions = pytest.importorskip("lm_eval.models.openai_completions")
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    run = RunFolder(server.models.runs / "tiny")
    client = completions.LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions",
        model="tiny/sft",
        tokenizer=str(run.tokenizer),
        tokenizer_backend="huggingface",
        max_length=192,
        batch_size=2,
        num_concurrent=1,
    )
    pairs = [("The cat is on", " the mat"), ("an apple", " and the"), ("12", "12 12")]
    asked = [
        instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i)
        for i, pair in enumerate(pairs)
    ]
    tokenizer, model = Tokenizer.load(run.tokenizer), load_model(run.model("sft"))
    for (context, continuation), (score, greedy) in zip(
        pairs, client.loglikelihood(asked), strict=True
    ):
        whole = tokenizer.encode(context + continuation)
        start = len(tokenizer.encode(context))
        with torch.inference_mode():
            logits = model.logits(model(torch.tensor([whole])))[0].log_softmax(-1)
        own = [float(logits[i - 1, whole[i]]) for i in range(start, len(whole))]
        assert score == pytest.approx(sum(own), abs=1e-3)
        assert greedy == all(
            int(logits[i - 1].argmax()) == whole[i] for i in range(start, len(whole))
        )
    until = instance(
        request_type="generate_until",
        doc={},
        arguments=("The cat", {"until": ["zzz"], "max_gen_toks": 12}),
        idx=0,
    )
    (said,) = client.generate_until([until])
    body = {
        "model": "tiny/sft",
        "prompt": tokenizer.encode("The cat"),
        "max_tokens": 12,
        "temperature": 0,
    }
    assert said == server.post("/v1/completions", body).json()["choices"][0]["text"]
