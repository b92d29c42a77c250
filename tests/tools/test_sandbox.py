"""The sandbox against programs that want out, under every isolation that this machine offers; and
HumanEval's own solutions through it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import gzip
import json
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatling.errors import MachineError
from chatling.tools import sandbox as module
from chatling.tools import sandbox_folder, seccomp
from chatling.tools.sandbox import BUBBLEWRAP, LANDLOCK, NAMESPACES, WEAK, Limits, Sandbox

from .abuse import ABUSES
from .legit import LEGIT

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


def test_abuse_fails_and_leaves_no_trace(sandbox: Sandbox, outside: Outside) -> None:
    prelude = f"CANARY, PORT, PARENT = {str(outside.canary)!r}, {outside.port}, {os.getpid()}\n"
    places = (outside.canary, Path(os.devnull), Path(json.__file__))
    before, folders = [_state(path) for path in places], _temporary_folders()

    def run(name: str) -> str | None:
        begun = time.monotonic()
        outcome = sandbox.run(prelude + ABUSES[name])
        size = len(outcome.output.encode())
        well = not outcome.passed and outcome.reason != "passed" and outcome.started
        well &= size <= 3 * QUICK.output  # undecodable bytes become three
        well &= time.monotonic() - begun < 15 and [_state(path) for path in places] == before
        return None if well else f"{name}: {outcome.reason}"

    with ThreadPoolExecutor(4) as pool:
        assert list(filter(None, pool.map(run, ABUSES))) == []
    assert outside.canary.read_text() == "dear diary"
    assert [path.name for path in outside.canary.parent.iterdir()] == ["diary"]
    assert outside.visitors == []
    assert not os.path.exists("/dev/shm/chatling-test")
    assert _temporary_folders() <= folders


def _state(path: Path) -> tuple[object, ...]:
    """What of a file programs must not change."""
    found = path.stat()
    dates = (found.st_mtime_ns, found.st_size) if path.is_file() else ()
    return found.st_mode, found.st_uid, found.st_gid, found.st_nlink, *dates


def test_there_are_many_of_both_kinds() -> None:
    assert len(ABUSES) >= 120
    assert len(LEGIT) >= 40


def _refused(sandbox: Sandbox) -> list[str]:
    outcomes = zip(LEGIT, sandbox.map(LEGIT.values(), 4), strict=True)
    return [f"{name}: {each.reason} {each.output}" for name, each in outcomes if not each.passed]


def test_odd_programs_pass() -> None:
    try:
        sandbox = Sandbox(limits=Limits(seconds=20.0))
    except MachineError as error:
        pytest.skip(str(error))
    assert _refused(sandbox) == []


@pytest.mark.slow
def test_odd_programs_pass_under_every_isolation(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "limits", Limits(seconds=20.0))
    assert _refused(sandbox) == []


def _temporary_folders() -> set[str]:
    return {
        name for name in os.listdir(tempfile.gettempdir()) if name.startswith("chatling-sandbox-")
    }


def _children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread may end while it is looked at
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


def test_programs_get_what_they_need(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "limits", Limits(seconds=20.0))
    code = """
import collections, dataclasses, hashlib, heapq, itertools, json, math, os, random, re, string
import sys, threading, typing, unittest
assert __name__ == "__main__"
assert set(os.environ) == {"HOME", "TMPDIR", "USER"}, dict(os.environ)
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


def test_too_weak_a_machine_is_refused_unless_accepted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module.Sandbox, "_holds", lambda self, name: False)
    with pytest.raises(MachineError, match="Install bubblewrap"):
        Sandbox()
    assert Sandbox(allow_weak=True).name == WEAK
    assert "Landlock were tried and none works here" in caplog.text


@pytest.mark.parametrize(
    ("where", "name", "told"),
    [
        ("sys.platform", "darwin", "files, network and other processes are not contained"),
        ("platform.machine", lambda: "riscv64", "New processes, signals to others and the owners"),
    ],
)
def test_what_is_not_contained_is_told(
    monkeypatch: pytest.MonkeyPatch, where: str, name: object, told: str
) -> None:
    monkeypatch.setattr(f"chatling.tools.sandbox.{where}", name)
    with pytest.raises(MachineError, match=told):
        Sandbox()


