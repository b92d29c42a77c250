"""The planner's numbers against those of the reference run."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from chatling.data.config import DataConfig
from chatling.errors import RecipeError
from chatling.hardware.detect import Machine
from chatling.planner import MACHINES, REACHED, CorpusPlan, micro_rows_for, plan, show_plan, text_characters
from chatling.recipe import Recipe, load_recipe
from chatling.train.base import BaseConfig

FINEWEB = "karpathy/fineweb-edu-100b-shuffle"
D20 = Recipe(data=DataConfig(FINEWEB, shards=240))
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
    assert p.text == CorpusPlan(240, 60e9, 24.1e9)


@pytest.mark.parametrize(("name", "parameters", "tokens", "shards", "gigabytes", "conversations"), [
    ("spark", 560_988_160, 11.2e9, 240, 24.1, (849_656, 22_443)),
    ("spark-modern", 1_384_122_122, 5.9e9, 119, 12.0, (849_656, 22_443)),
    ("speedrun", 1_384_122_122, 8.76e9, 177, 17.8, (849_656, 22_443)),
    ("d32", 1_879_048_192, 37.6e9, 800, 80.1, (849_656, 22_443)),
    ("laptop", 23_199_744, 100e6, 3, 0.4, (61_473, 8_970)),
])
def test_the_ready_recipes(
    name: str, parameters: int, tokens: float, shards: int, gigabytes: float, conversations: tuple[int, int]
) -> None:
    recipe = load_recipe(name)
    p = plan(recipe)
    base, mid, sft = p.stages[:3]
    assert p.parameters["total"] == parameters
    assert base.tokens == pytest.approx(tokens, rel=0.005)
    assert p.characters == pytest.approx(4.8 * base.tokens)
    assert p.text is not None
    assert (p.text.shards, round(p.text.download / 1e9, 1)) == (shards, gigabytes)
    assert p.text.characters > p.characters  # nothing is met twice
    assert (mid.conversations, sft.conversations) == conversations
    assert sft.steps == conversations[1] // 32
    shown = io.StringIO()
    show_plan(p, recipe, CPU, Console(file=shown, width=160))
    for part in (f"{parameters:,}", f"{shards} shards", f"{gigabytes}", *(f"{count:,}" for count in (*conversations, base.steps))):
        assert part in shown.getvalue()


def test_auto_takes_what_tokenizer_and_training_need() -> None:
    few = replace(D20, data=DataConfig(FINEWEB), base=BaseConfig(tokens=1_000_000_000))
    text = plan(few).text
    assert text is not None
    assert text.shards == math.ceil(1e9 // 524_288 * 524_288 * 4.8 * 1.05 / 250e6)
    tiny = replace(few, base=BaseConfig(tokens=10_000_000))
    assert text_characters(tiny) == 2e9
    assert plan(replace(D20, data=DataConfig(FINEWEB), base=BaseConfig(tokens=10**12))).text == CorpusPlan(1822, 1822 * 250e6, 182.3e9)
    assert plan(replace(D20, data=DataConfig("somebody/else"))).text is None
    assert plan(replace(D20, data=DataConfig("/corpus"))).text is None


def test_too_little_text_is_said() -> None:
    scarce = replace(D20, data=DataConfig(FINEWEB, shards=20))
    shown = io.StringIO()
    show_plan(plan(scarce), scarce, None, Console(file=shown, width=160))
    assert "10.8 times what is fetched" in shown.getvalue()


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
    assert [stage.name for stage in p.stages] == ["base", "mid", "sft", "dpo", "rl"]
    assert p.text is None
    assert sum(p.disk.values()) < 10**9
    assert sum(p.work.values()) < 1e15


def test_a_batch_that_cuts_rows_is_refused() -> None:
    with pytest.raises(RecipeError, match="batch_tokens"):
        plan(replace(D20, base=BaseConfig(batch_tokens=3000)))


def test_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    show_plan(plan(D20), D20, CPU, Console(file=text, width=160))
    for part in ("560,988,160", "21,400", "11.2 B", "H100 SXM", "of 32.0", "240 shards with 60.0 B characters", "24.1"):
        assert part in text.getvalue()
