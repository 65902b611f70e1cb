"""The tools of the Model Context Protocol: the same operations and schemas, spoken by the published client."""

from __future__ import annotations

import json
import subprocess
import sys

import anyio
import jsonschema
import pytest

from search.service import OPERATIONS, Bounds, InProcess, server, tools

mcp = pytest.importorskip("mcp")
START = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def test_tools_have_valid_schemas() -> None:
    found = tools()
    assert [tool.name for tool in found] == list(OPERATIONS)
    for tool in found:
        assert tool.description
        assert tool.input_schema["type"] == "object"
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)


def test_a_client_lists_and_calls_tools() -> None:
    async def spoken() -> None:
        async with mcp.Client(server(InProcess(Bounds()))) as client:
            listed = await client.list_tools()
            assert [tool.name for tool in listed.tools] == list(OPERATIONS)
            found = await client.call_tool("hardware", {"name": "h100-sxm", "limit": 1})
            assert not found.is_error
            assert found.structured_content["rows"][0]["source"]
            for name, given in (("hardware", {"name": "h1000"}), ("models", {"foo": 1}), ("nothing", {})):
                found = await client.call_tool(name, given)
                assert found.is_error
                assert "Traceback" not in found.content[0].text

    anyio.run(spoken)


def test_lines_that_are_no_messages_are_answered_and_do_not_end_the_talk() -> None:
    """JSON-RPC 2.0, section 5.1: -32700 for what is no JSON, -32600 for what is no request; the id is null."""
    start = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": START})
    asked = "\n".join(["no json", '{"a": 1}', "[1", start]) + "\n"
    told = subprocess.run(
        [sys.executable, "-m", "cli", "mcp"], input=asked, capture_output=True, text=True, timeout=120
    )
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(a["id"], a.get("error", {}).get("code")) for a in answers] == [
        (None, -32700),
        (None, -32600),
        (None, -32700),
        (7, None),
    ]
    assert told.returncode == 0
