"""The sandbox against programs that want out, under every isolation that this machine offers; and
HumanEval's own solutions through it.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatling.errors import MachineError
from chatling.tools import sandbox as module
from chatling.tools.sandbox import BUBBLEWRAP, LANDLOCK, NAMESPACES, WEAK, Limits, Sandbox

from .abuse import ABUSES

QUICK = Limits(seconds=1.0)


@pytest.fixture(params=[BUBBLEWRAP, NAMESPACES, LANDLOCK], scope="module")
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """A sandbox held to one isolation, as on a machine that has nothing stronger."""
    held = pytest.MonkeyPatch()
    original = Sandbox._holds
    held.setattr(
        Sandbox, "_holds", lambda self, name: name == request.param and original(self, name)
    )
    try:
        found = Sandbox(allow_weak=True, limits=QUICK)
    finally:
        held.undo()
    if found.name == WEAK:
        pytest.skip(f"{request.param} does not work on this machine")
    return found


@dataclass
class Outside:
    canary: Path
    port: int
    visitors: list[bytes]


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    visitors: list[bytes] = []
    with (
        tempfile.TemporaryDirectory(dir=Path.home()) as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(server.getsockname())
        canary = Path(folder) / "diary"
        canary.write_text("dear diary")

        def listen() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return
                visitors.append(b"tcp")

        threading.Thread(target=listen, daemon=True).start()
        yield Outside(canary, server.getsockname()[1], visitors)
        datagrams.setblocking(False)
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)
        datagrams.close()


@pytest.mark.parametrize("name", ABUSES)
def test_abuse_fails_and_leaves_no_trace(name: str, sandbox: Sandbox, outside: Outside) -> None:
    prelude = f"CANARY, PORT, PARENT = {str(outside.canary)!r}, {outside.port}, {os.getpid()}\n"
    begun = time.monotonic()
    outcome = sandbox.run(prelude + ABUSES[name])
    assert not outcome.passed
    assert outcome.reason != "passed"
    assert time.monotonic() - begun < 10
    assert len(outcome.output.encode()) <= 3 * QUICK.output  # undecodable bytes become three
    assert outside.canary.read_text() == "dear diary"
    assert [path.name for path in outside.canary.parent.iterdir()] == ["diary"]
    assert outside.visitors == []


def _temporary_folders() -> set[str]:
    return {
        name for name in os.listdir(tempfile.gettempdir()) if name.startswith("chatling-sandbox-")
    }


def _children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


HARMLESS = {
    "deletes its folder": "import shutil\nshutil.rmtree('.', ignore_errors=True)",
    "locks its folder": (
        "import os\nos.makedirs('a/b')\nos.chmod('a/b', 0)\nos.chmod('a', 0)\nos.chmod('.', 0)"
    ),
    "leaves a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"
    ),
    "leaves a timer": "import threading\nthreading.Timer(60, print).start()",
    "closes its descriptors": "import os\nfor fd in (1, 2):\n    os.close(fd)",
    "a name that is a path": "open('..'.join(['a', 'b']), 'w').write('x')",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_nothing_outlives_a_program(
    sandbox: Sandbox, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other workers have sandboxes, too
    before = _temporary_folders(), _children()
    begun = time.monotonic()
    sandbox.run(HARMLESS[name])
    assert time.monotonic() - begun < 10
    assert _temporary_folders() - before[0] == set()
    assert _children() - before[1] == set()


def test_programs_get_what_they_need(sandbox: Sandbox) -> None:
    code = """
import collections, dataclasses, hashlib, heapq, itertools, json, math, os, random, re, string
import sys, threading, typing, unittest
assert __name__ == "__main__"
assert set(os.environ) <= {"LC_CTYPE", "PWD"}, dict(os.environ)
assert sys.flags.isolated and sys.flags.no_site
assert not any("site-packages" in path for path in sys.path)
with open("note", "w") as file:
    file.write("grüße 你好")
assert open("note", encoding="utf-8").read() == "grüße 你好"
found = []
thread = threading.Thread(target=found.append, args=(hashlib.md5(b"hello").hexdigest(),))
thread.start(); thread.join()
assert found == ["5d41402abc4b2a76b9719d911017c592"]
@dataclasses.dataclass
class Point:
    x: int
class Test(unittest.TestCase):
    def test(self): self.assertEqual(Point(3), Point(3))
assert unittest.main(exit=False, argv=["x"]).result.wasSuccessful()
print("你好")
"""
    outcome = sandbox.run(code)
    assert (outcome.passed, outcome.reason) == (True, "passed"), outcome
    assert outcome.output.endswith("你好\n")


def test_reasons_are_told(sandbox: Sandbox) -> None:
    assert sandbox.run("while True: pass").reason == "timeout"
    assert sandbox.run("assert 1 == 2, 'one is not two'").reason == "AssertionError: one is not two"
    assert sandbox.run("while True: print('x' * 999)").reason == "too much output"
    assert "SystemExit" in sandbox.run("raise SystemExit(0)").reason


def test_outcomes_keep_their_order(sandbox: Sandbox) -> None:
    outcomes = list(sandbox.map([f"print({i})\nassert {i} % 3" for i in range(12)]))
    assert [outcome.output for outcome in outcomes] == [f"{i}\n" for i in range(12)]
    assert [outcome.passed for outcome in outcomes] == [i % 3 != 0 for i in range(12)]


def test_too_weak_a_machine_is_refused_unless_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Sandbox, "_holds", lambda self, name: False)
    with pytest.raises(MachineError, match="Install bubblewrap"):
        Sandbox()
    assert Sandbox(allow_weak=True).name == WEAK


def test_an_isolation_that_lets_a_file_through_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readable = module._readable()
    monkeypatch.setattr(module, "_readable", lambda: [*readable, tempfile.gettempdir()])
    # bubblewrap would put an empty folder over it
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(MachineError):
        Sandbox()


def test_humaneval_solutions_pass_and_broken_ones_fail(data_pack: Path) -> None:
    try:
        sandbox = Sandbox(limits=Limits(seconds=20.0))
    except MachineError as error:
        pytest.skip(str(error))
    with gzip.open(data_pack / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = [json.loads(line) for line in file]
    assert len(problems) == 164
    tests = [f"{p['test']}\ncheck({p['entry_point']})\n" for p in problems]
    right = [
        p["prompt"] + p["canonical_solution"] + "\n" + test
        for p, test in zip(problems, tests, strict=True)
    ]
    broken = [
        p["prompt"] + "    return object()\n" + test
        for p, test in zip(problems, tests, strict=True)
    ]
    assert [
        p["task_id"]
        for p, outcome in zip(problems, sandbox.map(right), strict=True)
        if not outcome.passed
    ] == []
    assert [
        p["task_id"]
        for p, outcome in zip(problems, sandbox.map(broken), strict=True)
        if outcome.passed
    ] == []
