"""What to say to a run's model, from the data that the run held out, so in its language and of its
kind.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from chatling.data.token_shards import TokenShards
from chatling.errors import ChatlingError
from chatling.run_dir import TEXT_STAGES, RunFolder
from chatling.tokenizer.bpe import Tokenizer

EXAMPLES = 4
LOOKED_AT = 400  # held-out documents
LENGTH = range(4, 90)  # characters of a question
MARKS = "?!.？！。"
OPENING = 32  # characters of a text, at most


def example_prompts(folder: RunFolder, stage: str) -> list[str]:
    """Prompts for a stage's model: questions, or for a base model beginnings of texts. None where
    the run keeps no such data.
    """
    # those of dpo and rl begin as sft's do
    kinds = TEXT_STAGES[:1] if stage in TEXT_STAGES else ("sft", "mid")
    for kind in kinds:
        path = folder.data / f"{kind}-validation"
        try:
            folder.check_entries()
            found = dict.fromkeys(_prompts(path, Tokenizer.load(folder.tokenizer)))
        except (ChatlingError, OSError, LookupError):
            continue  # taken away, or damaged: the stages tell of it
        prompts, count = sorted(_tidy(list(found)), key=len), min(EXAMPLES, len(found))
        # one of each part by length, so that they differ
        return [prompts[(2 * i + 1) * len(prompts) // (2 * count)] for i in range(count)]
    return []


def _tidy(prompts: list[str]) -> list[str]:
    """Of these the whole sentences without a word that no other has, which may be a slip, where
    there are enough.
    """
    uses = Counter(word for text in prompts for word in set(text.lower().split()))
    tidy = [
        text
        for text in prompts
        if text[-1] in MARKS
        and not text[0].islower()
        and all(uses[word] > 1 for word in text.lower().split())
    ]
    return tidy if len(tidy) >= EXAMPLES else prompts


def _prompts(path: Path, tokenizer: Tokenizer) -> Iterator[str]:
    """The first user message of each held-out conversation, or the first words of a text."""
    shards = TokenShards.open(path, checksums=False)
    step = max(1, shards.documents // LOOKED_AT)
    for i in range(0, shards.documents, step):
        ids = shards.document(i)[: 4 * LENGTH.stop].tolist()
        if shards.has_mask:
            if ids[:1] != [tokenizer.user_start] or tokenizer.user_end not in ids:
                continue
            # a system message stands before it, with a blank line between
            said = tokenizer.decode(ids[1 : ids.index(tokenizer.user_end)])
            text = said.rpartition("\n\n")[2].strip()
        else:
            head = tokenizer.decode(ids).strip()[:OPENING]
            text = head.rpartition(" ")[0] or head  # whole words, where blanks part them
        if len(text) in LENGTH and "\n" not in text and "\ufffd" not in text:
            yield text
