"""A whole run on a device that holds only so many rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from chatling.config.recipe import load_recipe
from chatling.errors import MachineError
from chatling.hardware.device_errors import OutOfMemory
from chatling.model.gpt import GPT
from chatling.pipeline.session import run_recipe
from chatling.pipeline.tokenize import TOKENIZER
from chatling.run_dir import RunFolder
from chatling.train.metrics import read_metrics
from chatling.train.pretrain import BASE
from chatling.train.trainer import Trainer

RECIPE = """
[model]
depth = 1
width = 32
head_width = 16
context = 64
[tokenizer]
vocab_size = 400
[data]
source = "CORPUS"
[base]
steps = 2
batch_tokens = 512
validation_tokens = 256
[machine]
kernel = "sdpa"
rows = 8
"""
STAGES = (TOKENIZER, BASE)


class Device:
    """Has memory for micro-batches of so many rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int):
        self.rows, self.tried = rows, list[int]()
        real = GPT.loss

        def loss(model: GPT, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            self.tried.append(len(inputs))
            if len(inputs) > self.rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return real(model, inputs, targets)

        monkeypatch.setattr(GPT, "loss", loss)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFolder]:
    """Carry the recipe out, with some words of a command line."""
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("chatling.hardware.detect.gemm_tflops", lambda device, dtype: 1.0)
    texts = [f"In the year {i} the river rose." for i in range(300)]
    (tmp_path / "corpus").mkdir()
    for i in range(2):
        pq.write_table(pa.table({"text": texts}), tmp_path / f"corpus/{i}.parquet")
    (tmp_path / "small.toml").write_text(RECIPE.replace("CORPUS", str(tmp_path / "corpus")))

    def carry_out(*words: str) -> RunFolder:
        return run_recipe(load_recipe(str(tmp_path / "small.toml"), words), stages=STAGES)

    return carry_out


Run = Callable[..., RunFolder]


def test_a_run_finds_the_rows_that_fit_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device(monkeypatch, rows=2)
    folder = run()
    said = capsys.readouterr().out
    assert device.tried == [8, 4, *[2] * 8]
    assert "base: memory ran out with 8 rows at a time. It goes on from its last checkpoint" in said
    state = folder.read_state()
    assert state["execution"]["micro_tokens"] == 2 * 64
    assert state["stages"]["base"]["status"] == "done"
    assert [line["step"] for line in read_metrics(folder.stage("base") / "metrics.jsonl")] == [0, 1]


def test_where_not_one_row_fits_it_ends_with_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, rows=0)
    with pytest.raises(OutOfMemory, match="while training 'base' with 1 rows at a time"):
        run()
    assert device.tried == [8, 4, 2, 1]
    with pytest.raises(MachineError, match=r"trains with 1 rows at a time; with machine.rows 16"):
        run("--machine.rows", "16")
    device.rows = 1  # with more memory it resumes, though the recipe still asks for 8
    run()
    assert device.tried[4:] == [1] * 16


def test_a_resume_with_fewer_rows_is_announced(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device(monkeypatch, rows=8)

    def killed(self: Trainer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    run("--machine.rows", "4")
    assert "From here on with 4 rows at a time instead of 8" in capsys.readouterr().out
    assert device.tried == [4] * 4
