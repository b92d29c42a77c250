"""The front door: help, bad input as one sentence, exit codes, and nothing heavy imported before it
is needed.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatling.cli import COMMANDS, main
from chatling.commands.common import Command
from chatling.errors import Interrupted
from chatling.hardware.environment import SETTINGS
from chatling.run_dir import RunFolder, building_folder, find_run


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    return tmp_path


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert all(f"chatling {name} " in shown for name in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from chatling.cli import main; main(['--help']); print({'torch', 'numpy',"
        " 'rich', 'tyro'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "start", ["from chatling.cli import main; main(['--version'])", "from chatling import LLM"]
)
def test_settings_are_there_before_torch_reads_them(start: str) -> None:
    """Both for commands and for the Python API."""
    ours = [name for chosen, _ in SETTINGS for name in chosen]
    code = (
        "import builtins, os, sys; found, real = [], builtins.__import__\n"
        "def note(name, *rest):\n"
        f"    if name == 'torch' and not found: found.append({{*{ours}}} <= os.environ.keys())\n"
        "    return real(name, *rest)\n"
        f"builtins.__import__ = note\n{start}\nimport torch; print(found[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if name not in ours},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: chatling {name}" in capsys.readouterr().out


BAD = [
    (["rnu", "pocket"], 2, "Did you mean 'run'?"),
    (["zzz"], 2, "Commands: run, launch, plan"),
    (["run"], 2, "Which recipe? Ready ones: 7b, d32, folder, laptop, pocket, pocket-zh, spark"),
    (["run", "poket"], 2, "Did you mean 'pocket'?"),
    (["run", "pocket", "--model.dept", "3"], 2, "Did you mean '--model.depth'?"),
    (["run", "pocket", "--model.depth", "three"], 2, "must be an integer, not 'three'"),
    (["run", "pocket", "--run"], 2, "Argument --run: expected one argument."),
    (
        ["run", "folder", "--data.source", "/nowhere/at/all"],
        1,
        "/nowhere/at/all holds 0 parquet files",
    ),
    (["plan", "pocket", "--base.batch_tokens", "100"], 2, "not a multiple of the context"),
    (["plan", "pocket", "--model.head_width", "3"], 2, "heads"),
    (["run", "pocket", "--run", ""], 2, "Argument --run: '' names no run."),
    (["run", "pocket", "--run", ".."], 2, "Argument --run: '..' names no run."),
    (["run", "pocket", "--run", "a b"], 2, "Argument --run: 'a b' names no run."),
    (["plan", "pocket", "--run", "."], 2, "Argument --run: '.' names no run."),
    (["run", ""], 2, "There is no recipe ''"),
    (["run", "a\0b"], 2, "There is no recipe 'a\\x00b'"),
    (["data", "inspect", ".", "--run", ""], 1, "'' names no run."),
    (["status", "nothing"], 1, "There is no run at"),
    (["status"], 1, "There are no runs in"),
    (["status", "--jsn"], 2, "does not know '--jsn'"),
    (["chat", "nothing"], 1, "There is no run at"),
    (["chat", "--promt", "hello"], 2, "Did you mean '--prompt'?"),
    (["chat", "--stage", "last"], 2, "invalid choice: 'last'"),
    (["chat", "--temperature", "hot"], 2, "invalid float value: 'hot'"),
    (["eval", "pocket"], 2, "For example `chatling eval pocket chat`."),
    (["eval", "pocket", "cores"], 2, "Did you mean 'core'?"),
    (["eval", "hf:gpt2", "chat"], 2, "only the evaluation core"),
    (["eval", "pocket", "chat", "--questions", "0"], 2, "at least 1"),
    (["eval", "pocket", "chat"], 1, "There is no run at"),
    (["bench", "speed"], 2, "There is no benchmark 'speed'"),
]


@pytest.mark.parametrize(("words", "code", "said"), BAD)
def test_bad_input_is_one_sentence_with_its_exit_code(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("chatling: ")
    assert shown.err.count("\n") == 1


NO_RUNS = [
    "",
    ".",
    "..",
    "a\0b",
    "x" * 5000,
    "a\nb",
    "~nobody-at-all",
    "with/a\0b",
    "y/" * 3000,
    "z" * 300 + "/x",
    "\udcff",
    "a b",
]


@pytest.mark.parametrize("name", NO_RUNS, ids=range(len(NO_RUNS)))
@pytest.mark.parametrize(
    "words",
    [["status"], ["chat"], ["serve"], ["report"], ["eval", "chat"]],
    ids=lambda words: words[0],
)
def test_what_names_no_run_is_one_sentence(
    words: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], name, *words[1:]]) == 1
    shown = capsys.readouterr().err
    assert "names no run. A name is 1 to 100 letters" in shown
    assert shown.count("\n") == 1
    assert len(shown) < 400


def test_the_folder_that_one_stands_in_may_be_a_run(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_run("demo") == house / "runs" / "demo"
    RunFolder(house / "elsewhere").write_state({"stages": {}, "execution": {}})
    monkeypatch.chdir(house / "elsewhere")
    assert find_run(".") == Path(".")
    assert find_run("../elsewhere") == Path("../elsewhere")


def test_a_bad_recipe_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\ndepht = 3\n")
    assert main(["plan", str(path)]) == 2
    assert (
        capsys.readouterr().err
        == f"chatling: Unknown key 'model.depht' in {path} line 2. Did you mean 'depth'?\n"
    )


def test_a_run_without_the_stage_asked_for(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(house / "runs" / "demo")
    folder.write_state({"stages": {}, "execution": {}})
    assert main(["chat", "demo"]) == 1
    assert "has no finished model yet" in capsys.readouterr().err
    with building_folder(folder.model("base")) as model:
        (model / "config.json").write_text("{}")
    assert main(["chat", "demo", "--stage", "sft"]) == 1
    assert "has no finished sft model. It has: base." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(Interrupted("Stopped; saved."), 75), (KeyboardInterrupt(), 130)]
)
def test_stopping_has_its_own_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(command: Command, words: list[str]) -> None:
        raise error

    monkeypatch.setattr("chatling.commands.status.run", stop)
    assert main(["status"]) == code


def test_plan_prints_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "pocket", "--model.depth", "2"]) == 0
    shown = capsys.readouterr().out
    assert "depth 2, width 128" in shown
    assert "matrices" in shown


def test_a_terminal_that_lacks_letters_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["plan", "pocket", "--machine", "spark"]) == 0
    sys.stdout.flush()
    assert b", ? 6%" in b" ".join(written.getvalue().split())
