"""What every training stage shares: the context it runs in, and the assembly of model, optimizer
and loop around its data and loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from chatling.data.loaders import BatchSource, MicroBatch
from chatling.data.streaming import open_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError
from chatling.evals.bpb import score_tokens
from chatling.evals.config import EvalConfig
from chatling.hardware.detect import peak_memory
from chatling.hardware.distributed import DistContext, main_process_first
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.optim.param_groups import Optimizer, OptimSettings, parameter_roles
from chatling.optim.schedule import Schedule
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.callbacks import LiveEvals
from chatling.train.checkpoint import load_weights, save_model
from chatling.train.runtime import RuntimeConfig
from chatling.train.trainer import LoopConfig, Progress, Trainer, TrainState


@dataclass(frozen=True)
class Context:
    """Where and how a stage runs. The process group, if any, has been joined."""

    run: RunFolder
    seed: int
    tokenizer: Tokenizer
    execution: RuntimeConfig
    world: DistContext
    progress: Progress
    loop: LoopConfig
    evals: EvalConfig | None = None
    core: Path | None = None  # the CORE bundle, if there is one

    @property
    def device(self) -> torch.device:
        return torch.device(self.execution.device)


def train_stage(
    context: Context,
    name: str,
    config: ModelConfig,
    start_from: str | None,
    rates: OptimSettings,
    schedule: Schedule,
    batches: BatchSource,
    validation: Iterable[MicroBatch],
) -> None:
    """Train one next-token stage and write its finished model. `start_from` names the stage whose
    model it begins with.
    """
    model, optimizer = build(context, config, rates)
    if start_from is not None:
        load_weights(model, context.run.model(start_from))
    held_out = [tensors(micro, context.device) for micro in validation]
    token_bytes = torch.from_numpy(context.tokenizer.token_bytes).to(context.device)

    def evaluate() -> dict[str, float]:
        scores = score_tokens(model, held_out, token_bytes, context.world)
        return {"val_loss": scores.loss, "val_accuracy": scores.accuracy, "val_bpb": scores.bpb}

    folder = context.run.stage(name)
    trainer = Trainer(
        name,
        folder,
        model,
        optimizer,
        schedule,
        batches,
        model.loss,
        evaluate,
        context.loop,
        context.world,
        context.progress,
        callback=LiveEvals(context, name, model),
    )
    save_finished(context, name, model, trainer.fit())


def checked_shards(context: Context, folder: Path) -> TokenShards:
    """Token shards, whose files one process of each machine checks for all. A collective. Raises
    DataError naming the damaged file.
    """
    opened: list[TokenShards] = []
    _find_together(context.world, lambda: opened.append(open_shards(folder)))
    return opened[0] if opened else open_shards(folder, checksums=False)


def _find_together(world: DistContext, look: Callable[[], None]) -> None:
    """What one process of a machine finds wrong with files is raised on all."""

    def fault() -> str | None:
        try:
            look()
        except DataError as error:
            return str(error)
        return None

    if (found := world.first_fault(fault)) is not None:
        raise DataError(found)


def save_finished(context: Context, name: str, model: GPT, position: TrainState) -> None:
    """Write a stage's finished model, with what it took. Every rank calls it; the first one
    writes.
    """
    with main_process_first(context.world):
        if context.world.is_main:
            facts = {
                "stage": name,
                "step": position.step,
                "tokens": position.tokens,
                "seconds": position.seconds,
            }
            save_model(
                model,
                context.run.model(name),
                facts | {"peak_memory": peak_memory(context.execution.device)},
            )


def build(
    context: Context, config: ModelConfig, rates: OptimSettings, *, matrices_only: bool = False
) -> tuple[GPT, Optimizer]:
    """A model with fresh weights (the same on every rank and device) and its optimizer, set up as
    the execution says.

    `matrices_only` lets nothing learn but the matrices of the blocks: embeddings, head and scales
    stay as they are.
    """
    execution = context.execution
    if execution.device == "cpu":
        torch.set_num_threads(max(1, execution.threads // context.world.size))
    model = GPT(config, compute_dtype=execution.torch_dtype, kernel=execution.kernel)
    model.initialise(torch.Generator().manual_seed(context.seed))
    model = model.to(
        device=context.device,
        dtype=torch.float64 if execution.dtype == "float64" else torch.float32,
    )
    roles = parameter_roles(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not matrices_only or roles[name] == "matrix")
    if execution.compile:
        model.compile_training()
    orthogonal = torch.bfloat16 if execution.dtype == "bfloat16" else torch.float32
    return model, Optimizer(model, rates, context.world, orthogonal)


def tensors(micro: MicroBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """(inputs, targets) of a micro-batch on a device."""
    inputs, targets = (torch.from_numpy(getattr(micro, f.name)).to(device) for f in fields(micro))
    return inputs, targets
