"""The planner's numbers against those of the reference run."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from chatling.config.recipe import Recipe, builtin_recipes, load_recipe
from chatling.config.stages import (
    BaseConfig,
    FinetuneConfig,
    MachineConfig,
    MixtureEntry,
    OriginConfig,
)
from chatling.data.config import DataConfig
from chatling.errors import RecipeError
from chatling.hardware.detect import Machine
from chatling.model.adapter import AdapterConfig
from chatling.model.config import ModelRecipe, parameter_counts
from chatling.optim.param_groups import OptimConfig
from chatling.pipeline.plan import plan, rows_of_a_rank
from chatling.pipeline.plan_tables import show_plan
from chatling.train.corpus import CorpusPlan
from chatling.train.pretrain import base_rates
from chatling.train.runtime import rows_at_once
from chatling.train.scaling import base_batch, base_steps, text_characters, training_tokens

FINEWEB = "karpathy/fineweb-edu-100b-shuffle"
D20 = Recipe(data=DataConfig(FINEWEB, shards=240))
D32 = replace(D20, model=replace(D20.model, depth=32))
CPU = Machine(
    "cpu",
    "test",
    cores=2,
    memory=32 * 10**9,
    unified=False,
    compiler=True,
    fp32_tflops=0.1,
    bf16_tflops=0.2,
)


def test_the_reference_run() -> None:
    p = plan(D20)
    base = p.stages[0]
    assert p.parameters["total"] == 560_988_160
    assert base.tokens == 21_400 * 524_288
    assert base.steps == 21_400
    assert base.tokens / 1e9 == pytest.approx(11.2, abs=0.05)
    assert p.characters == pytest.approx(54e9, rel=0.01)
    assert p.text == CorpusPlan(240, 60e9, 24.1e9)


@pytest.mark.parametrize(
    ("name", "parameters", "tokens", "shards", "gigabytes", "conversations"),
    [
        ("spark", 560_988_160, 11.2e9, 240, 24.1, (849_656, 22_443)),
        ("spark-modern", 1_384_122_122, 5.9e9, 119, 12.0, (849_656, 22_443)),
        ("speedrun", 1_384_122_122, 5.9e9, 119, 12.0, (849_656, 22_443)),
        ("d32", 1_879_048_192, 37.6e9, 800, 80.1, (849_656, 22_443)),
        ("laptop", 13_107_200, 50e6, 2, 0.3, (61_473, 8_970)),
    ],
)
def test_the_ready_recipes(
    name: str,
    parameters: int,
    tokens: float,
    shards: int,
    gigabytes: float,
    conversations: tuple[int, int],
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
    for part in (
        f"{parameters:,}",
        f"{shards} shards",
        f"{gigabytes}",
        *(f"{count:,}" for count in (*conversations, base.steps)),
    ):
        assert part in shown.getvalue()


def test_auto_takes_what_tokenizer_and_training_need() -> None:
    few = replace(D20, data=DataConfig(FINEWEB), base=BaseConfig(tokens=1_000_000_000))
    text = plan(few).text
    assert text is not None
    assert text.shards == math.ceil(1e9 // 524_288 * 524_288 * 4.8 * 1.05 / 250e6)
    tiny = replace(few, base=BaseConfig(tokens=10_000_000))
    assert text_characters(tiny) == 2e9
    assert plan(
        replace(D20, data=DataConfig(FINEWEB), base=BaseConfig(tokens=10**12))
    ).text == CorpusPlan(1822, 1822 * 250e6, 182.3e9)
    assert plan(replace(D20, data=DataConfig("somebody/else"))).text is None
    assert plan(replace(D20, data=DataConfig("/corpus"))).text is None


def test_too_little_text_is_said() -> None:
    scarce = replace(D20, data=DataConfig(FINEWEB, shards=20))
    shown = io.StringIO()
    show_plan(plan(scarce), scarce, None, Console(file=shown, width=160))
    assert "10.8 times what is fetched" in shown.getvalue()


def test_depth_32_costs_11_6_times_depth_20() -> None:
    assert plan(D32).work["base"] / plan(D20).work["base"] == pytest.approx(11.6, abs=0.05)


def test_rows_are_the_recipe_s_or_what_fits_and_divide_a_rank_s() -> None:
    model, few = plan(D20).model, replace(D20, machine=MachineConfig(rows=7))
    fit = rows_at_once(MachineConfig(), CPU, model)
    assert fit / 2 < rows_of_a_rank(D20, model, CPU) <= fit
    assert rows_of_a_rank(few, model, CPU) == 4  # of 256
    assert rows_of_a_rank(few, model, CPU, ranks=256 // 7) == 7
    assert rows_of_a_rank(few, model, CPU, ranks=128) == 2
    assert rows_of_a_rank(few, model, CPU, ranks=1000) == 1


def test_memory_grows_with_the_micro_batch_and_fits_the_machine() -> None:
    one, two, three = (plan(D20, micro_rows=rows) for rows in (1, 2, 3))
    first, second, third = (each.memory["activations"] for each in (one, two, three))
    assert first < second < 2 * first  # cast weights do not grow
    assert third - second == second - first
    assert (
        two.memory["weights, gradients, optimizer"] == one.memory["weights, gradients, optimizer"]
    )
    rows = rows_at_once(MachineConfig(), CPU, one.model)
    assert 1 <= rows < 256
    assert sum(plan(D20, micro_rows=rows).memory.values()) < CPU.memory
    # the reference's device batch
    large = replace(CPU, device="cuda", memory=10**12)
    assert rows_at_once(MachineConfig(), large, one.model) == 32


def test_where_only_adapters_learn_memory_and_disk_are_of_them() -> None:
    whole, adapter = FinetuneConfig((MixtureEntry("SmolTalk", count=1000),)), AdapterConfig(rank=16)
    origin = OriginConfig("somewhere")
    full = plan(replace(D20, origin=origin, mid=None, sft=whole))
    low = plan(replace(D20, origin=origin, mid=None, sft=replace(whole, adapter=adapter)))
    key = "weights, gradients, optimizer"
    assert full.memory[key] > 3 * low.memory[key]
    assert low.memory[key] > 4 * full.parameters["total"]
    assert full.disk["sft"] > 4 * low.disk["sft"] > 16 * full.parameters["total"]
    small = replace(CPU, device="cuda", memory=16 * 10**9)
    rows = [rows_at_once(MachineConfig(), small, each.model, each.rank) for each in (full, low)]
    assert rows[0] < rows[1]
    # base needs more, and comes first
    assert plan(replace(D20, sft=replace(whole, adapter=adapter))).memory == full.memory


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
    for part in (
        "560,988,160",
        "21,400",
        "11.2 B",
        "H100 SXM",
        "of 32.0",
        "240 shards with 60.0 B characters",
        "24.1",
    ):
        assert part in text.getvalue()


# The second reference at vocabulary 32,768, context 2,048: width, parameters, tokens, batch, steps
# and decay of the matrices by depth.
MODERN = {
    4: (256, 36_700_242, 138_412_608, 262_144, 528, 1.8899031293917847),
    5: (384, 71_762_064, 257_164_560, 262_144, 981, 1.0171946749057428),
    8: (512, 125_829_354, 503_318_784, 262_144, 1_920, 0.5197231443014819),
    10: (640, 195_952_986, 841_485_840, 524_288, 1_605, 0.4396260123878021),
    12: (768, 286_261_730, 1_321_210_944, 524_288, 2_520, 0.28),
    16: (1024, 536_871_738, 2_818_581_504, 524_288, 5_376, 0.13125008583040784),
    20: (1280, 896_533_746, 5_221_922_880, 1_048_576, 4_980, 0.1001877764255601),
    24: (1536, 1_384_122_122, 8_757_727_488, 1_048_576, 8_352, 0.05973842446340308),
    26: (1664, 1_681_786_938, 11_021_082_384, 1_048_576, 10_510, 0.04747018702740847),
    28: (1792, 2_018_511_234, 13_652_487_744, 1_048_576, 13_020, 0.038320696698144335),
    32: (2048, 2_818_575_450, 20_132_696_064, 2_097_152, 9_600, 0.03675007690415606),
}
CLASSIC_STEPS = {
    4: 1_400,
    8: 3_520,
    10: 5_075,
    12: 7_080,
    16: 12_800,
    20: 21_400,
    24: 33_600,
    26: 41_275,
    28: 50_120,
    32: 71_680,
}
REFUSED_BEFORE = [
    depth for depth in range(1, 41) if depth % 2 and depth not in (1, 3, 7, 15, 31)
]  # 64 x depth does not divide into heads


@pytest.mark.parametrize("depth", MODERN)
def test_modern_by_depth_is_the_reference(depth: int) -> None:
    model, config = ModelRecipe("modern", depth).resolve(32_768), BaseConfig()
    rates = base_rates(config, OptimConfig(), model, "modern")
    tokens, batch = training_tokens(config, model, "modern"), base_batch(config, model, "modern")
    found = (
        model.width,
        parameter_counts(model)["total"],
        tokens,
        batch,
        base_steps(config, model, "modern"),
        rates.matrix.weight_decay,
    )
    assert found == pytest.approx(MODERN[depth], rel=1e-12)


@pytest.mark.parametrize("depth", CLASSIC_STEPS)
def test_classic_by_depth_is_the_reference(depth: int) -> None:
    model = ModelRecipe("classic", depth).resolve(65_536)
    assert (model.width, base_batch(BaseConfig(), model, "classic")) == (64 * depth, 524_288)
    assert base_steps(BaseConfig(), model, "classic") == CLASSIC_STEPS[depth]


def test_one_dial_for_every_depth() -> None:
    assert len(REFUSED_BEFORE) == 15
    for preset in ("classic", "modern"):
        for depth in range(1, 41):
            p = plan(replace(D20, model=ModelRecipe(preset, depth)))
            wanted = 64 * depth + 64 * (depth in REFUSED_BEFORE)
            assert (p.model.width, p.model.heads, p.model.depth) == (
                wanted,
                -(-64 * depth // 128),
                depth,
            )
            assert p.model.head_width % 2 == 0
            assert base_rates(BaseConfig(), OptimConfig(), p.model, preset).matrix.learning_rate > 0


@pytest.mark.parametrize("name", builtin_recipes())
def test_every_ready_recipe_at_every_depth(name: str) -> None:
    recipe = load_recipe(name)
    for depth in range(1, 41):
        assert plan(replace(recipe, model=replace(recipe.model, depth=depth))).model.depth == depth


@pytest.mark.parametrize("preset", ["classic", "modern"])
@pytest.mark.parametrize("head_width", [16, 32, 64, 128])
def test_every_whole_ratio_of_heads(preset: str, head_width: int) -> None:
    for width in (64, 96, 128, 160, 192, 320, 640, 768, 1280):
        heads = -(-width // head_width)
        for kv_heads in range(1, heads + 1) if width % (2 * heads) == 0 else ():
            recipe = replace(D20, model=ModelRecipe(preset, 3, 256, width, head_width, kv_heads))  # type: ignore[arg-type]
            if heads % kv_heads:
                with pytest.raises(RecipeError, match="key/value heads"):
                    plan(recipe)
                continue
            rates = base_rates(BaseConfig(steps=3), OptimConfig(), plan(recipe).model, preset)
            assert math.isfinite(rates.matrix.weight_decay)


def test_the_decay_of_depth_12_does_not_hang_on_its_key_value_heads() -> None:
    for kv_heads in (1, 2, 3, 6):
        model = ModelRecipe("modern", 12, kv_heads=kv_heads).resolve(32_768)
        assert base_rates(
            BaseConfig(), OptimConfig(), model, "modern"
        ).matrix.weight_decay == pytest.approx(0.28, rel=1e-12)
    five = ModelRecipe("modern", 4, width=160, head_width=32, kv_heads=5).resolve(2048)
    one = ModelRecipe("modern", 4, width=160, head_width=32, kv_heads=1).resolve(2048)
    five_decay, one_decay = (
        base_rates(BaseConfig(), OptimConfig(), model, "modern").matrix.weight_decay
        for model in (five, one)
    )
    assert five_decay == pytest.approx(one_decay, rel=0.1)


@pytest.mark.parametrize(
    "length",
    [
        {},
        {"steps": 100},
        {"steps": 50_000},
        {"tokens": 5_900_000_000},
        {"tokens": 10**12},
        {"tokens_per_parameter": 4.26},
    ],
)
@pytest.mark.parametrize("batch", [None, 1_048_576])
def test_the_decay_does_not_hang_on_how_the_length_is_written(
    length: dict[str, int], batch: int | None
) -> None:
    model = load_recipe("spark-modern").model.resolve(32_768)
    decay = base_rates(
        BaseConfig(**length, batch_tokens=batch), OptimConfig(), model, "modern"
    ).matrix.weight_decay
    assert decay == pytest.approx(0.0597, rel=0.01)


def test_a_batch_of_its_own_is_whole_rows() -> None:
    for preset in ("classic", "modern"):
        for context in (1, 7, 100, 128, 2000, 2048, 3000, 10**6):
            model = ModelRecipe(preset, 4, context).resolve(8192)
            batch = base_batch(BaseConfig(), model, preset)
            assert batch % context == 0
            assert batch >= context
    assert (
        base_batch(
            BaseConfig(batch_tokens=4096), ModelRecipe("modern", 24, 128).resolve(2048), "modern"
        )
        == 4096
    )


@given(
    depth=st.integers(1, 400),
    head_width=st.integers(1, 200).map(lambda half: 2 * half),
    context=st.integers(1, 5000),
)
def test_any_depth_and_even_head_width_give_a_shape(
    depth: int, head_width: int, context: int
) -> None:
    model = ModelRecipe("modern", depth, context, head_width=head_width).resolve(512)
    assert 64 * depth <= model.width < 64 * depth + head_width
    assert model.width % (2 * model.heads) == 0
    assert model.head_width <= head_width


def test_a_length_of_less_than_a_step_is_refused() -> None:
    for length in ({"tokens": 524_287}, {"tokens_per_parameter": 1e-6}):
        with pytest.raises(RecipeError, match="not one step"):
            plan(replace(D20, base=BaseConfig(**length)))


@pytest.mark.parametrize(("asked", "steps"), [(1_600, 100), (20_000, 7_473 // 16)])
def test_no_more_questions_are_planned_than_there_are(asked: int, steps: int) -> None:
    """GSM8K has 7,473 to train on."""
    recipe = load_recipe("spark", ["--rl.questions", str(asked)])
    assert {stage.name: stage.steps for stage in plan(recipe).stages}["rl"] == steps
