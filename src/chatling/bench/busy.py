"""Training of the pocket recipe's model while other processes want the same cores."""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from chatling.bench.measure import Rows, figure
from chatling.bench.train import training_step
from chatling.config.recipe import load_recipe
from chatling.config.stages import MachineConfig
from chatling.hardware.detect import detect
from chatling.train.runtime import choose_runtime
from chatling.train.scaling import base_batch

# ends with the process that started it, however that ends
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


def measure_busy(
    others: Sequence[int] = (0, 1, 10),
    rounds: int = 5,
    seconds: float = 3.0,
    machine: MachineConfig | None = None,
) -> Rows:
    """Tokens a second beside so many busy processes, and the shares of the first that this is. The
    numbers of processes take turns `rounds` times, `seconds` each, and the median counts.
    """
    recipe = load_recipe("pocket")
    config = recipe.model.resolve(recipe.tokenizer.vocab_size)
    tokens = base_batch(recipe.base, config, recipe.model.preset)
    execution = choose_runtime(machine or recipe.machine, detect(), config, steps=1_000_000)
    if execution.device == "cpu":
        torch.set_num_threads(execution.threads)
    step, _, _ = training_step(recipe.model, config, execution, tokens // config.context)
    step()  # compiles
    speeds: dict[int, list[float]] = {count: [] for count in others}
    for _ in range(rounds):
        for count, found in speeds.items():
            with busy_processes(count):
                found.append(tokens * steps_per_second(step, seconds))
    medians = {count: statistics.median(found) for count, found in speeds.items()}
    return [
        row
        for count, speed in medians.items()
        for row in (
            figure(f"training beside {count} busy processes", speed, "tokens/s"),
            figure(f"  of the speed beside {others[0]}", 100 * (speed / medians[others[0]]), "%"),
        )
    ]


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-S", "-c", BUSY])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def steps_per_second(step: Callable[[], None], seconds: float) -> float:
    """After one step to warm up."""
    step()
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        steps += 1
    return steps / elapsed
