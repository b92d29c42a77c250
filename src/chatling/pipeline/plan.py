"""What a recipe needs on a machine, before anything runs: parameters, FLOPs, tokens, memory, disk,
time. Pure functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chatling.config.recipe import Recipe
from chatling.errors import MachineError
from chatling.hardware.detect import Machine
from chatling.model.config import (
    ModelConfig,
    activation_memory,
    flops_per_token,
    logits_memory,
    model_memory,
    parameter_counts,
)
from chatling.pipeline.stages import STAGES
from chatling.train.corpus import CorpusPlan, plan_corpus
from chatling.train.runtime import micro_tokens
from chatling.train.scaling import CHARACTERS_PER_TOKEN, base_tokens, own_tokens
from chatling.train.stage_base import Stage, StagePlan, Use, checkpoint_bytes
from chatling.train.survey import Survey


@dataclass(frozen=True)
class MachineFact:
    """Dense bf16 TFLOP/s and memory GB/s as published. Trust a measurement over it."""

    name: str
    tflops: float
    bandwidth: float
    source: str


MACHINES = (
    MachineFact(
        "GB10 (DGX Spark)", 125, 273, "NVIDIA DGX Spark data sheet: 1 PFLOP/s sparse FP4 / 8"
    ),
    MachineFact("RTX 3090", 71, 936, "NVIDIA Ampere GA102 white paper, FP16 accumulate FP32"),
    MachineFact("RTX 4090", 165, 1010, "NVIDIA Ada white paper, appendix A"),
    MachineFact("RTX 5090", 209, 1790, "NVIDIA RTX Blackwell white paper, appendix A"),
    MachineFact("A100", 312, 2000, "NVIDIA A100 80GB data sheet"),
    MachineFact("H100 SXM", 989, 3350, "NVIDIA H100 data sheet, without sparsity"),
    MachineFact("H200", 989, 4800, "NVIDIA H200 data sheet, without sparsity"),
    MachineFact("8 x H100 SXM", 8 * 989, 8 * 3350, "eight of the above"),
    MachineFact("MI300X", 1300, 5300, "AMD Instinct MI300X data sheet"),
)


@dataclass(frozen=True)
class Plan:
    """All that follows from a recipe. Bytes, unless a name says otherwise."""

    model: ModelConfig
    parameters: dict[str, int]
    flops_per_token: float
    stages: tuple[StagePlan, ...]
    # of pretraining text that base reads, an estimate
    characters: float
    # of a corpus on the Hub about which something is known
    text: CorpusPlan | None
    memory: dict[str, int]
    # in the run folder, by stage
    disk: dict[str, int]
    # of data of one's own that were looked into
    uses: tuple[Use, ...] = ()

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def work(self) -> dict[str, float]:
        """FLOPs of each stage."""
        return {stage.name: stage.flops for stage in self.stages}


def plan(
    recipe: Recipe,
    *,
    micro_rows: int = 1,
    survey: Survey = Survey(),  # noqa: B008 - frozen
    stages: Sequence[Stage] = STAGES,
) -> Plan:
    """The numbers of a recipe; memory for micro-batches of `micro_rows` rows. `survey` tells what
    data of one's own hold, which is guessed otherwise. Raises RecipeError for shapes that do not
    fit together.
    """
    model = recipe.model.resolve(recipe.tokenizer.vocab_size)
    enabled = [stage for stage in stages if stage.enabled(recipe)]
    planned = (stage.plan(recipe, model, survey) for stage in enabled)
    own = survey.text
    each = CHARACTERS_PER_TOKEN
    if own:
        each = own.characters / max(1.0, own_tokens(own.bytes, model.vocab_size))
    memory = {
        "weights, gradients, optimizer": model_memory(model, training=True),
        "activations": activation_memory(model, micro_rows),
        "logits, one chunk": logits_memory(model, micro_rows),
    }
    written = {stage.name: stage.disk(recipe, model, survey) for stage in enabled}
    disk = {name: count for name, count in written.items() if count}
    return Plan(
        model,
        parameter_counts(model),
        flops_per_token(model),
        tuple(stage for stage in planned if stage),
        base_tokens(recipe) * each,
        plan_corpus(recipe),
        memory,
        # besides, one checkpoint more than is kept exists while it is written
        disk | {"a checkpoint being written": checkpoint_bytes(model)},
        tuple(use for stage in enabled for use in stage.uses(recipe, model, survey)),
    )


def micro_rows_for(model: ModelConfig, machine: Machine, rows_per_step: int) -> int:
    """Rows of the largest micro-batch that fits the machine's memory, at least 1 (which may still
    not fit).
    """
    try:
        most = micro_tokens(machine, model) // model.context
    except MachineError:
        return 1
    return min(rows_per_step, most)
