"""Filter requests before they are parsed: by host, origin and media type, and by the size and duration of the body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Response

from search.service.problems import Outcome, problem, too_large

#: Names by which a browser may call a server on its own machine; others are refused, as DNS may point them here.
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
#: Seconds in which a body has to arrive. Chosen: 8 MB in that time is 2 Mbit/s.
ARRIVING_S = 30.0
WRONG_HOST = "the request is addressed to another host; ask 127.0.0.1 or localhost, or start the server with --host"
WRONG_ORIGIN = "the request comes from a page of another server; ask from a program, or from the page of this server"
WRONG_MEDIA = "the content-type is {!r}; send JSON, with the header content-type: application/json"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
App = Callable[[Scope, Receive, Callable[[Any], Awaitable[None]]], Awaitable[None]]


def response(found: Outcome) -> Response:
    """Return an outcome as a response."""
    return Response(found.text, status_code=found.status, media_type="application/json")


class RequestFilter:
    """Refuse requests of foreign hosts and pages, and bodies that are no JSON, too large or too slow.

    A web page can make a browser send a request here, but neither with a content-type of JSON nor without naming its
    origin, unless this server allows it, which it never does. hosts: names that requests may be addressed to, ("*",)
    for any; then a proxy may stand in front, and origins are not compared.
    """

    def __init__(self, app: App, most: int, hosts: tuple[str, ...]) -> None:
        self.app, self.most, self.hosts = app, most, hosts

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass a request on, its body at most `most` bytes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        found, body = self._refused(scope), b""
        if found is None:
            try:
                arrived = await asyncio.wait_for(self._body(receive), ARRIVING_S)
            except asyncio.TimeoutError:  # noqa: UP041 - another class than TimeoutError in Python 3.10
                found = problem(408, f"the body did not arrive within {ARRIVING_S:g} s; send it at once")
            else:
                if arrived is None:  # whoever asked is gone
                    return
                body, found = bytes(arrived), too_large(self.most) if len(arrived) > self.most else None
        if found is not None:
            await response(found)(scope, receive, send)
            return
        sent = False

        async def whole() -> Any:
            """Hand the whole body on once, then whatever else comes."""
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, whole, send)

    def _refused(self, scope: Scope) -> Outcome | None:
        """Return why the headers of a request do not pass, or None."""
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        named, origin = headers.get("host", ""), headers.get("origin")
        host = re.sub(r":\d+$", "", named) if named.count(":") == 1 or "]" in named else named
        if "*" not in self.hosts:
            if host.lower() not in self.hosts:
                return problem(400, WRONG_HOST)
            if origin is not None and origin.lower() != f"{scope.get('scheme', 'http')}://{named}".lower():
                return problem(403, WRONG_ORIGIN)
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and media != "application/json":
            return problem(415, WRONG_MEDIA.format(media[:80]), place="content-type")
        return None

    async def _body(self, receive: Receive) -> bytearray | None:
        """Return the body, or its begin where it is longer than may be; None where its sender is gone."""
        body, more = bytearray(), True
        while more and len(body) <= self.most:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body
