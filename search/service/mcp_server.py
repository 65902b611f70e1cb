"""The tools of the Model Context Protocol: one per operation, with the same schemas, over stdin and stdout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from anyio import create_memory_object_stream, create_task_group
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ErrorData,
    JSONRPCError,
    ListToolsResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
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
        return of_schema(error.errors(), one.body.model_fields)
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


def refusal(error: Exception) -> JSONRPCError:
    """Return the answer to a line that is no message: its id is not known, so it is null (JSON-RPC 2.0, section 5)."""
    kinds = {each["type"] for each in error.errors()} if isinstance(error, ValidationError) else set()
    if kinds == {"json_invalid"}:
        told = ErrorData(code=PARSE_ERROR, message="the line is no JSON; send one JSON-RPC 2.0 message per line")
    else:
        told = ErrorData(
            code=INVALID_REQUEST, message="the line is no JSON-RPC 2.0 message; see modelcontextprotocol.io"
        )
    return JSONRPCError(jsonrpc="2.0", id=None, error=told)


async def answered(made: Server[Any], read: Any, write: Any) -> None:
    """Run a server on two streams of messages; lines that are no messages are answered here, as `refusal` does."""
    messages, kept = create_memory_object_stream[SessionMessage](0)

    async def sorted_out() -> None:
        async with messages:
            async for item in read:
                if isinstance(item, Exception):
                    await write.send(SessionMessage(refusal(item)))
                else:
                    await messages.send(item)

    async with create_task_group() as both:
        both.start_soon(sorted_out)
        await made.run(kept, write, made.create_initialization_options())


def speak(workers: Answering) -> None:
    """Answer over stdin and stdout until stdin ends."""

    async def run() -> None:
        async with stdio_server() as (read, write):
            await answered(server(workers), read, write)

    try:
        asyncio.run(run())
    finally:
        workers.close()
