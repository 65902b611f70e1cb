"""The command `perfmodel serve`."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, ClassVar

import typer

from hwdb import InputError
from search.commands.shared.option_groups import grouped
from search.commands.shared.service_options import BoundOptions, refuse_without

EXAMPLES = """\
perfmodel serve
perfmodel serve --port 9000 --processes 4 --timeout-s 120"""
MOST_PORT = 65535


@dataclass(frozen=True)
class AddressOptions:
    """Where the server listens."""

    section: ClassVar[str] = "Address"

    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at; any but 127.0.0.1 lets other machines ask.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(metavar="PORT", help="Port to listen at.")] = 8000


@grouped
def serve_command(address: AddressOptions, bounds: BoundOptions) -> None:
    """Serve the same answers over HTTP on this machine, with an OpenAPI schema and the report's pages.

    Needs the extra `serve`. Answers only this machine unless --host says otherwise; it asks nobody for a password.
    Every request is bounded in bytes, seconds, memory, candidates, and how many are answered at once.
    """
    refuse_without("serve", "fastapi", "uvicorn")
    if not 0 < address.port <= MOST_PORT:
        raise InputError(f"--port {address.port} is no port; give 1 to {MOST_PORT}")
    limits = bounds.bounds()
    alone = _is_loopback(address.host)
    place = _listening(address.host, address.port)
    import uvicorn

    from search.output import print_text
    from search.service import LOOPBACK, Workers, application

    if not alone:
        print(f"--host {address.host}: other machines can ask, and nobody is asked for a password", file=sys.stderr)
    shown = f"[{address.host}]" if ":" in address.host else address.host
    with place:
        hosts = (*LOOPBACK, shown) if alone else ("*",)
        app = application(Workers(limits), limits, hosts=hosts)
        print_text(f"http://{shown}:{address.port}/ (schema: /openapi.json; stop with Ctrl+C)")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[place])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; `InputError` where the port is taken, or the address is of another machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); give another --port, "
            "or an address of this machine"
        ) from None


def _is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address; `InputError` for what is no address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        raise InputError(f"--host {host!r} is no address; give one such as 127.0.0.1") from None
