"""Read the Azure LLM inference traces of 2023 and 2024: CSV with `TIMESTAMP` (dates), `ContextTokens`,
`GeneratedTokens` (Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md)."""

from __future__ import annotations

from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.csv_trace import read_table
from perfmodel.workload.traces.parsed import Parsed, Reader

FIELDS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(content: Content) -> Parsed:
    """Read an Azure trace; its times are dates, so numbers in their place have no known unit."""
    return read_table(content, kind="Azure")


READER = Reader(name="Azure", recognises=lambda c: c.kind == "table" and c.has(*FIELDS), read=read_azure)
