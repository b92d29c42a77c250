"""Finds what the documents promise (command lines, flags, recipe fields, paths, Makefile targets) and what of it does not exist.

Every check is against the real thing: the commands' own parsers, the recipes' reader, the files of the repository.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import importlib
import re
import shlex
import tokenize
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from chatling.cli import COMMANDS
from chatling.commands import common
from chatling.commands.data import _ACTIONS
from chatling.commands.eval import EVALUATIONS, TOKENIZER
from chatling.errors import ChatlingError, RecipeError
from chatling.recipe import Recipe, builtin_recipes, load_recipe

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))

# Stand for something of the reader's own; the value is what the parsers are tried with.
PLACEHOLDERS = {
    "RECIPE": "pocket", "RUN": "pocket", "NAME": "name", "STAGE": "sft", "FOLDER": ".", "PATH": ".", "FILE": "file", "SOURCE": ".", "TEXT": "text",
    "KEY": "key", "PORT": "1", "N": "1", "X": "1", "OWNER/NAME": "owner/name", "PATTERN": "*", "TASK": "GSM8K", "MODEL": "m", "ORIGIN": "o",
    "COL": "text", "SHARE": "0.1", "MACHINE": "auto", "PRESET": "modern", "S": "1", "{}": "1", "…": "1",
}  # fmt: skip
FLAG_PLACEHOLDERS = {"--table.field"}
# Flags of other programs that stand alone in prose or code, by program.
FOREIGN_FLAGS = {
    "torchrun": {"--standalone", "--nproc-per-node"},
    "bubblewrap": {"--unshare-all", "--die-with-parent", "--cap-drop", "--size", "--tmpfs", "--chdir", "--ro-bind", "--symlink", "--bind", "--proc", "--dev"},
    "styles": {"--ink", "--muted", "--grid", "--series-"},
    "pip": {"--quiet", "--disable-pip-version-check", "--constraint", "--editable"},
    "pytest": {"--data-pack", "--soak-seconds", "--strict-markers", "--import-mode"},
}  # fmt: skip
CODE_ENDINGS = "py|md|toml|cpp|css|js|svg|png|txt|csv"
DATA_ENDINGS = "json|jsonl|safetensors|bin|html|tiktoken|parquet"
# Files of the reader's own, or of data sets, that the pages make up.
EXAMPLE_FILES = {
    "talks.jsonl", "pairs.jsonl", "tales.jsonl", "small.toml", "my.toml", "key.txt", "a.parquet", "talk.json", "train.jsonl", "words_alpha.txt",
    "words.txt", "test.jsonl", "file.jsonl", "mine.toml", "texts.txt", "corpus.jsonl", "shard_00001.parquet",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Passage:
    """A piece of text and where it stands. `code` is quoted as such: a fence's line or a span between backticks; else it is prose."""

    where: str
    text: str
    code: bool = True


# ---- where passages come from ----


def markdown(path: Path, text: str | None = None) -> Iterator[Passage]:
    """Spans between backticks, and the lines of fenced blocks, continued ones joined. TOML blocks are left to `toml_blocks`."""
    lines, fence, prose = (path.read_text(encoding="utf-8") if text is None else text).splitlines(), None, []
    held, begun = "", 0
    for number, line in enumerate(lines, 1):
        if mark := re.match(r"\s*```(\w*)", line):
            fence = mark[1] if fence is None else None
            prose.append("")
        elif fence is None:
            prose.append(line)
        else:
            prose.append("")
            begun = begun or number
            held += line.rstrip("\\")
            if fence in ("", "sh", "bash", "console", "text") and not line.endswith("\\"):
                yield Passage(f"{path.name}:{begun}", held)
            held, begun = (held, begun) if line.endswith("\\") else ("", 0)
    body = "\n".join(prose)
    for span in re.finditer(r"(?<!`)`([^`]+)`(?!`)", body):
        yield Passage(f"{path.name}:{body.count(chr(10), 0, span.start()) + 1}", " ".join(span[1].split()))


def toml_blocks(path: Path, text: str | None = None) -> Iterator[Passage]:
    for block in re.finditer(r"```toml\n(.*?)```", path.read_text(encoding="utf-8") if text is None else text, re.DOTALL):
        yield Passage(path.name, block[1])


