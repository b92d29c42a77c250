"""Ask a model questions of your own and score the answers: python examples/own_task.py [RUN]"""

import sys

from chatling import LLM
from chatling.evals.chat import evaluate_chat
from chatling.messages import Conversation, Part
from chatling.tasks.task import Task, visible_text


class Plurals(Task):
    """Right when the answer names the plural."""

    name = "plurals"
    pairs = (("cat", "cats"), ("box", "boxes"), ("city", "cities"))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Conversation:
        word, plural = self.pairs[index]
        return Conversation.of(f"What is the plural of {word}?", plural)

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return conversation.messages[-1].text in visible_text(completion).split()


llm = LLM(sys.argv[1] if len(sys.argv) > 1 else "pocket")
(result,) = evaluate_chat(llm.engine, llm.tokenizer, [Plurals()], max_tokens=32)
print(f"{result.name}: {result.correct} of {result.total} right")
