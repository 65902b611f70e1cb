"""Read conversations in ShareGPT's JSON (`conversations` of `from`, `value`), or as `messages` of `role`, `content`.

WildChat and LMSYS-Chat call the latter `conversation`.

Each answer is a request; its prompt is all that was said before. The files have texts, not tokens, and no times: the
trace has estimated lengths only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN
from perfmodel.workload.traces.content import SHOWN, Content
from perfmodel.workload.traces.conversations import BLOCK_TOKENS, Turns, blocks_of
from perfmodel.workload.traces.parsed import Parsed, Reader, stem
from perfmodel.workload.traces.trace import Trace

#: UTF-8 bytes per token of text. Source: about 4 characters of English per token (OpenAI, "What are tokens and how to
#: count them", help.openai.com, 2024); tokenizers work on bytes, so other scripts follow their bytes.
BYTES_PER_TOKEN = 4.0
#: Key of the list of messages -> (key of the speaker, key of the text).
SHAPES = {"conversations": ("from", "value"), "messages": ("role", "content"), "conversation": ("role", "content")}
#: Speakers whose messages a model has written.
MODELS = ("gpt", "assistant", "model", "chatgpt", "bing", "bard", "bot")


@dataclass
class _Turns:
    """Turns as lists: number of the conversation, tokens that are new, tokens of the answer, and entry of the file."""

    session: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read_sharegpt(content: Content) -> Parsed:
    """Read conversations; answers without a question before them are left out with a remark."""
    found, silent = _Turns(), 0
    for session, (number, record) in enumerate(content.records()):
        silent += _add(found, session, number, record, content)
    if not found.new:
        raise InputError(f"{content.path}: no message of a model ({', '.join(MODELS)}) after another; give some")
    turns = Turns(*(np.array(v, dtype=np.int64) for v in (found.session, found.new, found.output)))
    prompts = turns.prompts()
    blocks, offsets = blocks_of(turns, prompts)
    made = Trace(
        arrival=np.full(len(prompts), NAN),
        input=prompts,
        output=turns.output,
        blocks=blocks,
        offsets=offsets,
        block_tokens=BLOCK_TOKENS,
        name=stem(content.path),
        source=content.path,
    )
    return Parsed(made, np.array(found.lines, dtype=np.int64), word=content.word, remarks=_remarks(silent))


def _remarks(silent: int) -> tuple[str, ...]:
    """Say what was assumed of conversations. silent: those without an answer."""
    lost = [f"{silent} conversations without an answer are left out"] if silent else []
    return (
        f"tokens are estimated from the texts, one for {BYTES_PER_TOKEN:g} bytes of UTF-8",
        "each answer is a request, whose prompt is all that was said before",
        "conversations have no times of arrival: request_rate_rps or concurrency in [workload] states the load",
        *lost,
    )


def _add(found: _Turns, session: int, number: int, record: dict[str, Any], content: Content) -> int:
    """Add the turns of one conversation to `found`; return 1 where it has none, else 0. number: of its entry."""
    place = f"{content.path}, {content.word} {number}"
    key = next((k for k in SHAPES if k in record), "")
    messages = record.get(key)
    if not isinstance(messages, list):
        raise InputError(f"{place}: no list {' or '.join(map(repr, SHAPES))}; give the messages of the conversation")
    speaker, said = SHAPES[key]
    new, before = 0, len(found.new)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get(said), str):
            wrong = f"message {repr(message)[:SHOWN]} has no text {said!r}"
            raise InputError(f"{place}: {wrong}; give {speaker!r} and {said!r} of each message")
        tokens = tokens_of(message[said])
        answers = str(message.get(speaker, "")).lower() in MODELS
        if answers and new > 0:
            found.session.append(session)
            found.new.append(new)
            found.output.append(tokens)
            found.lines.append(number)
        new = 0 if answers and new > 0 else new + tokens
    return int(len(found.new) == before)


def tokens_of(text: str) -> int:
    """Return the estimated tokens of a text."""
    return int(np.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN))


def _recognises(content: Content) -> bool:
    """True where the first record has messages."""
    return content.kind != "table" and any(k in content.fields for k in SHAPES)


READER = Reader(name="ShareGPT", recognises=_recognises, read=read_sharegpt)
