"""What a machine is asked to do: choices that cannot be kept are refused in a sentence."""

from dataclasses import replace

import pytest

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError
from chatling.hardware.detect import Machine
from chatling.model.config import ModelRecipe
from chatling.train.runtime import RuntimeConfig, choose_runtime, rows_at_once
from chatling.train.setup import check_runtime, resumed_rows

MODEL = ModelRecipe(preset="modern", depth=12, context=256).resolve(512)
CPU = Machine("cpu", "test", 2, 8 << 30, False, True, 0.1, 0.1)
GPU = replace(CPU, device="cuda", bf16_tflops=1.0)


@pytest.mark.parametrize(
    ("config", "machine", "match"),
    [
        (MachineConfig(kernel="sdpa"), replace(CPU, memory=1 << 20), "a run may take 0.9 MB"),
        (MachineConfig(kernel="sdpa", device="cuda"), CPU, "no cuda device"),
        (
            MachineConfig(kernel="sdpa", compile="on"),
            replace(CPU, compiler=False),
            "no C\\+\\+ compiler",
        ),
        (MachineConfig(kernel="flex"), CPU, "flex kernel"),
        (MachineConfig(kernel="flex", compile="off"), GPU, "flex kernel"),
        (MachineConfig(kernel="flash"), CPU, "flash kernel computes in bfloat16 and on CUDA"),
        (MachineConfig(kernel="flash3", dtype="float32"), GPU, "flash3 kernel computes in bf"),
        (MachineConfig(kernel="sdpa", dtype="float64"), replace(CPU, device="mps"), "no float64"),
    ],
)
def test_what_the_machine_cannot_do(config: MachineConfig, machine: Machine, match: str) -> None:
    with pytest.raises(MachineError, match=match):
        choose_runtime(config, machine, MODEL, 1000)


def test_compiled_windows_on_a_gpu_use_flex() -> None:
    assert choose_runtime(MachineConfig(kernel="flex"), GPU, MODEL, 1000).kernel == "flex"


SDPA = MachineConfig(kernel="sdpa")


def test_rows_that_do_not_fit_are_fewer_and_that_is_said() -> None:
    small, said = replace(GPU, memory=2 * 10**9), list[str]()
    fit = rows_at_once(MachineConfig(), small, MODEL)
    assert rows_at_once(MachineConfig(rows=fit), small, MODEL, say=said.append) == fit
    assert said == []
    asked = replace(SDPA, rows=1000)
    chosen = choose_runtime(asked, small, MODEL, 1000, said.append)
    assert chosen.micro_tokens >= fit * MODEL.context
    assert chosen.asked_rows == 1000
    assert (
        f"machine.rows is 1000; in 1.7 GB of memory fit at most {chosen.micro_tokens // 256}"
        in said[0]
    )
    assert rows_at_once(asked, replace(GPU, memory=10**12), MODEL, say=said.append) == 1000
    assert len(said) == 1


def test_beside_other_processes_a_run_takes_what_they_leave() -> None:
    said: list[str] = []
    free = rows_at_once(MachineConfig(), replace(GPU, left=8 << 30), MODEL, say=said.append)
    assert free == rows_at_once(MachineConfig(), GPU, MODEL)
    assert said == []
    beside = replace(GPU, left=2 * 10**9)
    assert rows_at_once(MachineConfig(), beside, MODEL, say=said.append) < free
    assert said[0].startswith("Other processes leave 2.0 GB of the GPU's memory: ")
    with pytest.raises(MachineError, match=r"a run may take 95 MB .* End what else uses the GPU"):
        rows_at_once(MachineConfig(), replace(GPU, left=10**8), MODEL)


def test_without_a_compiler_on_a_gpu_it_is_said_that_training_is_slower() -> None:
    said: list[str] = []
    choose_runtime(SDPA, replace(GPU, compiler=False), MODEL, 1000, said.append)
    assert "training takes 1.3 to 2 times as long" in said[0]
    choose_runtime(SDPA, replace(GPU, compiler=False), MODEL, 100, said.append)  # none would be
    choose_runtime(replace(SDPA, compile="off"), GPU, MODEL, 1000, said.append)
    choose_runtime(SDPA, replace(CPU, compiler=False), MODEL, 1000, said.append)  # doctor's
    assert len(said) == 1


STORED = RuntimeConfig("cpu", "float32", "sdpa", False, 2, 8 * 256, 8).to_dict()


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (0, {}),
        (8, {}),
        (4, {"micro_tokens": 4 * 256, "asked_rows": 4}),
        (1, {"micro_tokens": 256, "asked_rows": 1}),
    ],
)
def test_a_resume_may_take_fewer_rows(rows: int, changes: dict[str, int]) -> None:
    said: list[str] = []
    assert resumed_rows(STORED, MachineConfig(rows=rows), MODEL, "x", said.append) == changes
    assert bool(said) == bool(changes)
    if said:
        assert f"with {rows} rows at a time instead of 8, and the last bits" in said[0]


def test_a_resume_may_not_take_more_rows_but_what_ran_out_of_memory_resumes() -> None:
    with pytest.raises(
        MachineError, match=r"'x' trains with 8 rows at a time; with machine.rows 9"
    ):
        resumed_rows(STORED, MachineConfig(rows=9), MODEL, "x", print)
    halved = STORED | {"micro_tokens": 4 * 256}
    assert resumed_rows(halved, MachineConfig(rows=8), MODEL, "x", print) == {}
    with pytest.raises(MachineError, match="4 rows at a time"):
        resumed_rows(halved, MachineConfig(rows=6), MODEL, "x", print)


def test_choices_of_earlier_versions_are_read() -> None:
    old = {key: STORED[key] for key in list(STORED)[:6]}
    assert RuntimeConfig.from_dict(old) == replace(RuntimeConfig.from_dict(STORED), asked_rows=0)
    check_runtime(old, MachineConfig(rows=8), CPU, "x")
    with pytest.raises(MachineError, match=r"deterministic False, so machine\.deterministic True"):
        check_runtime(old, MachineConfig(deterministic=True), CPU, "x")
