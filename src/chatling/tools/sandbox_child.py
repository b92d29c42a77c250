"""The child's side of the sandbox: give up every right that the machine lets a process give up,
then run one program.

`sandbox.py` passes this file's text to a fresh `python -I -S -c`, so it imports the standard
library alone. It reads one JSON object from standard input and answers on the descriptor that is
named there. Isolation is Linux's; elsewhere just the limits hold.

Sources: seccomp(2), landlock(7), capabilities(7), mount_namespaces(7); struct layouts from the
kernel's uapi headers.
"""

import contextlib
import ctypes
import functools
import io
import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any

# user, network, IPC, host name, mounts
NEW_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    32,
    4096,
    16384,
    1 << 18,
)
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_PDEATHSIG = 24, 38, 22, 1
SIGKILL, OWN_PID = 9, -1
# execute (shared libraries are mapped executable), read files, read folders
LANDLOCK_READ = 1 << 0 | 1 << 2 | 1 << 3
# write and read a file, truncate it
LANDLOCK_DEVICE = 1 << 1 | 1 << 2 | 1 << 14
# file rights that each version of the interface knows, 16 from the fifth on; the first two would
# let a program truncate files outside
LANDLOCK_BITS = {3: 15, 4: 15}


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    folder, readable, devices = job["folder"], job["readable"], job["devices"]
    libc = ctypes.CDLL(None, use_errno=True)
    linux = sys.platform == "linux"
    if linux:
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if job["namespaces"]:
            enter_namespaces(libc, readable, devices, folder, job["tmpfs"])
    os.chdir(folder)
    path = os.path.join(folder, "__main__.py")
    # for `__file__` and `inspect.getsource`; one too large or not UTF-8 runs without
    with contextlib.suppress(OSError, ValueError), open(path, "w", encoding="utf-8") as file:
        file.write(job["code"])
    set_limits(job["limits"])
    if linux:
        drop_capabilities(libc)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        restrict_files(libc, readable, devices, folder)
        filter_calls(libc, job["filter"])
    furnish(folder, path)
    run(job, path)


