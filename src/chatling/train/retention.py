"""What a model could before it was trained: held-out questions that it is asked before and after,
and the way back from where too much of it was lost.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from chatling.config.stages import DPOConfig
from chatling.evals.chat import Result, chat_task_names, evaluate_chat, open_chat_tasks
from chatling.inference.engine import Engine
from chatling.inference.model_runner import in_dtype
from chatling.model.adapter import AdaptedGPT, merged
from chatling.model.gpt import GPT
from chatling.tasks.task import Task
from chatling.toy.dataset import BUILT_IN
from chatling.train.checkpoint import read_model
from chatling.train.context import Context
from chatling.train.datasets import Sources

SHARES = (0.75, 0.5, 0.25)  # of the way that training went; all of it costs more than it shows
ROWS = 64  # questions answered together
MOST_TOKENS = 128  # of an answer
SEED = 1  # beyond the recipe's, so that they are not the questions of its evaluation


@torch.no_grad()
def interpolate(model: GPT, start: Path, share: float) -> None:
    """Put a model on the line from the finished model in `start` to itself, that share of the way
    (WiSE-FT, arXiv 2109.01903).

    What was learned on purpose grows with the way; what noise did to other skills with its square.
    """
    if isinstance(model, AdaptedGPT):
        return model.weaken(share)
    before_it = read_model(start, model.config, device=str(model.embed_tokens.weight.device))
    for mine, before in zip(model.parameters(), before_it.parameters(), strict=True):
        mine.copy_(before.to(mine.dtype).lerp(mine, share))


def watched_questions(
    names: Sequence[str], questions: int, sources: Sources
) -> tuple[list[Task], list[Task]]:
    """About so many held-out questions of some chat tasks, twice: those that decide how far
    training goes, and others, on which the result is shown.
    """
    found = chat_task_names(names)
    count = sum(len(BUILT_IN[name].skills) if name in BUILT_IN else 1 for name in found)
    each = max(1, questions // max(1, count))
    tasks = open_chat_tasks(found, sources.seed + SEED, 2 * each, sources.fetcher)
    deciding, shown = ([task.sliced(i, None, 2) for task in tasks] for i in (0, 1))
    return deciding, shown


def hold(
    context: Context, model: GPT, start: Path, config: DPOConfig, sources: Sources
) -> dict[str, float]:
    """Move a trained model back towards the finished one in `start`, a quarter of the way at a
    time, until it answers nearly as many of the watched questions as that one did; all the way if
    need be. Returns the mean accuracies, of the new model without its gains, and the share of the
    way that is left. Every rank calls it.
    """
    tasks, _ = watched_questions(config.watch, config.watch_questions, sources)
    device = str(context.device)
    before = _answered(
        context, read_model(start, model.config, device=device), tasks, "asked of the old model"
    )
    old, share = sum(before) / len(before), 1.0
    for wanted in (*SHARES, 0.0):
        interpolate(model, start, wanted / share)
        share = wanted
        found = _answered(context, model, tasks, f"at {share:.0%} of the way")
        # what one task gained makes up for nothing that another lost
        kept = sum(map(min, found, before)) / len(before)
        if kept >= old - config.watch_loss:
            break
    return {"watched_before": old, "watched": kept, "share": share}


def _answered(context: Context, model: GPT, tasks: Sequence[Task], label: str) -> list[float]:
    """The accuracy on each task, greedily."""
    eval_model = in_dtype(merged(model), context.execution.torch_dtype)
    eval_model.set_kernel("sdpa")
    engine = Engine(eval_model, context.tokenizer, max_batch_size=ROWS)
    name, total, asked = f"what it could before, {label}", sum(map(len, tasks)), 0
    results: list[Result] = []
    for task in tasks:

        def told(done: int, _: int, before: int = asked) -> None:
            context.progress.activity(name, before + done, total)

        results += evaluate_chat(
            engine,
            context.tokenizer,
            [task],
            MOST_TOKENS,
            seed=context.seed,
            world=context.world,
            progress=told,
        )
        asked += len(task)
    return [result.accuracy for result in results]
