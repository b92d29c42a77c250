"""What every training stage shares: the context that it runs in, and a model with its optimizer."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chatling.config.recipe import Recipe
from chatling.config.stages import LaterRates
from chatling.data.streaming import compare_marks, open_shards, shards_mark
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError
from chatling.hardware.distributed import DistContext, local_size
from chatling.model.adapter import AdaptedGPT, AdapterConfig
from chatling.model.attention import select_flash
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.model.sharding import shard_blocks
from chatling.optim.param_groups import (
    Optimizer,
    OptimSettings,
    parameter_roles,
    resolve_optim,
)
from chatling.run_dir import STAGES, RunFolder, read_manifest
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import MODEL, load_weights, open_model
from chatling.train.runtime import RuntimeConfig
from chatling.train.scaling import base_batch
from chatling.train.trainer import Progress


@dataclass(frozen=True)
class Context:
    """Where and how a stage runs. The process group, if any, has been joined."""

    run: RunFolder
    recipe: Recipe
    tokenizer: Tokenizer
    execution: RuntimeConfig
    world: DistContext
    progress: Progress
    # the CORE bundle, if there is one
    core: Path | None = None

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def device(self) -> torch.device:
        return torch.device(self.execution.device)

    def optim_settings(self, width: int) -> OptimSettings:
        """The rates of the stages after base, which follow the batch of the base stage."""
        recipe, preset = self.recipe, self.recipe.model.preset
        model = recipe.model.resolve(self.tokenizer.vocab_size)
        return resolve_optim(recipe.optim, preset, width, base_batch(recipe.base, model, preset))

    def shards(self, folder: Path) -> TokenShards:
        """Token shards, whose files one process of each machine checks for all. A collective.
        Raises DataError naming the damaged file.
        """
        opened: list[TokenShards] = []

        def fault() -> str | None:
            try:
                opened.append(open_shards(folder))
            except DataError as error:
                return str(error)
            return None

        if (found := self.world.first_fault(fault)) is not None:
            raise DataError(found)
        if self.world.leaders is not None:
            compare_marks(self.world.gather(shards_mark(folder)), folder)
        return opened[0] if opened else open_shards(folder, checksums=False)


def build(
    context: Context,
    config: ModelConfig,
    settings: OptimSettings,
    *,
    matrices_only: bool = False,
    make: Callable[..., GPT] = GPT,
    shard: bool = False,
    fp8: bool = False,
) -> tuple[GPT, Optimizer]:
    """A model with fresh weights (the same on every rank and device) and its optimizer, set up as
    the execution says; `fp8` for a stage that may train in it.

    `matrices_only` lets nothing learn but the matrices of the blocks: embeddings, head and scales
    stay as they are. `make` is the model's class. With `shard`, the processes share the blocks.
    """
    execution = context.execution
    if execution.device == "cpu":
        torch.set_num_threads(max(1, execution.threads // local_size()))
    select_flash(execution.kernel)
    model = make(config, compute_dtype=execution.torch_dtype, kernel=execution.kernel)
    model.initialize(torch.Generator().manual_seed(context.seed))
    model = model.to(
        device=context.device,
        dtype=torch.float64 if execution.dtype == "float64" else torch.float32,
    )
    roles = parameter_roles(model)
    for name, parameter in model.named_parameters():
        if matrices_only and roles[name] != "matrix":
            parameter.requires_grad_(False)
    for block in model.layers:
        block.use_fp8(fp8 and execution.fp8)  # type: ignore[operator]
    if execution.compile:
        model.compile_training()
    if shard and context.world.size > 1:
        shard_blocks(model, context.world)
    orthogonal = torch.bfloat16 if execution.dtype == "bfloat16" else torch.float32
    return model, Optimizer(model, settings, context.world, orthogonal)


def build_from(
    context: Context,
    stage: str,
    config: LaterRates | None = None,
    *,
    matrices_only: bool = False,
    reshape: Callable[[ModelConfig], ModelConfig] = lambda shape: shape,
    shard: bool = False,
    fp8: bool = False,
) -> tuple[GPT, Optimizer]:
    """The finished model of a stage and a new optimizer, with the rates of stages after base. Where
    `config` has an adapter, the model is frozen and adapters learn. `reshape` gives the model
    another function of the same weights.
    """
    adapter: AdapterConfig | None = getattr(config, "adapter", None)
    clip = config.gradient_clip if config else None
    folder = context.run.model(stage)
    shape = reshape(open_model(folder, context.world))
    settings = context.optim_settings(shape.width)
    if clip is not None:
        settings = replace(settings, clip=clip)
    make: Callable[..., GPT] = GPT
    if adapter is not None:
        base = read_manifest(folder)[MODEL].sha256
        origin, exported = context.recipe.origin, context.run.path / "exports" / f"{stage}-hf"
        source = origin.source if origin and stage not in STAGES else str(exported.absolute())
        make = functools.partial(AdaptedGPT, adapter=adapter, base=base, source=source)
    only = matrices_only
    model, optimizer = build(
        context, shape, settings, matrices_only=only, make=make, shard=shard, fp8=fp8
    )
    load_weights(model, folder)
    return model, optimizer


def tensors(batch: Any, device: torch.device) -> tuple[Tensor, ...]:
    """The arrays of a micro-batch on a device, in the order of its fields."""
    return tuple(torch.from_numpy(getattr(batch, f.name)).to(device) for f in fields(batch))
