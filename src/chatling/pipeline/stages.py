"""chatling's own stages: what the pipeline runs, in order, composed of the packages' functions."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatling.config.recipe import Recipe
from chatling.data.config import POCKET
from chatling.data.corpus import Corpus, corpus_mark
from chatling.data.parquet import iter_texts
from chatling.data.streaming import grow_token_shards
from chatling.errors import MachineError, RunError
from chatling.hardware.detect import Machine, detect
from chatling.hardware.distributed import main_process_first
from chatling.model.config import flops_per_token
from chatling.pipeline.downloads import AHEAD, open_corpus, open_sources
from chatling.pipeline.evaluate import core_bundle, evaluate_run, report_run
from chatling.pipeline.plan import plan
from chatling.pipeline.runner import Job, Stage
from chatling.run_dir import STAGES, RunFolder, manifest_fault, read_manifest
from chatling.tasks.task import Task
from chatling.terminal.progress import Progress
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import train_tokenizer
from chatling.toy.corpus import write_corpus
from chatling.train.checkpoint import whole_checkpoint
from chatling.train.context import Context
from chatling.train.datasets import Sources
from chatling.train.dpo import dpo_facts, prepare_dpo, train_dpo
from chatling.train.finetune import prepare_finetune, source_facts, train_finetune
from chatling.train.pretrain import base_batch, train_base
from chatling.train.replay import Replay
from chatling.train.rl import open_task, train_rl
from chatling.train.runtime import MachineConfig, RuntimeConfig, choose_runtime


def chatling_stages() -> tuple[Stage, ...]:
    """tokenizer, base, mid, sft, dpo, rl, eval, report."""
    prepare_mid, prepare_sft = (
        functools.partial(_prepare_finetune, name) for name in ("mid", "sft")
    )
    mid, sft = (functools.partial(_finetune, name) for name in ("mid", "sft"))
    return (
        Stage(
            name="tokenizer",
            work=_make_tokenizer,
            fingerprint_inputs=lambda r: (
                r.seed,
                POCKET if r.data.source == POCKET else corpus_mark(r.data),
                r.tokenizer,
            ),
            outputs=("tokenizer",),
            scratch=("corpus",),
        ),
        _training(
            "base",
            _base,
            _prepare_base,
            lambda r: (r.seed, r.model, r.optim, r.base),
            ("tokenizer",),
        ),
        _training(
            "mid",
            mid,
            prepare_mid,
            functools.partial(_finetune_parts, "mid"),
            ("base",),
            lambda r: r.mid is not None,
        ),
        _training(
            "sft",
            sft,
            prepare_sft,
            functools.partial(_finetune_parts, "sft"),
            ("base", "mid"),
            lambda r: r.sft is not None,
        ),
        _training(
            "dpo",
            _dpo,
            _prepare_dpo,
            _dpo_parts,
            ("base", "mid", "sft"),
            lambda r: r.dpo is not None,
        ),
        _training(
            "rl",
            _rl,
            _prepare_rl,
            _rl_parts,
            ("base", "mid", "sft", "dpo"),
            lambda r: r.rl is not None,
        ),
        Stage(
            "eval",
            evaluate_run,
            lambda r: (r.seed, r.eval),
            STAGES,
            enabled=lambda r: r.eval is not None,
            every_rank=True,
        ),
        Stage("report", report_run, lambda r: (), (*STAGES, "eval"), ("report",), data=("evals",)),
    )


def _training(
    name: str,
    work: Callable[[Job], None],
    prepare: Callable[[Job], None],
    fingerprint_inputs: Callable[[Recipe], Any],
    requires: tuple[str, ...],
    enabled: Callable[[Recipe], bool] = lambda recipe: True,
) -> Stage:
    looked_at = (
        f"evals/{name}-{kind}"
        for kind in ("samples.jsonl", "core.json", "chat.json", "bpb.json", "harness.json")
    )
    scratch = (name, f"tracker/{name}", *looked_at)  # they speak of a model that is no more
    data = tuple(f"data/{name}-{split}" for split in ("train", "validation"))
    remakes = functools.partial(_can_remake, name)
    return Stage(
        name,
        work,
        fingerprint_inputs,
        requires,
        (f"{name}/model",),
        scratch,
        data,
        remakes,
        enabled,
        prepare,
        every_rank=True,
    )


def _can_remake(name: str, folder: RunFolder, entry: Mapping[str, Any]) -> bool:
    """Whether a finished model that was damaged can be made from the last checkpoint, without
    training again.
    """
    return isinstance(entry.get("steps"), int) and whole_checkpoint(
        folder.stage(name), entry["steps"]
    )


def _finetune_parts(name: str, recipe: Recipe) -> Any:
    config = getattr(recipe, name)
    return recipe.seed, recipe.optim, config, source_facts(config, recipe.identity)


def _dpo_parts(recipe: Recipe) -> Any:
    assert recipe.dpo is not None
    return recipe.seed, recipe.optim, *dpo_facts(recipe.dpo)


def _rl_parts(recipe: Recipe) -> Any:
    return recipe.seed, recipe.optim, recipe.identity, recipe.rl


def _corpus(job: Job) -> Corpus:
    """The run's text; the pocket world is written into the run folder the first time."""
    if job.recipe.data.source != POCKET:
        return open_corpus(job.recipe, job.progress.message)
    folder = job.folder.path / "corpus"
    if fault := manifest_fault(folder):
        if folder.exists():
            job.progress.message(f"The text is written again: {fault}.")
        write_corpus(folder, job.recipe.seed)
    files = sorted(
        folder / name for name in read_manifest(folder)
    )  # what else lies there is not ours
    return Corpus(files[:-1], files[-1:])


