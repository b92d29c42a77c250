"""The planner's numbers against those of the reference run."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from chatling.data.config import DataConfig
from chatling.errors import RecipeError
from chatling.hardware.detect import Machine
from chatling.planner import MACHINES, REACHED, micro_rows_for, plan, show_plan
from chatling.recipe import Recipe, load_recipe
from chatling.train.base import BaseConfig

D20 = Recipe(data=DataConfig("/corpus"))
D32 = replace(D20, model=replace(D20.model, depth=32))
CPU = Machine("cpu", "test", cores=2, memory=32 * 10**9, unified=False, compiler=True, fp32_tflops=0.1, bf16_tflops=0.2)


def test_the_reference_run() -> None:
    p = plan(D20)
    base = p.stages[0]
    assert p.parameters["total"] == 560_988_160
    assert base.tokens == 21_400 * 524_288
    assert base.steps == 21_400
    assert base.tokens / 1e9 == pytest.approx(11.2, abs=0.05)
    assert p.characters == pytest.approx(54e9, rel=0.01)
    assert p.shards == pytest.approx(240, abs=2)
    assert p.download == pytest.approx(24e9, rel=0.01)


def test_depth_32_costs_11_6_times_depth_20() -> None:
    assert plan(D32).work["base"] / plan(D20).work["base"] == pytest.approx(11.6, abs=0.05)


def test_one_spark_takes_about_ten_days() -> None:
    spark = next(fact for fact in MACHINES if fact.name.startswith("GB10"))
    assert 7 < plan(D20).stages[0].seconds(spark.tflops, REACHED["cuda"]) / 86_400 < 11


def test_the_machine_table_is_sourced() -> None:
    assert all(fact.source and fact.tflops > 0 and fact.bandwidth > 0 for fact in MACHINES)


def test_memory_grows_with_the_micro_batch_and_fits_the_machine() -> None:
    one, two = plan(D20), plan(D20, micro_rows=2)
    assert two.memory["activations"] == 2 * one.memory["activations"]
    assert two.memory["weights, gradients, optimizer"] == one.memory["weights, gradients, optimizer"]
    rows = micro_rows_for(one.model, CPU, 256)
    assert 1 <= rows < 256
    assert sum(plan(D20, micro_rows=rows).memory.values()) < CPU.memory
    assert micro_rows_for(one.model, replace(CPU, device="cuda", memory=10**12), 256) == 32  # the reference's device batch


def test_pocket_needs_little() -> None:
    p = plan(load_recipe("pocket"))
    assert [stage.name for stage in p.stages] == ["base", "mid", "sft", "rl"]
    assert p.shards is None
    assert p.disk < 10**9
    assert sum(p.work.values()) < 1e15


def test_a_batch_that_cuts_rows_is_refused() -> None:
    with pytest.raises(RecipeError, match="batch_tokens"):
        plan(replace(D20, base=BaseConfig(batch_tokens=3000)))


def test_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    show_plan(plan(D20), D20, CPU, Console(file=text, width=160))
    for part in ("560,988,160", "21,400", "11.2 B", "H100 SXM", "of 32.0", "240" if plan(D20).shards == 240 else "239"):
        assert part in text.getvalue()
