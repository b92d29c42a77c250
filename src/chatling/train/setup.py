"""How a stage begins: the choice of how to execute the run, and the context of a training stage."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from chatling.config.stages import MachineConfig
from chatling.errors import ChatlingError, Interrupted, MachineError
from chatling.evals.core_bundle import open_bundle
from chatling.evals.samples import Sample
from chatling.hardware.detect import Machine, detect
from chatling.hardware.distributed import main_process_first
from chatling.hardware.gpu import memory_left
from chatling.model.config import ModelConfig, flops_per_token
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.context import Context
from chatling.train.datasets import open_fetcher
from chatling.train.needs import planned_steps
from chatling.train.runtime import RuntimeConfig, choose_runtime
from chatling.train.stage_base import OTHER_BITS, Job, adapter_rank, shapes
from chatling.train.trainer import Progress


@dataclass(frozen=True)
class _Recorded:
    """The loop's reporter, which also records in the state how many steps there are, for `chatling
    status`, and where an attempt began.
    """

    progress: Progress
    record: Callable[[Mapping[str, Any]], None]

    def start(self, stage: str, steps: int, done: int) -> None:
        self.record({"steps": steps, "begun_at": done})
        self.progress.start(stage, steps, done)

    def step(self, metrics: dict[str, Any]) -> None:
        self.progress.step(metrics)

    def message(self, text: str) -> None:
        self.progress.message(text)

    def activity(self, name: str, done: int = 0, total: int = 0) -> None:
        self.progress.activity(name, done, total)

    def samples(self, found: Sequence[Sample]) -> None:
        self.progress.samples(found)


def open_context(job: Job, *, core: bool = False) -> Context:
    """What a training stage runs in; on a run's first training stage, also the choice of how to
    execute it. With `core`, the CORE bundle that the recipe names is opened.
    """
    recipe = job.recipe
    tokenizer = Tokenizer.load(job.folder.tokenizer)
    model = recipe.model.resolve(tokenizer.vocab_size)
    machine: Machine | None = None
    with main_process_first(job.world):
        if job.world.is_main:  # the others would disturb the measurement
            machine = detect(device="cpu" if recipe.machine.device == "cpu" else None)
    machine = job.world.broadcast_object(machine)
    assert machine is not None
    if machine.device == "cuda":
        left = min(job.world.gather(memory_left(torch.cuda.current_device())))
        machine = replace(machine, left=left)
    stored: dict[str, Any] | None = dict(job.execution) or None
    with main_process_first(job.world):
        if job.world.is_main:
            if stored:
                check_runtime(stored, recipe.machine, machine, job.folder.name)
                say = job.progress.message
                stored |= resumed_rows(stored, recipe.machine, model, job.folder.name, say)
            else:
                planned = recipe.model.resolve(recipe.tokenizer.vocab_size)
                steps = planned_steps(job.stages, recipe, planned)
                say = job.progress.message
                rank = adapter_rank(job.stages, recipe)
                longest = max(s.context for _, s in shapes(job.stages, recipe, planned))
                shards = job.world.size if recipe.machine.shard else 1
                chosen = choose_runtime(
                    recipe.machine, machine, model, steps, say, rank, longest, shards
                )
                stored = chosen.to_dict()
    stored = job.world.broadcast_object(stored)
    assert stored is not None
    job.save_runtime(stored)
    job.record({"machine": machine.to_dict(), "processes": job.world.size})
    job.progress.machine(
        flops_per_token(model), machine.tflops * 1e12, machine.training_tflops * 1e12
    )
    return Context(
        job.folder,
        recipe,
        tokenizer,
        RuntimeConfig.from_dict(stored),
        job.world,
        _Recorded(job.progress, job.record),
        core_bundle(job) if core else None,
    )


def check_runtime(
    stored: Mapping[str, Any], config: MachineConfig, machine: Machine, run: str
) -> None:
    """Raises MachineError when a run cannot resume with the choices that it began with, since
    others would change its bits.
    """
    stored = RuntimeConfig.from_dict(stored).to_dict()
    hint = "Resume it where it began, or start another with --run."
    if stored["device"] not in (machine.device, "cpu"):
        raise MachineError(
            f"Run {run!r} began on {stored['device']}, and this machine has {machine.device}.", hint
        )
    if stored["compile"] and stored["device"] == "cpu" and not machine.compiler:
        raise MachineError(
            f"Run {run!r} began with compiled code, and here is no C++ compiler.", hint
        )
    asked: dict[str, Any] = {
        "device": config.device,
        "dtype": config.dtype,
        "kernel": config.kernel,
        "threads": config.threads or "auto",
        "deterministic": config.deterministic,
        "fp8": "auto" if config.fp8 == "auto" else False,
        "compile": config.compile if config.compile == "auto" else config.compile == "on",
    }
    for key, value in asked.items():
        if value not in ("auto", stored[key]):
            raise MachineError(
                f"Run {run!r} began with {key} {stored[key]}, so machine.{key} {value} would change"
                " it midway.",
                hint,
            )


def resumed_rows(
    stored: Mapping[str, Any],
    config: MachineConfig,
    model: ModelConfig,
    run: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What changes in a run's choices when it resumes with another `machine.rows`: fewer are taken,
    which is said. Raises MachineError for more.
    """
    runtime, asked = RuntimeConfig.from_dict(stored), config.rows * model.context
    if not config.rows or config.rows == runtime.asked_rows or asked == runtime.micro_tokens:
        return {}
    rows = max(1, runtime.micro_tokens // model.context)
    if asked > runtime.micro_tokens:
        raise MachineError(
            f"Run {run!r} trains with {rows} rows at a time; with machine.rows {config.rows} its"
            " results would change in their last bits.",
            f"Leave it at {runtime.asked_rows}, or lower it to take less memory.",
        )
    say(f"From here on with {config.rows} rows at a time instead of {rows}, and {OTHER_BITS}.")
    return {"micro_tokens": asked, "asked_rows": config.rows}


def core_bundle(job: Job) -> Path | None:
    """The folder of the CORE bundle that the recipe names, the same on every rank; None when there
    is none, which is reported.
    """
    config, found = job.recipe.eval, None
    if config is not None and config.core is not None and job.world.leads:
        with left_out(job, "CORE"):
            fetcher = functools.partial(open_fetcher, job.recipe, job.progress.message)
            found = str(open_bundle(config.core, job.folder, job.recipe.seed, fetcher))
    of_all = job.world.gather(found)
    there = [of_all[leader] for leader in set(job.world.gather(job.world.leader))]
    if job.world.is_main and found is not None and None in there:
        job.progress.message("CORE is left out: another node cannot have it.")
    return None if None in there else Path(of_all[job.world.leader])


@contextmanager
def left_out(job: Job, what: str, problems: list[str] | None = None) -> Iterator[None]:
    """Report a failure and continue without what failed. Interruptions are none."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        why = str(error) if isinstance(error, ChatlingError) else f"{type(error).__name__}: {error}"
        job.progress.message(f"{what[:1].upper()}{what[1:]} is left out: {why}")
        if problems is not None:
            problems.append(f"{what} was left out: {why.partition(chr(10))[0].removesuffix('.')}")
