"""The child's side of the sandbox: give up every right that the machine lets a process give up,
then run one program.

`sandbox.py` passes this file's text to a fresh `python -I -S -c`, so it imports the standard
library alone. It reads one JSON object from standard input and answers on the descriptor that is
named there. Linux only; elsewhere just the limits hold.

Sources: seccomp(2), landlock(7), capabilities(7), mount_namespaces(7); struct layouts from the
kernel's uapi headers.
"""

import contextlib
import ctypes
import io
import json
import os
import platform
import resource
import struct
import sys

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
PR_CAPBSET_DROP, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_PDEATHSIG = (
    24,
    4,
    38,
    22,
    1,
)
EPERM, ENOSYS, SIGKILL = 1, 38, 9
CLONE_THREAD = 0x00010000
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
# execute (shared libraries are mapped executable), read files, read folders
LANDLOCK_READ = 1 << 0 | 1 << 2 | 1 << 3
# file rights that each version of the interface knows; 16 from the fifth on
LANDLOCK_BITS = {1: 13, 2: 14, 3: 15, 4: 15}

# What a program that only computes never needs, as (x86_64, aarch64) numbers; None where that
# processor has no such call.
FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "sendto": (44, 206),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "setrlimit": (160, 164),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "syslog": (103, 116),
    "acct": (163, 89),
    "personality": (135, 92),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "prctl_iopl": (172, None),
    "ioperm": (173, None),
    "quotactl": (179, 60),
}
# column of the table, audit number
PROCESSORS = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CLONE, CLONE3, KILL_CALL, TGKILL, PRLIMIT = (56, 220), (435, 435), (62, 129), (234, 131), (302, 261)


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    libc = ctypes.CDLL(None, use_errno=True)
    set_limits(job["limits"])
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if job["namespaces"]:
            enter_namespaces(libc, job["readable"], job["folder"], job["folder_bytes"])
    os.chdir(job["folder"])
    if sys.platform == "linux":
        drop_capabilities(libc)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        restrict_files(libc, job["readable"], job["folder"])
        filter_calls(libc)
    # The program may replace any name in any module, so what is used after it is held here.
    read, write, dumps, leave = sys.stdin.buffer.readline, os.write, json.dumps, os._exit
    sys.stdin = io.StringIO()
    answer = run(job["code"])
    # the end was reached: only now is the token read, so that no exit on the way can show it
    if not answer:
        answer = {"token": read().decode().strip()}
    write(job["result"], dumps(answer).encode()[:4096])
    leave(0)  # threads of the program end here too


def run(code: str) -> dict[str, str]:
    """Execute a program as `__main__`; empty when it ran to its end, else what stopped it."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    output, answer = sys.stdout, {}
    try:
        exec(compile(code, "program", "exec"), module.__dict__)
    except BaseException as error:  # SystemExit among them: leaving early is no success
        answer = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    with contextlib.suppress(OSError, ValueError):  # closed by the program
        output.flush()
    return answer


def set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def enter_namespaces(
    libc: ctypes.CDLL, readable: list[str], folder: str, folder_bytes: int
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
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, f"size={folder_bytes},mode=0755")
    for path in readable:
        inside = root + path
        if os.path.isdir(path):
            os.makedirs(inside, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            open(inside, "w").close()
        mount(path, inside, None, MS_BIND | MS_REC)
        mount("none", inside, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.makedirs(root + folder, exist_ok=True)
    os.chroot(root)
    os.chdir("/")


def drop_capabilities(libc: ctypes.CDLL) -> None:
    for number in range(64):
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    header, empty = struct.pack("Ii", 0x20080522, 0), bytes(24)
    libc.capset(header, empty)


def restrict_files(libc: ctypes.CDLL, readable: list[str], folder: str) -> None:
    """Landlock: read below `readable`, everything below `folder`, nothing else, no TCP. Does
    nothing on kernels without it.
    """
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    everything = (1 << LANDLOCK_BITS.get(version, 16)) - 1
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("QQQ", everything, network, scopes)[
        : 24 if version >= 6 else 16 if version >= 4 else 8
    ]
    ruleset = libc.syscall(444, attributes, ctypes.c_size_t(len(attributes)), 0)
    check(ruleset, "landlock_create_ruleset")
    for path, rights in [*((path, LANDLOCK_READ) for path in readable), (folder, everything)]:
        if os.path.exists(path):
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
            rights &= everything if os.path.isdir(path) else 1 << 0 | 1 << 1 | 1 << 2
            check(
                libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights, beneath), 0),
                f"landlock_add_rule {path}",
            )
            os.close(beneath)
    check(libc.syscall(446, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def filter_calls(libc: ctypes.CDLL) -> None:
    """seccomp: refuse new processes, programs, sockets, signals to others and the kernel's
    machinery. Unknown processors go without.
    """
    if platform.machine() not in PROCESSORS:
        return
    column, audit = PROCESSORS[platform.machine()]
    # BPF: A = data[k]; A == k; A >= k; A & k; return k
    load, equal, above, masked, end = (0x20, 0x15, 0x35, 0x45, 0x06)
    allow, refuse, pid = (end, 0, 0, ALLOW), (end, 0, 0, ERRNO | EPERM), os.getpid()
    numbers = [each[column] for each in FORBIDDEN.values() if each[column] is not None]
    rules = [
        *((load, 0, 0, 4), (equal, 1, 0, audit), (end, 0, 0, KILL), (load, 0, 0, 0)),
        # the x32 calls, which would go round the numbers below
        *((above, 0, 1, 0x40000000), refuse),
        *(rule for number in numbers for rule in ((equal, 0, 1, number), refuse)),
        # its flags lie in memory; the C library falls back to clone
        *((equal, 0, 1, CLONE3[column]), (end, 0, 0, ERRNO | ENOSYS)),
        *((equal, 0, 4, CLONE[column]), (load, 0, 0, 16), (masked, 1, 0, CLONE_THREAD)),
        *(refuse, allow),
        # signals only to itself, which abort needs
        *((equal, 0, 4, KILL_CALL[column]), (load, 0, 0, 16), (equal, 1, 0, pid), refuse, allow),
        *((equal, 0, 4, TGKILL[column]), (load, 0, 0, 16), (equal, 1, 0, pid), refuse, allow),
        # prlimit may read limits (no new ones given: both halves of its third argument are 0), not
        # set them
        *((equal, 0, 6, PRLIMIT[column]), (load, 0, 0, 32), (equal, 0, 3, 0), (load, 0, 0, 36)),
        *((equal, 0, 1, 0), allow, refuse),
        allow,
    ]
    program = b"".join(struct.pack("HBBI", *rule) for rule in rules)
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
