"""What a machine is asked to do: choices that cannot be kept are refused in a sentence."""

from dataclasses import replace

import pytest

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError
from chatling.hardware.detect import Machine
from chatling.model.config import ModelRecipe
from chatling.train.runtime import choose_runtime

MODEL = ModelRecipe(preset="modern", depth=12, context=256).resolve(512)
CPU = Machine("cpu", "test", 2, 8 << 30, False, True, 0.1, 0.1)
GPU = replace(CPU, device="cuda", bf16_tflops=1.0)


@pytest.mark.parametrize(
    ("config", "machine", "match"),
    [
        (MachineConfig(kernel="sdpa"), replace(CPU, memory=1 << 20), "GiB are there"),
        (MachineConfig(kernel="sdpa", device="cuda"), CPU, "no cuda device"),
        (
            MachineConfig(kernel="sdpa", compile="on"),
            replace(CPU, compiler=False),
            "no C\\+\\+ compiler",
        ),
        (MachineConfig(kernel="flex"), CPU, "flex kernel"),
        (MachineConfig(kernel="flex", compile="off"), GPU, "flex kernel"),
        (MachineConfig(kernel="sdpa", dtype="float64"), replace(CPU, device="mps"), "no float64"),
    ],
)
def test_what_the_machine_cannot_do(config: MachineConfig, machine: Machine, match: str) -> None:
    with pytest.raises(MachineError, match=match):
        choose_runtime(config, machine, MODEL, 1000)


def test_compiled_windows_on_a_gpu_use_flex() -> None:
    assert choose_runtime(MachineConfig(kernel="flex"), GPU, MODEL, 1000).kernel == "flex"
