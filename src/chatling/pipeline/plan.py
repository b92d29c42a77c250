"""What a recipe comes to on a machine, before anything runs: parameters, FLOPs, tokens, memory,
disk, time. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from chatling.config.recipe import Recipe
from chatling.data.config import POCKET
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
from chatling.pipeline.epochs import (
    CHARACTERS_PER_TOKEN,
    OTHER_TOKENS_PER_CONVERSATION,
    OWN_CONVERSATIONS,
    TOKENS_PER_CONVERSATION,
    Use,
    mixture_size,
    own_tokens,
    uses_of,
)
from chatling.pipeline.survey import NOTHING_SEEN, Survey
from chatling.tasks.registry import expected_length
from chatling.terminal.progress import duration
from chatling.train.dpo import POCKET_PAIRS, DPOConfig
from chatling.train.finetune import FinetuneConfig
from chatling.train.pretrain import base_batch, base_steps
from chatling.train.rl import POCKET_QUESTIONS, rl_steps
from chatling.train.rollouts import RLConfig
from chatling.train.runtime import micro_tokens

# more text than the tokens need, so that a tokenizer that does a little worse does not meet it
# twice
SPARE_TEXT = 1.05
POCKET_CORPUS = 5_000_000  # bytes of the built-in world's text, at most, and of its tokens
TOKENS_PER_QUESTION = 100  # of GSM8K, roughly; an answer takes about half of what it may
TOKENS_PER_ROLLOUT = {POCKET: 55}  # question and answer: measured, 50 steps of 256
# times as long as learning from them, about: decoding waits for memory, training for arithmetic
ROLLOUTS = 3
# Share of the rate of plain matrix products that training reaches: H100 47.5 %, GB10 40-50 % in
# public runs; CPUs lose more to the rest.
REACHED = {"cuda": 0.45, "mps": 0.4, "cpu": 0.35}


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
class StagePlan:
    """One training stage. `steps` and `tokens` of fine-tuning are estimates, since conversations
    differ in length.
    """

    name: str
    tokens: int
    steps: int
    flops: float
    exact: bool
    conversations: int | None = None

    def seconds(self, tflops: float, reached: float) -> float:
        return self.flops / (tflops * 1e12 * reached)


@dataclass(frozen=True)
class CorpusPlan:
    """What is taken of a corpus on the Hub."""

    shards: int  # to train on; one more is for validation
    characters: float
    download: float


@dataclass(frozen=True)
class Plan:
    """All that follows from a recipe. Bytes, unless a name says otherwise."""

    model: ModelConfig
    parameters: dict[str, int]
    flops_per_token: float
    stages: tuple[StagePlan, ...]
    characters: float  # of pretraining text that base reads, an estimate
    text: CorpusPlan | None  # of a corpus on the Hub about which something is known
    memory: dict[str, int]
    disk: dict[str, int]  # in the run folder, by stage
    uses: tuple[Use, ...] = ()  # of data of one's own that were looked into

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def work(self) -> dict[str, float]:
        """FLOPs of each stage."""
        return {stage.name: stage.flops for stage in self.stages}


def plan(recipe: Recipe, *, micro_rows: int = 1, survey: Survey = NOTHING_SEEN) -> Plan:
    """The numbers of a recipe; memory for micro-batches of `micro_rows` rows. `survey` tells what
    data of one's own hold, which is guessed otherwise. Raises RecipeError for shapes that do not
    fit together.
    """
    model = recipe.model.resolve(recipe.tokenizer.vocab_size)
    per_token = flops_per_token(model)
    steps = base_steps(recipe.base, model, recipe.model.preset)
    base = steps * base_batch(recipe.base, model, recipe.model.preset)
    stages = [StagePlan("base", base, steps, base * per_token, True)]
    for name, config in (("mid", recipe.mid), ("sft", recipe.sft)):
        if config is not None:
            stages.append(_finetune_plan(name, config, per_token, model, survey))
    if recipe.dpo is not None:
        stages.append(_dpo_plan(recipe.dpo, per_token, model, survey))
    if recipe.rl is not None:
        stages.append(_rl_plan(recipe.rl, per_token))
    base_tokens, text = stages[0].tokens, _corpus_plan(recipe)
    training = model_memory(model, training=True)
    weights = model_memory(model, training=False)
    memory = {
        "weights, gradients, optimizer": training,
        "activations": activation_memory(model, micro_rows),
        "logits, one chunk": logits_memory(model, micro_rows),
    }
    written = min(int(text.characters / CHARACTERS_PER_TOKEN) if text else base_tokens, 10**13)
    # A checkpoint holds weights and optimizer state but no gradients.
    disk = _disk(
        recipe, stages, training - weights, weights, written, 2 if model.vocab_size <= 65_536 else 4
    )
    own = survey.text
    each = (
        own.characters / max(1.0, own_tokens(own.bytes, model.vocab_size))
        if own
        else CHARACTERS_PER_TOKEN
    )
    characters = base_tokens * each
    uses = tuple(uses_of(recipe, survey, base_tokens))
    return Plan(
        model,
        parameter_counts(model),
        per_token,
        tuple(stages),
        characters,
        text,
        memory,
        disk,
        uses,
    )


def _disk(
    recipe: Recipe,
    stages: Sequence[StagePlan],
    checkpoint: int,
    weights: int,
    written: int,
    token_bytes: int,
) -> dict[str, int]:
    """Bytes in the run folder by stage; besides, one checkpoint more than is kept exists while it
    is written.
    """
    pocket = recipe.data.source == POCKET
    disk = {"tokenizer": 200 * recipe.tokenizer.vocab_size + (POCKET_CORPUS if pocket else 0)}
    for stage in stages:
        disk[stage.name] = (
            checkpoint * (recipe.loop.keep + 1) + weights
        )  # the newest, the best, and the finished model
    disk["base"] += POCKET_CORPUS if pocket else written * token_bytes
    for stage in stages[1:]:
        disk[stage.name] += (
            0 if stage.name == "rl" else stage.tokens * (token_bytes + 1)
        )  # conversations have a mask
    return disk | {"report": 5_000_000, "a checkpoint being written": checkpoint}


def text_characters(recipe: Recipe) -> float:
    """How much text to have for a recipe's tokenizer and base stage."""
    model, preset = recipe.model.resolve(recipe.tokenizer.vocab_size), recipe.model.preset
    tokens = base_steps(recipe.base, model, preset) * base_batch(recipe.base, model, preset)
    return max(tokens * CHARACTERS_PER_TOKEN * SPARE_TEXT, recipe.tokenizer.characters)


