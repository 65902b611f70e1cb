"""The HTTP server: one path per operation, its OpenAPI schema, and a page to try it in a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

import anyio.to_thread
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
from search.service.problems import Outcome, of_schema, problem
from search.service.request_filter import LOOPBACK, RequestFilter, response

TITLE = "perfmodel"
#: Threads beyond those of the requests that may wait. Chosen: refusals are short.
SPARE_THREADS = 4
ABOUT = (
    "Capacity planning for LLM serving: which hardware, how many, in which configuration, at what cost and power, "
    "meets the SLOs. Latencies are in ms, money in USD, power in W; a figure that is not known is null."
)
UNREADABLE = "the body cannot be read as JSON (no UTF-8, nested too deeply, or a number of too many digits); send JSON"
MEDIA = {"html": "text/html", "md": "text/markdown", "json": "application/json", "csv": "text/csv"}


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


class Judged(Explained):
    """The row of a deployment, and whether it keeps its SLO."""

    keeps_slo: Annotated[bool, Field(description="Whether it fits and is likely enough to keep the SLO.")]


class Decided(Rows):
    """Rows, and whether anything meets the request."""

    feasible: Annotated[bool, Field(description="Whether anything meets the request.")] = True
    headline: Annotated[str, Field(description="The recommendation, or what comes nearest, in a sentence.")] = ""
    notes: list[str] = []
    operators: list[dict[str, Any]] = []
    grids: list[str] = []
    latency: Annotated[list[dict[str, Any]], Field(description="Of a fleet: each class beside its SLO.")] = []
    alternatives: Annotated[list[dict[str, Any]], Field(description="The fleet, then the next best ones.")] = []


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
    "deployment": Judged,
    "plan": Decided,
    "whatif": Decided,
    "compare": Compared,
    "fleet": Decided,
    "models": Listed,
    "hardware": Listed,
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "The request is addressed to another host, or its body cannot be read."},
    403: {"model": Refused, "description": "The request comes from a page of another server."},
    408: {"model": Refused, "description": "The body did not arrive in time."},
    413: {"model": Refused, "description": "The request has too many bytes."},
    415: {"model": Refused, "description": "The body is not called JSON by its content-type."},
    422: {"model": Refused, "description": "The request is not possible; the message says where and what to do."},
    500: {"model": Refused, "description": "The worker ended."},
    503: {"model": Refused, "description": "All workers are busy."},
    504: {"model": Refused, "description": "The answer took too long."},
}


def application(workers: Answering, bounds: Bounds, *, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """Return the server. hosts: names that requests may be addressed to, ("*",) for any."""

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        # a thread for each request that may wait, so that those beyond are refused rather than kept waiting unseen
        anyio.to_thread.current_default_thread_limiter().total_tokens = bounds.workers + bounds.waiting + SPARE_THREADS
        yield
        workers.close()

    app = FastAPI(title=TITLE, version=__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=running)
    for one in OPERATIONS.values():
        _add(app, one, workers)
    app.get("/", response_class=HTMLResponse, include_in_schema=False)(_home)
    app.get("/health", summary="Say that the server runs.", operation_id="health")(_health)
    app.add_exception_handler(RequestValidationError, _refused_by_schema)
    app.add_exception_handler(HTTPException, _refused_by_path)
    app.add_middleware(RequestFilter, most=bounds.body, hosts=hosts)
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
            return response(workers.answer(one.name, body))

        get.__annotations__ = {"body": Annotated[one.body, Query()], "return": Response}
        app.get(f"/v1/{one.name}", **settings)(get)
        return

    def post(body: Any) -> Response:
        found = workers.answer(one.name, body)
        if one.name != "report" or found.status != 200:
            return response(found)
        told = found.content
        return Response(told.get("content", told.get("headline")), media_type=MEDIA[body.form])

    post.__annotations__ = {"body": one.body, "return": Response}
    app.post(f"/v1/{one.name}", **settings)(post)


async def _refused_by_schema(request: Request, error: Exception) -> Response:
    """Return what a schema refuses, in our own form."""
    asked = OPERATIONS.get(request.url.path.rpartition("/")[2])
    fields = asked.body.model_fields if asked is not None else ()
    return response(of_schema(error.errors() if isinstance(error, RequestValidationError) else [], fields))


async def _refused_by_path(_request: Request, error: Exception) -> Response:
    """Return a wrong path or method, or a body that cannot be read, in our own form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status not in (404, 405):
        return response(problem(status, UNREADABLE, way_out="send JSON in UTF-8"))
    paths = ", ".join(f"{'GET' if o.reads else 'POST'} /v1/{o.name}" for o in OPERATIONS.values())
    return response(problem(status, f"no such operation; there are {paths}", way_out="see /openapi.json"))


async def _home() -> HTMLResponse:
    """Return the page to try the server in a browser."""
    return HTMLResponse(HOME)


async def _health() -> dict[str, str]:
    """Return the version; answered at once, however many requests wait."""
    return {"version": __version__}
