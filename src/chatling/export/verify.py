"""What every export has to pass: the written files are read back, and what they compute is held to
the model.
"""

import math
import random
from collections.abc import Callable, Sequence
from importlib import resources

import torch
import torch.nn.functional as F
from torch import Tensor

from chatling.errors import DataError, MachineError
from chatling.messages import Conversation, Message, Part
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

ROWS, LENGTH = 4, 256  # tokens that logits are compared on
EXACT = 5e-5  # of fp32 logits of the same function: other orders of summation
TEXTS = 500
# texts on which splitting goes wrong where it goes wrong at all
EDGES = (
    "a\n\nb", "a \n b", "  12 34", "\t\tx", "\r\n\r\n x", "  \n  \n", "a\u00a0b \u2003c",
    "\u0085x", "don't WE'LL it'\u017f", "12345678901", "3.14159, 1,000,000",
    "\uff11\uff12 \u2460 \u00bd",
    "h\u00e9llo e\u0301 \u0928\u092e\u0938\u094d",
    "\u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u4e2d\u6587",
    "\U0001f600\U0001f44d\U0001f3fd", "#include <x>\n\tint a[10] = {1,22,333};\n", "___ --- ***",
    "https://a.b/c?d=1&e=22", "a" * 300, " " * 50 + "x", "x" + "\n" * 20, "\u2028\u2029",
    "\ufeffBOM", "a\rb", "$100.00 \u20ac5", "\u0663\u0664\u0665", "\u2163 \u216b", "",
)  # fmt: skip


# how far rounded weights may be from the model: mean KL divergence of the next token, in nats;
# about four times what a trained pocket model has (docs/LOG.md, "Export")
ROUNDED = {"bf16": 2e-3, "f16": 1e-4, "q8_0": 5e-3, "q4_0": 1.0}


def sample_ids(model: GPT) -> Tensor:
    """Token ids (4, at most 256), the same for the same shape of model."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS, min(LENGTH, config.context))
    return torch.randint(0, config.vocab_size, shape, generator=generator)


@torch.no_grad()
def compare_logits(
    model: GPT, theirs: Callable[[Tensor], Tensor], dtype: str, limit: float = EXACT
) -> str:
    """Hold `theirs`, which maps ids (B, T) to capped logits (B, T, V), to the model; returns what
    was measured, in a sentence. Raises DataError when they are further apart than `limit` (f32), or
    than ROUNDED allows.
    """
    ids = sample_ids(model)
    ours, found = model.logits(model(ids)).float(), theirs(ids).float()
    if found.shape != ours.shape:
        raise DataError(f"The export gives logits {list(found.shape)}, not {list(ours.shape)}.")
    if dtype == "f32":
        off = (ours - found).abs().max().item()
        if not off <= limit:
            raise DataError(f"The export's logits differ by {off:.1e}, more than {limit:.0e}.")
        return f"logits equal within {off:.1e} on {ids.numel():,} tokens"
    kl = _divergence(ours, found)
    most = ROUNDED[dtype]
    if not kl <= most:
        raise DataError(f"The {dtype} export is {kl:.1e} nats (KL) from the model, over {most}.")
    same = (ours.argmax(-1) == found.argmax(-1)).float().mean().item()
    return f"KL {kl:.1e} nats from the model, {same:.1%} of the likeliest tokens the same"


def _divergence(ours: Tensor, theirs: Tensor) -> float:
    """Mean KL divergence in nats of `theirs` from `ours`."""
    nats = F.kl_div(
        theirs.log_softmax(-1), ours.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    return nats.mean().item() if torch.isfinite(nats).all() else math.nan


def sample_texts(count: int = TEXTS) -> list[str]:
    """Prose in English and Korean, code and mathematics, numbers, and texts that are awkward to
    split; the same each time.
    """
    draw = random.Random(0)
    folder = resources.files("chatling.evals") / "texts"
    whole = [part.read_text(encoding="utf-8") for part in folder.iterdir()]
    texts = list(EDGES)
    while len(texts) < count:
        if len(texts) % 8 == 0:
            numbers = [draw.randrange(10 ** draw.randint(1, 7)) for _ in range(3)]
            texts.append(
                f"In {numbers[0]} there were {numbers[1]} of {numbers[2]:,}, or {numbers[0]}%."
            )
        else:
            text = draw.choice(whole)
            start = draw.randrange(len(text))
            texts.append(text[start : start + draw.randint(1, 300)])
    return texts


def compare_tokenizers(tokenizer: Tokenizer, encode: Callable[[str], Sequence[int]]) -> str:
    """Hold another tokenizer to ours on 500 texts. Raises DataError naming the first text that
    differs.
    """
    texts = sample_texts()
    for text in texts:
        if list(encode(text)) != tokenizer.encode(text):
            raise DataError(f"The export's tokenizer splits {text[:40]!r} otherwise.")
    return f"tokens equal on {len(texts)} texts"


def sample_conversations() -> list[Conversation]:
    """A system message, several turns, line ends and blanks, and a calculator call."""
    call = (
        Part("text", "Let me see: "),
        Part("python", "12+345"),
        Part("output", "357"),
        Part("text", " So it is 357."),
    )
    return [
        Conversation.of("Hi there", "Hello!"),
        Conversation.of("Hi\n", "  Hello.  ", "Bye \u8c22\u8c22", "Bye!", system="Be brief."),
        Conversation(
            (
                Message.of("user", "What is 12+345?"),
                Message("assistant", call),
                Message.of("user", "Thanks"),
                Message.of("assistant", "Welcome."),
            )
        ),
    ]


def same(what: str, ours: object, theirs: object) -> None:
    """Raises DataError when a field of an export is not the model's."""
    if ours != theirs:
        raise DataError(f"The export's {what} is {theirs!r}, not {ours!r}.")


def needs(package: str, reason: str) -> None:
    """Raises MachineError when an optional package is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MachineError(
            f"{reason} needs the package {package}.", "pip install 'chatling[export]'"
        )
