"""The tools of the Model Context Protocol: the same operations and schemas, spoken by the published client."""

from __future__ import annotations

import anyio
import jsonschema
import pytest

from search.service import OPERATIONS, Bounds, InProcess, server, tools

mcp = pytest.importorskip("mcp")


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
