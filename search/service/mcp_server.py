"""The tools of the Model Context Protocol: one per operation, with the same schemas, over stdin and stdout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations
from pydantic import ValidationError

from perfmodel import __version__
from search.service.answers import OPERATIONS, Operation
from search.service.problems import Outcome, of_schema, problem

if TYPE_CHECKING:
    from search.service.http_app import Answering

INSTRUCTIONS = (
    "Plans capacity for LLM serving. Ask plan for the hardware and configuration that meet SLOs, estimate for a grid "
    "of deployments, deployment for one with every setting, whatif for what a change does. Names come from the tools "
    "models and hardware. Latencies are in ms, money in USD, power in W; null means not known."
)


def tools() -> list[Tool]:
    """Return the tools, with the schemas of their inputs."""
    return [
        Tool(
            name=one.name,
            description=one.summary,
            input_schema=one.body.model_json_schema(),
            annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
        )
        for one in OPERATIONS.values()
    ]


def called(workers: Answering, name: str, given: Any) -> Outcome:
    """Return the outcome of a call of a tool."""
    one: Operation | None = OPERATIONS.get(name)
    if one is None:
        return problem(404, f"{name[:80]!r} is no tool; there are {', '.join(OPERATIONS)}")
    try:
        body = one.body.model_validate({} if given is None else given)
    except ValidationError as error:
        return of_schema(error.errors())
    return workers.answer(name, body)


def server(workers: Answering) -> Server[Any]:
    """Return the server of the tools."""

    async def listed(_context: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=tools())

    async def call(_context: Any, params: CallToolRequestParams) -> CallToolResult:
        found = await asyncio.to_thread(called, workers, params.name, params.arguments)
        failed = found.status != 200
        text = found.content["error"]["message"] if failed else found.text
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content=found.content, is_error=failed
        )

    return Server("perfmodel", version=__version__, instructions=INSTRUCTIONS, on_list_tools=listed, on_call_tool=call)


def speak(workers: Answering) -> None:
    """Answer over stdin and stdout until stdin ends."""

    async def run() -> None:
        made = server(workers)
        async with stdio_server() as (read, write):
            await made.run(read, write, made.create_initialization_options())

    try:
        asyncio.run(run())
    finally:
        workers.close()
