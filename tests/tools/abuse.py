"""Programs that try to get out of the sandbox or to cheat it. Each ends normally only where its
abuse succeeded.

`CANARY` is a file outside, `PORT` a listening server, `PARENT` the process that started the
sandbox.
"""

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
WANTED = "assert libc.{call} >= 0, os.strerror(ctypes.get_errno())"


def native(call: str) -> str:
    return LIBC + WANTED.format(call=call)


def forged(answer: str) -> str:
    """Writes an answer of its own to every descriptor there is."""
    return (
        f"import os\nfor fd in range(3, 32):\n    try:\n        os.write(fd, {answer})\n    except"
        " OSError:\n        pass\nos._exit(0)"
    )


# finds a token wherever Python shows one, and writes it to every descriptor there is
FOUND = """
import os, re
def send(found):
    for text in re.findall(rb"[0-9a-f]{32}", repr(found).encode()):
        for fd in range(3, 32):
            try:
                os.write(fd, text)
            except OSError:
                pass
"""


def found(where: str) -> str:
    return f"{FOUND}import gc, sys\nsend({where})\nos._exit(0)"


ABUSES = {
    # processes
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "subprocess": "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'], check=True)",
    "shell": "import os\nassert os.system('true') == 0",
    "multiprocessing": (
        "import multiprocessing as m\nm.set_start_method('fork')\np ="
        " m.Process(target=print)\np.start()\np.join()"
    ),
    "posix_spawn": (
        "import os, sys\nos.posix_spawn(sys.executable or '/usr/bin/python3', ['python'], {})"
    ),
    "exec": "import os, sys\nos.execv('/usr/bin/true', ['true'])",
    "vfork by number": native(
        "syscall(58 if os.uname().machine == 'x86_64' else 220, 17, 0, 0, 0, 0)"
    ),
    "clone3 by number": native("syscall(435, (ctypes.c_uint64 * 8)(), 64)"),
    "daemon": "import os\nos.setsid()",
    # memory, disk, descriptors, time
    "memory bomb": "x = bytearray(10**11)",
    "growing list": "x = []\nwhile True:\n    x.append(bytearray(10**6))",
    "ten gigabyte file": "with open('big', 'wb') as f:\n    f.seek(10 * 2**30)\n    f.write(b'x')",
    "many files": "n = 0\nwhile True:\n    open(f'f{n}', 'wb').write(bytes(2**20))\n    n += 1",
    "many descriptors": "import os\nx = [open(f'f{i}', 'w') for i in range(1000)]",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "endless loop": "while True: pass",
    "endless sleep": "import time\ntime.sleep(10**6)",
    "deaf to signals": (
        "import signal\nfor n in (2, 15, 24):\n    signal.signal(n, signal.SIG_IGN)\nwhile True:"
        " pass"
    ),
    "thread bomb": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep,"
        " args=(99,)).start()"
    ),
    "raised limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "raised limits by number": (
        LIBC
        + "import struct\nassert libc.syscall(302, 0, 9, struct.pack('QQ', 2**40, 2**40), None)"
        " == 0"
    ),
    "memfd": "import os\nos.memfd_create('x')",
    "shared memory": native("shmget(7777, 4096, 0o1666)"),
    "higher priority": "import os\nos.setpriority(os.PRIO_PROCESS, 0, -20)",
    # files outside
    "read a file": "print(open(CANARY).read())",
    "read the home folder": (
        "import os, pathlib\nprint(os.listdir(pathlib.Path(CANARY).parents[1]))"
    ),
    "list the root's home": (
        "import os\nassert [n for n in os.listdir('/root') if n.startswith('.bash')]"
    ),
    "read passwd": "open('/etc/passwd').read()",
    "read shadow": "open('/etc/shadow').read()",
    "overwrite": "open(CANARY, 'w').write('gone')",
    "append": "open(CANARY, 'a').write('gone')",
    "truncate": "import os\nos.truncate(CANARY, 0)",
    "delete": "import os\nos.unlink(CANARY)",
    "rename": "import os\nos.rename(CANARY, 'mine')",
    "new file outside": "open(CANARY + '.new', 'w').write('x')",
    "poison a library": "import json\nopen(json.__file__, 'a').write('x')",
    "read through a symlink": "import os\nos.symlink(CANARY, 'link')\nopen('link').read()",
    "write through a symlink": (
        "import os\nos.symlink(CANARY, 'link')\nopen('link', 'w').write('gone')"
    ),
    "folder symlink": (
        "import os, pathlib\nos.symlink(pathlib.Path(CANARY).parent,"
        " 'out')\nprint(os.listdir('out'))"
    ),
    "hard link": "import os\nos.link(CANARY, 'mine')\nopen('mine').read()",
    "dots": "open('../../../../../../../../' + CANARY.lstrip('/')).read()",
    "mknod": "import os, stat\nos.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))",
    "raw devices": "import os\nassert os.listdir('/dev')",
    # /proc and /sys
    "environment of the parent": "print(open(f'/proc/{PARENT}/environ').read())",
    "own memory": "open('/proc/self/mem', 'r+b').seek(0)",
    "root of another": "import os\nos.listdir('/proc/1/root')",
    "cwd of the parent": "import os\nos.listdir(f'/proc/{PARENT}/cwd')",
    "kernel switches": "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/sh')",
    "sysfs": "import os\nos.listdir('/sys/class')",
    "mode": "import os\nos.chmod(CANARY, 0o777)",
    "mode of a library": "import os, json\nos.chmod(json.__file__, 0o600)",
    "mode by descriptor": "import os, json\nos.fchmod(os.open(json.__file__, os.O_RDONLY), 0o600)",
    "mode by number": native(
        "syscall(90 if os.uname().machine == 'x86_64' else 53, CANARY.encode(), 0o777)"
    ),
    "mode through a symlink": "import os\nos.symlink(CANARY, 'link')\nos.chmod('link', 0)",
    "mode of the null device": "import os\nos.chmod(os.devnull, 0)",
    "owner": "import os\nos.chown(CANARY, 1, 1)",
    "owner of a symlink": "import os\nos.symlink(CANARY, 'link')\nos.lchown('link', 1, 1)",
    "dates": "import os\nos.utime(CANARY, (0, 0))",
    "dates by number": native(
        "syscall(280 if os.uname().machine == 'x86_64' else 88, -100, CANARY.encode(), None, 0)"
    ),
    "touch": "import pathlib\npathlib.Path(CANARY).touch()",
    "attribute": "import os\nos.setxattr(CANARY, 'user.note', b'x')",
    "attribute of its own": "import os\nopen('f', 'w')\nos.setxattr('f', 'user.note', b'x')",
    "kernel memory by attributes": (
        "import os\nopen('f', 'w')\nfor n in range(10**9):\n    os.setxattr('f',"
        " f'user.{n}', bytes(60000))"
    ),
    "flags of a file": (
        "import fcntl, json, struct\nfcntl.ioctl(open(json.__file__), 0x40086602,"
        " struct.pack('l', 16))"
    ),
    "watch a file": native("inotify_init1(0)"),
    "watch a folder by a signal": (
        "import fcntl, os\nfcntl.fcntl(os.open('.', os.O_RDONLY), fcntl.F_NOTIFY, 1)"
    ),
    "file handle": (
        LIBC
        + """
handle, mount = ctypes.create_string_buffer(b'\\x80' + bytes(200)), ctypes.byref(ctypes.c_int())
assert libc.name_to_handle_at(-100, CANARY.encode(), handle, mount, 0) >= 0
"""
    ),
    "named pipe": "import os\nos.mkfifo('pipe')",
    "folder outside": "import os, pathlib\nos.mkdir(pathlib.Path(CANARY).parent / 'new')",
    "shared memory by name": "open('/dev/shm/chatling-test', 'w')",
    # floods of the folder
    "flood of folders": "import os\nfor n in range(10**9):\n    os.mkdir(str(n))",
    "flood of nested folders": "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')",
    "flood of unreadable folders": "import os\nfor n in range(10**9):\n    os.mkdir(str(n), 0)",
    "flood of odd names": """
import os
for n in range(10**9):
    open(b'\\xff\\n\\x1b' + os.urandom(99).hex().encode(), 'w')
""",
    "flood of links": "import os\nopen('f', 'w')\nfor n in range(10**9):\n    os.link('f', f'{n}')",
    "flood behind output": (
        "import os\nfor n in range(10**9):\n    os.mkdir(str(n))\n    n % 99 or print(flush=True)"
    ),
    # network
    "message to a named socket": (
        "import socket\na, b = socket.socketpair(type=socket.SOCK_DGRAM)\na.sendto(b'x',"
        " '\\0chatling-test')"
    ),
    "pair of internet sockets": native("socketpair(2, 1, 0, (ctypes.c_int * 2)())"),
    "tcp": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)",
    "udp": (
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1',"
        " PORT))"
    ),
    "listen": "import socket\nsocket.create_server(('127.0.0.1', 0))",
    "abstract unix socket": (
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0chatling-test')"
    ),
    "name lookup": "import socket\nsocket.getaddrinfo('example.org', 80)",
    "http": "import urllib.request\nurllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=1)",
    "netlink": "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    # other processes and the kernel
    "kill the parent": "import os\nos.kill(PARENT, 9)",
    "kill the real parent": "import os\nassert os.getppid() > 0\nos.kill(os.getppid(), 9)",
    "kill all": "import os\nos.kill(-1, 9)",
    "queue a signal": native(
        "syscall(129 if os.uname().machine == 'x86_64' else 138, PARENT, 9, None)"
    ),
    "ptrace": native("ptrace(16, PARENT, 0, 0)"),
    "traced by the parent": native("ptrace(0, 0, 0, 0)"),
    "peek": native(
        "syscall(310 if os.uname().machine == 'x86_64' else 270, PARENT, None, 0, None, 0, 0)"
    ),
    "pidfd": "import os\nos.pidfd_open(PARENT)",
    "mount": native("mount(b'none', b'/tmp', b'tmpfs', 0, None)"),
    "new namespaces": native("unshare(0x10000000)"),
    "chroot": "import os\nos.mkdir('r')\nos.chroot('r')",
    "become another": "import os\nos.setuid(12345)\nos.setgid(1)",
    "io_uring": native("syscall(425, 8, ctypes.create_string_buffer(120))"),
    "bpf": native("syscall(321 if os.uname().machine == 'x86_64' else 280, 0, None, 0)"),
    "set the clock": "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)",
    "signal by a descriptor": (
        "import fcntl, os\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, PARENT)"
    ),
    "typed into the terminal": "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')",
    "limits of the parent": (
        "import resource\nresource.prlimit(PARENT, resource.RLIMIT_CORE, (0, 0))"
    ),
    "deaf to the death of its parent": native("prctl(1, 0, 0, 0, 0)"),
    "landlock's own": native("syscall(444, ctypes.create_string_buffer(8), 8, 0)"),
    "an unknown call": native("syscall(9999)"),
    "a call of x32": native("syscall(0x40000000 + 39)"),
    "crash": "import ctypes\nctypes.string_at(0)",
    "abort": "import os\nos.abort()",
    # forged success
    "exit": "import sys\nsys.exit(0)",
    "hard exit": "import os\nos._exit(0)",
    "raised exit": "raise SystemExit",
    "exit at exit": "import atexit, os\natexit.register(os._exit, 0)\nraise ValueError",
    "printed token": (
        "import os\nprint('passed')\nprint('{\"token\": \"\"}', flush=True)\nos._exit(0)"
    ),
    "guessed token": forged('b\'{"token": "' + "0" * 32 + "\"}'"),
    "empty token": forged('b\'{"token": ""}\''),
    "nonsense answer": forged("b'[' * 9999"),
    "patched builtins": (
        "import builtins, json, os, sys\nbuiltins.exec = builtins.compile = lambda *a: None\n"
        "json.dumps = lambda x: '{}'\nos._exit = sys.exit = lambda c: None\nassert 1 == 2"
    ),
    "swallowed by a hook": "import sys\nsys.excepthook = lambda *a: None\nassert 1 == 2",
    "token asked of the keyboard": "print(input())",
    "token from standard input": found("sys.__stdin__.read() + os.read(0, 999).decode()"),
    "token from standard input's buffer": found("sys.__stdin__.buffer.raw.read()"),
    "token from frames": (
        f"{FOUND}import sys\nframe = sys._getframe()\nwhile frame:\n    send((frame.f_locals,"
        " frame.f_globals, frame.f_code.co_consts))\n    frame = frame.f_back\nos._exit(0)"
    ),
    "token from gc": found("gc.get_objects()"),
    "token from what frames refer to": found(
        "[gc.get_referents(f) for f in sys._current_frames().values()] +"
        " [gc.get_referents(sys._getframe(1)), gc.get_referents(sys._getframe(1).f_locals)]"
    ),
    "token from a traceback": (
        f"{FOUND}import traceback, sys\ntry:\n    1 / 0\nexcept ArithmeticError as error:\n   "
        " send([f.f_locals for f, _ in traceback.walk_stack(error.__traceback__.tb_frame)])\n"
        "os._exit(0)"
    ),
    "token from a profiler": (
        f"{FOUND}import sys\nsys.setprofile(lambda frame, event, given: send((frame.f_locals,"
        " given)))\nassert 1 == 2"
    ),
    "token from a tracer": (
        FOUND
        + """
import sys
def trace(frame, event, given):
    send((frame.f_locals, given))
    return trace
sys.settrace(trace)
sys._getframe(1).f_trace = trace
assert 1 == 2
"""
    ),
    "jump over the failure": """
import sys
def trace(frame, event, given):
    for line in range(1, 200):
        try:
            frame.f_lineno = line
        except ValueError:
            pass
    return trace
frame = sys._getframe(1)
sys.settrace(trace)
frame.f_trace = trace
assert 1 == 2
""",
    "token at exit": (
        FOUND
        + """
import atexit, sys
atexit.register(send, vars(sys))
raise ValueError
"""
    ),
    "token from a failing message": (
        f"{FOUND}import sys\nclass Bad(Exception):\n    def __str__(self):\n       "
        " send(sys._getframe(1).f_locals)\n        return ''\nraise Bad"
    ),
    "token from memory": found("open('/proc/self/mem', 'rb').read(10**6)"),
    "answer named passed": forged('b\'["passed", ""]\''),
    "patched exits": """
import os, sys, builtins
os.write = lambda *a: 0
os._exit = lambda c: None
builtins.BaseException = type('E', (Exception,), {})
assert 1 == 2
""",
    "replaced __main__": (
        "import sys\nsys.modules['__main__'] = sys\nsys.modules['json'] = None\nassert 1 == 2"
    ),
    "killed by itself": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    "failure in a finalizer's reach": (
        "import sys\nclass Last:\n    def __del__(self):\n        sys.exit(0)\nlast = Last()\n"
        "raise ValueError"
    ),
    "endless output": "while True: print('x' * 1000)",
    "endless errors": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    "not Python": "def f(:",
    "null bytes": "x = 1\0",
}
