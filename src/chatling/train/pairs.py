"""The preference pairs of a run: made here, from files, or from the Hub, as token shards."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatling.config.stages import DPOConfig
from chatling.data.preference_batches import rendered_pairs
from chatling.data.preferences import split_preferences
from chatling.data.readers import file_format, find_files
from chatling.data.shard_files import file_fingerprint
from chatling.data.shard_writer import write_conversation_shards
from chatling.errors import DataError
from chatling.tokenizer.bpe import Tokenizer
from chatling.toy.dataset import BUILT_IN
from chatling.train.datasets import Sources


def dpo_facts(config: DPOConfig) -> tuple[Any, ...]:
    """What the stage depends on, besides the seed: its table, and the files of its own."""
    path = Path(os.path.expanduser(config.data))
    own = find_files(path).files if config.data not in BUILT_IN and path.exists() else ()
    return config, [file_fingerprint(file) for file in own]


def prepare_dpo(
    config: DPOConfig,
    tokenizer: Tokenizer,
    sources: Sources,
    train: Path,
    validation: Path,
    note: Callable[[str], None],
) -> None:
    """Write the pairs as token shards, once; documents 2 i and 2 i + 1 are the answers of pair
    i.
    """
    if made := BUILT_IN.get(config.data):
        count = config.pairs or made.preference_count
        splits = (
            made.preferences("train", sources.seed, count),
            made.preferences("validation", sources.seed, config.validation_pairs),
        )
        marks = [hashlib.sha256(repr(splits).encode()).hexdigest()]
    else:
        files = preference_pairs(config.data, sources)
        marks = [file_fingerprint(file) for file in files]
        splits = split_preferences(files, note)
    for folder, pairs in zip((train, validation), splits, strict=True):
        facts = repr(("dpo", tokenizer.fingerprint, sources.seed, config.data, marks, len(pairs)))
        write_conversation_shards(
            folder,
            rendered_pairs(tokenizer, pairs),
            tokenizer.vocab_size,
            fingerprint=facts,
            note=note,
        )


def on_hub(data: str) -> bool:
    """Whether pairs come from a data set of the Hub. What is there on this disk goes before one,
    and a file's name is none.
    """
    path = Path(os.path.expanduser(data))
    return data.count("/") == 1 and not path.exists() and file_format(path) is None


def preference_pairs(data: str, sources: Sources) -> list[Path]:
    """The files of pairs of a path or of a data set of the Hub, fetched. Raises DataError."""
    path = Path(os.path.expanduser(data))
    if path.exists():
        return list(find_files(path).files)
    if not on_hub(data):
        raise DataError(
            f"There are no preference pairs at {data!r}.",
            'dpo.data is "pocket", a path, or a Hub data set as OWNER/NAME.',
        )
    return [file for file in sources.fetcher().dataset(data, "*") if file_format(file) is not None]
