"""The stage graph: what is done is skipped, what broke resumes, what changed runs again with all
that depends on it.
"""

import contextlib
import dataclasses
import datetime
import functools
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatling.config.recipe import Recipe, fingerprint, from_toml, read_text, to_toml
from chatling.errors import ChatlingError, Interrupted, MachineError, RunError
from chatling.hardware.device_errors import (
    OutOfMemory,
    compiler_errors,
    free_memory,
    memory_errors,
)
from chatling.hardware.distributed import DistContext, main_process_first
from chatling.hardware.homes import check_follows, each_home_first, find_homes, share
from chatling.run_dir import (
    STATE,
    RunFolder,
    disk_errors,
    free_bytes,
    manifest_fault,
    size,
    write_atomic,
)
from chatling.signals import handle_signals
from chatling.terminal.progress import Progress
from chatling.train.stage_base import Job, Stage

DONE, RUNNING, INTERRUPTED, FAILED = "done", "running", "interrupted", "failed"


@dataclass(frozen=True)
class Step:
    """A stage with what is to be done about it."""

    stage: Stage
    fingerprint: str
    # as the state has it for this fingerprint; None for a stage that starts from nothing
    status: str | None
    # why a stage that was done is not any more
    fault: str | None = None


def schedule(
    recipe: Recipe,
    folder: RunFolder,
    state: Mapping[str, Any],
    stages: Sequence[Stage],
    *,
    checksums: bool = False,
) -> list[Step]:
    """The enabled stages in order, each with its fingerprint and what is on disk for it; with
    `checksums`, products are read to the end.
    """
    prints: dict[str, str] = {}
    steps = []
    for i, stage in enumerate(stages):
        if not stage.enabled(recipe):
            continue
        prints[stage.name] = fingerprint(
            stage.name,
            stage.fingerprint_inputs(recipe),
            [prints[name] for name in stage.inputs(stages[:i]) if name in prints],
        )
        entry = state["stages"].get(stage.name, {})
        status = entry.get("status") if entry.get("fingerprint") == prints[stage.name] else None
        fault = None
        if status == DONE:
            faults = (
                manifest_fault(folder.path / product, checksums=checksums)
                for product in stage.outputs
            )
            fault = next((fault for fault in faults if fault), None)
        steps.append(Step(stage, prints[stage.name], status, fault))
    return steps


def unfinished(recipe: Recipe, folder: RunFolder, stages: Sequence[Stage]) -> list[str]:
    """The stages that `run` would run."""
    return [
        step.stage.name
        for step in schedule(recipe, folder, folder.read_state(), stages)
        if step.status != DONE or step.fault
    ]


