"""The names that columns of conversations have, in several languages, and the names of roles:
`names.toml`, for all who read rows.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from chatling.messages import Role

NOT_LETTERS = re.compile(r"[\W_]+")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A column's name without case, accents, blanks and signs: `" User Message:"` and
    `user_message` are the same.
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    return NOT_LETTERS.sub(
        "", "".join(letter for letter in letters if not unicodedata.combining(letter))
    )


def _table(words: str) -> tuple[str, ...]:
    """Some words, plain, in order."""
    return tuple(map(plain, words.split()))


_WORDS = tomllib.loads(files("chatling.data").joinpath("names.toml").read_text("utf-8"))
# of each, the first that a row has is taken
QUESTION, ANSWER, CONTEXT, SYSTEM, HISTORY, TURNS, CHOICES, TEXT, CHOSEN, REJECTED = (
    _table(_WORDS[name])
    for name in (
        *("question", "answer", "context", "system", "history", "turns", "choices", "text"),
        *("chosen", "rejected"),
    )
)
# two answers, and which of them is better
JUDGED = [(_table(answers), _table(judgements)) for answers, judgements in _WORDS["judged"]]
ROLE_KEYS, TEXT_KEYS = _table(_WORDS["role_keys"]), _table(_WORDS["text_keys"])
ROLES: Mapping[str, Role] = {
    name: role for role, words in _WORDS["roles"].items() for name in _table(words)
}


def find_name(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The name among `names` that comes first in `known`, however it is written."""
    return _find_name(tuple(map(str, names)), tuple(known))


@lru_cache(maxsize=4096)
def _find_name(names: tuple[str, ...], known: tuple[str, ...]) -> str | None:
    written = {plain(name): name for name in reversed(names)}
    return next((written[name] for name in known if name in written), None)


def role_of(name: Any) -> Role | None:
    return ROLES.get(plain(name)) if isinstance(name, str) else None
