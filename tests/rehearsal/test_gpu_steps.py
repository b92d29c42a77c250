"""Steps of every stage on fake CUDA tensors: they end, on one device, without waiting for it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatling.config.recipe import builtin_recipes, load_recipe

HERE = Path(__file__).parent
STEP = {"_run": 1}  # the one time that a step waits for the device: loss and norm
SHARED = STEP | {"all_reduce_scalars": 1}  # with others: how many tokens count, who wants to stop
# what fake tensors raise for a value, a shape or a device that is not known or not alike
WAITS = ("DataDependentOutput", "DynamicOutputShape", "FakeTensorDeviceMismatch")
MISTAKES = ["item", "float", "if", "boolean index", "nonzero", "cpu tensor", "cpu", "tolist"]
# it grows by the layer, so that two depths stand for all
MEMORY = {"spark": (2, 4), "spark-modern": (4, 8), "d32": (2,), "speedrun": (4,)}


def training(recipe: str = "spark", **case: Any) -> dict[str, Any]:
    """Layers are alike, but for modern's windows and value embeddings, which four show."""
    modern = load_recipe(recipe).model.preset == "modern"
    depth = {"depth": 4 if modern else 1}
    return {"kind": "training", "recipe": recipe, "rows": 2, **depth, **case}


CASES = {
    **{
        f"base {name} {rank} of {size}": training(recipe=name, size=size, rank=rank)
        for name in builtin_recipes()
        for size, rank in ((1, 0), (8, 0), (8, 7))
        if size > 1 or name in ("spark", "spark-modern")
    },
    "base by flash": training(recipe="spark-modern", kernel="flash"),
    "memory flash": training(recipe="spark-modern", kernel="flash", depth=4, rows=8, compiled=True),
    **{f"stage {stage}": training(stage=stage) for stage in ("sft", "dpo", "rl", "rl-anchored")},
    **{
        f"memory {name} {depth}": training(recipe=name, depth=depth, rows=8, compiled=True)
        for name, depths in MEMORY.items()
        for depth in depths
    },
    **{
        f"decoding {width}": {"kind": "decoding", "recipe": "spark-modern", "depth": 4}
        | {"width": width}
        for width in (1, 32)
    },
    **{f"masked {heads}": {"kind": "masked", "kv_heads": heads} for heads in (8, 2)},
    **{
        f"answering {'captured' if compiled else 'eager'} {temperature}": {"kind": "answering"}
        | {"recipe": "spark-modern", "depth": 4, "width": 4}
        | {"temperature": temperature, "compiled": compiled}
        for temperature in (0.0, 1.0)
        for compiled in (True, False)
    },
    "scoring": {"kind": "scoring", "recipe": "spark-modern", "depth": 4},
    **{f"wrong {name}": training(recipe="pocket", depth=1, wrong=name) for name in MISTAKES},
}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each case found; they share one process, since importing takes longer than most."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler, which a CUDA that does nothing is built with")
    folder = tmp_path_factory.mktemp("rehearsal")
    build = "import sys, pathlib, fake_cuda; fake_cuda.build(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, folder], cwd=HERE, check=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "rehearse.py", folder / "no_cuda.so"],
        input=json.dumps(list(CASES.values())),
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
        check=True,
    )
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


def named(prefix: str) -> list[str]:
    return [name for name in CASES if name.startswith(prefix)]


@pytest.mark.parametrize("name", [*named("base"), *named("stage")])
def test_a_step_waits_for_the_device_once(name: str, rehearsed: dict[str, dict[str, Any]]) -> None:
    found, case = rehearsed[name], CASES[name]
    assert "error" not in found, found
    assert found["reads"] == (SHARED if case.get("size", 1) > 1 else STEP)
    assert found["copies"] == []
    assert found["masters"] == ["torch.float32 cuda"]


@pytest.mark.parametrize("name", named("base"))
def test_only_the_first_rank_takes_the_state_to_the_host(
    name: str, rehearsed: dict[str, dict[str, Any]]
) -> None:
    found = rehearsed[name]
    first = CASES[name].get("rank", 0) == 0
    assert found["files"] == (6 if first else 0)  # before the step and after it
    assert found["save_copies"] >= found["state"] if first else found["save_copies"] == 0
    assert found["written_on"] == (["cpu"] if first else [])


@pytest.mark.parametrize("name", named("memory"))
def test_memory_is_what_the_plan_says(name: str, rehearsed: dict[str, dict[str, Any]]) -> None:
    found = rehearsed[name]
    assert found["step_peak"] == pytest.approx(found["planned"], rel=0.01)


@pytest.mark.parametrize("name", named("masked"))
def test_grouped_heads_make_no_scores_either(
    name: str, rehearsed: dict[str, dict[str, Any]]
) -> None:
    found = rehearsed[name]
    assert "error" not in found, found
    assert found["peak"] < found["scores"] / 2


@pytest.mark.parametrize("name", named("decoding"))
def test_decoding_waits_for_nothing(name: str, rehearsed: dict[str, dict[str, Any]]) -> None:
    found = rehearsed[name]
    assert "error" not in found, found
    assert found["logits"] == [CASES[name]["width"], 32768]
    assert (found["on"], found["copies"], found["reads"]) == ("cuda", [], {})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_captured_step_is_one_launch(
    temperature: float, rehearsed: dict[str, dict[str, Any]]
) -> None:
    """Rows go to the GPU in one copy, and what is drawn comes back in one, which is waited for."""
    captured, eager = (
        rehearsed[f"answering {kind} {temperature}"] for kind in ("captured", "eager")
    )
    for found in (captured, eager):
        assert "error" not in found, found
        assert (found["reads"], found["copies"]) == ({"_sample": 1}, 0)
    # the copy, the graph, two conversions and their stack; the rest is the draw
    assert captured["launches"] == 5 if temperature == 0 else captured["launches"] < 40
    assert eager["launches"] > captured["launches"] + 150


def test_scoring_waits_for_each_batch_once(rehearsed: dict[str, dict[str, Any]]) -> None:
    """CORE reads losses and hits of its two batches; validation its sums, in the end."""
    found = rehearsed["scoring"]
    assert found["scores"] == [4, 1]
    assert (found["copies"], found["validation_copies"]) == (4, 0)
    assert found["reads"] == {"score_tokens": 1}


@pytest.mark.parametrize("name", named("wrong"))
def test_what_waits_in_the_loss_is_noticed(name: str, rehearsed: dict[str, dict[str, Any]]) -> None:
    found = rehearsed[name]
    if "error" in found:
        assert found["error"].startswith(WAITS)
    else:
        assert found["copies"] or found["reads"] != STEP
