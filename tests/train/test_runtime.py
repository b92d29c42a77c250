"""What a machine is asked to do: choices that cannot be kept are refused in a sentence."""

from dataclasses import replace

import pytest

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError
from chatling.hardware.detect import Machine
from chatling.model.config import ModelRecipe
from chatling.train import runtime
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


def chosen(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float | Exception], compile: str = "on"
) -> tuple[str, list[str]]:
    """The kernel that is chosen on a GPU where each takes so long or fails, and what is said."""

    def timed(kernel: str, *_: object) -> float:
        found = seconds[kernel]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(runtime, "_kernel_seconds", timed)
    said: list[str] = []
    config = MachineConfig(compile=compile)  # type: ignore[arg-type]
    return choose_runtime(config, GPU, MODEL, 1000, said.append).kernel, said


def test_windows_on_a_gpu_take_the_faster_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, {"flex": 0.001, "sdpa": 0.002}) == (
        "flex",
        ["Attention: flex (flex 1.0 ms, sdpa 2.0 ms)."],
    )
    assert chosen(monkeypatch, {"flex": 0.003, "sdpa": 0.002})[0] == "sdpa"
    assert chosen(monkeypatch, {"sdpa": 0.002}, compile="off")[0] == "sdpa"


def test_a_kernel_that_fails_is_told_and_another_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = RuntimeError("out of resource: shared memory, Required: 114688\nmore")
    kernel, said = chosen(monkeypatch, {"flex": failure, "sdpa": 0.002})
    assert kernel == "sdpa"
    assert "flex does not run here: out of resource: shared memory, Required: 114688" in said[0]
    with pytest.raises(MachineError, match="No attention kernel"):
        chosen(monkeypatch, {"flex": failure, "sdpa": failure})