def run(job: dict[str, Any], path: str) -> None:
    """Execute a program as `__main__`; answer with the token when it ran to its end, else with
    what stopped it.
    """
    module = type(sys)("__main__")
    module.__file__, sys.modules["__main__"] = path, module
    # The program may replace any name in any module, so what is used after it is held here.
    write, dumps, leave, shown = os.write, json.dumps, os._exit, (sys.stdout, sys.stderr)
    answer, result, namespace = b"", job["result"], module.__dict__
    execute: Callable[..., bytes | None] = exec
    try:
        code = compile(job["code"].removeprefix("\ufeff"), path, "exec", dont_inherit=True)
        # While the program runs, the token is on the stack of this expression alone, where neither
        # frames nor gc show it; an exception drops it.
        write(result, job.pop("token").encode() + (execute(code, namespace) or b""))
    except BaseException as error:  # SystemExit among them: leaving early is no success
        with contextlib.suppress(BaseException):
            answer = dumps([type(error).__name__, str(error)[:500]]).encode()[:4096]
    write(result, answer)
    for stream in (*shown, sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # closed or replaced by the program
            stream.flush()
    leave(0)  # threads of the program end here too


def furnish(folder: str, path: str) -> None:
    """What programs expect of a Python that was started in a folder: a home, locks, files whose
    modes can be set.
    """
    os.environ.clear()
    os.environ.update(HOME=folder, TMPDIR=folder, USER="sandbox")
    sys.argv, sys.stdin = [path], io.TextIOWrapper(io.BytesIO())
    sys.path.insert(0, folder)
    os.chmod, os.utime = (overlook(call, folder) for call in (os.chmod, os.utime))
    statvfs, full = os.statvfs, os.statvfs_result((0,) * 10)
    # where this has no room, multiprocessing keeps values in the temporary folder
    os.statvfs = lambda path: full if path == "/dev/shm" else statvfs(path)
    with contextlib.suppress(ImportError):
        import _multiprocessing

        _multiprocessing.SemLock = Semaphore  # type: ignore[misc, assignment, unused-ignore]


def overlook(call: Callable[..., None], folder: str) -> Callable[..., None]:
    """A call that the filter refuses for all files, with no effect on the program's own."""

    @functools.wraps(call)
    def overlooked(path: Any, *arguments: Any, **options: Any) -> None:
        try:
            call(path, *arguments, **options)
        except PermissionError:
            if isinstance(path, int) or "dir_fd" in options:
                raise
            os.stat(path)
            if not (os.path.realpath(os.fsdecode(path)) + "/").startswith(folder + "/"):
                raise

    return overlooked


class Semaphore:
    """The semaphore of `multiprocessing` for threads alone, as there are no other processes; the C
    library's lies in /dev/shm, outside.
    """

    SEM_VALUE_MAX = 2**31 - 1
    name = None
    handle = 0

    def __init__(self, kind: int, value: int, maxvalue: int, *_: object):
        import threading

        self.kind, self.maxvalue, self._value = kind, maxvalue, value
        self._owner, self._depth = 0, 0
        self._changed, self._me = threading.Condition(), threading.get_ident

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        with self._changed:
            if not (self.kind == 0 and self._is_mine()):
                if not self._changed.wait_for(lambda: self._value, timeout if block else 0):
                    return False
                self._value -= 1
            self._owner, self._depth = self._me(), self._depth + 1
            return True

    def release(self) -> None:
        with self._changed:
            if self.kind == 0 and not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self.kind != 0 and self._value >= self.maxvalue:
                raise ValueError("semaphore or lock released too many times")
            self._depth -= 1
            if self.kind != 0 or self._depth == 0:
                self._value += 1
                self._changed.notify()

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()

    def _count(self) -> int:
        return self._depth

    def _is_mine(self) -> bool:
        return self._depth > 0 and self._owner == self._me()

    def _get_value(self) -> int:
        return self._value

    def _is_zero(self) -> bool:
        return self._value == 0


def set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def enter_namespaces(
    libc: ctypes.CDLL, readable: list[str], devices: list[str], folder: str, tmpfs: str
) -> None:
    """No network, and a file system of the readable paths and an empty writable folder alone. Exits
    when the kernel refuses.
    """
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(NEW_NAMESPACES), "unshare")
    for path, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)

    def mount(
        source: str, target: str, kind: str | None, flags: int, data: str | None = None
    ) -> None:
        arguments = [None if text is None else text.encode() for text in (source, target, kind)]
        check(
            libc.mount(*arguments, ctypes.c_ulong(flags), None if data is None else data.encode()),
            f"mount {target}",
        )

    mount("none", "/", None, MS_REC | MS_PRIVATE)
    root = folder + "/root"
    os.mkdir(root)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, tmpfs)
    for path in (*readable, *devices):
        inside = root + path
        if os.path.isdir(path):
            os.makedirs(inside, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            open(inside, "w").close()
        mount(path, inside, None, MS_BIND | MS_REC)
        if path in readable:
            mount("none", inside, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.makedirs(root + folder, exist_ok=True)
    os.chroot(root)
    os.chdir("/")


def drop_capabilities(libc: ctypes.CDLL) -> None:
    for number in range(64):
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    header, empty = struct.pack("Ii", 0x20080522, 0), bytes(24)
    libc.capset(header, empty)


def restrict_files(libc: ctypes.CDLL, readable: list[str], devices: list[str], folder: str) -> None:
    """Landlock: read below `readable`, everything below `folder`, nothing else, no TCP. Does
    nothing on kernels without it.
    """
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < min(LANDLOCK_BITS):
        return
    everything = (1 << LANDLOCK_BITS.get(version, 16)) - 1
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("QQQ", everything, network, scopes)[
        : 24 if version >= 6 else 16 if version >= 4 else 8
    ]
    ruleset = libc.syscall(444, attributes, ctypes.c_size_t(len(attributes)), 0)
    check(ruleset, "landlock_create_ruleset")
    rules = dict.fromkeys(readable, LANDLOCK_READ) | dict.fromkeys(devices, LANDLOCK_DEVICE)
    for path, rights in (rules | {folder: everything}).items():
        if os.path.exists(path):
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
            rights &= everything if os.path.isdir(path) else LANDLOCK_DEVICE | 1 << 0
            check(
                libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights, beneath), 0),
                f"landlock_add_rule {path}",
            )
            os.close(beneath)
    check(libc.syscall(446, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def filter_calls(libc: ctypes.CDLL, rules: list[tuple[int, int, int, int]] | None) -> None:
    """Install the filter of `seccomp.py`; processors without one go without."""
    if rules is None:
        return
    program = b"".join(
        struct.pack("HBBI", *rule, os.getpid() if value == OWN_PID else value)
        for *rule, value in rules
    )
    buffer = ctypes.create_string_buffer(program)
    described = struct.pack(
        "HxxxxxxQ" if struct.calcsize("P") == 8 else "HxxI", len(rules), ctypes.addressof(buffer)
    )
    check(libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(described), 0, 0), "seccomp")


def check(result: int, what: str) -> None:
    if result < 0:
        os.write(2, f"{what}: {os.strerror(ctypes.get_errno())}\n".encode())
        os._exit(126)


main()