def _make_tokenizer(job: Job) -> None:
    files = _corpus(job).train
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer = train_tokenizer(iter_texts(files, job.recipe.data.column), job.recipe.tokenizer)
    for warning in caught:
        job.progress.message(f"tokenizer: {warning.message}")
    before = (
        job.folder.read_state()["stages"]
        .get("tokenizer", {})
        .get("tokenizer", tokenizer.fingerprint)
    )
    if before != tokenizer.fingerprint:
        raise RunError(
            "The tokenizer that was damaged cannot be made again as it was, and the run's models"
            " are of no use without it.",
            f"Put {job.folder.tokenizer} back from a copy, or choose another run with --run.",
        )
    tokenizer.save(job.folder.tokenizer)
    job.record({"tokenizer": tokenizer.fingerprint})


def _prepare_base(job: Job) -> None:
    corpus, column = _corpus(job), job.recipe.data.column
    for split, files in (("validation", corpus.validation), ("train", corpus.train)):
        grow_token_shards(
            _shards(job, "base", split),
            files,
            job.folder.tokenizer,
            column,
            AHEAD,
            job.progress.message,
        )


def _prepare_finetune(name: str, job: Job) -> None:
    tokenizer = Tokenizer.load(job.folder.tokenizer)
    shards = _shards(job, name, "train"), _shards(job, name, "validation")
    prepare_finetune(
        name,
        getattr(job.recipe, name),
        tokenizer,
        _sources(job),
        *shards,
        note=job.progress.message,
    )


def _sources(job: Job) -> Sources:
    return open_sources(job.recipe, job.progress.message)


def _base(job: Job) -> None:
    recipe = job.recipe
    context = replace(_context(job), core=core_bundle(job))
    train_base(
        context,
        recipe.base,
        recipe.model,
        recipe.optim,
        _shards(job, "base", "train"),
        _shards(job, "base", "validation"),
    )


def _finetune(name: str, job: Job) -> None:
    recipe = job.recipe
    shards = _shards(job, name, "train"), _shards(job, name, "validation")
    config, before = getattr(recipe, name), _before(name, recipe)
    train_finetune(
        _context(job), name, before, config, recipe.model, recipe.optim, _base_batch(job), *shards
    )


def _base_batch(job: Job) -> int:
    """Tokens of a step of the base stage, which the rates of the later ones follow, too."""
    recipe = job.recipe
    return base_batch(
        recipe.base,
        recipe.model.resolve(Tokenizer.load(job.folder.tokenizer).vocab_size),
        recipe.model.preset,
    )


def _before(name: str, recipe: Recipe) -> str:
    """The stage whose model a stage begins with: the last one before it that the recipe has."""
    return [
        stage for stage in STAGES[: STAGES.index(name)] if getattr(recipe, stage, None) is not None
    ][-1]


