"""Ways to damage a valid input by its structure: what a person or a broken tool could have written there."""

from __future__ import annotations

import copy
import io
import random
from typing import Any

import numpy as np

from benchmarks.fuzz_inputs import SEEDS, Input, Literal, inline, plain_scenario, toml

#: Text of the scenario that names a node of the user's own.
_OWN_NODE = plain_scenario() | {"hardware": {"nodes": ["mine"]}}
_KINDS = len(SEEDS)

LONG = "x" * 100_000
NUMBERS: tuple[Any, ...] = (
    *(1e15, 1e12, 1e6, 1e-6, 1e-12, 1e-15, 1e-17, 100, 7, 0.3, 63, 1024, 1e5),
    *(0, -1, 1, 3, -0.5, 1e-9, 1e-300, 5e-324, 1e9, 1e15, 1e18, 1e300, 2**31, 2**53, 2**63, 2**64),
    *(float("nan"), float("inf"), float("-inf"), Literal("9" * 300), Literal("9" * 5000), Literal("0x" + "f" * 5000)),
)
#: Numbers that a reader may accept, factors of the valid ones, and how often a number is changed to such a one.
PLAUSIBLE = (0, 1, 2, 3, 5, 7, 8, 16, 63, 100, 1000, 4096, 10**5, 10**6, 10**9, 10**12, 0.01, 0.3, 0.999, 1.5, 1e-6)
FACTORS = (0.001, 0.1, 0.5, 0.9, 1.1, 2, 3, 10, 100, 1000, 1e5)
PLAUSIBLE_SHARE = 0.8
TEXTS: tuple[Any, ...] = (
    *(
        "",
        " ",
        "\u0000",
        "\x1b[31mred\x1b]0;t\x07",
        "=1+1",
        "ü漢🎉\u202e",
        LONG,
        "../../etc/passwd",
        "/dev/zero",
        "nan",
    ),
    *("~nobody/x", "h100-sxm", "bf16", "all", "1e5", "-", "[bold]x[/bold]", "%s{0}", "true", "\ud800"),
)
ODD: tuple[Any, ...] = (True, False, None, [], {}, [[]], [{}], [None], {"value": {}}, [1, "a"])


def generated(kind_number: int, draw: random.Random) -> Input:
    """Return the input with this number: a valid one of a kind that the number chooses, damaged as `draw` says."""
    made = SEEDS[kind_number % _KINDS]()
    if made.kind == "node":
        made.files["n.toml"], made.writers["n.toml"] = copy.deepcopy(_OWN_NODE), toml
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _mutate(made, draw)
    return made


def _mutate(made: Input, draw: random.Random) -> None:
    """Damage one place of an input: a value in a file, a word of the command line, or the bytes of a file."""
    structured = [n for n in made.files if n in made.writers]
    if made.kind == "flags" or (not structured and not made.files) or draw.random() < 0.03:
        _mutate_words(made.words, draw)
        return
    if structured and draw.random() < 0.9:
        name = draw.choice(structured)
        made.files[name] = _changed(copy.deepcopy(made.files[name]), draw)
        return
    name = draw.choice(sorted(made.files))
    content = made.writers.pop(name)(made.files[name]) if name in made.writers else made.files[name]
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    made.files[name] = _broken(raw, draw)


def _mutate_words(words: list[str], draw: random.Random) -> None:
    """Change, drop, repeat or add a word of a command line, after the first two."""
    at = draw.randrange(1, len(words))
    how = draw.choice((0, 1, 2, 3, 3, 3, 3, 4))
    if how == 0:
        del words[at]
    elif how == 1:
        words.insert(at, words[at])
    elif how == 2:
        words.insert(at, draw.choice(("--tp", "--wide", "--csv", "--pp", "--explain", "--nope", "--batch", "--", "-o")))
    else:
        numbers = [i for i, word in enumerate(words) if word.replace(".", "", 1).isdigit()]
        at = draw.choice(numbers or [at]) if how == 3 else at
        words[at] = str(draw.choice(PLAUSIBLE if draw.random() < PLAUSIBLE_SHARE else NUMBERS if how == 3 else TEXTS))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places inside data with a structure."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, inner in items for p in ((*path, key), *_paths(inner, (*path, key)))]


def _changed(data: Any, draw: random.Random) -> Any:
    """Return data with one place changed."""
    places = _paths(data)
    if not places:
        return data
    *way, key = draw.choice(places)
    parent = data
    for step in way:
        parent = parent[step]
    old, how = parent[key], draw.randrange(10)
    if isinstance(old, int | float) and not isinstance(old, bool) and draw.random() < PLAUSIBLE_SHARE:
        made = old * draw.choice(FACTORS) if draw.random() < 0.5 else draw.choice(PLAUSIBLE)
        parent[key] = round(made) if isinstance(old, int) and abs(made) >= 1 else made
    elif how == 0:
        del parent[key]
    elif how <= 4:
        parent[key] = draw.choice(NUMBERS)
    elif how == 5:
        parent[key] = draw.choice(TEXTS)
    elif how == 6:
        parent[key] = copy.deepcopy(draw.choice(ODD))
    elif how == 7:
        _repeat(parent, key, old, draw)
    elif how == 8:
        parent[key] = _nested(draw.choice((5, 200, 3000)), old)
    elif isinstance(old, int | float) and not isinstance(old, bool):
        parent[key] = old * draw.choice((-1, 0, 1e-6, 0.1, 0.5, 10, 1000, 1e6, 1e12))
    else:
        parent[key] = [old] * draw.choice((1, 2, 50))
    return data


def _repeat(parent: Any, key: Any, old: Any, draw: random.Random) -> None:
    """Repeat an item of a list, or give the value of a key under a name that is nearly the same."""
    if isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(old) for _ in range(draw.choice((1, 3, 100)))]
    else:
        parent[draw.choice((key.upper(), f"{key} ", f"{key}x", "rate", "name", LONG[:999]))] = old


def _nested(depth: int, inside: Any) -> Any:
    """Return lists in lists around a value."""
    shown = inline(inside) if not isinstance(inside, dict) else "1"
    return Literal("[" * depth + shown + "]" * depth)


def _broken(raw: bytes, draw: random.Random) -> bytes:
    """Return bytes cut short, with flipped bits, doubled, or replaced."""
    how, at = draw.randrange(6), draw.randrange(len(raw) + 1)
    if how == 0:
        return raw[:at]
    if how == 1:
        return raw + raw
    if how == 2:
        return raw[:at] + bytes(draw.randrange(256) for _ in range(draw.choice((1, 4, 64)))) + raw[at:]
    if how == 3:
        return draw.choice(
            (b"", b"\x00" * 5000, b"\x1f\x8b junk", b"PK\x03\x04junk", b"\xff\xfe", b"[" * 100_000, _npz())
        )
    flipped = bytearray(raw)
    for _ in range(draw.choice((1, 3, 30))):
        if flipped:
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def _npz() -> bytes:
    """Return an archive of arrays that is no profile."""
    stream = io.BytesIO()
    np.savez(stream, variants=np.array(["bf16"]), **{"0.sites": np.zeros((0, 2))})
    return stream.getvalue()
