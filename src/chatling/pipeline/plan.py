"""What a recipe needs on a machine, before anything runs: parameters, FLOPs, tokens, memory, disk,
time. Pure functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
from chatling.pipeline.evaluate import plan_evaluation
from chatling.pipeline.stages import STAGES
from chatling.train.corpus import CorpusPlan, plan_corpus
from chatling.train.runtime import even_rows, rows_at_once
from chatling.train.scaling import CHARACTERS_PER_TOKEN, base_batch, base_tokens, own_tokens
from chatling.train.stage_base import Stage, StagePlan, Use, adapter_rank, checkpoint_bytes, shapes
from chatling.train.survey import Survey


@dataclass(frozen=True)
class Plan:
    """All that follows from a recipe. Bytes, unless a name says otherwise."""

    model: ModelConfig
    longest: ModelConfig  # in the end, as its context may become longer
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
    # rows of the micro-batch that `memory` is for
    micro_rows: int
    # of data of one's own that were looked into
    uses: tuple[Use, ...] = ()
    # characters that the tokenizer is trained on
    tokenizer: float = 0.0
    # checkpoints that each stage writes, and FLOPs of its validations
    saves: dict[str, int] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    # in the end
    evaluation: StagePlan | None = None
    # of the adapters, where nothing else learns
    rank: int = 0
    # whether the processes share the blocks' weights
    shard: bool = False

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
    ranks: int = 1,
) -> Plan:
    """The numbers of a recipe; memory of one of `ranks` processes for micro-batches of `micro_rows`
    rows. `survey` tells what
    data of one's own hold, which is guessed otherwise. Raises RecipeError for shapes that do not
    fit together.
    """
    model = recipe.model.resolve(recipe.tokenizer.vocab_size)
    known = dict(shapes(stages, recipe, model))
    enabled, longest = list(known), next(reversed(known.values()), model)
    planned = {
        stage: found
        for stage, shape in known.items()
        if (found := stage.plan(recipe, shape, survey))
    }
    own, trained = survey.text, recipe.origin is None
    text_tokens = base_tokens(recipe) if trained else 0
    each = CHARACTERS_PER_TOKEN
    if own:
        each = own.characters / max(1.0, own_tokens(own.bytes, model.vocab_size))
    rank, shards = adapter_rank(stages, recipe), ranks if recipe.machine.shard else 1
    fixed = model_memory(model, training=True, rank=rank, shards=shards)
    memory = {
        "weights, gradients, optimizer": fixed,
        "activations": max(activation_memory(model, micro_rows), activation_memory(longest, 1)),
        "logits, one chunk": max(logits_memory(model, micro_rows), logits_memory(longest, 1)),
    }
    written = {stage.name: stage.disk(recipe, shape, survey) for stage, shape in known.items()}
    disk = {name: count for name, count in written.items() if count}
    return Plan(
        model,
        longest,
        parameter_counts(model),
        flops_per_token(model),
        tuple(planned.values()),
        text_tokens * each,
        plan_corpus(recipe) if trained else None,
        memory,
        # besides, one checkpoint more than is kept exists while it is written
        disk | {"a checkpoint being written": checkpoint_bytes(model, rank)},
        micro_rows,
        tuple(use for stage, shape in known.items() for use in stage.uses(recipe, shape, survey)),
        min(recipe.tokenizer.characters, text_tokens * each),
        {
            stage.name: _times(stage, recipe, found.steps, "save_every")
            for stage, found in planned.items()
        },
        {
            stage.name: _times(stage, recipe, found.steps, "evaluate_every")
            * getattr(stage.config(recipe), "validation_tokens", 0)
            * flops_per_token(known[stage])
            / 3
            for stage, found in planned.items()
        },
        plan_evaluation(recipe, longest, enabled),
        rank,
        recipe.machine.shard,
    )


def _times(stage: Stage, recipe: Recipe, steps: int, key: str) -> int:
    """How often a stage does what it does every so many steps, and in the end; its own table's
    number counts before the loop's.
    """
    every = getattr(stage.config(recipe), key, None)
    every = getattr(recipe.loop, key) if every is None else every
    return 1 + (steps - 1) // every if every else 1


def rows_of_a_rank(
    recipe: Recipe,
    model: ModelConfig,
    machine: Machine,
    ranks: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Rows of a micro-batch: what the recipe says, else the most that pay, of those that fit the
    machine's memory, and as many fewer as divide a rank's share of a step; at least 1 (which may
    still not fit).
    """
    step = base_batch(recipe.base, model, recipe.model.preset) // model.context
    try:
        rank, shards = adapter_rank(STAGES, recipe), ranks if recipe.machine.shard else 1
        most = rows_at_once(recipe.machine, machine, model, rank, say, shards)
    except MachineError:
        most = 1
    return even_rows(max(1, step // ranks), most)
