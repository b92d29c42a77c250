"""Finds what the documents promise (command lines, flags, recipe fields, paths, Makefile targets)
and what of it does not exist.

Every check is against the real thing: the commands' own parsers, the recipes' reader, the files of
the repository.
"""

from __future__ import annotations

import ast
import functools
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

from command_lines import (
    TABLES,
    Passage,
    command_lines,
    field_exists,
    fields,
    flag_fault,
    line_fault,
)

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")
] + sorted((ROOT / "docs").rglob("*.md"))

CODE_ENDINGS = "py|md|toml|cpp|css|js|svg|png|txt|csv"
OWN_ENDINGS = (
    ".csv",
    ".txt",
    ".jsonl",
    ".parquet",
)  # of a reader's data: such a name without a folder may be made up
SOURCE_ENDINGS = (".py", ".cpp", ".js", ".css")
DATA_ENDINGS = "json|jsonl|safetensors|bin|html|tiktoken|parquet|pkl|pt"
OTHER_PROGRAMS = re.compile(
    r"\s*(?:\$ )?(?:lm_eval|lm-eval|tensorboard|base_url=)"
)  # whose options nobody here knows
# Files of the reader's own, or of data sets, that the pages make up.
EXAMPLE_FILES = {"small.toml", "my.toml", "mine.toml", "talk.json", "llama.cpp", "generate.py"}


# ---- where passages come from ----


def markdown(path: Path, text: str | None = None) -> Iterator[Passage]:
    """Spans between backticks, and the lines of fenced blocks, continued ones joined. TOML blocks
    are left to `toml_blocks`.
    """
    lines, fence, prose = (
        (path.read_text(encoding="utf-8") if text is None else text).splitlines(),
        None,
        [],
    )
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
        yield Passage(
            f"{path.name}:{body.count(chr(10), 0, span.start()) + 1}", " ".join(span[1].split())
        )


def toml_blocks(path: Path, text: str | None = None) -> Iterator[Passage]:
    for block in re.finditer(
        r"```toml\n(.*?)```", path.read_text(encoding="utf-8") if text is None else text, re.DOTALL
    ):
        yield Passage(path.name, block[1])


def python_strings(path: Path, source: str | None = None) -> Iterator[Passage]:
    """String literals, with `{}` for what an f-string fills in."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
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
                yield Passage(
                    f"{path.relative_to(ROOT).as_posix()}:{token.start[0]}",
                    token.string,
                    code=False,
                )


def lines_of(path: Path) -> Iterator[Passage]:
    """Lines of files that are read as a whole: the Makefile, recipes, the page's scripts."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield Passage(f"{path.name}:{number}", line, code=False)


# ---- fields, paths, targets ----


BEGINS_WITH = {"extends"}  # a recipe's first line, which is no field: it names another recipe
NOT_FIELDS = (
    "model.attention",
    "loop.first",
    "model.gguf",
    "tokenizer.ggml",
    "tokenizer.chat_template",
    "model.depht",
)  # a module, a word of Jinja's, an error's example


def field_faults(passage: Passage) -> Iterator[str]:
    """`[table] field`, `table.field` and, in code, `field = value`."""
    for table, field in re.findall(
        r"(?<![\w\]])\[([a-z]+)\](?: ([a-z_]+)(?=[ .,;:`'\"]|$))?", passage.text
    ):
        if table in TABLES or passage.code:
            if not passage.code and field not in {name.partition(".")[2] for name in fields()}:
                field = ""  # prose goes on: "no [sft] table"
            if table not in TABLES or (field and f"{table}.{field}" not in fields()):
                yield f"there is no recipe field [{table}] {field}".rstrip()
    for name in re.findall(
        rf"(?<![\w./-])((?:{'|'.join(TABLES)})\.[a-z][a-z_]*(?:\.\d+\.[a-z_]+)?)(?![\w(\[/-]|\.[a-z])",
        passage.text,
    ):
        if (
            name not in NOT_FIELDS
            and not re.fullmatch(rf"\w+\.(?:{CODE_ENDINGS}|{DATA_ENDINGS})", name)
            and not field_exists(name)
        ):
            yield f"there is no recipe field {name}"
    given = (
        re.fullmatch(r"([a-z_]+) = (?:true|false|none|[\d.]+|\"[^\"]*\"|\[.*\]|…)", passage.text)
        if passage.code
        else None
    )
    if given and given[1] not in BEGINS_WITH | {name.rpartition(".")[2] for name in fields()}:
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
        entries = (
            value.get("mixture", []) + value.get("validation", [])
            if isinstance(value, dict)
            else []
        )
        for inner in (inner for entry in entries for inner in entry):
            if not field_exists(f"mid.mixture.{inner}"):
                yield f"there is no recipe field {inner} of a mixture's entry"