def python_strings(path: Path, source: str | None = None) -> Iterator[Passage]:
    """String literals, with `{}` for what an f-string fills in."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            text = node.value
        else:
            continue
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        yield Passage(f"{name}:{node.lineno}", text, code=False)


def python_comments(path: Path) -> Iterator[Passage]:
    """Comments: those of a recipe's dataclasses are its fields' help."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield Passage(f"{path.relative_to(ROOT).as_posix()}:{token.start[0]}", token.string, code=False)


def lines_of(path: Path) -> Iterator[Passage]:
    """Lines of files that are read as a whole: the Makefile, recipes, the page's scripts."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield Passage(f"{path.name}:{number}", line, code=False)


# ---- command lines ----


@functools.cache
def parser_of(name: str) -> common.Parser:
    """The parser that a command builds, caught when the command is about to use it."""

    class Caught(Exception):
        pass

    def catch(parser: common.Parser, *_: object) -> None:
        raise Caught(parser)

    command, *action = name.split()
    module = importlib.import_module(f"chatling.commands.{command}")
    with mock.patch.object(common.Parser, "parse", catch), mock.patch.object(common.Parser, "parse_known_args", catch):
        try:
            module.run(COMMANDS[command], action)
        except Caught as caught:
            return typing.cast(common.Parser, caught.args[0])
    raise AssertionError(f"{name} parsed nothing")


PARSERS = tuple(name for name in COMMANDS if name != "data") + tuple(f"data {action}" for action in _ACTIONS)
WITH_FIELDS = ("run", "plan", "data fetch")  # take any field of a recipe as an option


@functools.cache
def options_of(name: str) -> frozenset[str]:
    return frozenset(option for action in parser_of(name)._actions for option in action.option_strings) | {"-h", "--help"}


@functools.cache
def fields() -> frozenset[str]:
    """`table.field` and top-level fields of a recipe, nested tables of a list's entries included."""
    return frozenset(_fields(Recipe, ""))


def _fields(kind: type, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield prefix + field.name
        for inner in _dataclasses_in(hints[field.name]):
            yield from _fields(inner, f"{prefix}{field.name}.")


def _dataclasses_in(kind: object) -> Iterator[type]:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
    elif typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated, tuple, list):
        for inner in typing.get_args(kind):
            yield from _dataclasses_in(inner)


def field_exists(name: str) -> bool:
    """Of a dotted name, with dashes or underscores, and numbers for entries of a list (`mid.mixture.0.count`)."""
    return re.sub(r"\.\d+(?=\.|$)", "", name.replace("-", "_")) in fields()


def flag_fault(flag: str, commands: tuple[str, ...] = PARSERS) -> str | None:
    """Why none of these commands knows a flag."""
    name = flag.partition("=")[0].rstrip(".")
    known = {option for command in commands for option in options_of(command)}
    if name in FLAG_PLACEHOLDERS or name in known or any(name in foreign for foreign in FOREIGN_FLAGS.values()):
        return None
    if name == "--version" or (name.endswith(("-", "-NAME", "-…")) and any(option.startswith(name.rstrip("NAME…")) for option in known)):
        return None
    if set(commands) & set(WITH_FIELDS) and field_exists(name.removeprefix("--")):
        return None
    return f"there is no option {name}"


def command_lines(passage: Passage) -> Iterator[str]:
    """What follows `chatling` where it is called: in code, or in prose where a command's name or backticks show that it is meant."""
    names = "|".join(COMMANDS)
    if passage.code:
        pattern = r"(?:^|[ /(])chatling(?: +|$)(?![=,.:])(?P<rest>[^#;&\n]*)"
    else:
        pattern = rf"`chatling (?P<quoted>[^`]*)`|(?<![\w./-])chatling (?P<rest>(?:{names})\b[^`;#<\n]*)"
    for found in re.finditer(pattern, passage.text):
        rest = found.groupdict().get("quoted") or found["rest"] or ""
        line = re.split(r"\s{2,}|\s[|>]\s", rest.strip())[0].rstrip(".,:")
        yield re.sub(r"\{([^,{}]*),[^{}]*\}", r"\1", line)  # the shell's {0,1,2}


