"""Train: the whole pipeline, or what is left of it."""

from __future__ import annotations

import time

from chatling.commands.common import Command, recipe_and_run
from chatling.run_dir import RunFolder, find_run


def run(command: Command, words: list[str]) -> None:
    recipe, name = recipe_and_run(command, words)

    import torch

    from chatling.hardware.detect import find_device
    from chatling.hardware.distributed import (
        launched_rank,
        launched_size,
        local_rank,
        process_group,
    )
    from chatling.pipeline import runner
    from chatling.pipeline.checks import check
    from chatling.pipeline.downloads import fetch_beside, fetch_first
    from chatling.pipeline.stages import chatling_stages
    from chatling.terminal.progress import Progress, duration

    begun, folder, stages = (
        time.monotonic(),
        RunFolder(find_run(name or recipe.name)),
        chatling_stages(),
    )
    with runner.signals_as_interrupted():
        left = runner.unfinished(recipe, folder, stages)
        checked = check(recipe, left, processes=launched_size())
        if checked.too_large is not None:
            raise checked.too_large
    device = torch.device(
        find_device() if recipe.machine.device == "auto" else recipe.machine.device
    )
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    with Progress(silent=launched_rank() > 0, work=checked.plan.work) as progress:
        progress.message(f"Run {folder.name!r} at {folder.path}")
        for warning in checked.warnings:
            progress.message(warning)
        # before the processes join: none waits at a barrier for another's network
        with runner.signals_as_interrupted():
            later = fetch_first(recipe, left, progress.message, folder)
        if later is not None and launched_rank() == 0:
            fetch_beside(later)
        with process_group(device) as world:
            runner.run(recipe, folder, stages, progress, world, disk=checked.plan.disk)
        progress.message(
            f"Done in {duration(time.monotonic() - begun)}. Talk to it: chatling chat"
            f" {name or recipe.name}"
        )
