"""Programs that attack what runs them. Each is asked for ``add(a, b)`` and must not be judged right.

An attack that can tell whether it succeeded sets ``won``, and only then does ``add`` return the right sum: a program
that passes has broken out. The others (loops, floods, forgeries) do not return the sum at all. Words after a dollar
sign are filled in by the test: a secret file that they must not read, a marker that they must not write, a port that
they must not reach, the process that runs the tests.
"""

from string import Template

_HEAD = """
import os, sys
won = False
def add(a, b):
    return a + b if won else None
"""
_LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_FLOOD = """
import os
def add(a, b):
    while True:
        for descriptor in range(64):
            try:
                os.write(descriptor, {data})
            except OSError:
                pass
"""


def _attempt(code: str) -> str:
    """An attack whose success is that it raises nothing, unless it sets `won` itself."""
    body = "\n".join("    " + line for line in code.strip().splitlines())
    succeeded = "" if "won" in code else "\n    won = True"
    return f"{_HEAD}try:\n{body}{succeeded}\nexcept BaseException:\n    pass\n"


def _call(code: str) -> str:
    """An attack made in the call, whose return value is no sum."""
    return f"import os, sys\ndef add(a, b):\n{chr(10).join('    ' + line for line in code.strip().splitlines())}\n"


_PROGRAMS = {
    # ---------------------------------------------------------------------------------------- processes and threads
    "fork": _attempt("os.fork()"),
    "fork bomb": _attempt("""
count = 0
for attempt in range(100):
    try:
        os.fork()
        count += 1
    except OSError:
        pass
won = count > 0"""),
    "double fork that outlives its parent": _attempt("""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(60)
        open("$marker", "w")
    os._exit(0)"""),
    "zombies": _attempt("""
for number in range(5):
    if os.fork() == 0:
        os._exit(0)"""),
    "a shell": _attempt("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'], check=True)"),
    "another interpreter": _attempt("import subprocess\nsubprocess.run([sys.executable, '-c', '1'], check=True)"),
    "posix_spawn": _attempt("os.posix_spawn(sys.executable, [sys.executable, '-c', '1'], {})"),
    "multiprocessing": _attempt("import multiprocessing\nmultiprocessing.Process(target=print).start()"),
    "a shell in place of the program": _attempt("os.execv('/bin/sh', ['sh', '-c', 'sleep 60'])\nwon = False"),
    "threads": _attempt("import threading\nthreading.Thread(target=print).start()"),
    "clone by number": _attempt(_LIBC + "won = libc.syscall(56, 0x11, 0, 0, 0, 0) >= 0"),
    # ---------------------------------------------------------------------------------------------- time and memory
    "an endless loop": "while True:\n    pass\n",
    "an endless loop in the call": _call("while True:\n    pass"),
    "sleep": _call("import time\ntime.sleep(600)\nreturn a + b"),
    "sleep, deaf to signals": _call("""
import signal, time
for number in range(1, 64):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
time.sleep(600)
return a + b"""),
    "a loop, deaf to the limit of time": _call("""
import signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True:
    pass"""),
    "an expression that backtracks": _call("import re\nreturn re.match('(a+)+$$', 'a' * 50 + 'b')"),
    "a bomb of memory": _attempt("hoard = bytearray(2 << 30)"),
    "memory by and by": _attempt("hoard = [bytearray(8 << 20) for part in range(128)]"),
    "memory by mmap": _attempt("import mmap\nhoard = mmap.mmap(-1, 1 << 30)"),
    "memory in a file without a name": _attempt("os.memfd_create('hoard')"),
    "memory in a segment that is shared": _attempt(_LIBC + "won = libc.shmget(0, 1 << 20, 0o1600) >= 0"),
    "recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef add(a, b):\n    return add(b, a)\n",
    "recursion in C": "import sys\nsys.setrecursionlimit(10**9)\nadd = None\n"
    "def add(a, b):\n    value = []\n    for step in range(10**6):\n        value = [value]\n    return repr(value)\n",
    "a huge number": _call("return 10 ** (10 ** 9)"),
    "a number of many digits": _call("return 10 ** 1_000_000"),
    "limits raised": _attempt(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"
    ),
    "a priority of its own": _attempt("os.nice(-10)"),
    "the scheduler of real time": _attempt("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))"),
    # ------------------------------------------------------------------------------------------------------- output
    "endless output": _call("while True:\n    print('x' * 1000)"),
    "a flood of every descriptor": _FLOOD.replace("{data}", "b'x' * 65536"),
    "a flood of lines": _FLOOD.replace("{data}", "b'{}\\n' * 1000"),
    "a full disk": _attempt("""
written = 0
for number in range(64):
    with open(f"/scratch/{number}", "wb") as file:
        written += file.write(bytes(1 << 20))
won = written > 32 << 20"""),
    # -------------------------------------------------------------------------------------------------------- files
    "a secret": _attempt("won = 'password' in open('$secret').read()"),
    "the users of the machine": _attempt("open('/etc/passwd').read()"),
    "a path upwards": _attempt("open('../../../../../../..$secret').read()"),
    "a symbolic link": _attempt("os.symlink('$secret', 'link')\nopen('link').read()"),
    "a link of a folder": _attempt("os.symlink('/', 'root')\nopen('root$secret').read()"),
    "a hard link": _attempt("os.link('$secret', 'link')"),
    "the temporary folder": _attempt("won = bool(os.listdir('/tmp'))"),
    "the folder of the user": _attempt("won = bool(os.listdir(os.path.expanduser('~')))"),
    "installed packages": _attempt("""
import glob, sysconfig
won = bool(glob.glob(sysconfig.get_path('purelib') + '/*') or glob.glob('/usr/lib/python3/dist-packages/*'))"""),
    "the code that judges it": _attempt("import envs.code.environment"),
    "a marker outside": _attempt("open('$marker', 'w').write('here')"),
    "a file in the root": _attempt("open('/broken_out', 'w').write('here')"),
    "the program folder": _attempt("open('/program/solution.py', 'a').write('# more')"),
    "poison in the library": _attempt("open(os.__file__, 'a').write('# more')"),
    "poison in the interpreter": _attempt("os.chmod(sys.executable, 0o6777)"),
    "shared memory as a folder": _attempt("open('/dev/shm/left', 'w').write('here')"),
    "a device": _attempt("os.mknod('disk', 0o60666, os.makedev(8, 0))\nopen('disk', 'rb').read(1)"),
    "all folders deleted": _HEAD
    + "import shutil\nfor folder in ('/scratch', '/program', '/', '$secret'):\n    shutil.rmtree(folder, True)\n",
    "the secret deleted": _attempt("os.remove('$secret')"),
    "what an earlier run left": _attempt("""
won = os.path.exists('/scratch/left')
open('/scratch/left', 'w').close()"""),
    "pages of the environment": _attempt("won = b'STEPWELL_SECRET' in open('/proc/self/environ', 'rb').read()"),
    "the environment": _attempt("won = 'STEPWELL_SECRET' in os.environ or len(os.environ) > 0"),
    "the environment in C": _attempt(
        _LIBC + "libc.getenv.restype = ctypes.c_char_p\nwon = libc.getenv(b'STEPWELL_SECRET') is not None"
    ),
    "other processes": _attempt("won = any(name.isdigit() for name in os.listdir('/proc'))"),
    "memory as a file": _attempt("open('/proc/self/mem', 'rb')"),
    # ------------------------------------------------------------------------------------------- descriptors, signals
    "descriptors of files": _attempt("""
import stat
kinds = []
for descriptor in range(64):
    try:
        kinds.append(os.fstat(descriptor).st_mode)
    except OSError:
        pass
won = any(stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISSOCK(kind) for kind in kinds)"""),
    "all descriptors closed": _call("os.closerange(0, 256)\nreturn a + b"),
    "a terminal that types": _attempt("import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')"),
    "the parent killed": _HEAD
    + "for process in ($parent, os.getppid(), 1, -1):\n    try:\n        os.kill(process, 9)\n    except OSError:\n"
    "        pass\n",
    "the session killed": _HEAD + "os.killpg(0, 9)\n",
    "a fault": _call("import ctypes\nctypes.string_at(0)"),
    "abort": _call("os.abort()"),
    # ------------------------------------------------------------------------------------------------------ the network
    "a connection": _attempt("import socket\nsocket.create_connection(('127.0.0.1', $port), 1)"),
    "a datagram": _attempt(
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', $port))"
    ),
    "a page": _attempt("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:$port', timeout=1)"),
    "a listener": _attempt("import socket\nsocket.create_server(('127.0.0.1', 0))"),
    "a local socket": _attempt("import socket\nsocket.socket(socket.AF_UNIX)"),
    "a name to look up": _attempt("import socket\nsocket.getaddrinfo('localhost', 80)"),
    "a socket by number": _attempt(_LIBC + "won = libc.syscall(41, 2, 1, 0) >= 0"),
    # ------------------------------------------------------------------------------------------------------- the kernel
    "another user": _attempt("os.setuid(0)"),
    "ptrace": _attempt(_LIBC + "won = libc.ptrace(16, 1, 0, 0) == 0 or libc.ptrace(0, 0, 0, 0) == 0"),
    "another's memory": _attempt(_LIBC + "won = libc.syscall(310, 1, 0, 0, 0, 0, 0) >= 0"),
    "a namespace": _attempt(_LIBC + "won = libc.unshare(0x10000000) == 0"),
    "a mount": _attempt(_LIBC + "won = libc.mount(b'none', b'/scratch', b'tmpfs', 0, None) == 0"),
    "the root unmounted": _attempt(_LIBC + "won = libc.umount2(b'/program', 2) == 0"),
    "another root": _attempt("os.chroot('/scratch')"),
    "keys": _attempt(_LIBC + "won = libc.syscall(248, b'user', b'x', b'y', 1, -3) >= 0"),
    "rings of requests": _attempt(_LIBC + "won = libc.syscall(425, 1, ctypes.create_string_buffer(128)) >= 0"),
    "programs in the kernel": _attempt(_LIBC + "won = libc.syscall(321, 0, ctypes.create_string_buffer(64), 64) >= 0"),
    "faults in user space": _attempt(_LIBC + "won = libc.syscall(323, 1) >= 0"),
    "counters of performance": _attempt(
        _LIBC + "won = libc.syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0) >= 0"
    ),
    # --------------------------------------------------------------------------------------------------- forged results
    "exit with success": "import sys\nsys.exit(0)\n",
    "exit in the call": _call("sys.exit(0)"),
    "an end without farewell": _call("os._exit(0)"),
    "a farewell": _HEAD + "import atexit\natexit.register(print, '{\"passed\": true}')\n",
    "equal to everything": _call(
        "class Same:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\nreturn Same()"
    ),
    "a number equal to everything": _call(
        "class Same(int):\n    __eq__ = lambda self, other: True\n    __hash__ = int.__hash__\nreturn Same(-1)"
    ),
    "a text equal to everything": _call(
        "class Same(str):\n    __eq__ = lambda self, other: True\n    __hash__ = str.__hash__\n"
        "    __repr__ = lambda self: '3'\nreturn Same('3')"
    ),
    "a lie about its class": _call(
        "class Same:\n    __class__ = int\n    __eq__ = lambda self, other: True\n    __hash__ = None\n"
        "    __abs__ = lambda self: 0\n    __int__ = lambda self: 3\nreturn Same()"
    ),
    "no number": _call("return float('nan')"),
    "verdicts on every descriptor": _HEAD
    + """
line = b'{"passed": true, "note": "", "behaviour": ""}\\n' * 9
for descriptor in range(64):
    try:
        os.write(descriptor, line)
    except OSError:
        pass
os._exit(0)
""",
    "replies on every descriptor": _HEAD
    + """
for descriptor in range(64):
    try:
        os.write(descriptor, b'{"value": true}\\n' * 9)
    except OSError:
        pass
""",
    "replies that are no data": _HEAD
    + """
for descriptor in range(64):
    try:
        os.write(descriptor, b'{"value": null}\\n' + b'[' * 100000 + b'\\n{"value": {"int": 3}}\\n{"value": {}}\\n')
    except OSError:
        pass
""",
    "a reply without an end": _call("return 'x' * (300 << 20)"),
    "a reply without a bottom": _call("value = []\nfor level in range(100000):\n    value = [value]\nreturn value"),
    "a reply that holds itself": _call("value = []\nvalue.append(value)\nreturn value"),
    "an iterator without an end": _call("import itertools\nreturn itertools.count()"),
    "the harness patched": _HEAD
    + """
import json
main = sys.modules["__main__"]
for name in ("encode", "describe", "Stub"):
    setattr(main, name, lambda *anything: {"passed": True})
json.dumps = lambda *anything, **more: '{"passed": true, "note": "", "behaviour": ""}'
""",
    "the verdict patched": _HEAD
    + """
import builtins
builtins.AssertionError = type("Never", (BaseException,), {})
builtins.bool = lambda value: True
sys.modules["__main__"].function = lambda *anything: True
""",
    "the tests imported": _attempt("import test_0"),
    "the tests read": _attempt("won = any(name.startswith('test') for name in os.listdir('/program'))"),
    "the tests in memory": _attempt("""
import gc
texts = [text for thing in gc.get_objects() for text in gc.get_referents(thing) if isinstance(text, str)]
won = any('== ' + str(6 * 7) in text for text in texts)"""),
    "the tests on the stack": _attempt("""
frame = sys._getframe()
while frame:
    won = won or '== ' + str(6 * 7) in repr(frame.f_globals) + repr(frame.f_locals)
    frame = frame.f_back"""),
    "the tests in the arguments": _attempt("won = any('==' in argument for argument in sys.orig_argv)"),
    "visible tests by heart": "def add(a, b):\n    return {(1, 2): 3, (0, 0): 0}.get((a, b))\n",
}

NAMES = tuple(_PROGRAMS)


def hostile_program(name: str, secret: str, marker: str, port: int, parent: int) -> str:
    """The source of one of `NAMES`."""
    return Template(_PROGRAMS[name]).substitute(secret=secret, marker=marker, port=port, parent=parent)
