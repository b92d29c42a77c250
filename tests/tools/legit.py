"""Odd programs that harm nothing, which the sandbox lets run to their end."""

LEGIT = {
    "asyncio": """
import asyncio
async def f(n):
    await asyncio.sleep(0.01)
    return n
async def main():
    return await asyncio.gather(*map(f, range(9)))
assert asyncio.run(main()) == [*range(9)]
""",
    "asyncio with threads": """
import asyncio
async def main():
    return await asyncio.to_thread(sum, [1, 2])
assert asyncio.run(main()) == 3
""",
    "asyncio with a timeout and a queue": """
import asyncio
async def main():
    queue = asyncio.Queue()
    try:
        await asyncio.wait_for(queue.get(), 0.01)
    except asyncio.TimeoutError:
        return 1
assert asyncio.run(main()) == 1
""",
    "null device": """
import os
with open(os.devnull, 'w') as file:
    file.write('x')
assert open(os.devnull).read() == ''
""",
    "output thrown away": """
import contextlib, os
with open(os.devnull, 'w') as f, contextlib.redirect_stdout(f):
    print('x')
""",
    "random device": "assert len(open('/dev/urandom', 'rb').read(8)) == 8",
    "locks of multiprocessing": """
import multiprocessing as m
lock = m.Lock()
with lock:
    assert not lock.acquire(block=False)
r = m.RLock()
with r, r:
    pass
s = m.BoundedSemaphore(1)
s.acquire()
s.release()
try:
    s.release()
except ValueError:
    pass
else:
    raise AssertionError
""",
    "events of multiprocessing": """
import multiprocessing as m, threading
e, c = m.Event(), m.Condition()
assert not e.wait(0.01)
t = threading.Thread(target=e.set)
t.start()
assert e.wait(2)
with c:
    c.notify_all()
""",
    "values of multiprocessing": """
import multiprocessing as m
v, a = m.Value('i', 3), m.Array('d', [1, 2])
with v.get_lock():
    v.value += 1
assert (v.value, a[1]) == (4, 2.0)
""",
    "queue of multiprocessing": """
import multiprocessing as m
q = m.Queue()
q.put({'a': 1})
assert q.get(timeout=2) ==\\
    {'a': 1}
assert m.cpu_count() >= 1
""",
    "pipe of multiprocessing": """
import multiprocessing as m
a, b = m.Pipe()
a.send([1])
assert b.recv() == [1]
""",
    "pool of threads": """
from multiprocessing.pool import ThreadPool
with ThreadPool(4) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
""",
    "executor": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(16) as pool:
    assert sum(pool.map(len, ['a'] * 99)) == 99
""",
    "many threads": """
import threading
b = threading.Barrier(24)
ts = [threading.Thread(target=b.wait) for _ in range(24)]
[t.start() for t in ts]
[t.join() for t in ts]
""",
    "timer": """
import threading
done = threading.Event()
threading.Timer(0.01, done.set).start()
assert done.wait(2)
""",
    "own file": "assert open(__file__).read().endswith('own file')  # own file",
    "own source": """
import inspect
def f():
    return 1
assert 'return 1' in inspect.getsource(f)
class C:
    x = 1
assert 'x = 1' in inspect.getsource(C)
""",
    "traceback": """
import traceback
try:
    1 / 0
except ZeroDivisionError:
    assert '1 / 0' in traceback.format_exc()
""",
    "home": """
import getpass, os, pathlib
assert pathlib.Path.home().is_dir()
assert os.path.expanduser('~') == str(pathlib.Path.home())
assert getpass.getuser()
""",
    "byte-order mark": "\ufeffassert 1 == 1",
    "encoding declared": """
# -*- coding: latin-1 -*-
assert len('é') == 1
""",
    "line ends of Windows": "if True:\r\n    x = 1\r\nassert x == 1\r\n",
    "no line end": "x = 1",
    "nothing": "",
    "temporary files": """
import tempfile, os
with tempfile.NamedTemporaryFile('w+') as f:
    f.write('x')
    f.seek(0)
    assert f.read() == 'x'
with tempfile.TemporaryDirectory() as d:
    open(os.path.join(d, 'a'), 'w').close()
with tempfile.TemporaryFile() as f:
    pass
with tempfile.SpooledTemporaryFile(4) as f:
    f.write(b'12345')
""",
    "database in memory": """
import sqlite3
c = sqlite3.connect(':memory:')
c.execute('create table t (x)')
c.execute('insert into t values (3)')
assert c.execute('select x from t').fetchone() == (3,)
""",
    "database in a file": """
import sqlite3
with sqlite3.connect('t.db') as c:
    c.execute('create table t (x)')
    c.execute('insert into t values (3)')
assert sqlite3.connect('t.db').execute('select x from t').fetchone() == (3,)
""",
    "decimals": """
from decimal import Decimal, getcontext
getcontext().prec = 50
assert str(Decimal(2).sqrt()).startswith('1.41421356')
""",
    "time zones": """
import os, zoneinfo, datetime
if os.path.isdir('/usr/share/zoneinfo'):
    z = zoneinfo.ZoneInfo('Europe/Berlin')
    assert datetime.datetime(2024, 7, 1, tzinfo=z).utcoffset().seconds == 7200
""",
    "locale": """
import locale
locale.setlocale(locale.LC_ALL, '')
locale.setlocale(locale.LC_ALL, 'C')
assert locale.localeconv()['decimal_point'] == '.'
""",
    "sleep": """
import time
t = time.monotonic()
time.sleep(0.02)
assert time.monotonic() - t >= 0.02
""",
    "randomness": """
import os, random, secrets, uuid
random.SystemRandom().randint(1, 6)
os.urandom(8)
secrets.token_hex()
assert uuid.uuid4() != uuid.uuid4()
uuid.uuid1()
""",
    "platform": """
import platform, os
platform.platform()
platform.python_version()
os.uname()
""",
    "processors": """
import os
assert (os.cpu_count() or 1) >= 1
assert os.sched_getaffinity(0)
assert os.getpid() > 0
""",
    "alarm": """
import signal
class Late(Exception): pass
def late(*a): raise Late
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    while True:
        pass
except Late:
    pass
""",
    "copies": """
import shutil, os
open('a', 'w').write('x')
os.makedirs('d/e')
shutil.copy('a', 'b')
shutil.copy2('a', 'd/c')
shutil.copytree('d', 'f')
shutil.move('f', 'g')
assert open('g/c').read() == 'x'
shutil.rmtree('d')
""",
    "archives": """
import zipfile, tarfile
open('a', 'w').write('x')
with zipfile.ZipFile('z.zip', 'w') as z:
    z.write('a')
with tarfile.open('t.tgz', 'w:gz') as t:
    t.add('a')
with tarfile.open('t.tgz') as t:
    t.extractall('out')
assert open('out/a').read() == 'x'
""",
    "modes and dates of its own": """
import os, pathlib
pathlib.Path('a').touch()
pathlib.Path('a').touch()
os.chmod('a', 0o755)
os.utime('a')
assert os.path.exists('a')
try:
    os.chmod('missing', 0)
except FileNotFoundError:
    pass
else:
    raise AssertionError
""",
    "module of its own": """
open('helper.py', 'w').write('x = 3')
import helper
assert helper.x == 3
""",
    "pickled class": """
import pickle, dataclasses
@dataclasses.dataclass
class P:
    x: int
assert pickle.loads(pickle.dumps(P(3))) == P(3)
""",
    "arguments": """
import argparse
p = argparse.ArgumentParser()
p.add_argument('-x')
p.parse_args()
""",
    "no input": """
import sys
assert sys.stdin.read() == ''
assert sys.stdin.buffer.read() == b''
try:
    input()
except EOFError:
    pass
""",
    "doctest": """
import doctest
def f():
    '''
    >>> f()
    1
    '''
    return 1
assert doctest.testmod().failed == 0
""",
    "unittest": """
import unittest
class T(unittest.TestCase):
    def test(self):
        with self.assertRaises(KeyError):
            {}[1]
assert unittest.main(exit=False, argv=['x']).result.wasSuccessful()
""",
    "ctypes": """
import ctypes
assert ctypes.c_int32(2**31).value == -2**31
assert ctypes.CDLL(None).abs(-3) == 3
""",
    "mapped file": """
import mmap
with open('m', 'wb+') as f:
    f.write(bytes(9))
    f.flush()
    with mmap.mmap(f.fileno(), 0) as m:
        m[0] = 65
assert open('m').read(1) == 'A'
""",
    "locked file": """
import fcntl
with open('l', 'w') as f:
    fcntl.flock(f, fcntl.LOCK_EX)
""",
    "selectors and socket pairs": """
import selectors, socket
a, b = socket.socketpair()
s = selectors.DefaultSelector()
s.register(b, selectors.EVENT_READ)
a.sendall(b'x')
assert s.select(1)
assert b.recv(1) == b'x'
""",
    "limits of its own": """
import resource, sys
sys.setrecursionlimit(5000)
resource.getrlimit(resource.RLIMIT_STACK)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
""",
    "deep recursion": """
f = lambda n: n and 1 + f(n - 1)
assert f(900) == 900
""",
    "compression": """
import bz2, gzip, lzma, zlib
for m in (bz2, gzip, lzma, zlib):
    assert m.decompress(m.compress(b'x' * 99)) == b'x' * 99
""",
    "logging": """
import logging, warnings
logging.basicConfig()
logging.warning('x')
warnings.warn('x')
""",
    "profile": """
import cProfile, pstats
p = cProfile.Profile()
p.runcall(sum, [1])
pstats.Stats(p)
""",
    "garbage": """
import gc, weakref
gc.collect()
gc.freeze()
assert gc.get_count()
""",
    "closed output": """
import os
os.close(1)
os.close(2)
import time
time.sleep(0.05)
""",
    "captured output": """
import io, sys
sys.stdout = io.StringIO()
print('x')
assert sys.stdout.getvalue() == 'x\\n'
""",
    "no processes, caught": """
import subprocess
try:
    subprocess.run(['true'])
except OSError:
    pass
""",
}
