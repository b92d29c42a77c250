"""Runs Python that a model wrote, where it can harm nothing: no network, no files but a temporary
folder, little of everything.

Each program gets a fresh `python -I -S` with an empty environment. `sandbox_child.py` is that
process's side; the strongest isolation that works here is found by trying it. The sandbox guards
the machine. A score it guards against all that Python offers a program, not against machine code
that searches its own memory for the token: code and tests share one interpreter.
"""

import contextlib
import json
import logging
import math
import os
import platform
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
from chatling.tools import sandbox_folder, seccomp

BUBBLEWRAP, NAMESPACES, LANDLOCK, WEAK = (
    "bubblewrap",
    "user namespaces",
    "Landlock and seccomp",
    "limits only (weak)",
)
POLL = 0.05  # seconds between looks at the folder and the clock
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class Limits:
    """What one program may use: seconds, bytes, files."""

    seconds: float = 5.0  # by the clock; one more as processor time
    memory: int = 512 << 20  # address space
    file: int = 4 << 20  # the largest file
    folder: int = 16 << 20  # the temporary folder in all
    entries: int = 1024  # files and folders in it
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
    "timeout", or what stopped it. `started` is false where the machine could not run it at all.
    """

    passed: bool
    reason: str
    output: str
    started: bool = True


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
            raise MachineError(*_why_weak())
        if self.name == WEAK:
            logging.getLogger(__name__).warning(" ".join(_why_weak()))

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
        nor a server outside, nor starts a process.
        """
        if sys.platform != "linux" or (name == BUBBLEWRAP and shutil.which("bwrap") is None):
            return False
        try:
            with (
                tempfile.TemporaryDirectory() as folder,
                socket.create_server(("127.0.0.1", 0)) as server,
            ):
                secret = Path(folder) / "secret"
                secret.write_text("secret")
                port = server.getsockname()[1]
                return self._run(name, _PROBE.format(secret=str(secret), port=port)).passed
        except OSError:
            return False

    def _run(self, name: str, code: str) -> Outcome:
        try:
            folder = os.path.realpath(tempfile.mkdtemp(prefix="chatling-sandbox-"))
            try:
                return self._run_in(folder, name, code)
            finally:
                sandbox_folder.remove(folder)
        except OSError as error:
            return Outcome(False, f"The sandbox cannot run a program: {error}.", "", False)

    def _run_in(self, folder: str, name: str, code: str) -> Outcome:
        token = secrets.token_hex(16)
        limits, readable = self.limits, _readable()
        with contextlib.ExitStack() as stack:
            result, write_end = (stack.enter_context(open(end, mode)) for end, mode in _pipe())
            job = {
                "code": code,
                "token": token,
                "limits": limits.for_process(),
                "folder": "/tmp" if name == BUBBLEWRAP else folder,
                "readable": readable,
                "devices": _devices(),
                "namespaces": name == NAMESPACES,
                # what is mounted takes entries, too
                "tmpfs": f"size={limits.folder},nr_inodes={limits.entries + 256},mode=0755",
                "filter": seccomp.instructions(platform.machine()),
                "result": write_end.fileno(),
            }
            process = subprocess.Popen(
                _command(name, folder, readable),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # a pool of memory for each thread would use up the address space
                env={"MALLOC_ARENA_MAX": "1"},
                cwd="/",
                pass_fds=[write_end.fileno()],
                start_new_session=True,
            )
            stack.callback(_end, process)
            write_end.close()  # the child has its own copy
            assert process.stdin is not None
            assert process.stdout is not None
            stack.enter_context(process.stdout)
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(job).encode())
            output, stopped = self._watch(process, process.stdout, folder)
            _end(process)
            os.set_blocking(result.fileno(), False)
            answer = (result.read() or b"")[:8192]
        passed = stopped is None and secrets.compare_digest(answer, token.encode())
        reason = "passed" if passed else stopped or _told(answer) or _story(process.returncode)
        return Outcome(passed, reason, output.decode(errors="replace"))

    def _watch(
        self, process: subprocess.Popen[bytes], stream: IO[bytes], folder: str
    ) -> tuple[bytes, str | None]:
        """What the program printed, until it ends (None) or goes over a limit (which)."""
        output, end, look = b"", time.monotonic() + self.limits.seconds, 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while (now := time.monotonic()) < end:
                if now >= look:
                    if not sandbox_folder.within(folder, self.limits.folder, self.limits.entries):
                        return output, "too much written"
                    look = time.monotonic() + POLL
                if not selector.get_map():  # it closed its output; it may go on
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL)
                        return output, None
                elif selector.select(POLL):
                    data = os.read(stream.fileno(), 1 << 16)
                    if not data:
                        selector.unregister(stream)
                    output += data
                    if len(output) > self.limits.output:
                        return output[: self.limits.output], "too much output"
        return output, "timeout"


# each attempt must fail, on its own
_PROBE = """
import os, socket
secret, port = {secret!r}, {port}
for attempt in (
    lambda: open(secret).read(),
    lambda: os.truncate(secret, 0),
    lambda: os.chmod(secret, 0o777),
    lambda: os.utime(secret, (0, 0)),
    lambda: os.setxattr(secret, "user.note", b"x"),
    lambda: os.setxattr(".", "user.note", b"x"),
    lambda: socket.create_connection(("127.0.0.1", port), 1),
    lambda: os.fork() or os._exit(0),
):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("it reaches what is outside")
with open("note", "w") as file:
    file.write("a file of its own")
"""


def _why_weak() -> tuple[str, str]:
    """Why nothing shuts programs off here, with what is not contained; and what to do."""
    free = "Programs written by a model cannot be shut off from this machine's files and network"
    rest = "Only time, sizes of files and output are limited here; files, network and other"
    if sys.platform != "linux":
        return (
            f"{free}: {platform.system()} has none of the isolations, which are Linux's. {rest}"
            " processes are not contained.",
            "Leave out the tasks that run programs (HumanEval), or run them on Linux.",
        )
    if platform.machine() not in seccomp.PROCESSORS:
        return (
            f"{free}: no filter of system calls is known for the processor {platform.machine()}."
            " New processes, signals to others and the owners, modes and dates of files outside are"
            " not contained.",
            "Leave out the tasks that run programs (HumanEval), or run them on"
            f" {' or '.join(seccomp.PROCESSORS)}.",
        )
    return (
        f"{free}: bubblewrap, user namespaces and Landlock were tried and none works here. {rest}"
        " processes may not be contained.",
        "Install bubblewrap (`apt install bubblewrap`), or leave out the tasks that run programs"
        " (HumanEval).",
    )


def _pipe() -> Iterable[tuple[int, str]]:
    read, write = os.pipe()
    return (read, "rb"), (write, "wb")


def _devices() -> list[str]:
    return [path for path in DEVICES if os.path.exists(path)]


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


def _command(name: str, folder: str, readable: list[str]) -> list[str]:
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
    for path in readable:
        command += ["--ro-bind", path, path]
    for path in _devices():
        command += ["--dev-bind", path, path]
    for link in ("/lib", "/lib64", "/usr/lib64"):
        if os.path.islink(link):
            command += ["--symlink", os.readlink(link), link]
    # a folder that is measured, since the size of a tmpfs of bubblewrap bounds no number of files
    return [*command, "--bind", folder, "/tmp", "--chdir", "/tmp", *python]


def _told(answer: bytes) -> str | None:
    """What stopped the program, from what the child wrote; anything but that is nothing."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        kind, text = json.loads(answer)
        return f"{kind}: {text}"
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with its whole group, and wait for it; nothing if that was done."""
    if process.returncode is None:
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
