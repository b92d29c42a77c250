"""How what was read becomes a run, or the beginning of one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatling.config.recipe import Recipe, to_toml
from chatling.config.stages import OriginConfig
from chatling.errors import DataError, RunError
from chatling.export.source import Source
from chatling.files import write_atomic
from chatling.hardware.distributed import DistContext, main_process_first
from chatling.importing.source import fingerprint, read_source
from chatling.model.config import ModelConfig, ModelRecipe
from chatling.run_dir import MANIFEST, STAGES, RunFolder, find_run, nearest_name, read_json
from chatling.run_state import fresh
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig
from chatling.train.checkpoint import CONFIG, model_shape, save_model

FINGERPRINT = "fingerprint"  # in a kept model's config.json


def read_origin(origin: OriginConfig, note: Callable[[str], None]) -> Source:
    """The model of an `[origin]` table. Raises DataError when it is another than it was."""
    source = read_source(origin.source, origin.stage, note)
    found = fingerprint(source)
    if origin.sha256 not in (None, found):
        raise DataError(
            f"The model at {origin.source} is another one than the recipe names: sha256"
            f" {found[:12]}…, not {str(origin.sha256)[:12]}….",
            "Put the former one back, or leave out origin.sha256 to take this one.",
        )
    return source


def settle(recipe: Recipe, folder: RunFolder, note: Callable[[str], None]) -> Recipe:
    """The recipe with what its `[origin]` holds, if it has one: fingerprint, model and tokenizer.
    What the run has already is not read again.
    """
    origin, kept = recipe.origin, folder.model("origin")
    if origin is None:
        return recipe
    stage: Any
    sha256, stage = origin.sha256, origin.stage
    if (
        sha256
        and (kept / MANIFEST).exists()
        and read_json(kept / CONFIG).get(FINGERPRINT) == sha256
    ):
        config, tokenizer = model_shape(kept), Tokenizer.load(folder.tokenizer)
    else:
        source = read_origin(origin, note)
        config, tokenizer = source.model.config, source.tokenizer
        sha256, stage = fingerprint(source), source.stage
    return replace(
        recipe,
        origin=OriginConfig(origin.source, sha256, stage),
        model=model_recipe(config),
        tokenizer=replace(
            recipe.tokenizer, vocab_size=tokenizer.vocab_size, digits=tokenizer.digits
        ),
    )


def settle_together(
    recipe: Recipe, folder: RunFolder, note: Callable[[str], None], world: DistContext
) -> Recipe:
    """`settle`, by the first process alone: the others get what it found. All must call it."""
    with main_process_first(world):
        if world.is_main:
            recipe = settle(recipe, folder, note)
    settled: Recipe = world.broadcast_object(recipe)
    return settled


def model_recipe(config: ModelConfig) -> ModelRecipe:
    """The `[model]` table that is nearest to a shape: plans and optimizers go by it, while the
    model itself keeps its own.
    """
    return ModelRecipe(
        preset="modern" if config.layer_scalars else "classic",
        depth=config.depth,
        context=config.context,
        width=config.width,
        head_width=config.head_width,
        kv_heads=config.kv_heads,
        rope_theta=config.rope_theta,
        window_pattern="".join(
            "S" if config.window(layer) else "L" for layer in range(config.depth)
        ),
    )


def keep(source: Source, folder: RunFolder, stage: str) -> str:
    """Write a model and its tokenizer into a run, read them back, and return their fingerprint.
    Raises DataError when they are not what was read.
    """
    mark = fingerprint(source)
    source.tokenizer.save(folder.tokenizer)
    save_model(source.model, folder.model(stage), {"stage": source.stage, FINGERPRINT: mark})
    if fingerprint(Source.of(folder, stage)) != mark:
        raise DataError(f"What was written to {folder.path} is not what was read.")
    return mark


def import_run(
    name: str,
    run: str | None,
    stage: str | None,
    note: Callable[[str], None],
    *,
    hub: bool = False,
) -> RunFolder:
    """A run with the model from a folder, a run, or OWNER/NAME; with `hub`, from there alone.
    Raises ChatlingError.
    """
    folder = RunFolder(find_run(run or nearest_name(Path(name).expanduser().absolute().name)))
    ours = {".lock", "tokenizer", *STAGES, "recipe.toml"}  # of an import that was cut off
    if folder.path.exists() and {path.name for path in folder.path.iterdir()} - ours:
        raise RunError(f"There is a run at {folder.path} already.", "Name another one with --run.")
    source = read_source(name, stage, note, hub=hub)
    with folder.lock():
        mark = keep(source, folder, source.stage)
        recipe = Recipe(
            name=folder.name,
            model=model_recipe(source.model.config),
            tokenizer=TokenizerConfig(
                vocab_size=source.tokenizer.vocab_size, digits=source.tokenizer.digits
            ),
            origin=OriginConfig(name, mark, source.stage).anchored(),  # type: ignore[arg-type]
        )
        write_atomic(folder.path / "recipe.toml", to_toml(recipe))
        folder.write_state(fresh())
    note(f"Verified: sha256 {mark[:16]}…, {source.stage} model")
    return folder