def line_fault(line: str) -> str | None:
    """Why `chatling LINE` could not be run, or None."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"cannot be split into words: {error}"
    words = [word.replace("{}", "…") if word != "{}" else word for word in words]
    if not words or words[0] in ("--help", "--version", "…", "{}", "NAME"):
        return None
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        return f"there is no command {name!r}"
    if name == "data":
        actions = rest[0].split("|") if rest else []
        if not rest or actions == ["…"]:
            return None
        if unknown := [action for action in actions if action not in _ACTIONS]:
            return f"there is no command data {unknown[0]!r}"
        return next((fault for action in actions if (fault := _words_fault(f"data {action}", rest[1:], usage=len(actions) > 1))), None)
    return _words_fault(name, rest, usage=False)


def _words_fault(name: str, words: list[str], *, usage: bool) -> str | None:
    usage = usage or any(re.search(r"[\[\]]|…|^\$|\|", word) for word in words) or "{}" in words
    for word in words:
        if (flag := re.match(r"\[?(--?[a-zA-Z][^\]\s]*)", word)) and (fault := flag_fault(flag[1], (name,))):
            return fault
    if usage or "--help" in words:
        return next((f"{word} is no known placeholder" for word in words if _unknown_placeholder(word)), None)
    if not words:  # the command's name alone, in a sentence
        return None
    filled = [PLACEHOLDERS.get(word, word) for word in words]
    if name in WITH_FIELDS:
        return _recipe_fault(name, [PLACEHOLDERS["RECIPE"] if words[0] in PLACEHOLDERS and "/" not in words[0] else filled[0], *filled[1:]])
    try:
        parser = parser_of(name)
        given = parser.parse(filled) if name != "eval" else _parse_eval(parser, filled)
    except ChatlingError as error:
        return str(error)
    except (SystemExit, argparse.ArgumentError) as error:
        return str(error)
    return _values_fault(name, given)


def _unknown_placeholder(word: str) -> bool:
    return any(part not in PLACEHOLDERS for part in re.findall(r"(?<![a-zA-Z])[A-Z]{2,}(?:/[A-Z]+)?(?![a-zA-Z\d])", word))


def _parse_eval(parser: common.Parser, words: list[str]) -> argparse.Namespace:
    given = parser.parse(words)
    if len(given.runs) < 2 or given.runs[-1] not in (*EVALUATIONS, TOKENIZER):
        raise common.UsageError(f"{given.runs[-1]!r} is no evaluation, or there is no run before it.")
    return given


def _values_fault(name: str, given: argparse.Namespace) -> str | None:
    from chatling.bench.suite import BENCHES
    from chatling.tasks.registry import HUB, MADE

    if name == "bench" and (unknown := set(given.names) - set(BENCHES) - set(PLACEHOLDERS.values())):
        return f"there is no benchmark {unknown.pop()!r}"
    if name == "eval" and given.runs[-1] == "chat" and (unknown := set(given.tasks or ()) - {*HUB, *MADE, "pocket", "all"}):
        return f"there is no task {unknown.pop()!r}"
    return None


def _recipe_fault(name: str, words: list[str]) -> str | None:
    """A recipe, and overrides that it takes."""
    given, rest = parser_of(name).parse_known_args(words)
    if name == "data fetch":
        rest = [given.what, *rest]
    if not rest:
        return "it names no recipe"
    recipe, *overrides = rest
    if "/" in recipe and not recipe.endswith(".toml"):
        return None if not overrides else f"a data set takes no {overrides[0]}"
    if recipe not in builtin_recipes() and not recipe.endswith(".toml"):
        return f"there is no recipe {recipe!r}"
    try:
        load_recipe(recipe if recipe in builtin_recipes() else "pocket", overrides)
    except RecipeError as error:
        return str(error)
    return None


# ---- fields, paths, targets ----


TABLES = tuple(field.name for field in dataclasses.fields(Recipe))
NOT_FIELDS = ("model.attention", "loop.first", "model.depht")  # a module, a word of Jinja's, an error's example


def field_faults(passage: Passage) -> Iterator[str]:
    """`[table] field`, `table.field` and, in code, `field = value`."""
    for table, field in re.findall(r"(?<![\w\]])\[([a-z]+)\](?: ([a-z_]+)(?=[ .,;:`'\"]|$))?", passage.text):
        if table in TABLES or passage.code:
            if not passage.code and field not in {name.partition(".")[2] for name in fields()}:
                field = ""  # prose goes on: "no [sft] table"
            if table not in TABLES or (field and f"{table}.{field}" not in fields()):
                yield f"there is no recipe field [{table}] {field}".rstrip()
    for name in re.findall(rf"(?<![\w./-])((?:{'|'.join(TABLES)})\.[a-z][a-z_]*(?:\.\d+\.[a-z_]+)?)(?![\w(\[/-]|\.[a-z])", passage.text):
        if name not in NOT_FIELDS and not re.fullmatch(rf"\w+\.(?:{CODE_ENDINGS}|{DATA_ENDINGS})", name) and not field_exists(name):
            yield f"there is no recipe field {name}"
    if passage.code and (given := re.fullmatch(r"([a-z_]+) = (?:true|false|none|[\d.]+|\"[^\"]*\"|\[.*\]|…)", passage.text)):
        if given[1] not in {name.rpartition(".")[2] for name in fields()}:
            yield f"there is no recipe field {given[1]}"


def toml_faults(text: str) -> Iterator[str]:
    """Every key of a TOML block, which may be a part of a recipe."""
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        yield f"not valid TOML: {error}"
        return
    for key, value in parsed.items():
        for name in [key] if not isinstance(value, dict) else [f"{key}.{inner}" for inner in value]:
            if not field_exists(name):
                yield f"there is no recipe field {name}"
        entries = value.get("mixture", []) + value.get("validation", []) if isinstance(value, dict) else []
        for inner in (inner for entry in entries for inner in entry):
            if not field_exists(f"mid.mixture.{inner}"):
                yield f"there is no recipe field {inner} of a mixture's entry"


@functools.cache
def repository() -> tuple[str, ...]:
    """Every file and folder that belongs to the project, as /path."""
    parts = [ROOT / name for name in ("src", "tests", "docs")]
    found = [path for part in parts for path in part.rglob("*") if "__pycache__" not in path.parts]
    return tuple(f"/{path.relative_to(ROOT).as_posix()}" for path in [*ROOT.glob("*"), *found])


@functools.cache
def written_names() -> str:
    """The package's whole source: files that runs hold are named there."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))


