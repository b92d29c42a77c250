"""Scores of sampled answers while a model is trained: their reward, and pass@k."""

from collections.abc import Sequence

from chatling.evals.chat import answer_task, pass_at_k
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Completion, Engine, SamplingParams
from chatling.messages import Conversation
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion


def judge(tokenizer: Tokenizer, task: Task, example: Conversation, completion: Completion) -> float:
    """The reward of an answer that the engine gave."""
    return task.reward(example, parse_completion(tokenizer, completion.ids))


def sampled_scores(
    engine: Engine, task: Task, sampling: Sequence[SamplingParams], world: DistContext
) -> dict[str, float]:
    """Each question answered greedily and once with each of `sampling`: `val_accuracy` (greedy) and
    `pass@1` to as many as there are.

    The ranks share the questions. Those whose prompt does not fit the context count as wrong.
    """
    limit = max(each.max_tokens for each in sampling)
    draws = [SamplingParams(temperature=0.0, max_tokens=limit), *sampling]
    sums = [0.0] * (2 + len(sampling))
    for greedy, *drawn in answer_task(engine, engine.tokenizer, task, draws, world, seed_stride=0):
        hits = sum(answer.correct for answer in drawn)
        passes = (pass_at_k(len(drawn), hits, k) for k in range(1, len(drawn) + 1))
        sums = [a + b for a, b in zip(sums, (1, greedy.correct, *passes), strict=True)]
    count, right, *passed = world.all_reduce_scalars(sums, engine.device)
    return {"val_accuracy": right / count} | {
        f"pass@{k}": value / count for k, value in enumerate(passed, 1)
    }
