"""Fixed prompts, answered at every evaluation and kept, so that a reader sees the model learn."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.messages import Conversation
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion, render_prompt

MOST_TOKENS = 48  # sampled, of one answer
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


@dataclass(frozen=True)
class Sample:
    """What a model made of a probe. `text` shows a call of the calculator as it is shown in the
    terminal: [12+7 = 19].
    """

    topic: str
    prompt: str
    text: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def sample(engine: Engine, *, chat: bool, probes: Sequence[Probe] = PROBES) -> list[Sample]:
    """Continue or answer each probe, greedily: nothing but the weights makes the difference."""
    tokenizer = engine.tokenizer
    prompts = [probe.question if chat else probe.opening for probe in probes]
    sampling = SamplingParams(temperature=0.0, max_tokens=MOST_TOKENS)
    ids = (
        render_prompt(tokenizer, Conversation.of(prompt))
        if chat
        else [tokenizer.bos, *tokenizer.encode(prompt)]
        for prompt in prompts
    )
    done = engine.generate([Request(tuple(each), sampling) for each in ids])
    return [
        Sample(probe.topic, prompt, _shown(tokenizer, each.ids))
        for probe, prompt, each in zip(probes, prompts, done, strict=True)
    ]


def _shown(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    shape = {"text": "{}", "python": "[{}", "output": " = {}]"}
    return "".join(shape[part.kind].format(part.text) for part in parse_completion(tokenizer, ids))
