"""The HTTP server: one path per operation, its OpenAPI schema, and a page to try it in a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from perfmodel import __version__
from search.service.answers import OPERATIONS, Operation
from search.service.bodies import Body
from search.service.bounds import Bounds
from search.service.home import HOME
from search.service.problems import Outcome, of_schema, problem, too_large

#: Names by which a browser may call a server on its own machine; others are refused, as DNS may point them here.
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]", "testserver")
TITLE = "perfmodel"
ABOUT = (
    "Capacity planning for LLM serving: which hardware, how many, in which configuration, at what cost and power, "
    "meets the SLOs. Latencies are in ms, money in USD, power in W; a figure that is not known is null."
)
WRONG_HOST = "the request is addressed to another host; ask 127.0.0.1 or localhost, or start the server with --host"
MEDIA = {"html": "text/html", "md": "text/markdown", "json": "application/json", "csv": "text/csv"}
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Answering(Protocol):
    """What answers requests: workers, or this process."""

    def answer(self, name: str, body: Body) -> Outcome:
        """Return the outcome of a request."""

    def close(self) -> None:
        """End what is running."""


class Rows(BaseModel):
    """Rows of a table: column -> value, with units in the names of columns; null is not known."""

    rows: list[dict[str, Any]]


class Explained(Rows):
    """Rows, and the operators of one of them."""

    operators: Annotated[list[dict[str, Any]], Field(description="Time, share, bound and basis per operator.")] = []


class Decided(Rows):
    """Rows, and whether anything meets the request."""

    feasible: Annotated[bool, Field(description="Whether anything meets the request.")] = True
    headline: Annotated[str, Field(description="The recommendation, or what comes nearest, in a sentence.")] = ""
    notes: list[str] = []
    operators: list[dict[str, Any]] = []
    grids: list[str] = []


class Compared(BaseModel):
    """The best candidates of two plans, what differs between them, and how candidates moved."""

    best: list[dict[str, Any]]
    changed: list[dict[str, Any]]
    in_one_alone: list[str]
    candidates: list[dict[str, Any]]


class Listed(Rows):
    """Rows of a list. total: how many there are, where a limit cut them."""

    total: int


class Told(BaseModel):
    """What is wrong: the place, the value, and the way out."""

    message: str
    place: str
    value: str
    way_out: str


class Refused(BaseModel):
    """The answer to a request that was not answered."""

    error: Told


ANSWERS: dict[str, type[BaseModel]] = {
    "estimate": Explained,
    "plan": Decided,
    "whatif": Decided,
    "compare": Compared,
    "fleet": Decided,
    "models": Listed,
    "hardware": Listed,
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refused, "description": "The request has too many bytes."},
    422: {"model": Refused, "description": "The request is not possible; the message says where and what to do."},
    500: {"model": Refused, "description": "The worker ended."},
    503: {"model": Refused, "description": "All workers are busy."},
    504: {"model": Refused, "description": "The answer took too long."},
}


class Door:
    """Refuse requests that are addressed to another host, and bodies above a number of bytes while they arrive."""

    def __init__(self, app: App, most: int, hosts: tuple[str, ...]) -> None:
        self.app, self.most, self.hosts = app, most, hosts

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass a request on, its body at most `most` bytes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not self._is_ours(scope):
            await _response(problem(400, WRONG_HOST))(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= self.most:
            message = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > self.most:
            await _response(too_large(self.most))(scope, receive, send)
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

    def _is_ours(self, scope: Scope) -> bool:
        """Return whether a request names this host."""
        named = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "")
        host = named.rpartition(":")[0] if re.search(r":\d+$", named) else named
        return "*" in self.hosts or host in self.hosts


def _response(found: Outcome) -> Response:
    """Return an outcome as a response."""
    return Response(found.text, status_code=found.status, media_type="application/json")


def application(workers: Answering, bounds: Bounds, *, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """Return the server. hosts: names that requests may be addressed to, ("*",) for any."""

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()

    app = FastAPI(title=TITLE, version=__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=running)
    for one in OPERATIONS.values():
        _add(app, one, workers)
    app.get("/", response_class=HTMLResponse, include_in_schema=False)(lambda: HTMLResponse(HOME))
    app.get("/health", summary="Say that the server runs.", operation_id="health")(lambda: {"version": __version__})
    app.add_exception_handler(RequestValidationError, _refused_by_schema)
    app.add_exception_handler(HTTPException, _refused_by_path)
    app.add_middleware(Door, most=bounds.body, hosts=hosts)
    return app


def _add(app: FastAPI, one: Operation, workers: Answering) -> None:
    """Add the path of an operation."""
    page: dict[str, Any] = {"content": {media: {"schema": {"type": "string"}} for media in MEDIA.values()}}
    settings: dict[str, Any] = {
        "summary": one.summary,
        "operation_id": one.name,
        "responses": {**REFUSALS, **({200: page} if one.name == "report" else {})},
        "response_model": ANSWERS.get(one.name),
        "response_class": Response if one.name == "report" else None,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    if one.reads:

        def get(body: Any) -> Response:
            return _response(workers.answer(one.name, body))

        get.__annotations__ = {"body": Annotated[one.body, Query()], "return": Response}
        app.get(f"/v1/{one.name}", **settings)(get)
        return

    def post(body: Any) -> Response:
        found = workers.answer(one.name, body)
        if one.name != "report" or found.status != 200:
            return _response(found)
        return Response(found.content.get("content", found.content.get("headline")), media_type=MEDIA[body.form])

    post.__annotations__ = {"body": one.body, "return": Response}
    app.post(f"/v1/{one.name}", **settings)(post)


async def _refused_by_schema(_request: Request, error: Exception) -> Response:
    """Return what a schema refuses, in our own form."""
    return _response(of_schema(error.errors() if isinstance(error, RequestValidationError) else []))


async def _refused_by_path(_request: Request, error: Exception) -> Response:
    """Return a wrong path or method, in our own form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    paths = ", ".join(f"{'GET' if o.reads else 'POST'} /v1/{o.name}" for o in OPERATIONS.values())
    return _response(problem(status, f"no such operation; there are {paths}", way_out="see /openapi.json"))