def _corpus_plan(recipe: Recipe) -> CorpusPlan | None:
    facts = recipe.data.facts()
    if facts is None:
        return None
    wanted = (
        math.ceil(text_characters(recipe) / facts.characters)
        if recipe.data.shards == "auto"
        else recipe.data.shards
    )
    shards = min(wanted, facts.shards - 1)
    return CorpusPlan(shards, shards * facts.characters, (shards + 1) * facts.bytes)


def _finetune_plan(
    name: str, config: FinetuneConfig, per_token: float, model: ModelConfig, survey: Survey
) -> StagePlan:
    conversations, tokens = mixture_size(config, survey, model.vocab_size)
    steps = max(
        1,
        (
            round(tokens) // config.batch_tokens
            if config.packed
            else conversations // config.batch_conversations
        ),
    )
    return StagePlan(name, round(tokens), steps, tokens * per_token, False, conversations)


def _dpo_plan(config: DPOConfig, per_token: float, model: ModelConfig, survey: Survey) -> StagePlan:
    """Both answers of each pair, and once more forward alone for the reference: a third of a step's
    work.
    """
    pairs = (
        (config.pairs or POCKET_PAIRS)
        if config.data == POCKET
        else survey.pairs.items
        if survey.pairs
        else OWN_CONVERSATIONS
    )
    tokens = (
        2.0
        * pairs
        * config.epochs
        * TOKENS_PER_CONVERSATION.get(config.data, OTHER_TOKENS_PER_CONVERSATION)
    )
    if survey.pairs:
        tokens = own_tokens(survey.pairs.bytes, model.vocab_size) * config.epochs
    flops = tokens * per_token * (1 + 1 / (3 * config.epochs))
    return StagePlan(
        "dpo",
        int(tokens),
        max(1, config.epochs * pairs // config.batch_pairs),
        flops,
        False,
        2 * pairs,
    )


def _rl_plan(config: RLConfig, per_token: float) -> StagePlan:
    questions = (
        config.questions
        or (POCKET_QUESTIONS if config.task == POCKET else expected_length(config.task, "train"))
        or 0
    )
    steps = rl_steps(config, questions)
    each = TOKENS_PER_ROLLOUT.get(config.task, TOKENS_PER_QUESTION + config.max_tokens // 2)
    tokens = steps * config.questions_per_step * config.samples * each
    return StagePlan("rl", tokens, steps, tokens * per_token * (1 + ROLLOUTS), False)


def micro_rows_for(model: ModelConfig, machine: Machine, rows_per_step: int) -> int:
    """Rows of the largest micro-batch that fits the machine's memory, at least 1 (which may still
    not fit).
    """
    try:
        most = micro_tokens(machine, model) // model.context
    except MachineError:
        return 1
    return min(rows_per_step, most)


def show_plan(plan: Plan, recipe: Recipe, machine: Machine | None, console: Console) -> None:
    """Print the plan as tables: the model, the stages with times on this machine, memory and disk,
    other machines.
    """
    c, flops = plan.model, sum(plan.work.values())
    shape = f"depth {c.depth}, width {c.width}, {c.heads} heads, context {c.context:,}"
    console.print(f"Model: {recipe.model.preset}, {shape}", style="bold", highlight=False)
    console.print(_model_table(plan))
    console.print("\nStages", style="bold")
    console.print(_stage_table(plan, machine))
    if plan.uses:
        console.print("\nYour data", style="bold")
        console.print(_use_table(plan))
    console.print(
        f"base reads about {_short(plan.characters)} characters of text.",
        style="dim",
        highlight=False,
    )
    if plan.text is not None and plan.text.characters < plan.characters:
        console.print(
            f"That is {plan.characters / plan.text.characters:.1f} times what is fetched:"
            " --data.shards.",
            style="yellow",
        )
    if machine:
        rate = (
            f"{REACHED[machine.device]:.0%} of the {machine.tflops:.3g} TFLOP/s measured here"
            f" ({machine.name})"
        )
        console.print(f"Times are for {rate}.", style="dim", highlight=False)
    console.print("\nMemory and disk", style="bold")
    console.print(_memory_table(plan, machine))
    if flops > 1e15:  # below that, any machine is done at once
        console.print(
            f"\nThe whole run elsewhere, at {REACHED['cuda']:.0%} of the nominal rate",
            style="bold",
            highlight=False,
        )
        console.print(_machine_table(flops))


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _model_table(plan: Plan) -> Table:
    table = _table(["", "parameters"])
    for group, count in plan.parameters.items():
        if count:
            table.add_row(group.replace("_", " "), f"{count:,}")
    table.add_row("FLOPs a token", f"{plan.flops_per_token:,.3g}")
    return table


def _stage_table(plan: Plan, machine: Machine | None) -> Table:
    table = _table(
        ["", "conversations", "tokens", "steps", "FLOPs", *(["time"] if machine else [])]
    )
    for stage in plan.stages:
        about = "" if stage.exact else "~"
        talks = "" if stage.conversations is None else f"{stage.conversations:,}"
        row = [
            stage.name,
            talks,
            f"{about}{_short(stage.tokens)}",
            f"{about}{stage.steps:,}",
            f"{stage.flops:.2e}",
        ]
        if machine:
            row.append(duration(stage.seconds(machine.tflops, REACHED[machine.device])))
        table.add_row(*row)
    if machine:
        total = sum(stage.seconds(machine.tflops, REACHED[machine.device]) for stage in plan.stages)
        table.add_row("all", "", "", "", f"{sum(plan.work.values()):.2e}", duration(total))
    return table


def _use_table(plan: Plan) -> Table:
    table = _table(["", "holds", "characters", "tokens", "epochs"])
    table.columns[0].overflow = "fold"
    for use in plan.uses:
        about = "" if use.held.exact else "~"
        held = (
            f"{about}{use.held.items:,} {use.unit}",
            f"{about}{_short(use.held.characters)}",
            f"~{_short(use.tokens)}",
        )
        table.add_row(f"{use.stage}: {use.name}", *held, f"~{use.epochs:,.1f}")
    return table


def _memory_table(plan: Plan, machine: Machine | None) -> Table:
    table = _table(["", "GB"])
    for name, size in plan.memory.items():
        table.add_row(name, f"{size / 1e9:.2f}")
    table.add_row(
        "memory in all",
        f"{sum(plan.memory.values()) / 1e9:.2f}"
        + (f" of {machine.memory / 1e9:.1f}" if machine else ""),
    )
    if plan.text is not None:
        has = (
            f"{plan.text.shards:,} shards with {_short(plan.text.characters)} characters, and one"
            " for validation"
        )
        table.add_row(f"text to fetch: {has}", f"{plan.text.download / 1e9:.1f}")
    table.add_row("run folder", f"{sum(plan.disk.values()) / 1e9:.2f}")
    return table


def _machine_table(flops: float) -> Table:
    table = _table(["", "TFLOP/s", "GB/s", "time", "source"])
    table.columns[-1].justify = "left"
    for fact in MACHINES:
        seconds = flops / (fact.tflops * 1e12 * REACHED["cuda"])
        table.add_row(
            fact.name,
            f"{fact.tflops:,.0f}",
            f"{fact.bandwidth:,.0f}",
            duration(seconds),
            fact.source,
        )
    return table


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"
