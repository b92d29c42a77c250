"""Fixed prompts, answered at every evaluation and kept, so that a reader sees the model learn."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice

from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.messages import Conversation, Part
from chatling.tasks.custom import ConversationTask
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion, render_prompt

MOST_TOKENS = 48  # sampled, of one answer
LOOKED_AT = 100  # questions of a task, for short ones
CONTEXT = 256  # tokens of prompt, answer and what the calculator puts in, at most


@dataclass(frozen=True)
class Probe:
    """A fixed prompt: the beginning of a text for a base model, a question for one that chats."""

    topic: str
    opening: str
    question: str


PROBES = (
    Probe("who it is", "My name is", "Who are you?"),
    Probe("one and one", "1 + 1 =", "What is 1+1?"),
    Probe("the capital of France", "The capital of France is", "What is the capital of France?"),
    Probe("the capital of France, in Chinese", "法国的首都是", "法国的首都是哪里？"),
    Probe("Li Bai", "Li Bai was a", "Who was Li Bai?"),
    Probe("Li Bai, in Chinese", "李白是", "李白是谁？"),
    Probe("an opposite", "The opposite of hot is", "What is the opposite of hot?"),
    Probe("the planets", "The planets of the solar system are", "Which planet is the largest?"),
    Probe("spelling", "The word strawberry is spelled", "How many r are in strawberry?"),
    Probe("a story", "Once upon a time", "Tell me a short story."),
)
OPENINGS = tuple((each.topic, each.opening) for each in PROBES)


@dataclass(frozen=True)
class Question:
    """A question of a task, which can tell whether an answer is right."""

    topic: str
    prompt: Conversation
    judge: Callable[[tuple[Part, ...]], bool | None] | None = None

    @property
    def text(self) -> str:
        """What the user said, turn by turn."""
        return " / ".join(turn.text for turn in self.prompt.messages if turn.role == "user")


QUESTIONS = tuple(Question(each.topic, Conversation.of(each.question)) for each in PROBES)


@dataclass(frozen=True)
class Sample:
    """What a model made of a prompt. `text` shows a call of the calculator as it is shown in the
    terminal: [12+7 = 19]. `right` is None where nothing can tell.
    """

    topic: str
    prompt: str
    text: str
    right: bool | None = None

    def to_dict(self) -> dict[str, str | bool]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def first_questions(
    tasks: Mapping[str, Task], tokenizer: Tokenizer, each: int, context: int
) -> list[Question]:
    """The first questions of each task, by its topic, that fill at most half of the context."""
    found: list[Question] = []
    for topic, task in tasks.items():
        short = (
            Question(topic, talk.prompt, partial(_judge, task, talk))
            for talk in islice(task, LOOKED_AT)
            if len(render_prompt(tokenizer, talk.prompt)) <= context // 2
        )
        found += islice(short, each)
    return found


def sample_texts(engine: Engine, openings: Sequence[tuple[str, str]] = OPENINGS) -> list[Sample]:
    """Continue each opening, given with its topic."""
    tokenizer = engine.tokenizer
    answers = _greedy(engine, ([tokenizer.bos, *tokenizer.encode(text)] for _, text in openings))
    return [
        Sample(topic, text, shown(parts))
        for (topic, text), parts in zip(openings, answers, strict=True)
    ]


def sample_answers(engine: Engine, questions: Sequence[Question] = QUESTIONS) -> list[Sample]:
    """Answer each question."""
    answers = _greedy(engine, (render_prompt(engine.tokenizer, each.prompt) for each in questions))
    return [
        Sample(each.topic, each.text, shown(parts), each.judge(parts) if each.judge else None)
        for each, parts in zip(questions, answers, strict=True)
    ]


def _greedy(engine: Engine, prompts: Iterable[Sequence[int]]) -> list[tuple[Part, ...]]:
    """Greedily: nothing but the weights makes the difference."""
    sampling = SamplingParams(temperature=0.0, max_tokens=MOST_TOKENS)
    done = engine.generate([Request(tuple(ids), sampling) for ids in prompts])
    return [parse_completion(engine.tokenizer, each.ids) for each in done]


def _judge(task: Task, conversation: Conversation, completion: tuple[Part, ...]) -> bool | None:
    """None where the task has conversations to learn from, but no right answers."""
    return None if isinstance(task, ConversationTask) else task.score(conversation, completion)


def shown(completion: Iterable[Part]) -> str:
    """An answer as the terminal shows it, calls of the calculator as [12+7 = 19]."""
    shape = {"text": "{}", "python": "[{}", "output": " = {}]"}
    return "".join(shape[part.kind].format(part.text) for part in completion)
