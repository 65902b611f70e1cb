"""A local server of the same answers: HTTP with an OpenAPI schema, and tools of the Model Context Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.service.answers import OPERATIONS
    from search.service.bounds import Bounds
    from search.service.http_app import application
    from search.service.in_process import InProcess
    from search.service.mcp_server import called, server, speak, tools
    from search.service.problems import Outcome
    from search.service.request_filter import LOOPBACK
    from search.service.workers import Workers

__all__ = [
    "LOOPBACK",
    "OPERATIONS",
    "Bounds",
    "InProcess",
    "Outcome",
    "Workers",
    "application",
    "called",
    "server",
    "speak",
    "tools",
]

__getattr__ = lazy_names(
    __name__,
    {
        "answers": ["OPERATIONS"],
        "bounds": ["Bounds"],
        "request_filter": ["LOOPBACK"],
        "in_process": ["InProcess"],
        "http_app": ["application"],
        "mcp_server": ["called", "server", "speak", "tools"],
        "problems": ["Outcome"],
        "workers": ["Workers"],
    },
)
