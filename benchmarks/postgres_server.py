"""Start a PostgreSQL server of one's own in a temporary folder, for tests and benchmarks; stop and restart it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Where Debian's package puts the programs that are not on the path.
DEBIAN = Path("/usr/lib/postgresql")
#: User that the server runs as where the caller is root, which PostgreSQL refuses.
UNPRIVILEGED = "nobody"


def program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, the newest of several; None where there is none."""
    found = shutil.which(name)
    installed = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]) if p.parts[-3].isdigit() else 0)
    return found or (str(installed[-1]) if installed else None)


def missing() -> str:
    """Return why no server can be started here; "" where one can."""
    absent = [name for name in ("initdb", "pg_ctl", "postgres") if program(name) is None]
    return f"PostgreSQL is not installed: no {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Server:
    """A server in `folder` that listens on `port` of this machine."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Return the URL of its database."""
        return f"postgresql://tuner@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        _run("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` ends all its processes without a word, as a crash does."""
        _run("pg_ctl", "-D", f"{self.folder}/data", "-m", mode, "-w", "stop")


def _run(name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL; as an unprivileged user where the caller is root."""
    command = [program(name) or name, *arguments]
    user = {"user": UNPRIVILEGED, "group": _group(), "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **user)  # type: ignore[call-overload]


def _group() -> int:
    """Return the group of the unprivileged user."""
    import pwd

    return pwd.getpwnam(UNPRIVILEGED).pw_gid


@contextmanager
def server() -> Iterator[Server]:
    """Make a database and start a server for it; both go at the end."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, UNPRIVILEGED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        made = Server(folder, free.getsockname()[1])
    try:
        _run("initdb", "-D", f"{folder}/data", "-U", "tuner", "-A", "trust", "--no-sync", "--encoding=UTF8")
        made.start()
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)
