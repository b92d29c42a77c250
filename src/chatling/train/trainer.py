"""The one training loop: accumulate, reduce, guard, step, evaluate, log, save. Every stage brings
its batches and its loss.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from chatling.config.stages import LoopConfig
from chatling.data.loaders import Step, StepSource, prefetch
from chatling.errors import DataError, Interrupted, RunError
from chatling.evals.samples import Sample
from chatling.hardware.detect import usage
from chatling.hardware.determinism import deterministic
from chatling.hardware.device_errors import OutOfMemory, compiler_errors, memory_errors
from chatling.hardware.distributed import DistContext, main_process_first, widest_float
from chatling.model.gpt import GPT
from chatling.optim.param_groups import Optimizer
from chatling.optim.schedule import Schedule
from chatling.signals import stop_requests
from chatling.train.checkpoint import Checkpoints
from chatling.train.guard import BAD_STEPS_IN_A_ROW, NonFiniteGuard
from chatling.train.metrics import MetricsLog
from chatling.train.trackers import Tracker

# steps between garbage collections, which otherwise stop the device at random moments
COLLECT_EVERY = 500
ROLLED_BACK = "Rolled back"  # how the message of it begins

# called with a micro-batch's tensors by name; returns (sum, count)
Loss = Callable[..., tuple[Tensor, Tensor]]
Evaluate = Callable[[], dict[str, float]]


class Progress(Protocol):
    """Who is told how training goes; see terminal/progress.py."""

    def start(self, stage: str, steps: int, done: int) -> None: ...
    def step(self, metrics: dict[str, Any]) -> None: ...
    def message(self, text: str) -> None: ...
    def activity(self, name: str, done: int = 0, total: int = 0) -> None: ...
    def samples(self, found: Sequence[Sample]) -> None: ...


class Callback(Protocol):
    """Looks at the model at every evaluation, and keeps files of its own; see callbacks.py."""

    def on_eval(self, step: int) -> dict[str, float]:
        """After `step` steps; returns metrics that join the line. Every rank calls it."""

    def on_rewind(self, step: int) -> None:
        """Training resumes after `step` steps: what was kept of later ones is void. The first rank
        calls it.
        """


@dataclass
class TrainState:
    """Where the loop stands: all of its own state, as it is saved."""

    step: int = 0
    data: dict[str, Any] | None = None  # the batch source's state
    seconds: float = 0.0
    tokens: int = 0
    best_step: int | None = None
    best: float = math.inf

    def to_dict(self) -> dict[str, Any]:
        best = None if math.isinf(self.best) else self.best
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"best": best}

    def advance(self, data: dict[str, Any], tokens: int, seconds: float) -> None:
        self.step += 1
        self.data, self.tokens, self.seconds = data, self.tokens + tokens, self.seconds + seconds

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrainState:
        """Raises DataError for what `to_dict` did not write."""
        known = {
            "step": (int,),
            "data": (dict, type(None)),
            "seconds": (float, int),
            "tokens": (int,),
            "best_step": (int, type(None)),
            "best": (float, int, type(None)),
        }
        if data.keys() != known.keys() or any(
            type(data[key]) not in kinds for key, kinds in known.items()
        ):
            raise DataError(
                "A checkpoint's loop.json does not say where training stood.",
                "Delete it; the one before it is used.",
            )
        return TrainState(**{**data, "best": math.inf if data["best"] is None else data["best"]})


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@dataclass
class Trainer:
    """What a training run is made of; everything is kept under `folder`.

    `loss` is called with a micro-batch's tensors; `evaluate` returns metrics, of which `val_loss`
    chooses the best checkpoint.
    `prefetch=False` is for batches that depend on the weights, such as rollouts: each is made when
    the step before it is done.
    """

    name: str
    folder: Path
    model: GPT
    optimizer: Optimizer
    schedule: Schedule
    batches: StepSource
    loss: Loss
    evaluate: Evaluate
    config: LoopConfig
    world: DistContext
    progress: Progress
    prefetch: bool = True
    # also before the first step: a line of its own, with the event "start"
    evaluate_first: bool = False
    callback: Callback | None = None
    deterministic: bool = False  # on a GPU, too

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.world, self.config.keep)
        self.metrics = MetricsLog(self.folder / "metrics.jsonl")
        run = self.folder.parent
        name = self.config.tracker if self.world.is_main else "none"
        self.tracker = Tracker(
            name, run.name, self.name, run / "tracker" / self.name, self.progress.message
        )
        self.guard = self._open_guard()
        self.device = next(self.model.parameters()).device
        self.wide = widest_float(self.device)
        self.position = TrainState()
        self.fits = False  # whether the micro-batches of a step have had memory

    def _open_guard(self) -> NonFiniteGuard:
        """As the first process has it, whose disk may be the only one that does."""
        with main_process_first(self.world):
            guard = NonFiniteGuard(self.folder / "guard.json")
        guard.excluded, guard.rollbacks = self.world.broadcast_object(
            (guard.excluded, guard.rollbacks)
        )
        return guard

    def fit(self) -> TrainState:
        """Train to the schedule's end, from the newest whole checkpoint or from the model as it is.

        Saves and raises Interrupted on SIGTERM or SIGINT; raises RunError when training diverges
        for good, and OutOfMemory, which knows the rows of a micro-batch where smaller ones can be
        tried.
        """
        if not self._restore():
            self._save()  # a rollback needs one, and a full disk shows now
            self.checkpoints.settle()
        self.progress.start(self.name, self.schedule.steps, self.position.step)
        self.tracker.start(self.position.step)
        with (
            compiler_errors(f"training {self.name!r}"),
            memory_errors(OutOfMemory.training(self.name)),
            stop_requests(note=self._note_stop) as stopping,
            quiet_collector(),
            contextlib.closing(self.tracker),
            contextlib.closing(self.checkpoints),
        ):
            if self.evaluate_first and self.position.step == 0:
                self._log({"step": 0, "event": "start", **self._evaluate()})
            while not self._run(stopping):
                self._restore()
                with main_process_first(self.world):
                    if self.world.is_main:
                        self.guard.write()
                why = (
                    f"{BAD_STEPS_IN_A_ROW} steps in a row were not finite; their rows are left out"
                )
                self.progress.message(f"{ROLLED_BACK} to step {self.position.step}: {why}.")
            self.checkpoints.settle()
        return self.position

    def _note_stop(self) -> None:
        """Called by another thread, since the step may take minutes."""
        self.progress.message("Stopping after this step; again to stop now.")

    def _restore(self) -> bool:
        """Go back to the newest whole checkpoint; False when there is none."""
        saved = self.checkpoints.restore(self.model, self.optimizer, self.progress.message)
        if saved:
            self.position = TrainState.from_dict(saved)
        with main_process_first(self.world):
            if self.world.is_main:
                self.metrics.cut(self.position.step)
                if self.callback:
                    self.callback.on_rewind(self.position.step)
        return saved is not None

    def _save(self) -> None:
        self.checkpoints.save(
            self.position.step, self.model, self.optimizer, self.position.to_dict()
        )

    def _run(self, stopping: Callable[[], bool]) -> bool:
        """Step until the end (True) or until a rollback is due (False)."""
        position, schedule = self.position, self.schedule
        if position.step == schedule.steps:
            return True
        steps = _on_host(self.batches.steps(position.data), self.device)
        started = time.perf_counter()
        with contextlib.closing(prefetch(steps) if self.prefetch else steps) as ahead:
            for batch, micro_batches in ahead:
                waited = time.perf_counter() - started
                if batch.position in self.guard.excluded:
                    continue
                count, stop = self.world.all_reduce_scalars(
                    [float(batch.count), float(stopping())], self.device
                )
                if stop:
                    self._save()
                    self.checkpoints.settle()
                    saved = f"Stopped at step {position.step} of {schedule.steps}; saved."
                    raise Interrupted(saved, "Run the same command again to resume.")
                # a step may hold nothing to learn
                with deterministic(self.deterministic):
                    mean, norm = self._gradients(micro_batches, max(count, 1.0))
                # the step's one wait for the device
                loss_value, norm_value = torch.stack([mean, norm.to(self.wide)]).tolist()
                if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
                    self.model.zero_grad(set_to_none=True)
                    self._log(
                        {
                            "step": position.step,
                            "event": "not finite, skipped",
                            "rows": batch.position,
                        }
                    )
                    if self.guard.bad(batch.position):
                        return False
                    continue
                self.guard.streak.clear()
                rate = schedule.rate(position.step)
                # without a gradient, momentum alone would still move the matrices by a whole step
                if norm_value:
                    momentum = schedule.momentum(position.step)
                    with deterministic(self.deterministic):
                        self.optimizer.step(
                            norm, rate, momentum, schedule.weight_decay(position.step)
                        )
                self.model.zero_grad(set_to_none=True)
                seconds = time.perf_counter() - started
                line = {
                    "step": position.step,
                    "loss": loss_value,
                    "rate": rate,
                    "gradient_norm": norm_value,
                }
                line |= {
                    "tokens": batch.tokens,
                    "seconds": round(seconds, 6),
                    "batch_seconds": round(waited, 6),
                    **batch.metrics,
                }
                position.advance(batch.state, batch.tokens, seconds)
                if self._finish_step(line):
                    return True
                started = time.perf_counter()
        raise RunError(
            f"The training data of {self.name!r} ended before the last step.",
            "Check the corpus of this stage.",
        )

    def _finish_step(self, line: dict[str, Any]) -> bool:
        """Evaluate, log and save where it is time to; returns whether this was the last step."""
        position, config = self.position, self.config
        last = position.step == self.schedule.steps
        if last or (config.evaluate_every and position.step % config.evaluate_every == 0):
            line |= self._evaluate()
        self._log(line | usage(self.device.type))
        self.progress.step(line)
        if last or (config.save_every and position.step % config.save_every == 0):
            if line.get("val_loss", math.inf) < position.best:
                position.best, position.best_step = line["val_loss"], position.step
            self._save()
        if position.step % COLLECT_EVERY == 0:
            gc.collect()
        return last

    def _evaluate(self) -> dict[str, float]:
        return self.evaluate() | (
            self.callback.on_eval(self.position.step) if self.callback else {}
        )

    def _log(self, line: dict[str, Any]) -> None:
        if self.world.is_main:
            self.metrics.append(line)
            self.tracker.log(line)

    def _gradients(
        self, micro_batches: list[dict[str, Tensor]], count: float
    ) -> tuple[Tensor, Tensor]:
        """Accumulate the step's gradients, divided once by its global count; returns the mean loss
        and the gradient norm, on the device.
        """
        total = torch.zeros((), dtype=self.wide, device=self.device)
        failed = 0  # rows that were too many
        try:
            for i, tensors in enumerate(micro_batches, 1):
                if i == len(micro_batches):
                    self.optimizer.expect_last()
                self._learn(tensors, count, total)
        except OutOfMemory as error:
            failed = error.rows
        if not self.fits:
            failed, self.fits = max(self.world.gather(failed)), True
        elif failed and self.world.size > 1:
            raise OutOfMemory.training(self.name)  # the others do not know
        if failed:
            raise OutOfMemory.training(self.name, failed)
        if not micro_batches:  # this rank has nothing to learn from, others may have
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        norm = self.optimizer.reduce_gradients()  # before other collectives
        return self.world.all_reduce(total) / count, norm

    def _learn(self, tensors: dict[str, Tensor], count: float, total: Tensor) -> None:
        """A micro-batch's gradients, and its loss on top of `total`."""
        with memory_errors(OutOfMemory.training(self.name, len(next(iter(tensors.values()))))):
            value, _ = self.loss(
                **{
                    key: tensor.to(self.device, non_blocking=True)
                    for key, tensor in tensors.items()
                }
            )
            (value / count).backward()
            total += value.detach()


def _on_host(
    steps: Iterator[Step], device: torch.device
) -> Generator[tuple[Step, list[dict[str, Tensor]]]]:
    """Micro-batches as (pinned) tensors; runs in the prefetch thread, where there is one."""
    pin = device.type == "cuda"
    if pin:
        # each thread has its own current device, and pinning opens a context there
        torch.cuda.set_device(device)
    for step in steps:
        micro_batches = []
        for micro in step.micro_batches:
            tensors = {f.name: torch.from_numpy(getattr(micro, f.name)) for f in fields(micro)}
            micro_batches.append(
                {key: tensor.pin_memory() if pin else tensor for key, tensor in tensors.items()}
            )
        yield step, micro_batches
