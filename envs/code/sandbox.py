"""A sandbox for Python that a model wrote: a process of its own that can compute, and nothing else.

Isolation is the work of maintained tools: bubblewrap (namespaces, an own file system) and libseccomp (a filter of
system calls). What a program finds inside:

* the interpreter, its standard library and the shared libraries they load, read-only; no other file of the machine,
  no installed package, no shell, no ``/proc``; the program's own files in ``/program``, read-only;
* ``/scratch``, its working folder: empty, in memory, of limited size and number of files, gone when it ends;
* a ``/dev/null`` that is an ordinary file of its own, since the owner of a device can change it for the whole machine;
* no network, not even loopback; no environment variables; no other process, and no way to start one or a thread: the
  limits of memory and CPU time are therefore limits of the whole;
* a user without privileges in namespaces of its own, who can gain none.

The parent sets a limit of wall-clock time and kills the whole tree; the tree also dies with the parent. What the
machine gives is found out once, by running a program (`find_isolation`), never assumed. Without an isolation nothing
is run, unless the caller says so: then (`Unconfined`) only the limits, the empty environment and the kill are left.

What this does not defend against: faults of the kernel itself, and what a program can learn from the time things take.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, Protocol

from loguru import logger

from envs.errors import StepwellError

MIB = 1 << 20
PATIENCE = 30.0  # seconds for the program that tries an isolation
PREFIX = "sandbox-"  # of the folders that programs are started from
_GLANCE = 0.05  # seconds between two looks at how many files a program has made
_FRESH = 60.0  # seconds that a folder without an owner is left alone: it may be about to get one


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Args:
        seconds: of wall-clock time; then the whole tree is killed.
        cpu_seconds: of processor time.
        memory: bytes of address space.
        scratch: bytes of all files in the scratch folder.
        files: how many there may be, empty ones and folders too; a program that makes more is killed.
        output: bytes of any one file; standard output and standard error are files too.
        descriptors: files open at a time.
    """

    seconds: float = 4.0
    cpu_seconds: int = 2
    memory: int = 512 * MIB
    scratch: int = 16 * MIB
    files: int = 5000
    output: int = MIB
    descriptors: int = 64

    def resources(self) -> dict[str, int]:
        """The limits that the kernel keeps for a process, by the names of the `resource` module."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory,
            "RLIMIT_FSIZE": self.output,
            "RLIMIT_NOFILE": self.descriptors,
            "RLIMIT_NPROC": 1,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended.

    Args:
        status: ``ended`` by itself or by a limit of the kernel, or ``killed`` when its time was up.
        code: the exit status; 128 and more, or less than 0, for a signal.
        stdout: what it printed, cut at the limit of output.
        stderr: the same of standard error.
    """

    status: Literal["ended", "killed"]
    code: int
    stdout: bytes
    stderr: bytes


class NoIsolation(StepwellError, RuntimeError):
    """Nothing on this machine isolates a program; the message says what was tried and what to install."""


class Isolation(Protocol):
    """What confines a program: `describe` says it to people, `command` puts it in front of the interpreter."""

    @property
    def name(self) -> str:
        """In a word."""
        ...

    @property
    def confined(self) -> bool:
        """Whether a program is kept from files, network and other processes."""
        ...

    def describe(self) -> str:
        """One line: what is in force."""
        ...

    def command(self, folder: Path, limits: Limits, filter_from: int) -> list[str]:
        """The command that runs ``program/bootstrap.py`` of a folder; its arguments are to be appended.

        Args:
            folder: holds ``program``, ``scratch`` and ``null``.
            limits: those that the isolation keeps itself.
            filter_from: a descriptor to read the filter of system calls from.
        """
        ...

    def filter(self) -> bytes:
        """The filter of system calls, or nothing."""
        ...


_INTERPRETER = ("-s", "-S", "-P", "-B", "-X", "utf8")
# Without hash randomisation a program that depends on the order of a set does the same in each run.
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}