def path_faults(passage: Passage) -> Iterator[str]:
    """Source files, tests, pages and folders by the end of their path; files of runs by their name in the source."""
    for word in re.findall(rf"(?<![\w/.*~<>$-])[\w./*-]*\w\.(?:{CODE_ENDINGS})\b(?![\w/*-]|\.\w)", passage.text):
        name = word.rpartition("/")[2]
        if name in EXAMPLE_FILES or word.startswith("/") or name in written_names() or word in written_names():
            continue
        pattern = re.escape(f"/{word.removeprefix('./')}").replace(r"\*", "[^/]*")
        if not any(re.search(f"{pattern}$", path) for path in repository()):
            yield f"there is no file {word}"
    if not passage.code:
        return
    for word in re.findall(r"(?:^|(?<=\s))(?:src|tests|docs)/[\w/.*-]+", passage.text):
        if not list(ROOT.glob(word.rstrip("/."))):
            yield f"there is no {word}"
    for word in re.findall(rf"[\w./*<>-]*\w\.(?:{DATA_ENDINGS})\b(?![\w/*-]|\.\w)", passage.text):
        name = word.rpartition("/")[2]
        stem = max(re.split(r"[<>*]", name), key=len)
        if name not in EXAMPLE_FILES and stem not in written_names() and re.sub(r"\d+", "", stem.partition("-")[2] or stem) not in written_names():
            yield f"nothing writes or reads {word}"


def make_faults(passage: Passage, makefile: str) -> Iterator[str]:
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    for target in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", passage.text) if passage.code else ():
        if target not in targets:
            yield f"there is no Makefile target {target}"


def faults(passage: Passage) -> Iterator[str]:
    """All that a passage promises and that is not there, each with where it stands."""
    text, found = passage.text, []
    ours = list(command_lines(passage))
    found += [f"`chatling {line}`: {fault}" for line in ours if (fault := line_fault(line))]
    foreign = passage.code and not text.lstrip().startswith("--")  # another program's command line, or ours, which was looked at
    for flag in () if foreign else re.findall(r"(?<![\w-])--[a-zA-Z][\w.-]*[\w…-]", text):
        if fault := flag_fault(flag):
            found.append(fault)
    found += [*field_faults(passage), *path_faults(passage), *make_faults(passage, (ROOT / "Makefile").read_text(encoding="utf-8"))]
    yield from (f"{passage.where}: {fault}" for fault in dict.fromkeys(found))