def run(
    recipe: Recipe,
    folder: RunFolder,
    stages: Sequence[Stage],
    progress: Progress,
    world: DistContext,
    *,
    disk: Mapping[str, int] | None = None,
    work: Mapping[str, float] | None = None,
) -> None:
    """Bring every enabled stage to its end. Under several processes, all must call it; the first
    one decides and writes.

    `disk` is the number of bytes that each stage of a fresh run would write, `work` the FLOPs that
    the plan gives it. Raises Interrupted
    (exit code 75) after a signal, with
    everything saved, and RunError when a finished product is damaged that would take long to make
    again.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals_as_interrupted())
        world = find_homes(world, folder.path)
        state: dict[str, Any] = {"stages": {}, "execution": {}}
        steps: list[Step] = []
        with main_process_first(world):
            if world.is_main:
                stack.enter_context(folder.lock())
                state = folder.read_state()
                steps = schedule(recipe, folder, state, stages, checksums=True)
                _check_damage(folder, steps, state)
                if state["stages"]:
                    folder.write_state(state)  # it may have come from the copy
                _check_space(folder, still_to_write(folder, steps, disk or {}))
                with disk_errors(folder.path):
                    write_atomic(folder.path / "recipe.toml", to_toml(recipe))
        with each_home_first(world):
            if world.leads and not world.is_main:
                stack.enter_context(folder.lock())
                check_follows(folder.path / STATE)
        # Only names and statuses travel: the stages themselves hold functions.
        decided = world.broadcast_object(
            [(step.stage.name, step.fingerprint, step.status, step.fault) for step in steps]
        )
        by_name = {stage.name: stage for stage in stages}
        first_training = next((name for name, *_ in decided if by_name[name].every_rank), None)
        talks = False
        for name, mark, status, fault in decided:
            step = Step(by_name[name], mark, status, fault)
            if status == DONE and fault is None:
                progress.message(f"{name}: done before, skipped")
                share(world, *(folder.path / name for name in step.stage.outputs))
                continue
            state = world.broadcast_object(state)
            _run_stage(
                step,
                Job(recipe, folder, world, progress, {}, _nothing, _nothing, tuple(stages)),
                state,
                fresh=name == first_training,
                work=(work or {}).get(name),
            )
            if by_name[name].chats and not talks and name != decided[-1][0]:
                talks = True
                progress.message(
                    f"It answers now: `chatling chat {folder.name}` in another terminal, while"
                    " training continues."
                )


def _run_stage(
    step: Step, given: Job, state: dict[str, Any], *, fresh: bool, work: float | None = None
) -> None:
    """`fresh`: if the stage starts from nothing, what was chosen by measuring is chosen again."""
    folder, world, progress = given.folder, given.world, given.progress
    name, entry = step.stage.name, state["stages"].get(step.stage.name, {})
    with main_process_first(world):
        if world.is_main:
            if step.status is None:
                if entry:
                    progress.message(f"{name}: changed, runs again")
                    _set_aside(step.stage, folder, entry["fingerprint"])
                entry = {"fingerprint": step.fingerprint, "seconds": 0.0, "resumes": 0}
                if fresh:
                    state["execution"] = {}
            else:
                progress.message(
                    f"{name}: {step.fault or 'was ' + _story(step.status)},"
                    f" {'is made again' if step.fault else 'resumes'}"
                )
                entry["resumes"] = entry.get("resumes", 0) + 1
            entry |= {"status": RUNNING, "started": _now()} | ({"work": work} if work else {})
            entry.setdefault("attempts", []).append(
                {"started": entry["started"], "after": step.status}
            )
            entry.pop("error", None)
            state["stages"][name] = entry
            folder.write_state(state)
    state = world.broadcast_object(state)
    entry = state["stages"][name]

    def keep(tables: Sequence[dict[str, Any]], facts: Mapping[str, Any]) -> None:
        for table in tables:
            table.update(facts)
        if world.is_main:
            folder.write_state(state)

    attempt = entry["attempts"][-1]
    save_runtime, record = (
        functools.partial(keep, [state["execution"]]),
        functools.partial(keep, [entry, attempt]),
    )
    job = dataclasses.replace(
        given, execution=dict(state["execution"]), save_runtime=save_runtime, record=record
    )
    begun = time.monotonic()
    progress.activity(name)
    try:
        with each_home_first(world):
            if world.is_main or (world.leads and step.stage.every_rank):
                step.stage.prepare(job)
                if not step.stage.every_rank:
                    step.stage.work(job)
        if step.stage.every_rank:
            _work(step.stage, job, state)
        share(world, *(folder.path / name for name in step.stage.outputs))
        entry |= {"status": DONE, "finished": _now()}
    except BaseException as error:
        entry["status"] = (
            INTERRUPTED if isinstance(error, Interrupted | KeyboardInterrupt) else FAILED
        )
        entry["error"] = str(error).partition("\n")[0]
        raise
    finally:
        entry["seconds"] = round(entry.get("seconds", 0.0) + time.monotonic() - begun, 3)
        attempt |= {"ended": _now(), "status": entry["status"]}  # a killed one has neither
        if world.is_main:
            # A full disk must not hide the error that is on its way.
            with (
                contextlib.suppress(ChatlingError)
                if entry["status"] != DONE
                else contextlib.nullcontext()
            ):
                folder.write_state(state)
    progress.stage_done(name, entry["seconds"])


def _work(stage: Stage, job: Job, state: Mapping[str, Any]) -> None:
    """Work as all processes do; where memory runs out, again with less of it, if there is a way."""
    doing = f"working on {stage.name}"
    while True:
        try:
            with compiler_errors(doing), memory_errors(OutOfMemory.training(stage.name)):
                stage.work(job)
            return
        except OutOfMemory as error:
            job = dataclasses.replace(job, execution=dict(state["execution"]))
            if not stage.lighten(job, error.rows):
                raise
        free_memory()  # only now: the error held on to it
        job = dataclasses.replace(job, execution=dict(state["execution"]))


def _nothing(facts: Mapping[str, Any]) -> None:
    """For a job outside a stage."""


def _story(status: str) -> str:
    return {RUNNING: "cut off", INTERRUPTED: "interrupted", FAILED: "stopped by an error"}.get(
        status, status
    )


def _check_damage(folder: RunFolder, steps: Sequence[Step], state: Mapping[str, Any]) -> None:
    """Raises RunError before anything is trained on a damaged product, or days of training are
    repeated because of one, and where results lie that the state does not know.
    """
    for step in steps:
        path = folder.path / step.stage.name
        if (
            step.fault
            and path.exists()
            and not step.stage.can_remake(folder, state["stages"][step.stage.name])
        ):
            again = (
                f"or delete {path}, and the same command runs {step.stage.name} again from its"
                " beginning."
            )
            raise RunError(
                f"{step.fault}, and there is no whole checkpoint to make it from.",
                f"Put the file back from a copy, {again}",
            )
        known = step.stage.name in state["stages"]
        if not known and step.stage.every_rank and step.stage.outputs and path.exists():
            raise RunError(
                f"{path} holds results that {folder.path / STATE} knows nothing of.",
                f"Put back {STATE} as it was, move that folder away, or choose another run with"
                " --run.",
            )


def _set_aside(stage: Stage, folder: RunFolder, mark: str) -> None:
    """Clear a stage's old outputs for its new run. A finished model may have cost days: it is kept,
    in `previous/`.
    """
    with disk_errors(folder.path):
        for name in (*stage.outputs, *stage.scratch):
            path = folder.path / name
            if path.name == "model" and path.exists():
                kept = folder.path / "previous" / f"{stage.name}-{mark[:8]}"
                shutil.rmtree(kept, ignore_errors=True)
                kept.parent.mkdir(exist_ok=True)
                path.rename(kept)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def still_to_write(folder: RunFolder, steps: Sequence[Step], disk: Mapping[str, int]) -> int:
    """Bytes that are left of what a fresh run would write: nothing of stages that are done, and
    what the others have is there already.

    What `disk` has under no stage's name is needed as long as anything is left to do.
    """
    left = [step for step in steps if step.status != DONE or step.fault]
    if not left:
        return 0
    names = {step.stage.name for step in steps}
    there = {
        step.stage.name: sum(_bytes(folder.path / name) for name in _outputs(step.stage))
        for step in left
    }
    beside = sum(count for name, count in disk.items() if name not in names)
    return beside + sum(max(0, disk.get(name, 0) - count) for name, count in there.items())


def _outputs(stage: Stage) -> set[str]:
    """Without those inside of others."""
    names = {*stage.outputs, *stage.scratch, *stage.data}
    return {name for name in names if not any(name.startswith(f"{other}/") for other in names)}


def _bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _check_space(folder: RunFolder, needed: int) -> None:
    free = free_bytes(folder.path)
    if free < needed:
        raise MachineError(
            f"The run still needs about {size(needed)} at {folder.path}, and {size(free)} are"
            " free.",
            "Free some space, or put runs elsewhere with CHATLING_HOME.",
        )


@contextlib.contextmanager
def signals_as_interrupted() -> Iterator[None]:
    """Outside the training loop, which saves first, SIGTERM and SIGINT stop the run at once; each
    stage resumes from what it has.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Interrupted(
            f"Stopped by {signal.Signals(number).name}.",
            "Start it again with the same command; it resumes.",
        )

    with handle_signals(stop):
        yield


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def frozen_recipe(folder: RunFolder) -> Recipe:
    """The recipe as the run was last started with. Raises RunError when it is missing."""
    path = folder.path / "recipe.toml"
    if not path.exists():
        raise RunError(
            f"{path} does not exist.",
            f"Start the run again: `chatling run RECIPE --run {folder.name}`.",
        )
    return from_toml(Recipe, read_text(path), str(path))