# System calls that a function under test has no use for: new processes and threads (so that limits are of the whole),
# network, other processes' memory, new namespaces and mounts, memory that no limit counts, the kernel's odd corners.
_DENIED = """
    fork vfork clone clone3 execveat socket
    ptrace process_vm_readv process_vm_writev kcmp process_madvise pidfd_getfd perf_event_open
    unshare setns mount umount umount2 pivot_root chroot open_tree move_mount mount_setattr
    fsopen fsconfig fsmount fspick
    shmget shmat shmctl msgget msgsnd semget semtimedop mq_open memfd_create memfd_secret
    add_key keyctl request_key bpf userfaultfd io_uring_setup io_uring_enter io_uring_register
    open_by_handle_at name_to_handle_at fanotify_init quotactl acct syslog personality modify_ldt uselib
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm
"""


@dataclass(frozen=True)
class Bubblewrap:
    """Namespaces and an own file system by bubblewrap, a filter of system calls by libseccomp.

    Args:
        executable: of bubblewrap.
        version: as it says.
        python: the interpreter.
        visible: files and folders that the interpreter needs, seen read-only.
        hidden: folders within those that are not: installed packages.
        bpf: the filter, compiled.
    """

    executable: str
    version: str
    python: str
    visible: tuple[str, ...]
    hidden: tuple[str, ...]
    bpf: bytes

    name = "bubblewrap"
    confined = True

    def describe(self) -> str:
        """One line: what is in force."""
        return (
            f"{self.version}: no network, no processes, no files but Python's own and a scratch folder, "
            "system calls filtered by libseccomp"
        )

    def command(self, folder: Path, limits: Limits, filter_from: int) -> list[str]:
        """See `Isolation`."""
        arguments = [
            *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
            *("--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
            *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--seccomp", str(filter_from)),
        ]
        for path in self.visible:
            arguments += ["--ro-bind", path, path]
        for path in self.hidden:
            arguments += ["--tmpfs", path, "--remount-ro", path]
        arguments += ["--bind", str(folder / "null"), os.devnull, "--ro-bind", str(folder / "program"), "/program"]
        arguments += ["--size", str(limits.scratch), "--tmpfs", "/scratch", "--chdir", "/scratch", "--remount-ro", "/"]
        return [self.executable, *arguments, "--", self.python, *_INTERPRETER, "/program/bootstrap.py"]

    def filter(self) -> bytes:
        """The compiled filter."""
        return self.bpf


@dataclass(frozen=True)
class Unconfined:
    """No isolation: limits, an empty environment, a folder to start in and the kill of the session are all there is.

    A program can read and write what the user can, use the network, and, where the kernel does not hold root to a
    limit of processes, leave a process behind.
    """

    name = "none"
    confined = False

    def describe(self) -> str:
        """One line: what is in force."""
        return "NO isolation: programs can read and write every file that you can, and use the network"

    def command(self, folder: Path, limits: Limits, filter_from: int) -> list[str]:
        """See `Isolation`."""
        return [sys.executable, *_INTERPRETER, str(folder / "program" / "bootstrap.py")]

    def filter(self) -> bytes:
        """Nothing."""
        return b""


# ----------------------------------------------------------------------------------------------- what the machine gives


@cache
def find_isolation(unsandboxed: bool = False) -> Isolation:
    """The strongest isolation that works here, tried by running a program in it; says once which it is.

    The order: bubblewrap with libseccomp, then, only if `unsandboxed`, none.

    Raises:
        NoIsolation: when bubblewrap does not work here and the caller did not allow to go without.
    """
    sweep()
    try:
        found: Isolation = _bubblewrap()
    except NoIsolation as error:
        if not unsandboxed:
            raise NoIsolation(
                f"code that a model wrote is not run here without isolation: {error}. Install bubblewrap 0.7 or newer "
                "and libseccomp, where user namespaces are allowed (Debian: apt-get install bubblewrap libseccomp2), "
                "or set unsandboxed: true to run it with all your rights"
            ) from None
        found = Unconfined()
        logger.warning("code is run with {}; bubblewrap: {}", found.describe(), error)
    else:
        logger.info("code is run in {}", found.describe())
    return found


_TRIAL = """
import os
try:
    os.fork()
except PermissionError:
    print(os.getpid() < 10, os.getuid(), os.path.exists("/etc"))
"""


def _bubblewrap() -> Bubblewrap:
    if not sys.platform.startswith("linux"):
        raise NoIsolation(f"bubblewrap needs Linux, and this is {sys.platform}")
    executable = shutil.which("bwrap")
    if executable is None:
        raise NoIsolation("bubblewrap (bwrap) is not installed")
    try:
        visible, hidden = _interpreter_files()
        version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        isolation = Bubblewrap(executable, version, visible[0], visible, hidden, _compiled_filter())
        result = Sandbox(isolation).run(_TRIAL, limits=Limits(seconds=PATIENCE))
    except OSError as error:
        raise NoIsolation(f"bubblewrap or ldd cannot be run: {error}") from None
    if (result.code, result.stdout) != (0, b"True 65534 False\n"):
        said = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"{result.status} {result.code}"]
        raise NoIsolation(f"{version} does not work here ({said[0][:200]})")
    return isolation


