"""lm-eval (EleutherAI's language model evaluation harness) with a model of ours: its tasks, its
numbers, our engine.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from chatling.errors import DataError
from chatling.evals.loglikelihood import ModelScorer, Question, SpanScore, crop
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.messages import Conversation
from chatling.tokenizer.chat_template import render_prompt

MAX_GENERATED = 256  # tokens, where a task does not say

Pair = tuple[Sequence[int], Sequence[int]]  # what is read, what is scored


class LMEvalAdapter(LM):
    """Every text begins with `<|bos|>`, as in training. A context's trailing spaces belong to what
    follows, as in lm-eval's own models.

    What does not fit the context loses its beginning.
    """

    def __init__(self, engine: Engine, *, chat: bool = False):
        """With `chat`, each request to generate is put as a question to the assistant."""
        super().__init__()
        self.engine, self.tokenizer, self.chat = engine, engine.tokenizer, chat
        self.scorer = ModelScorer(engine.model)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of (context, continuation) pairs: the continuation's log-probability, and whether greedy
        decoding would say it.

        Neighbours with one context (the choices of a question) are scored after one reading of it.
        """
        pairs = [self._pair(*request.args) for request in requests]
        together = [list(group) for _, group in groupby(pairs, key=lambda pair: tuple(pair[0]))]
        return [(-score.nats, score.greedy) for score in self._scored(together)]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Of whole texts, each token scored once, in windows as long as the context: all but the
        last begin where one ended.
        """
        windows = [list(self._windows(request.args[0])) for request in requests]
        scores = iter(self._scored([[pair] for text in windows for pair in text]))
        return [-sum(next(scores).nats for _ in text) for text in windows]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Of (context, settings) pairs: the continuation, up to the first of `until`."""
        asked = [self._request(*request.args) for request in requests]
        return [completion.text for completion in self.engine.generate(asked)]

    def _pair(self, context: str, continuation: str) -> Pair:
        kept = context.rstrip()
        whole = self.tokenizer.encode(context + continuation)
        before = self.tokenizer.encode(kept)
        return [self.tokenizer.bos, *before], whole[len(before) :]

    def _windows(self, text: str) -> Iterable[Pair]:
        """The last window is full, too: it reads what others scored, and scores only the rest."""
        ids, room = [self.tokenizer.bos, *self.tokenizer.encode(text)], self.engine.context
        for at in range(1, len(ids), room):
            end = min(at + room, len(ids))
            first = max(0, end - room - 1)
            yield ids[first:at], ids[at:end]

    def _scored(self, together: Sequence[Sequence[Pair]]) -> list[SpanScore]:
        """The score of each pair, in order; pairs that stand together are read together."""
        questions = []
        for pairs in together:
            sequences = tuple(np.array([*read, *scored]) for read, scored in pairs)
            question = Question(sequences, tuple(len(read) for read, _ in pairs))
            questions.append(crop(question, self.engine.context + 1))  # the last token is not read
        return [score for scores in self.scorer.score(questions) for score in scores]

    def _request(self, context: str, settings: dict[str, Any]) -> Request:
        until = settings.get("until", ())
        stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
        most = int(settings.get("max_gen_toks", MAX_GENERATED))
        temperature = float(settings.get("temperature", 0.0)) if settings.get("do_sample") else 0.0
        asked = render_prompt(self.tokenizer, Conversation.of(context)) if self.chat else None
        prompt = asked or [self.tokenizer.bos, *self.tokenizer.encode(context)]
        room = max(1, self.engine.context - most)
        return Request(
            tuple(prompt[-room:]),
            SamplingParams(temperature=temperature, max_tokens=most, stop=stop),
        )


def run_harness(
    model: LMEvalAdapter,
    tasks: Sequence[str],
    *,
    shots: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """lm-eval's results for its tasks: {"task": {"metric": value}}. Raises DataError for an unknown
    task or data that cannot be had.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    unknown = [task for task in tasks if not manager.match_tasks([task])]
    if unknown:
        raise DataError(f"lm-eval has no task {unknown[0]!r}.", "`lm-eval ls tasks` lists them.")
    try:
        found = simple_evaluate(
            model,
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=1000,
        )
    except (OSError, ConnectionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"lm-eval cannot get the data of {', '.join(tasks)}: {reason}",
            "Connect to the network once.",
        ) from error
    results: dict[str, Any] = found["results"]
    return results
