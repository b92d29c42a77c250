"""What devices, their memory and the compiler say when they fail, as sentences."""

import contextlib
import gc
from collections.abc import Iterator

import torch

from chatling.errors import MachineError

# what torch and the libraries below it say without a type of its own
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
COMPILERS = ("torch._dynamo", "torch._inductor", "triton")
OTHERS = "End what else uses it, or take a smaller model, fewer at once, or a shorter context."


class OutOfMemory(MachineError):
    """Memory ran out. `rows` are those of the micro-batch that was too large for some process of a
    run, where all of them know; else 0.
    """

    def __init__(self, doing: str, hint: str = OTHERS, rows: int = 0):
        self.rows = rows
        at_once = f" with {rows} rows at a time" if rows else ""
        super().__init__(f"Memory ran out while {doing}{at_once}.", hint)

    @staticmethod
    def training(stage: str, rows: int = 0) -> "OutOfMemory":
        """In a stage that can resume with smaller micro-batches."""
        hint = (
            f"End what else uses it and resume with the same command; or resume with"
            f" {f'--machine.rows {rows // 2}' if rows > 1 else 'a smaller --machine.rows'}; or"
            " choose a smaller model.depth or model.context, and train anew."
        )
        return OutOfMemory(f"training {stage!r}", hint, rows)


@contextlib.contextmanager
def memory_errors(error: OutOfMemory) -> Iterator[None]:
    """Raise `error` where a device or the processor refuses memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as refusal:
        if isinstance(refusal, MemoryError | torch.OutOfMemoryError) or any(
            sign in str(refusal) for sign in NO_MEMORY
        ):
            raise error from refusal
        raise


@contextlib.contextmanager
def compiler_errors(doing: str) -> Iterator[None]:
    """Turn a failure of torch.compile, or of the compilers that it calls, into one sentence."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(COMPILERS):
            raise
        if type(error).__name__ == "FailOnRecompileLimitHit":
            why = "there are more shapes of batches than it keeps code for"
        else:
            why = next((line for line in str(error).splitlines() if line.strip()), "no reason")
        raise MachineError(
            f"The compiler failed while {doing}: {why.strip()[:300]}",
            "`chatling doctor` tries it; or train without it, as another run:"
            " --machine.compile off --run NAME.",
        ) from error


def free_memory() -> None:
    """Give back what nothing refers to any more, also to a GPU's other processes."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
