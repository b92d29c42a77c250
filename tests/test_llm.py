"""The Python API on small runs made by hand: the engine's tokens, the model's scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import chatling
import chatling.llm as module
from chatling import LLM, SamplingParams, load_model, load_tokenizer
from chatling.errors import RunError
from chatling.run_dir import RunFolder

from .serve.conftest import save_run

QUESTION = [{"role": "user", "content": "the ant and the hat"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "tiny", "base", "sft").path


def test_the_most_advanced_stage_answers_unless_another_is_named(run: Path) -> None:
    assert LLM(run).stage == "sft"
    assert LLM(run, stage="base").stage == "base"
    with pytest.raises(RunError, match=r"no finished rl model\. It has: base, sft"):
        LLM(run, stage="rl")
    with pytest.raises(RunError, match="There is no run"):
        LLM(run.parent / "nowhere")


def test_chat_stream_and_generate_give_the_same_tokens_alone_and_together(run: Path) -> None:
    llm = LLM(run, max_batch_size=4)
    params = SamplingParams(temperature=0.9, seed=3, max_tokens=12)
    answer = llm.chat(QUESTION, params)
    events = list(llm.stream(QUESTION, params))
    assert [event.token for event in events if event.token is not None] == answer.ids
    assert "".join(event.text for event in events) == answer.text
    texts = ["the", "an ant", "12 hats"]
    together = [completion.ids for completion in llm.generate(texts, params)]
    assert together == [llm.generate([text], params)[0].ids for text in texts]


def test_beside_a_training_that_fills_the_gpu_it_answers_on_the_processor(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = module.open_engine(RunFolder(run), "sft")
    monkeypatch.setattr(module, "open_device", lambda rank: "cuda")
    monkeypatch.setattr(module, "memory_left", lambda rank: 10**9)
    with pytest.warns(
        UserWarning, match=r"with 32 answers at once, and 1\.0 GB of the GPU's memory"
    ):
        engine = module.open_engine(RunFolder(run), "sft", max_batch_size=32, gpu=1)
    assert engine.device == found.device == torch.device("cpu")
    shape = found.model.config
    monkeypatch.setattr(module, "memory_left", lambda rank: 2 * 10**9)
    assert module._with_room(0, shape, torch.bfloat16, 32) == "cuda"
    with pytest.warns(UserWarning, match="it answers on the processor"):
        assert module._with_room(0, shape, torch.bfloat16, 10**6) == "cpu"


def test_an_answer_is_a_message_of_the_history(run: Path) -> None:
    llm = LLM(run)
    answer = llm.chat(QUESTION, SamplingParams(temperature=1.0, seed=1, max_tokens=8))
    message = llm.message(answer)
    assert message == {"role": "assistant", "content": [{"type": "text", "text": answer.text}]}
    again = {"role": "user", "content": "and?"}
    assert llm.chat([*QUESTION, message, again], SamplingParams(max_tokens=4)).ids


def test_logprobs_are_the_model_s(run: Path) -> None:
    text = "the ant, 12 hats"
    scores = LLM(run, stage="base").logprobs(text)
    tokenizer, model = load_tokenizer(run), load_model(run, "base")
    ids = tokenizer.encode(text)
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([[tokenizer.bos, *ids]])))
    expected = logits[0, :-1].log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
    assert [score.token_id for score in scores] == ids
    assert "".join(score.text for score in scores) == text
    assert [score.logprob for score in scores] == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_package_itself_imports_nothing_heavy() -> None:
    loaded = "'torch' in sys.modules"
    code = f"import sys, chatling; assert not {loaded}; chatling.LLM; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chatling.nothing


def test_no_name_of_the_api_is_a_module_of_the_package() -> None:
    """Importing such a module would put it in the name's place."""
    package = Path(chatling.__file__).parent
    modules = {path.stem for path in package.iterdir()}
    assert not modules & set(chatling.__all__)
    assert all(callable(getattr(chatling, name)) for name in chatling.__all__)
