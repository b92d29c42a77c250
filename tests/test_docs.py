"""Every word in the docs is true: commands, flags, recipe fields, files and targets that pages,
help and errors name exist.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from chatling.cli import COMMANDS
from chatling.commands.common import Command
from chatling.commands.data import _ACTIONS
from chatling.config.recipe import builtin_recipes
from command_lines import PARSERS, command_lines, flag_fault, line_fault, options_of
from documents import (
    PAGES,
    ROOT,
    faults,
    lines_of,
    markdown,
    python_comments,
    python_strings,
    toml_blocks,
    toml_faults,
)

SOURCES = sorted((ROOT / "src/chatling").rglob("*.py"))
SCRIPTS = sorted((ROOT / "src/chatling/serve/ui").glob("*.js"))
RECIPES = sorted((ROOT / "src/chatling/config/recipes").glob("*.toml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page: Path) -> None:
    wrong = [fault for passage in markdown(page) for fault in faults(passage)]
    wrong += [
        f"{page.name}: {fault}"
        for passage in toml_blocks(page)
        for fault in toml_faults(passage.text)
    ]
    assert not wrong, "\n".join(wrong)


def test_help_errors_and_comments() -> None:
    passages = (
        passage
        for source in SOURCES
        for passage in (*python_strings(source), *python_comments(source))
    )
    wrong = [fault for passage in passages for fault in faults(passage)]
    assert not wrong, "\n".join(wrong)


def test_makefile_recipes_and_scripts() -> None:
    wrong = [
        fault
        for path in (ROOT / "Makefile", *RECIPES)
        for passage in lines_of(path)
        for fault in faults(passage)
    ]
    lines = [
        (passage.where, line)
        for path in SCRIPTS
        for passage in lines_of(path)
        for line in command_lines(passage)
    ]
    wrong += [f"{where}: {fault}" for where, line in lines if (fault := line_fault(line))]
    assert lines
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(
        r"\]\(([^)#\s]*)(#[^)\s]+)?\)",
        re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL),
    ):
        path, anchor = target
        if path.startswith(("http:", "https:")):
            continue
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} links to {path}"
        if anchor:
            titles = re.findall(r"^#+ (.*)", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor[1:] in slugs, f"{page.name} links to {path}{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_import_what_there_is(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        try:
            tree = ast.parse(block)
        except SyntaxError:  # an outline of an interface
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chatling"):
                module = importlib.import_module(node.module or "")
                assert not [name.name for name in node.names if not hasattr(module, name.name)], (
                    f"{page.name}: {node.module}"
                )


@pytest.mark.parametrize("name", ["data.md", "optimizer.md", "tasks.md"])
def test_examples_that_need_no_run_work(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The last example of a page, under "Try", runs as it stands and prints something."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page[page.index("## Try") :], re.DOTALL)[-1]
    exec(compile(code, name, "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_the_code_name_what_stands_there(page: Path) -> None:
    """Rows `file`, … | `identifier`, …: each identifier is a word of one of the files."""
    for files, about in re.findall(
        r"^\| (`[\w/]+\.\w+`[^|]*) \|([^|]*)\|", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        names = [name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.py)`", files)]
        text = "\n".join(
            source.read_text(encoding="utf-8") for source in SOURCES if source.name in names
        )
        for identifier in re.findall(r"`([A-Za-z_]\w+)`", about) if text else ():
            assert re.search(rf"\b{identifier}\b", text), (
                f"{page.name}: {identifier} is not in {files}"
            )


ENGLISH = [
    page
    for page in PAGES
    if page.name not in ("README.zh-CN.md", "CHANGELOG.md") and "zh" not in page.parts
]


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)
def test_prose_is_wrapped_at_100_columns(page: Path) -> None:
    """Tables and code may be wider."""
    text = re.sub(
        r"^ *```.*?^ *```|^\$\$.*?\$\$$",
        lambda fence: "\n" * fence[0].count("\n"),
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    assert not [
        f"{page.name}:{number}"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 100 and not line.startswith(("|", "#"))  # a heading is one line
    ]


def test_the_recipe_shown_is_the_recipe() -> None:
    recipe = (ROOT / "src/chatling/config/recipes/pocket.toml").read_text(encoding="utf-8")
    for page in (ROOT / "README.md", ROOT / "README.zh-CN.md"):
        shown = [block.text for block in toml_blocks(page) if 'name = "pocket"' in block.text]
        assert [re.sub(r" *#.*", "", text) for text in shown] == [re.sub(r" *#.*", "", recipe)]


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_each_ready_recipe_has_a_row(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| [\d.,]+ ", text, re.MULTILINE)
    assert sorted(rows) == sorted(builtin_recipes())


def layers() -> list[str]:
    """Packages and modules as import-linter orders them, what may be imported first."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    found = tools["importlinter"]["contracts"][0]["layers"]
    return [layer.removeprefix("chatling.") for layer in reversed(found)]


