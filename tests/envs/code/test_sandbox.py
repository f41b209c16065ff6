"""The sandbox, for real: what programs can do in it, what they cannot, and what is left without an isolation."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loguru import logger

from envs.code import sandbox
from envs.code.sandbox import MIB, Limits, NoIsolation, Sandbox, Unconfined, find_isolation

UNCONFINED = Sandbox(Unconfined())
QUICK = Limits(seconds=3, cpu_seconds=1)


@pytest.fixture(scope="module")
def confined() -> Sandbox:
    try:
        return Sandbox(find_isolation())
    except NoIsolation as error:
        pytest.skip(str(error))


@pytest.fixture(params=["confined", "unconfined"])
def either(request: pytest.FixtureRequest) -> Sandbox:
    return UNCONFINED if request.param == "unconfined" else request.getfixturevalue("confined")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Look for an isolation anew, before and after."""
    find_isolation.cache_clear()
    yield
    find_isolation.cache_clear()


def alive(tag: str) -> list[str]:
    """The processes whose command line holds a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if tag.encode() in line and int(folder.name) != os.getpid():
            found.append(line.decode(errors="replace"))
    return found


def outlive(tag: str) -> list[str]:
    """The processes that are still there after some patience: the kernel takes a moment to end a namespace."""
    end = time.monotonic() + 10
    while (found := alive(tag)) and time.monotonic() < end:
        time.sleep(0.02)
    return found


# ---------------------------------------------------------------------------------------------------- in either of them


def test_a_program_reads_computes_and_prints(either: Sandbox) -> None:
    source = "import sys, json\nprint(sys.argv[1:], json.load(sys.stdin))\nprint('oh', file=sys.stderr)\nsys.exit(3)"
    result = either.run(source, ["a", "b c"], b'{"x": 1}')
    assert (result.status, result.code) == ("ended", 3)
    assert result.stdout == b"['a', 'b c'] {'x': 1}\n"
    assert result.stderr == b"oh\n"


def test_an_error_is_told(either: Sandbox) -> None:
    result = either.run("1 / 0")
    assert result.code == 1
    assert b"ZeroDivisionError" in result.stderr


def test_the_environment_is_empty(either: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_SECRET", "x")
    assert either.run("import os; print(dict(os.environ))").stdout == b"{}\n"


def test_the_order_of_sets_is_the_same_in_each_run(either: Sandbox) -> None:
    source = "print(set(map(str, range(100))))"
    assert either.run(source).stdout == either.run(source).stdout


def test_time_is_limited(either: Sandbox) -> None:
    assert either.run("import time; time.sleep(600)", limits=Limits(seconds=0.5)).status == "killed"


def test_processor_time_is_limited(either: Sandbox) -> None:
    result = either.run("while True: pass", limits=Limits(seconds=60, cpu_seconds=1))
    assert (result.status, result.code) in (("ended", 137), ("ended", -9))


def test_memory_is_limited(either: Sandbox) -> None:
    source = "try:\n    bytearray({} << 20)\nexcept MemoryError:\n    print('no')"
    assert either.run(source.format(300), limits=Limits(memory=256 * MIB)).stdout == b"no\n"
    assert either.run(source.format(100), limits=Limits(memory=256 * MIB)).stdout == b""


def test_output_is_limited(either: Sandbox) -> None:
    result = either.run("while True: print('x' * 100)", limits=Limits(output=1000))
    assert 0 < len(result.stdout) <= 1000
    assert len(result.stderr) <= 1000


def test_open_files_are_limited(either: Sandbox) -> None:
    result = either.run("import os\nwhile True: os.dup(0)", limits=Limits(descriptors=20))
    assert b"Too many open files" in result.stderr


def test_limits_are_hard_ones(either: Sandbox) -> None:
    source = (
        "import resource as r\nfor name in ('CPU', 'FSIZE', 'CORE'): print(*r.getrlimit(getattr(r, 'RLIMIT_' + name)))"
    )
    assert either.run(source, limits=Limits(cpu_seconds=7, output=5000)).stdout == b"7 7\n5000 5000\n0 0\n"


def test_scratch_can_be_written_and_is_new_each_time(either: Sandbox) -> None:
    source = "import os\nprint(os.listdir('.'))\nopen('left', 'w').write('x')\nprint(os.listdir('.'))"
    assert either.run(source).stdout == either.run(source).stdout == b"[]\n['left']\n"


def test_nothing_is_left_on_disk(either: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    either.run("import os\nos.mkdir('a')\nopen('a/b', 'w')\nos.symlink('/', 'a/root')\nos.chmod('a', 0)")
    assert list(tmp_path.iterdir()) == []


def test_what_is_interrupted_is_killed(either: Sandbox) -> None:
    tag = f"tag-{os.urandom(8).hex()}"

    class Interrupted(Exception):
        pass

    def interrupted() -> None:
        with either.start({"main.py": "import time; time.sleep(600)"}, [tag], QUICK):
            deadline = time.monotonic() + 10  # it is started, but may not run yet
            while not alive(tag) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert alive(tag)
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert outlive(tag) == []


# ------------------------------------------------------------------------------------------------------- with isolation


def test_the_isolation_says_what_it_is(confined: Sandbox) -> None:
    assert confined.isolation.confined
    assert confined.isolation.name == "bubblewrap"
    assert confined.isolation.describe().startswith("bubblewrap 0.")


def test_what_there_is_to_see(confined: Sandbox) -> None:
    seen = confined.run(
        "import os\nprint(sorted(os.listdir('/program')), os.getcwd(), os.getuid(), os.listdir('/dev'))"
    )
    assert seen.stdout == b"['bootstrap.py', 'main.py'] /scratch 65534 ['null']\n"
    for path in ("/etc", "/proc", "/sys", "/home", "/tmp", "/bin", "/usr/bin/env", "/var", str(Path(__file__).parent)):
        assert confined.run(f"import os; print(os.path.exists({path!r}))").stdout == b"False\n", path


def test_the_standard_library_is_there(confined: Sandbox) -> None:
    source = (
        "import asyncio, ctypes, decimal, hashlib, sqlite3, ssl, zlib\nprint(asyncio.run(asyncio.sleep(0, 'ready')))"
    )
    assert confined.run(source).stdout == b"ready\n"


def test_installed_packages_are_not(confined: Sandbox) -> None:
    assert b"ModuleNotFoundError" in confined.run("import pytest").stderr


def test_the_scratch_is_limited_as_a_whole(confined: Sandbox) -> None:
    source = "for n in range(9): open(str(n), 'wb').write(bytes(1 << 20))"
    assert b"No space left" in confined.run(source, limits=Limits(scratch=4 * MIB)).stderr


def test_the_number_of_files_is_limited(confined: Sandbox) -> None:
    source = "import os\nfor n in range({}): os.close(os.open(str(n), os.O_CREAT))\nprint('made')"
    assert confined.run(source.format(500), limits=Limits(seconds=60, files=1000)).stdout == b"made\n"
    for make in ("os.close(os.open(str(n), os.O_CREAT))", "os.mkdir(str(n))", "os.symlink('a', str(n))"):
        endless = f"import os, itertools\nfor n in itertools.count(): {make}"
        result = confined.run(endless, limits=Limits(seconds=60, cpu_seconds=30, files=1000))
        assert (result.status, result.stderr) == ("killed", b"")


CHANGES = """
import os, sys
for what in ("os.devnull", "0", "1", "2", "os.open(os.devnull, os.O_RDWR)"):
    for change in ("os.chmod({}, 0o666)", "os.chown({}, 65534, 65534)", "os.utime({}, (0, 0))", "os.truncate({}, 0)",
                   "os.setxattr({}, 'user.a', b'b')"):
        try:
            eval(change.format(what))
        except OSError:
            pass
