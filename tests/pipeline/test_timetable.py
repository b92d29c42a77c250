"""The time of the stages: published runs in hours, and what follows from one machine to more."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from chatling.cli import main
from chatling.config.recipe import load_recipe
from chatling.config.stages import FinetuneConfig, LoopConfig
from chatling.hardware.machines import named_machine, published_runs
from chatling.model.config import ModelRecipe, flops_per_token
from chatling.pipeline.plan import plan, rows_of_a_rank
from chatling.pipeline.plan_tables import show_plan
from chatling.pipeline.timetable import Throughput, seconds, timetable

SPARK, MODERN = plan(load_recipe("spark")), plan(load_recipe("spark-modern"))
HOUR = 3600


def times(outline, machine: str, nodes: int | None = None):  # type: ignore[no-untyped-def]
    rates = Throughput.published(named_machine(machine, nodes), outline.model)
    return {each.name: each for each in timetable(outline, rates)}


@pytest.mark.parametrize(
    ("recipe", "machine", "hours", "source"),
    [
        ("spark", "spark", 240, "the article: base in ten days"),
        ("spark", "8xa100", 7, "nanochat discussion, A100"),
        ("spark", "rtx4090", 21_400 * 13.777 / 3600, "nanochat issue 157"),
        ("spark", "8xh100", 11.2198e9 / 1.072e6 / 3600, "nanochat, October 2025"),
        ("d32", "8xh100", 71_680 * 1.574 / 3600, "nanochat run1000"),
        ("spark-modern", "spark", 5.9e9 / 11_760 / 3600, "matt-langston, bf16"),
    ],
)
def test_published_runs_of_our_recipes_take_their_hours(
    recipe: str, machine: str, hours: float, source: str
) -> None:
    base = times(plan(load_recipe(recipe)), machine)["base"]
    assert (base.computing + base.communication) / HOUR == pytest.approx(hours, rel=0.15), source


def test_the_article_s_mid_training_takes_nine_hours() -> None:
    assert times(SPARK, "spark")["mid"].total / HOUR == pytest.approx(9, rel=0.15)


def test_flops_of_published_runs_are_as_we_count_them() -> None:
    classic = {"d20": 20, "d32": 32}
    for run in published_runs():
        if run.model in classic:
            model = ModelRecipe("classic", classic[run.model]).resolve(65_536)
        elif run.windows:
            depth = int(run.model.split()[0][1:])
            model = ModelRecipe("modern", depth).resolve(32_768)
        else:
            continue
        assert flops_per_token(model) == pytest.approx(run.flops_per_token, rel=1e-5)


def test_two_sparks_are_almost_twice_as_fast() -> None:
    one, two = times(MODERN, "spark")["base"], times(MODERN, "spark-pair")["base"]
    assert one.computing / (two.computing + two.communication) / 2 == pytest.approx(0.987, abs=0.01)


def test_a_slow_network_is_told() -> None:
    fast, slow = times(MODERN, "8xh100", 8), times(MODERN, "8xa100", 8)
    assert fast["base"].communication < fast["base"].computing
    assert slow["base"].communication > slow["base"].computing


def test_decoding_goes_by_bandwidth_where_it_is_known() -> None:
    rates = Throughput.published(named_machine("h100"), SPARK.model)
    faster = replace(rates, bandwidth=2 * (rates.bandwidth or 0))
    unknown = replace(rates, bandwidth=None)
    rl, twice, guessed = (
        next(each for each in timetable(SPARK, given) if each.name == "rl")
        for given in (rates, faster, unknown)
    )
    assert rl.decoding == pytest.approx(2 * twice.decoding)
    assert rl.computing == twice.computing == guessed.computing
    # without one, as many times as long as learning
    assert guessed.decoding == pytest.approx(3 * guessed.computing)


def test_checkpoints_validation_and_padding_cost() -> None:
    recipe = load_recipe("spark")
    often = replace(recipe, loop=LoopConfig(save_every=10, evaluate_every=50))
    seldom = replace(recipe, loop=LoopConfig(save_every=0, evaluate_every=0))
    many, few = (times(plan(each), "spark")["base"] for each in (often, seldom))
    assert many.saving == pytest.approx(2140 * few.saving)
    assert many.validation == pytest.approx(428 * few.validation)
    sft = recipe.sft
    assert isinstance(sft, FinetuneConfig)
    wide = plan(replace(recipe, sft=replace(sft, pad_to_multiple_of=2048)))
    assert wide.work["sft"] > 2 * SPARK.work["sft"]
    assert wide.stages[2].tokens == SPARK.stages[2].tokens


def test_evaluations_are_counted() -> None:
    recipe = load_recipe("spark")
    assert recipe.eval is not None
    full = times(SPARK, "spark")["eval"]
    part = times(plan(replace(recipe, eval=replace(recipe.eval, questions=10))), "spark")["eval"]
    none = plan(replace(recipe, eval=None)).evaluation
    assert full.total > part.total > 0
    assert none is None
    assert plan(load_recipe("pocket")).evaluation is not None


def test_the_plan_for_another_machine_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "spark", "--machine", "spark-pair", "--price", "2"]) == 0
    said = capfd.readouterr().out
    for part in (
        "2 nodes of DGX Spark",
        "±",
        "kWh at the rated power",
        "at 2.00 an hour",
        "a rank",
    ):
        assert part in said
    assert main(["plan", "spark", "--machine", "rtx4090"]) == 0
    card = named_machine("rtx4090").machine()
    said, told = " ".join(capfd.readouterr().out.split()), list[str]()
    rows = rows_of_a_rank(load_recipe("spark"), SPARK.model, card, say=told.append)
    assert "machine.rows is 32; in 20.4 GB of memory fit at most 5 at a time" in told[0]
    assert told[0] in said
    assert f"{rows} rows at a time" in said
    assert "Fits: " in said
    assert main(["plan", "spark", "--machine", "m3max"]) == 0
    assert "kWh" not in capfd.readouterr().out  # nobody says its watts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--machine", "h1000"], "Did you mean 'h100'?"),
        (["--nodes", "2"], "Give it with --machine"),
        (["--machine", "spark", "--nodes", "0"], "--nodes"),
        (["--machine", "spark", "--nodes", "two"], "--nodes"),
        (["--price", "nan"], "is no price"),
        (["--price", "-1"], "is no price"),
    ],
)
def test_options_that_make_no_sense_are_a_sentence(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "pocket", *words]) in (1, 2)
    assert said in capfd.readouterr().err


def test_what_is_known_of_elsewhere_is_shown() -> None:
    shown = io.StringIO()
    show_plan(SPARK, load_recipe("spark"), None, Console(file=shown, width=160))
    assert "8 x H100 SXM" in shown.getvalue()
    assert "no run" in shown.getvalue()
    lines = {line[:8]: line for line in shown.getvalue().splitlines()}
    assert "too little memory" in lines["RTX 4070"]
    assert "too little memory" not in lines["RTX 4090"]


def test_the_whole_is_the_sum() -> None:
    rates = Throughput.published(named_machine("a100"), SPARK.model)
    assert seconds(SPARK, rates) == pytest.approx(sum(t.total for t in timetable(SPARK, rates)))