def test_a_machine_without_room_or_sockets_raises_no_oserror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for broken in ("socket.create_server", "tempfile.mkdtemp", "subprocess.Popen", "os.pipe"):
        with monkeypatch.context() as patch:
            patch.setattr(f"chatling.tools.sandbox.{broken}", refuse)
            with pytest.raises(MachineError):
                Sandbox()
            if broken != "socket.create_server":
                outcome = Sandbox(allow_weak=True).run("pass")
                assert (outcome.passed, outcome.started) == (False, False)
                assert "Permission denied" in outcome.reason


def test_a_folder_of_any_depth_and_names_is_measured_and_removed(tmp_path: Path) -> None:
    top = tmp_path / "folder"
    top.mkdir()
    (top / "link").symlink_to(tmp_path)
    (top / "file").write_bytes(bytes(9000))
    assert sandbox_folder.within(str(top), 1 << 20, 3)
    assert not sandbox_folder.within(str(top), 1 << 20, 1)
    assert not sandbox_folder.within(str(top), 8000, 3)
    here = os.open(top, os.O_RDONLY)
    for _ in range(300):  # three times as long as a path may be
        os.mkdir("d" * 40, dir_fd=here)
        below = os.open("d" * 40, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.mkdir(b"\xff\n", 0, dir_fd=here)
    os.close(here)
    assert not sandbox_folder.within(str(top), 1 << 30, 1 << 30)
    (tmp_path / "outside").write_text("stays")
    sandbox_folder.remove(str(top))
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]


def test_the_filter_has_the_numbers_of_libseccomp() -> None:
    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("libseccomp is not installed (apt install libseccomp2)")
    resolve = ctypes.CDLL(name).seccomp_syscall_resolve_name_arch
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    for machine, (audit, first, last) in seccomp.PROCESSORS.items():
        for call, numbers in seccomp.CALLS.items():
            number = resolve(audit, call.encode())  # negative where a processor lacks the call
            assert number != -1, call
            assert numbers[machine] == (str(number) if number >= 0 else "-"), call
        assert (resolve(audit, b"setxattr"), resolve(audit, b"fremovexattr")) == (first, last)


@pytest.mark.parametrize("machine", seccomp.PROCESSORS)
def test_the_filter_allows_what_is_listed_alone(machine: str) -> None:
    """The instructions, interpreted as the kernel does (net/core/filter.c)."""
    rules = seccomp.instructions(machine)
    assert rules is not None
    audit = seccomp.PROCESSORS[machine][0]

    def decide(number: int, *arguments: int, audit: int = audit) -> int:
        given = [*arguments, *[0] * (6 - len(arguments))]
        data = struct.pack("<IIQ6Q", number, audit, 0, *given)
        place, value = 0, 0
        while True:
            code, yes, no, k = rules[place]
            if code == seccomp.RETURN:
                return k
            if code == seccomp.LOAD:
                value = struct.unpack_from("<I", data, k)[0]
                holds = False
                yes = no = 0
            elif code == seccomp.EQUAL:
                holds = value == (k if k >= 0 else 4242)
            elif code == seccomp.ABOVE:
                holds = value >= k
            else:
                holds = value & k != 0
            place += 1 + (yes if holds else no)

    listed = {
        int(each[machine]): name for name, each in seccomp.CALLS.items() if each[machine] != "-"
    }
    bounded = {*seccomp.ONLY, "clone"}
    for number in range(600):
        allowed = decide(number) == seccomp.ALLOW
        if listed.get(number) not in bounded:
            assert allowed == (number in listed), number
    of = {name: number for number, name in listed.items()}
    assert decide(of["kill"], 4242, 9) == seccomp.ALLOW != decide(of["kill"], 1, 9)
    assert decide(of["prlimit64"], 4242) == seccomp.ALLOW != decide(of["prlimit64"], 1)
    assert decide(of["socketpair"], 1) == seccomp.ALLOW != decide(of["socketpair"], 2)
    assert decide(of["sendto"], 3) == seccomp.ALLOW != decide(of["sendto"], 3, 0, 0, 0, 1 << 32)
    assert decide(of["fcntl"], 3, 1030) == seccomp.ALLOW != decide(of["fcntl"], 3, 8)
    assert decide(of["clone"], 0x10F00) == seccomp.ALLOW != decide(of["clone"], 17)
    assert decide(of["read"], audit=0x40000003) == seccomp.KILL
    assert decide(0x40000000 + of["read"]) == seccomp.ERRNO | seccomp.ENOSYS
    assert decide(435) == seccomp.ERRNO | seccomp.ENOSYS  # clone3, whose flags lie in memory


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