def _prepare_dpo(job: Job) -> None:
    assert job.recipe.dpo is not None
    shards = _shards(job, "dpo", "train"), _shards(job, "dpo", "validation")
    prepare_dpo(
        job.recipe.dpo,
        Tokenizer.load(job.folder.tokenizer),
        _sources(job),
        *shards,
        note=job.progress.message,
    )


def _dpo(job: Job) -> None:
    recipe = job.recipe
    assert recipe.dpo is not None
    shards = _shards(job, "dpo", "train"), _shards(job, "dpo", "validation")
    train_dpo(
        _context(job),
        _before("dpo", recipe),
        recipe.dpo,
        recipe.model,
        recipe.optim,
        _base_batch(job),
        *shards,
    )


def _rl_tasks(job: Job) -> tuple[Task, Task]:
    """What reinforcement learning trains on, and what it is evaluated on."""
    assert job.recipe.rl is not None
    sources = _sources(job)
    return open_task(job.recipe.rl, "train", sources), open_task(job.recipe.rl, "test", sources)


def _prepare_rl(job: Job) -> None:
    _rl_tasks(job)  # fetched by one process
    assert job.recipe.rl is not None
    if job.recipe.rl.replay and job.recipe.sft is not None:
        _prepare_finetune("sft", job)  # written before; what is damaged is written again


def _rl(job: Job) -> None:
    recipe = job.recipe
    assert recipe.rl is not None
    start = _before("rl", recipe)
    known = None if recipe.sft is None else Replay(recipe.sft, _shards(job, "sft", "train"))
    train_rl(
        _context(job),
        start,
        recipe.rl,
        recipe.model,
        recipe.optim,
        _base_batch(job),
        *_rl_tasks(job),
        known,
    )


def _shards(job: Job, stage: str, split: str) -> Path:
    return job.folder.data / f"{stage}-{split}"


@dataclass(frozen=True)
class _Noted:
    """The loop's reporter, which also notes in the state how many steps there are, for `chatling
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


def _context(job: Job) -> Context:
    """What the training stages run in; on a run's first training stage, also the choice of how to
    execute it.
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
    stored: dict[str, Any] | None = dict(job.execution) or None
    with main_process_first(job.world):
        if job.world.is_main:
            if stored:
                check_runtime(stored, recipe.machine, machine, job.folder.name)
            else:
                stored = choose_runtime(
                    recipe.machine, machine, model, plan(recipe).steps
                ).to_dict()
    stored = job.world.broadcast_object(stored)
    assert stored is not None
    job.save_runtime(stored)
    job.record({"machine": machine.to_dict(), "processes": job.world.size})
    job.progress.machine(flops_per_token(model), machine.tflops * 1e12)
    noted = _Noted(job.progress, job.record)
    return Context(
        job.folder,
        recipe.seed,
        tokenizer,
        RuntimeConfig.from_dict(stored),
        job.world,
        noted,
        recipe.loop,
        recipe.eval,
    )


def check_runtime(
    stored: Mapping[str, Any], config: MachineConfig, machine: Machine, run: str
) -> None:
    """Raises MachineError when a run cannot go on with the choices that it began with, since others
    would change its bits.
    """
    RuntimeConfig.from_dict(stored)
    hint = "Go on where it began, or start another with --run."
    if stored["device"] not in (machine.device, "cpu"):
        raise MachineError(
            f"Run {run!r} began on {stored['device']}, and this machine has {machine.device}.", hint
        )
    if stored["compile"] and stored["device"] == "cpu" and not machine.compiler:
        raise MachineError(
            f"Run {run!r} began with compiled code, and here is no C++ compiler.", hint
        )
    asked = {
        "device": config.device,
        "dtype": config.dtype,
        "kernel": config.kernel,
        "threads": config.threads or "auto",
    }
    asked["compile"] = config.compile if config.compile == "auto" else config.compile == "on"
    for key, value in asked.items():
        if value not in ("auto", stored[key]):
            raise MachineError(
                f"Run {run!r} began with {key} {stored[key]}, so machine.{key} {value} would change"
                " it midway.",
                hint,
            )