def _interpreter_files() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The interpreter (no virtual environment's) and what it needs; the folders of installed packages within."""
    python = Path(vars(sys)["_base_executable"]).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    extensions = Path(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})) / "lib-dynload"
    binaries = [str(python), *map(str, sorted(extensions.glob("*.so")))]
    # ldd fails on what is linked statically, and says all it knows of the others
    linked = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    needed = sorted(set(re.findall(r"(/\S+) \(0x", linked)))
    folders = [library] if extensions.is_relative_to(library) else [library, extensions]
    hidden = [folder / name for folder in folders for name in ("site-packages", "dist-packages")]
    return (
        tuple(map(str, [python, *folders, *needed])),
        tuple(str(folder) for folder in hidden if folder.is_dir()),
    )


def _compiled_filter() -> bytes:
    """The filter of system calls as the kernel takes it: all is allowed but `_DENIED`."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise NoIsolation(f"libseccomp is not installed ({error})") from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
    ]  # fmt: skip
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    allow, unknown = 0x7FFF0000, -1
    context = library.seccomp_init(allow)
    try:
        for name in _DENIED.split():
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == unknown:  # younger than the library, so it has no number to ask for on this machine
                continue
            refuse = 0x00050000 | (errno.ENOSYS if name == "clone3" else errno.EPERM)  # ENOSYS: libc then tries clone
            code = library.seccomp_rule_add_array(context, refuse, number, 0, None)
            if code not in (0, -errno.EDOM):  # EDOM: not a system call of this architecture
                raise NoIsolation(f"libseccomp refuses a rule for {name} ({os.strerror(-code)})")
        with tempfile.TemporaryFile() as file:
            if library.seccomp_export_bpf(context, file.fileno()) != 0:
                raise NoIsolation("libseccomp cannot write the filter")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


# -------------------------------------------------------------------------------------------------------------- running


class Sandbox:
    """Runs programs in an isolation. Keeps nothing between runs; may be used by many threads."""

    def __init__(self, isolation: Isolation) -> None:
        self.isolation = isolation

    def run(
        self, source: str, arguments: Sequence[str] = (), stdin: bytes = b"", limits: Limits = Limits()
    ) -> ProgramResult:
        """Run a program to its end, or to the end of its time.

        Args:
            source: Python, as of a file that is run.
            arguments: what it finds in ``sys.argv[1:]``.
            stdin: what it can read.
            limits: what it may use.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            files = {"main.py": source}
            with self.start(files, arguments, limits, given.fileno(), out.fileno(), err.fileno()) as process:
                ended = wait(process, limits)
            out.seek(0)
            err.seek(0)
            status: Literal["ended", "killed"] = "ended" if ended else "killed"
            return ProgramResult(status, process.returncode, out.read(limits.output), err.read(limits.output))

    @contextlib.contextmanager
    def start(
        self,
        files: Mapping[str, str],
        arguments: Sequence[str],
        limits: Limits,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        inherit: Sequence[int] = (),
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a program; when the context ends it is killed, with all its descendants.

        Args:
            files: of the program, by name; ``main.py`` is run.
            arguments: what it finds in ``sys.argv[1:]``.
            limits: what it may use; the caller sees to the wall-clock time and the number of files (`wait`).
            stdin: a descriptor; so are the next two. By default a pipe that nobody has the other end of.
            stdout: as `stdin`.
            stderr: as `stdin`.
            inherit: more descriptors that stay open in it, under the same numbers.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_folder())
            for name in ("program", "scratch"):
                (folder / name).mkdir()
            (folder / "null").touch()
            bootstrap = resources.files("envs.code.sandboxed").joinpath("bootstrap.py").read_text(encoding="utf-8")
            for name, text in {**files, "bootstrap.py": bootstrap}.items():
                (folder / "program" / name).write_text(text, encoding="utf-8")
            rules = stack.enter_context(tempfile.TemporaryFile())
            rules.write(self.isolation.filter())
            rules.seek(0)
            given, out, err = (
                stack.enter_context(_loose_end(end)) if stream is None else stream
                for end, stream in enumerate((stdin, stdout, stderr))
            )
            process = subprocess.Popen(
                [
                    *self.isolation.command(folder, limits, rules.fileno()),
                    json.dumps(limits.resources()),
                    *arguments,
                ],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=folder / "scratch",
                env=_ENVIRONMENT,
                pass_fds=(rules.fileno(), *inherit),
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _kill(process)


def wait(process: subprocess.Popen[bytes], limits: Limits) -> bool:
    """Wait for the end of a process that `Sandbox.start` started; whether it ended within its time and its files.

    It is not reaped: as long as it is not, nobody else is given its number, and its group can be killed by it.
    """
    end = time.monotonic() + limits.seconds
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            if poll.poll(min(left, _GLANCE) * 1000):
                return True
            if _files(process.pid) > limits.files:
                return False
        return False
    finally:
        os.close(descriptor)


def _files(monitor: int) -> int:
    """How many files there are in the scratch folder of a bubblewrap; 0 if it is not to be seen, or there is none.

    The kernel counts them, but for the user that bubblewrap makes it takes no limit: there is no option for one.
    """
    with contextlib.suppress(OSError, IndexError):  # it has ended, or has not begun
        child = int(Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()[0])
        mounts = Path(f"/proc/{child}/mounts").read_text()
        if re.search(r"^\S+ /scratch tmpfs ", mounts, re.MULTILINE):
            room = os.statvfs(f"/proc/{child}/root/scratch")
            return room.f_files - room.f_ffree
    return 0


@contextlib.contextmanager
def _loose_end(end: int) -> Iterator[int]:
    """An end of a pipe whose other end is closed: the one to read from (0) or to write to.

    Not the machine's /dev/null, whose mode and times its owner can change through any descriptor.
    """
    ends = os.pipe()
    end = min(end, 1)
    os.close(ends[1 - end])
    try:
        yield ends[end]
    finally:
        os.close(ends[end])


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of our own; a lock says that it has an owner, for as long as we live."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def sweep() -> None:
    """Remove the folders that processes left behind when they were killed: the tests of a problem are in them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone by now
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                facts = os.fstat(descriptor)
                if facts.st_uid == os.getuid() and time.time() - facts.st_mtime > _FRESH:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a session, even if its leader has ended; the namespaces of bubblewrap die with it, and all in them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
