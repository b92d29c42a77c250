"""The probe of FP8: what it accepts, what it refuses, and what a run keeps of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError
from chatling.model import fp8
from chatling.model.config import ModelRecipe
from chatling.train import low_precision
from chatling.train.low_precision import LEAST_COSINE, cosines, fp8_pays, shapes
from chatling.train.runtime import RuntimeConfig
from chatling.train.setup import check_runtime

from .test_runtime import CPU

D20 = ModelRecipe(depth=20).resolve(65_536)


def test_the_shapes_are_those_of_a_block() -> None:
    assert shapes(D20) == {(1280, 1280), (5120, 1280), (1280, 5120)}
    shared = ModelRecipe(depth=20, kv_heads=2).resolve(65_536)
    assert (256, 1280) in shapes(shared)


def test_rounding_alone_passes_by_little_and_a_coarser_type_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = cosines("cpu", torch.bfloat16, 256, (320, 256))
    assert all(found[name] > least for name, least in LEAST_COSINE.items())
    # .999 cannot be asked of a gradient in e5m2
    assert found["to the input"] < 0.999
    assert found["to the matrix"] < 0.999
    monkeypatch.setattr(fp8, "FORWARD", fp8.BACKWARD)
    coarse = cosines("cpu", torch.bfloat16, 256, (320, 256))
    assert all(coarse[name] < least for name, least in LEAST_COSINE.items())


@pytest.mark.parametrize("wrong", ["nan", "zero", "transposed"])
def test_products_that_are_wrong_are_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    right = fp8.product

    def product(*args: torch.Tensor, **options: bool) -> torch.Tensor:
        found = right(*args, **options)  # type: ignore[arg-type]
        if wrong == "transposed":
            return found.flip(0)
        return found * (torch.nan if wrong == "nan" else 0)

    monkeypatch.setattr(fp8, "product", product)
    found = cosines("cpu", torch.bfloat16, 64, (64, 64))
    assert all(found[name] < least for name, least in LEAST_COSINE.items())


def test_it_must_be_right_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    seconds = {False: 1.06, True: 1.0}
    monkeypatch.setattr(low_precision, "block_seconds", lambda *args, fp8: seconds[fp8])
    good = dict.fromkeys(LEAST_COSINE, 0.9995)
    monkeypatch.setattr(low_precision, "cosines", lambda *args: good)

    def pays(**changes: object) -> bool:
        asked = {"device": "cuda", "dtype": torch.bfloat16, "model": D20, "compiled": True}
        return fp8_pays(**{**asked, **changes}, say=said.append)  # type: ignore[arg-type]

    assert pays()
    assert not pays(device="cpu")
    assert not pays(compiled=False)
    assert not pays(dtype=torch.float32)
    assert not pays(model=ModelRecipe(depth=12).resolve(65_536))
    assert "below a width of 1,280" in said[-1]
    assert not pays(model=replace(D20, mlp_width=5121))
    assert "a side of 5121" in said[-1]
    seconds[False] = 1.04
    assert not pays()
    assert said[-1] == "FP8 is not used: a block takes 1000.00 ms with it and 1040.00 ms without."
    good["to the matrix"] = 0.99
    assert not pays()
    assert "the product to the matrix of a matrix 1,280 × 1,280 has a cosine of 0.9900" in said[-1]

    def broken(*args: object) -> dict[str, float]:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED\nand more")

    monkeypatch.setattr(low_precision, "cosines", broken)
    assert not pays()
    assert said[-1] == "FP8 is not used: CUBLAS_STATUS_NOT_SUPPORTED."


def test_a_run_keeps_what_it_began_with() -> None:
    began = RuntimeConfig("cpu", "float32", "plain", False, 1, 64, fp8=True).to_dict()
    assert RuntimeConfig.from_dict(began).fp8
    earlier = {key: value for key, value in began.items() if key != "fp8"}
    assert not RuntimeConfig.from_dict(earlier).fp8
    check_runtime(began, MachineConfig(fp8="auto"), CPU, "run")
    with pytest.raises(MachineError, match="began with fp8 True"):
        check_runtime(began, MachineConfig(), CPU, "run")
    check_runtime(began | {"fp8": False}, MachineConfig(fp8="auto"), CPU, "run")
