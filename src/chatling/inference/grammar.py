"""A JSON schema as a grammar of tokens, by llguidance.

As a program of its own (`python -P grammar.py`) it reads a schema and prints what is wrong with it:
a hostile one takes any time or memory to compile, and a process can be limited.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

# Set for every schema: one may ask for others itself, in "x-guidance". What the compiler knows only
# roughly (`oneOf` of alternatives that overlap) stays refused.
OPTIONS: Any = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_flexible": True,
    "whitespace_pattern": r"[ \n]{1,16}",
    "coerce_one_of": False,
    "lenient": False,
}
LEXER_STATES = 50_000  # some 2 kB each
SECONDS, MEMORY = 2, 1 << 30  # of the program
# What validators refuse and llguidance's formats allow: leap days of most years (and those of a
# year 00 with them), leap seconds, fractions of seconds beyond millionths, names before the @ of
# more than 64 characters, and hyphens in a row, which announce an encoding in a host's name.
DAY = (
    r"^(.{4}-((0[13-9]|1[0-2])-..|02-([01]\d|2[0-8]))"
    r"|..(0[48]|[2468][048]|[13579][26])-02-29)"
)
TIME = r"..:..:[0-5]\d(\.\d{1,6})?[^.\d]"
# validators take labels of at most 63 characters; three are enough for a host
LABEL = "[^-.]{1,31}(-[^-.]{1,31})?"
HOST = rf"{LABEL}(\.{LABEL}){{0,2}}"
NARROWER = {
    "date": DAY,
    "time": "^" + TIME,
    "date-time": DAY + "." + TIME,
    "email": f"^[^@]{{1,64}}@{HOST}$",
    "hostname": f"^{HOST}$",
}


class _Vocabulary:
    """A vocabulary as llguidance wants it."""

    bos_token_id = None

    def __init__(self, pieces: Sequence[bytes], specials: Sequence[str], eos: int):
        self.tokens = [*pieces, *(text.encode() for text in specials)]
        self.special_token_ids = range(len(pieces), len(self.tokens))
        self.eos_token_id = eos

    def __call__(self, text: bytes | str) -> list[int]:
        """Only the right number of bytes matters: nothing is encoded with it."""
        return list(text.encode() if isinstance(text, str) else text)


def vocabulary(pieces: Sequence[bytes], specials: Sequence[str], closing: Sequence[int]) -> Any:
    """llguidance's view of tokens given by their bytes, then specials, of which no grammar allows
    any but the `closing` ones, at the end.
    """
    from llguidance import LLTokenizer
    from llguidance._tokenizer import TokenizerWrapper

    wrapped = TokenizerWrapper(_Vocabulary(pieces, specials, closing[0]))
    return LLTokenizer(wrapped, eos_token=list(closing))


def narrowed(schema: str) -> str:
    """The schema with the pattern of NARROWER beside each of its formats. Raises ValueError for
    what is not JSON.
    """

    def narrow(part: dict[str, Any]) -> dict[str, Any]:
        found, types, others = part.get("format"), part.get("type"), part.get("allOf", [])
        if "string" in (types, *(types if isinstance(types, list) else ())) and (
            isinstance(found, str) and found in NARROWER and isinstance(others, list)
        ):
            part["allOf"] = [*others, {"pattern": NARROWER[found]}]
        return part

    if not any(f'"{name}"' in schema for name in NARROWER):
        return schema
    try:
        return json.dumps(json.loads(schema, object_hook=narrow))
    except RecursionError:  # llguidance says so, too
        return schema


def matcher(tokens: Any, schema: str) -> Any:
    """llguidance's matcher of a schema, at the beginning of an answer; `fault` says whether it is
    usable.
    """
    from llguidance import LLMatcher, LLParserLimits

    grammar = LLMatcher.grammar_from_json_schema(narrowed(schema), overrides=OPTIONS)
    limits = LLParserLimits(max_lexer_states=LEXER_STATES, verbose_errors=False)
    return LLMatcher(tokens, grammar, log_level=0, limits=limits)


def fault(found: Any) -> str:
    """What is wrong with a matcher in a line, nothing if it is right."""
    if not found.is_error():
        return ""
    lines = [line.strip() for line in found.get_error().splitlines()]
    if lines[0].startswith("NoExtension"):
        return "no answer can satisfy it"
    # the regex compiler draws the pattern first, and says in its last line what is wrong
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    return str(line.removeprefix("error: ").split(". Enable ")[0][:200])


def _main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS refuses a limit of the address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    pieces = [bytes([byte]) for byte in range(256)]
    try:
        found = matcher(vocabulary(pieces, ["<|end|>"], [256]), sys.stdin.read())
    except ValueError:
        print("it holds what JSON cannot")
    else:
        found.compute_bitmask()
        print(fault(found))


if __name__ == "__main__":
    _main()
