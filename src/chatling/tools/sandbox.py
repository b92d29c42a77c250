"""Runs Python that a model wrote, where it can harm nothing: no network, no files but a temporary
folder, little of everything.

Each program gets a fresh `python -I -S` with an empty environment. `sandbox_child.py` is that
process's side; the strongest isolation that works here is found by trying it. The sandbox guards
the machine. A score it guards against early exits and printed lies, not against a program that
searches its own process for the token: code and tests share one interpreter.
"""

import contextlib
import json
import math
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from chatling.errors import MachineError

BUBBLEWRAP, NAMESPACES, LANDLOCK, WEAK = (
    "bubblewrap",
    "user namespaces",
    "Landlock and seccomp",
    "limits only (weak)",
)
POLL = 0.05  # seconds between looks at the folder and the clock


@dataclass(frozen=True)
class Limits:
    """What one program may use: seconds, bytes, files."""

    seconds: float = 5.0  # by the clock; one more as processor time
    memory: int = 512 << 20  # address space
    file: int = 4 << 20  # the largest file
    folder: int = 16 << 20  # the temporary folder in all
    output: int = 64 << 10  # standard output and error together; more ends the program
    open_files: int = 32

    def for_process(self) -> dict[str, int]:
        cpu, file = math.ceil(self.seconds) + 1, self.file
        limits = {
            "RLIMIT_CPU": cpu,
            "RLIMIT_FSIZE": file,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }
        # macOS refuses a limit of the address space
        return limits | ({"RLIMIT_AS": self.memory} if sys.platform == "linux" else {})


@dataclass(frozen=True)
class Outcome:
    """How a program ended. `passed` only when it ran to its last line; `reason` is "passed",
    "timeout", or what stopped it.
    """

    passed: bool
    reason: str
    output: str


class Sandbox:
    """`name` says which isolation was found. Raises MachineError when nothing here keeps programs
    from files and network, unless `allow_weak`.
    """

    def __init__(self, *, allow_weak: bool = False, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.name = next(
            (name for name in (BUBBLEWRAP, NAMESPACES, LANDLOCK) if self._holds(name)), WEAK
        )
        if self.name == WEAK and not allow_weak:
            raise MachineError(
                "Programs written by a model cannot be shut off from this machine's files and"
                " network: bubblewrap, user namespaces and Landlock were tried and none works"
                " here.",
                "Install bubblewrap (`apt install bubblewrap`), or leave out the tasks that run"
                " programs (HumanEval).",
            )

    def run(self, code: str) -> Outcome:
        """Run one program to its end or to its limits. Never raises for what the program does."""
        return self._run(self.name, code)

    def map(self, programs: Iterable[str], workers: int | None = None) -> Iterator[Outcome]:
        """Outcomes in order, several programs at a time (as many as there are processors, unless
        told).
        """
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            yield from pool.map(self.run, programs)

    def _holds(self, name: str) -> bool:
        """Whether an isolation works here: a program inside it computes, and reaches neither a file
        nor a server outside.
        """
        if sys.platform != "linux" or (name == BUBBLEWRAP and shutil.which("bwrap") is None):
            return False
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.create_server(("127.0.0.1", 0)) as server,
        ):
            secret = Path(folder) / "secret"
            secret.write_text("secret")
            return self._run(
                name, _PROBE.format(secret=str(secret), port=server.getsockname()[1])
            ).passed

    def _run(self, name: str, code: str) -> Outcome:
        token = secrets.token_hex(16)
        result, write_end = os.pipe()
        folder = tempfile.mkdtemp(prefix="chatling-sandbox-")
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            answer = stack.enter_context(open(result, "rb"))
            inside = "/tmp" if name == BUBBLEWRAP else folder
            job = {
                "code": code,
                "limits": self.limits.for_process(),
                "folder": inside,
                "folder_bytes": self.limits.folder,
            }
            job |= {"namespaces": name == NAMESPACES, "readable": _readable(), "result": write_end}
            with open(write_end, "wb"):  # the child has its own copy
                process = subprocess.Popen(
                    _command(name, self.limits),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={},
                    cwd="/",
                    pass_fds=[write_end],
                    start_new_session=True,
                )
            stack.callback(_end, process)
            assert process.stdin is not None
            assert process.stdout is not None
            stack.enter_context(process.stdout)
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(job).encode() + b"\n" + token.encode() + b"\n")
            output, stopped = self._watch(process.stdout, Path(folder))
            _end(process)
            os.set_blocking(answer.fileno(), False)
            found = _answer(answer)
        passed = stopped is None and secrets.compare_digest(
            str(found.get("token", "")).encode(), token.encode()
        )
        reason = (
            "passed" if passed else stopped or str(found.get("error") or _story(process.returncode))
        )
        return Outcome(passed, reason, output.decode(errors="replace"))

    def _watch(self, stream: IO[bytes], folder: Path) -> tuple[bytes, str | None]:
        """What the program printed, until it ends (None) or goes over a limit (which)."""
        output, end = b"", time.monotonic() + self.limits.seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if time.monotonic() > end:
                    return output, "timeout"
                if selector.select(POLL):
                    data = os.read(stream.fileno(), 1 << 16)
                    if not data:
                        return output, None
                    output += data
                    if len(output) > self.limits.output:
                        return output[: self.limits.output], "too much output"
                elif _size(folder) > self.limits.folder:
                    return output, "too much written"


_PROBE = """
import socket
try:
    open({secret!r}).read()
    raise SystemExit("a file outside can be read")
except OSError:
    pass
try:
    socket.create_connection(("127.0.0.1", {port}), 1)
    raise SystemExit("the network can be reached")
except OSError:
    pass
with open("note", "w") as file:
    file.write("a file of its own")
"""


def _readable() -> list[str]:
    """What a Python process must read: its own libraries and the system's. Paths as they are, after
    symlinks.
    """
    interpreter = [
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        os.path.join(sys.base_prefix, "lib"),
    ]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    executable = os.path.realpath(sys.executable)
    found = {
        os.path.realpath(path)
        for path in (*interpreter, *system, executable)
        if os.path.exists(path)
    }
    return sorted(
        path for path in found if not any(path.startswith(other + "/") for other in found)
    )


def _command(name: str, limits: Limits) -> list[str]:
    source = files("chatling.tools").joinpath("sandbox_child.py").read_text(encoding="utf-8")
    python = [os.path.realpath(sys.executable), "-I", "-S", "-B", "-X", "utf8", "-c", source]
    if name != BUBBLEWRAP:
        return python
    command = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--cap-drop",
        "ALL",
    ]
    for path in _readable():
        command += ["--ro-bind", path, path]
    for link in ("/lib", "/lib64", "/usr/lib64"):
        if os.path.islink(link):
            command += ["--symlink", os.readlink(link), link]
    return [*command, "--size", str(limits.folder), "--tmpfs", "/tmp", "--chdir", "/tmp", *python]


def _answer(stream: IO[bytes]) -> dict[str, object]:
    """What the child wrote; anything but one JSON object is nothing."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = json.loads((stream.read() or b"")[:8192])
        if isinstance(found, dict):
            return found
    return {}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with its whole group, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _story(code: int) -> str:
    if code >= 0:
        return f"left early with code {code}"
    return (
        "out of processor time"
        if -code == signal.SIGXCPU
        else f"killed by {signal.Signals(-code).name}"
    )


def _size(folder: Path) -> int:
    """Bytes below a folder that may change meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total
