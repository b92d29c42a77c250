"""The built-in corpus: a seeded generator of a small true world, in the real data's formats."""

from chatling.toy.corpus import write_corpus
from chatling.toy.heldout import SKILLS, heldout, practice
from chatling.toy.world import WEIGHTS, conversations

__all__ = ["SKILLS", "WEIGHTS", "conversations", "heldout", "practice", "write_corpus"]
