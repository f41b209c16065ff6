"""Where the control sockets of this user's processes are, and which of them are alive.

The folder is the user's runtime folder (``XDG_RUNTIME_DIR``), or one of the user's own in the folder for temporary
files. Nobody else may enter it, and each socket is for its owner alone. A process that was killed leaves its socket
behind; whoever looks next removes it.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

LONGEST = 100  # bytes of the path of a socket; Linux allows 107, macOS 103
_PATIENCE = 2.0  # seconds that a process may take to accept a connection


def folders() -> list[Path]:
    """Where sockets may lie, the best place first."""
    own = f"stepwell-{os.getuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    places = [Path(runtime) / "stepwell"] if runtime and Path(runtime).is_dir() else []
    return [*places, Path(tempfile.gettempdir()) / own]


def make_path(pid: int) -> Path:
    """A path for the socket of a process, in a folder that is this user's alone.

    Raises:
        OSError: there is no such place.
    """
    failure: OSError = FileNotFoundError("there is no folder for control sockets")
    for folder in folders():
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            check_folder(folder)
        except OSError as error:
            failure = error
            continue
        for number in range(100):
            path = folder / (f"{pid}.sock" if not number else f"{pid}-{number}.sock")
            if len(os.fsencode(path)) > LONGEST:
                failure = OSError(f"the path of a control socket is too long: {path}")
                break
            if not path.exists():
                return path
    raise failure


def check_folder(folder: Path) -> None:
    """Refuse a folder that another user could write to, or that is none.

    Raises:
        PermissionError: it is not this user's alone.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder that only you can use (mode 0700)")


def connect(path: Path) -> socket.socket:
    """A connection to a process; raises OSError where there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_PATIENCE)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def live_sockets() -> list[Path]:
    """The sockets of processes that answer; those of processes that are gone are removed."""
    found = []
    for folder in folders():
        with suppress(OSError):
            check_folder(folder)
            for path in sorted(folder.glob("*.sock")):
                try:
                    connect(path).close()
                    found.append(path)
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)
                except OSError:
                    pass  # it is busy, or not ours
    return found