def test_the_list_of_packages_is_that_of_the_layers() -> None:
    names = layers()
    page = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert (
        re.findall(r"`(\w+)`", page[page.index("`errors`") : page.index("`lint-imports`")])
        == names[names.index("errors") :]
    )


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_file_tree_is_that_of_the_folders(name: str) -> None:
    """A line for each package and each module of src/chatling, in the order of the layers."""
    text = (ROOT / name).read_text(encoding="utf-8")
    tree = re.search(r"^```\nversion\.py .*?^```", text, re.DOTALL | re.MULTILINE)
    assert tree
    shown = re.findall(r"^(\w+)(?:/|\.py) +\S", tree[0], re.MULTILINE)
    there = [
        path.stem
        for path in (ROOT / "src/chatling").iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem[0] != "_")
    ]
    assert sorted(shown) == sorted(there)
    assert shown == layers()


def test_the_pages_about_the_code_name_every_package() -> None:
    """docs/README.md says for each package which page tells of it."""
    page = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|[^|]+\| *\[", page, re.MULTILINE)
    packages = [path.parent.name for path in (ROOT / "src/chatling").glob("*/__init__.py")]
    assert sorted(told) == sorted(packages)


def test_every_entry_of_the_glossary_says_where_the_code_is() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    assert len(entries) > 40
    assert not [term for term, text in entries if not re.search(r"Code:[^.]*`", text)]


@pytest.mark.parametrize(
    "command",
    [*COMMANDS.values(), *(action for action, _ in _ACTIONS.values())],
    ids=lambda command: command.name,
)
def test_usage_lines_name_options_of_their_own_command(command: Command) -> None:
    assert line_fault(command.usage) is None


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_is_the_command_s_own(name: str) -> None:
    assert "--help" in options_of(name)
    assert name in ("run", "plan", "status", "report") or len(options_of(name)) > 2


# ---- the checker itself, on made-up texts ----

MADE_UP = [
    ("chatling run pocket --run deeper --model.depth 6", None),
    ("chatling run pocket --model.dept 6", "--model.dept"),
    ("chatling run pocket --model.depth six", "must be an integer"),
    ("chatling run pokket", "no recipe 'pokket'"),
    ("chatling run RECIPE --sft.mixture.0.count 5", None),
    ("chatling chat pocket --temprature 0.7", "--temprature"),
    ("chatling chat pocket --temperature", "expected one argument"),
    ("chatling chat pocket --stage last", "invalid choice"),
    ("chatling rnu pocket", "no command 'rnu'"),
    ("chatling data inpsect FOLDER", "no command data 'inpsect'"),
    ("chatling data import FOLDER --allow-bad 0.05", None),
    ("chatling data import FOLDER --alow-bad 0.05", "--alow-bad"),
    ("chatling eval pocket cores", "no evaluation"),
    ("chatling eval pocket chat --tasks GSM9K", "no task 'GSM9K'"),
    ("chatling eval pocket tokenizer", None),
    ("chatling bench speed", "no benchmark 'speed'"),
    ("chatling serve --host 0.0.0.0 --api-key @key.txt     for other machines", None),
    (
        "torchrun --standalone --nproc-per-node 2 -m chatling run pocket --name two    # on a CPU",
        None,
    ),
    ("torchrun --nproc-per-node 2 -m chatling run pocket --nam two", "--nam"),
    ("for seed in 0 1; do chatling run pocket --sed $seed --run pocket-$seed; done", "--sed"),
    ("--allow-weak-sandbox", "no option --allow-weak-sandbox"),
    ("--data.local FOLDER", None),
    ("--data.locale FOLDER", "--data.locale"),
    ("--max-…", None),
    ("dpo.label_smoothing", None),
    ("dpo.label_smothing", "no recipe field dpo.label_smothing"),
    ("[dpo] data", None),
    ("[dpo] dta", "no recipe field [dpo] dta"),
    ("[dop]", "no recipe field [dop]"),
    ("packed = true", None),
    ("paked = true", "no recipe field paked"),
    ("serve/app.py", None),
    ("serve/apps.py", "no file serve/apps.py"),
    ("tests/test_docs.py", None),
    ("tests/test_dogs.py", "no file tests/test_dogs.py"),
    ("tests/serve/", None),
    ("tests/swerve/", "no tests/swerve/"),
    ("<stage>/metrics.jsonl", None),
    ("<stage>/metricks.jsonl", "nothing writes or reads"),
    ("pip install 'chatling[harness]'", None),
    ("pip install 'chatling[harnes]'", "no extra chatling[harnes]"),
    ("make test", None),
    ("make tests", "no Makefile target tests"),
]


@pytest.mark.parametrize(("text", "said"), MADE_UP)
def test_what_is_not_there_is_found(text: str, said: str | None) -> None:
    for page in (f"Try `{text}` now.", f"```\n{text}\n```"):
        found = [
            fault for passage in markdown(Path("made-up.md"), page) for fault in faults(passage)
        ]
        if (text.startswith("--") and page.startswith("```")) or (
            "   " in text and page.startswith("Try")
        ):
            continue  # a fence's line is a command line, which may have a remark behind it
        assert bool(found) == (said is not None), found
        assert said is None or said in found[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('hint = f"Stop it, or give this one another name with --run."', None),
        ('hint = f"Give this one another name with --rnu."', "--rnu"),
        (
            'hint = f"`chatling run {name}` makes one; `chatling shell {name}` too."',
            "no command 'shell'",
        ),
        ('hint = "Begin with: chatling run pockett"', "no recipe 'pockett'"),
        ('hint = f"chatling takes --max-{name}."', None),
        ('hint = "Set rl.replayed to 0, and see [sft]."', "rl.replayed"),
        ('hint = "Preference pairs belong into [dpo] dates."', None),
        ('hint = "See docs/nothing.md."', "docs/nothing.md"),
    ],
)
def test_what_errors_promise_is_found(source: str, said: str | None) -> None:
    found = [
        fault for passage in python_strings(Path("made_up.py"), source) for fault in faults(passage)
    ]
    assert bool(found) == (said is not None), found
    assert said is None or said in found[0]


def test_a_recipe_s_block_is_checked() -> None:
    page = '```toml\n[sft]\npaked = true\nmixture = [{task = "pocket", cuont = 5}]\n```'
    found = [
        fault
        for passage in toml_blocks(Path("made-up.md"), page)
        for fault in toml_faults(passage.text)
    ]
    assert found == [
        "there is no recipe field sft.paked",
        "there is no recipe field cuont of a mixture's entry",
    ]


def test_a_misspelt_flag_in_a_real_page_fails() -> None:
    """Shown once: README as it is passes, and with one letter changed it does not."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "chatling chat pocket --temperature 0.7" in text
    changed = text.replace(
        "chatling chat pocket --temperature 0.7", "chatling chat pocket --temperatur 0.7"
    )
    found = [
        fault for passage in markdown(ROOT / "README.md", changed) for fault in faults(passage)
    ]
    assert found
    assert all("there is no option --temperatur" in fault for fault in found)
    assert flag_fault("--temperature") is None