"""


def test_no_file_of_the_machine_can_be_changed(confined: Sandbox) -> None:
    before = os.stat(os.devnull)
    assert confined.run(CHANGES).code == 0  # with streams of its own
    with confined.start({"main.py": CHANGES}, [], QUICK) as process:  # and with those it gets if none are given
        assert sandbox.wait(process, QUICK)
    assert os.stat(os.devnull) == before
    assert confined.run("import os; print(os.stat(os.devnull).st_rdev)").stdout == b"0\n"


def test_null_swallows_and_gives_nothing(either: Sandbox) -> None:
    source = "import os\nprint(open(os.devnull).read() == '', open(os.devnull, 'w').write('x'))"
    assert either.run(source).stdout == b"True 1\n"


def test_there_is_one_process_and_one_thread(confined: Sandbox) -> None:
    for attempt in ("import os; os.fork()", "import threading; threading.Thread(target=print).start()"):
        assert confined.run(attempt).code == 1


def test_programs_may_run_side_by_side(confined: Sandbox) -> None:
    with ThreadPoolExecutor(4) as pool:
        outputs = pool.map(lambda n: confined.run(f"print({n})").stdout, range(12))
    assert list(outputs) == [b"%d\n" % n for n in range(12)]


# ---------------------------------------------------------------------------------------------------- without isolation


def test_without_bubblewrap_nothing_runs(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NoIsolation, match=r"bubblewrap \(bwrap\) is not installed.*unsandboxed: true"):
        find_isolation()


def test_without_libseccomp_nothing_runs(confined: Sandbox, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr("envs.code.sandbox.ctypes.CDLL", missing)
    with pytest.raises(NoIsolation, match="libseccomp is not installed"):
        find_isolation()


@pytest.mark.parametrize("script", ["echo 'no namespaces for you' >&2; exit 1", "echo wrong", "exec sleep 60"])
def test_a_bubblewrap_that_does_not_work_is_found_out(
    script: str, fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo bubblewrap 0.0; exit; fi\n{script}\n')
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    monkeypatch.setattr(sandbox, "PATIENCE", 0.5)
    with pytest.raises(NoIsolation, match=r"bubblewrap 0\.0 does not work here"):
        find_isolation()


def test_unsandboxed_must_be_asked_for_and_warns(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING", format="{message}")
    try:
        assert find_isolation(True) is find_isolation(True)
    finally:
        logger.remove(sink)
    assert not find_isolation(True).confined
    assert len(said) == 1  # once
    assert "NO isolation" in said[0]
    assert "not installed" in said[0]


def test_isolation_is_used_where_there_is_one_even_if_it_need_not(confined: Sandbox, fresh: None) -> None:
    assert find_isolation(True).confined


def test_without_isolation_the_session_is_killed_all_the_same() -> None:
    tag = f"tag-{os.urandom(8).hex()}"
    source = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]])\n"
    )
    UNCONFINED.run(source, [tag])
    assert outlive(tag) == []


def test_folders_of_the_killed_are_swept_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, young, other = (tmp_path / f"{sandbox.PREFIX}{name}" for name in ("left", "young", "other"))
    for folder in (left, young):
        (folder / "program").mkdir(parents=True)
        (folder / "program" / "test_0.py").write_text("assert True")
    other.symlink_to(young)
    os.utime(left, (0, 0))
    with UNCONFINED.start({"main.py": "import time; time.sleep(600)"}, [], QUICK):
        (used,) = set(tmp_path.iterdir()) - {left, young, other}
        os.utime(used, (0, 0))
        sandbox.sweep()
        assert set(tmp_path.iterdir()) == {used, young, other}
    assert set(tmp_path.iterdir()) == {young, other}


def test_a_killed_process_lets_go_of_its_folder(tmp_path: Path) -> None:
    source = (
        "import os, signal\nfrom envs.code.sandbox import Sandbox, Unconfined, Limits\n"
        "with Sandbox(Unconfined()).start({'main.py': 'pass'}, [], Limits()): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", source], env=environment, check=False)
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))
    subprocess.run([sys.executable, "-c", "from envs.code.sandbox import sweep; sweep()"], env=environment, check=True)
    assert not left.exists()


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    class Nowhere(Unconfined):
        def command(self, folder: Path, limits: Limits, filter_from: int) -> list[str]:
            return [str(tmp_path / "nothing")]

    with pytest.raises(FileNotFoundError):
        Sandbox(Nowhere()).run("print()")
