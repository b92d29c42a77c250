"""What devices and compilers say, as sentences."""

from __future__ import annotations

import pytest
import torch

from chatling.errors import MachineError
from chatling.hardware.device_errors import OutOfMemory, compiler_errors, memory_errors

REFUSALS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17 GiB)"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: str(error)[:30])
def test_a_refusal_of_memory_is_a_sentence(refusal: Exception) -> None:
    with pytest.raises(OutOfMemory, match=r"^Memory ran out while answering\. End what"):  # noqa: SIM117
        with memory_errors(OutOfMemory("answering")):
            raise refusal


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), memory_errors(OutOfMemory("answering")):
        raise error


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (32, "with 32 rows at a time. End what else uses it .* with --machine.rows 16;"),
        (1, "with 1 rows at a time. .* a smaller --machine.rows"),
        (0, "'base'. End what else .* a smaller --machine.rows"),
    ],
)
def test_training_names_the_rows(rows: int, said: str) -> None:
    assert OutOfMemory.training("base", rows).rows == rows
    with pytest.raises(MachineError, match=said):
        raise OutOfMemory.training("base", rows)


def failing(x: torch.Tensor) -> torch.Tensor:
    torch._dynamo.graph_break()
    return x + 1


def test_what_the_compiler_says_is_a_sentence() -> None:
    compiled = torch.compile(failing, fullgraph=True, backend="eager")
    with (
        pytest.raises(MachineError, match=r"The compiler failed while training: .*graph_break"),
        compiler_errors("training"),
    ):
        compiled(torch.ones(1))


# pytest's monkeypatch would leave the two deleted: torch's configurations have no __dict__
@torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
def test_too_many_shapes_are_a_sentence() -> None:
    compiled = torch.compile(lambda x: x + 1, dynamic=False, backend="eager")
    with (
        pytest.raises(
            MachineError, match="there are more shapes of batches than it keeps code for"
        ),
        compiler_errors("training"),
    ):
        list(map(compiled, map(torch.ones, range(1, 5))))


def test_an_error_of_the_program_is_not_the_compiler_s() -> None:
    with pytest.raises(ZeroDivisionError), compiler_errors("training"):
        _ = 1 / 0
