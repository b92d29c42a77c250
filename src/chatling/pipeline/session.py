"""A run from its recipe to its end, in this process or as one of several."""

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from chatling.config.recipe import Recipe
from chatling.hardware.determinism import prepare_determinism
from chatling.hardware.distributed import (
    launched_rank,
    launched_size,
    local_rank,
    marked_stop,
    process_group,
)
from chatling.hardware.doctor import CHECKS, WITHOUT_GPU, diagnose
from chatling.hardware.gather import gather
from chatling.hardware.gpu import open_device
from chatling.hardware.ptxas import mend_ptxas
from chatling.importing.origin import settle_together
from chatling.pipeline import runner
from chatling.pipeline.checks import check
from chatling.pipeline.downloads import fetch_beside, fetch_first
from chatling.pipeline.notify import Notifying, split_command
from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder, find_run, home
from chatling.terminal.progress import Progress, duration
from chatling.train.stage_base import Stage


def run_recipe(
    recipe: Recipe,
    name: str | None = None,
    *,
    notify: str | None = None,
    stages: Sequence[Stage] = STAGES,
) -> RunFolder:
    """Check, download and train what is left of a run; `name` defaults to the recipe's. `notify` is
    a command that is told when a stage is done, and when training is rolled back or stops.

    Raises ChatlingError for what can be known to fail before the first step.
    """
    if recipe.machine.deterministic:
        prepare_determinism()
    begun, words = time.monotonic(), split_command(notify) if notify is not None else None
    folder = RunFolder(find_run(name or recipe.name))
    asked = None if recipe.machine.device == "auto" else recipe.machine.device
    with contextlib.ExitStack() as stack, marked_stop(folder.stopped):
        device = functools.cache(lambda: torch.device(open_device(local_rank(), asked)))
        join = functools.cache(lambda: stack.enter_context(process_group(device())))
        if recipe.origin is not None:
            recipe = settle_together(recipe, folder, print, join())
        with runner.signals_as_interrupted():
            left = runner.unfinished(recipe, folder, stages)
            checked = check(recipe, left, processes=launched_size(), stages=stages)
            if checked.too_large is not None:
                raise checked.too_large
        device()  # an unusable one ends the run before anything is fetched
        silent, work = launched_rank() > 0, checked.plan.work
        with (
            Progress(silent=silent, work=work)
            if words is None
            else Notifying(words, folder.name, silent=silent, work=work)
        ) as progress:
            progress.message(f"Run {folder.name!r} at {folder.path}")
            if device().type == "cuda" and (
                said := mend_ptxas(*torch.cuda.get_device_capability())
            ):
                progress.message(said)
            for warning in (*_machine_warnings(recipe), *checked.warnings):
                progress.message(warning)
            # before the processes join: none waits at a barrier for another's network
            with runner.signals_as_interrupted():
                later = fetch_first(recipe, left, progress.message, folder, stages=stages)
            if later is not None and launched_rank() == 0:
                fetch_beside(later)
            disk = checked.plan.disk
            runner.run(recipe, folder, stages, progress, join(), disk=disk, work=work)
            took = duration(time.monotonic() - begun)
            progress.message(f"Done in {took}. Talk to it: chatling chat {name or recipe.name}")
    return folder


def _machine_warnings(recipe: Recipe) -> Iterator[str]:
    """What `chatling doctor` would find wrong at a glance, on the first process."""
    if launched_rank() > 0:
        return
    checks, facts = WITHOUT_GPU if recipe.machine.device == "cpu" else CHECKS, gather(home())
    if launched_size() > 1:  # the other ranks are on the GPUs already
        facts = replace(facts, gpu_processes=None, gpu_memory_used=None)
    for finding in diagnose(facts, checks):
        if finding.level in ("fault", "warning"):
            yield f"{finding.symptom} {finding.hint}"
