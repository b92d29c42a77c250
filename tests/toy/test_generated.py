"""What the world generates is the same text, byte for byte, as when these hashes were recorded:
runs, records and seeds refer to it. A change of the world on purpose records them anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from chatling.messages import Conversation
from chatling.tasks.identity import Identity, IdentityConfig
from chatling.tasks.spelling import SimpleSpelling, SpellingBee
from chatling.toy import SKILLS, conversations, heldout, practice
from chatling.toy.core_bundle import write_core_bundle
from chatling.toy.corpus import documents
from chatling.toy.preferences import preferences
from chatling.toy.words import words

RECORDED = {
    0: {
        "corpus": "a3fd886d3264",
        "conversations": "c7e13d47bff3",
        "practice": "b7074ffa10e6",
        "core bundle": "f937435011b7",
        "held-out facts": "0c347c910f06",
        "held-out arithmetic": "3dbbc21b6932",
        "held-out spelling": "7da8b6a4d090",
        "held-out counting": "7b0175437a2d",
        "held-out identity": "e353f9389a4e",
        "held-out follow_up": "aa72dfd48baa",
        "held-out unknown": "a669151e6014",
        "held-out refusal": "93906ce18ddc",
        "held-out unsafe": "3eb22fae4f4d",
        "held-out hard_arithmetic": "c1f553086075",
        "tasks train": "f284637a735a",
        "tasks validation": "7819b9fb41a0",
        "tasks test": "24cdcb29c22a",
        "preferences train": "d946d100dc72",
        "preferences validation": "c93a8c0c4e95",
    },
    1: {
        "corpus": "6bd465df9ee6",
        "conversations": "8c504bb67dce",
        "practice": "7ee28155b8f8",
        "core bundle": "e2469f6525bf",
        "held-out facts": "68417ff9a410",
        "held-out arithmetic": "1748f4273aaf",
        "held-out spelling": "1280dc487487",
        "held-out counting": "73fac11e4f74",
        "held-out identity": "f8a994143710",
        "held-out follow_up": "0bcb15783824",
        "held-out unknown": "95550d2b4c74",
        "held-out refusal": "68afddaaa4fb",
        "held-out unsafe": "4081f77df2b0",
        "held-out hard_arithmetic": "23fb390f65d4",
        "tasks train": "f284637a735a",
        "tasks validation": "7819b9fb41a0",
        "tasks test": "24cdcb29c22a",
        "preferences train": "7fd786ef83b9",
        "preferences validation": "7348f996016b",
    },
}


def told(talks: Iterable[Conversation]) -> list[str]:
    return [
        f"{message.role} {part.kind}: {part.text}"
        for talk in talks
        for message in talk.messages
        for part in message.parts
    ]


def generated(seed: int, folder: Path) -> dict[str, list[str]]:
    """All kinds of generated text."""
    write_core_bundle(folder / "core", seed)
    (folder / "words.txt").write_text("\n".join(words()))
    texts = {
        "corpus": list(islice(documents(seed), 2_000)),
        "conversations": told(conversations(seed, 4_000)),
        "practice": told(practice(seed, 300)),
        "core bundle": [
            path.read_text() for path in sorted((folder / "core").rglob("*.*")) if path.is_file()
        ],
    }
    for skill in SKILLS:
        texts[f"held-out {skill}"] = told(heldout(skill, seed, 100))
    for split in ("train", "validation", "test"):
        spelled = (kind(folder / "words.txt", split, 200) for kind in (SimpleSpelling, SpellingBee))
        texts[f"tasks {split}"] = told(
            talk for task in (Identity(IdentityConfig(), split, 300), *spelled) for talk in task
        )
    for split in ("train", "validation"):
        pairs = preferences(split, seed, 500)
        texts[f"preferences {split}"] = [
            f"{pair.prompt.messages[0].text} {pair.chosen.text} {pair.rejected.text}"
            for pair in pairs
        ]
    return texts


@pytest.mark.parametrize("seed", [0, 1])
def test_generated_text_is_what_it_was(seed: int, tmp_path: Path) -> None:
    found = {
        name: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
        for name, texts in generated(seed, tmp_path).items()
    }
    assert found == RECORDED[seed]