@functools.cache
def repository() -> tuple[str, ...]:
    """Every file and folder that belongs to the project, as /path."""
    parts = [ROOT / name for name in ("src", "tests", "docs", "examples")]
    found = [path for part in parts for path in part.rglob("*") if "__pycache__" not in path.parts]
    return tuple(f"/{path.relative_to(ROOT).as_posix()}" for path in [*ROOT.glob("*"), *found])


@functools.cache
def written_names() -> str:
    """The package's whole source: files that runs hold are named there."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))
    )


def path_faults(passage: Passage) -> Iterator[str]:
    """Source files, tests, pages and folders by the end of their path; files of runs by their name
    in the source.
    """
    for word in re.findall(
        rf"(?<![\w/.*~<>$-])[\w./*-]*\w\.(?:{CODE_ENDINGS})\b(?![\w/*-]|\.\w)", passage.text
    ):
        name = word.rpartition("/")[2]
        own = (
            name in EXAMPLE_FILES
            or (name == word and name.endswith(OWN_ENDINGS))
            or word.startswith("/")
        )
        if own or (not name.endswith(SOURCE_ENDINGS) and name in written_names()):
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
        stem = max(re.split(r"[<>*]", name), key=len)  # of <stage>-core.json
        ending = re.sub(r"\d+", "", stem.partition("-")[2] or stem)  # of sft-chat.json
        own = name == word and name.endswith(OWN_ENDINGS)
        if (
            not own
            and name not in EXAMPLE_FILES
            and stem not in written_names()
            and ending not in written_names()
        ):
            yield f"nothing writes or reads {word}"


def make_faults(passage: Passage, makefile: str) -> Iterator[str]:
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    for target in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", passage.text) if passage.code else ():
        if target not in targets:
            yield f"there is no Makefile target {target}"


@functools.cache
def extras() -> frozenset[str]:
    return frozenset(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
    )


def install_faults(passage: Passage) -> Iterator[str]:
    """`chatling[extra]`, as pip takes it."""
    for names in re.findall(r"(?:\bchatling|(?<=[ '\"])\.)\[([a-z0-9,]+)\]", passage.text):
        yield from (
            f"there is no extra chatling[{name}]"
            for name in names.split(",")
            if name not in extras()
        )


def faults(passage: Passage) -> Iterator[str]:
    """All that a passage promises and that is not there, each with where it stands."""
    text, found = passage.text, []
    ours = list(command_lines(passage))
    found += [f"`chatling {line}`: {fault}" for line in ours if (fault := line_fault(line))]
    for flag in (
        ()
        if passage.code and OTHER_PROGRAMS.match(text)
        else re.findall(r"(?<![\w-])--[a-zA-Z][\w.-]*[\w…-]", text)
    ):
        if fault := flag_fault(flag):
            found.append(fault)
    found += [*field_faults(passage), *path_faults(passage), *install_faults(passage)]
    found += make_faults(passage, (ROOT / "Makefile").read_text(encoding="utf-8"))
    yield from (f"{passage.where}: {fault}" for fault in dict.fromkeys(found))
