"""Read which flags each release of an engine takes: lists of names that were read from its published package.

A list is a file of `flags/`: lines `spellings | kind` (switch, int, float, str, list, json [class]), then sections for
the engine's benchmark, keys of JSON values and variables of the environment. `tools/engine_flags.py` makes them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hwdb import InputError

FOLDER = Path(__file__).with_name("flags")
#: Similarity from which a known name is offered for an unknown one; chosen: difflib's usual 0.6 offers strangers.
LEAST_LIKENESS = 0.7
#: Engines whose parser is Python's argparse with its abbreviations: SGLang's guides write --tp 8 for --tp-size 8.
ABBREVIATING = ("sglang", "vllm")
#: Engines whose parser takes names as they are spelt only (plain argparse, click); others take _ and - alike.
EXACT = ("sglang", "trtllm")


@dataclass(frozen=True)
class Flag:
    """One flag. name: its first long spelling. spellings: all of them. kind: switch, int, float, str, list or json.

    keys: section with the keys of a JSON value, "" for any.
    """

    name: str
    spellings: tuple[str, ...]
    kind: str
    keys: str = ""


@dataclass(frozen=True)
class Release:
    """What one release of an engine understands.

    flags: spelling -> flag. bench: the same of its benchmark. sections: name -> names in it, such as `env`.
    """

    engine: str
    version: str
    published: str
    source: str
    flags: Mapping[str, Flag]
    bench: Mapping[str, Flag]
    sections: Mapping[str, frozenset[str]]

    def find(self, word: str) -> Flag | None:
        """Return the flag of a spelling; underscores and dashes are alike where the engine's parser has it so."""
        if self.engine in EXACT:
            flag = self.flags.get(word)
            return flag if flag is not None and word in flag.spellings else self._abbreviated(word)
        return self.flags.get(word) or self.flags.get(plain(word)) or self._abbreviated(plain(word))

    def _abbreviated(self, word: str) -> Flag | None:
        """Return the flag that the beginning of a name stands for, where the engine's parser takes one."""
        if self.engine not in ABBREVIATING or len(word) < 4:
            return None
        found = {
            flag.name: flag for name, flag in self.flags.items() if name.startswith(word) and name in flag.spellings
        }
        return next(iter(found.values())) if len(found) == 1 else None

    def near(self, word: str, most: int = 3) -> list[str]:
        """Return the known spellings that are nearest to an unknown one."""
        spelt = {s: flag for s, flag in self.flags.items() if s.startswith("--")}
        found = difflib.get_close_matches(plain(word.lower()), spelt, most, LEAST_LIKENESS)
        names = [s if s in spelt[s].spellings else spelt[s].name for s in found]
        return list(dict.fromkeys(names))


def plain(word: str) -> str:
    """Return a long flag with dashes in place of underscores, a short one as it is."""
    return "--" + word[2:].replace("_", "-") if word.startswith("--") else word


def number(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare: 0.11.2 -> (0, 11, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _flag(line: str) -> Flag:
    """Read one line `spellings | kind [keys]`."""
    names, _, kind = line.partition(" | ")
    spellings, (first, *keys) = tuple(names.split()), kind.split()
    long = next((s for s in spellings if s.startswith("--")), spellings[0])
    return Flag(long, spellings, first, keys[0] if keys else "")


def _by_spelling(lines: Sequence[str]) -> dict[str, Flag]:
    """Return spelling -> flag, under the spelling itself and with dashes."""
    found: dict[str, Flag] = {}
    for flag in map(_flag, lines):
        for spelling in flag.spellings:
            found.setdefault(spelling, flag)
            found.setdefault(plain(spelling), flag)
    return found


@cache
def read_release(path: Path) -> Release:
    """Read one list of flags."""
    sections: dict[str, list[str]] = {"": []}
    head: dict[str, str] = {}
    here = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            head[key] = value
        elif line.startswith("["):
            here = line.strip("[]")
            sections[here] = []
        elif line:
            sections[here].append(line)
    names = {name: frozenset(lines) for name, lines in sections.items() if name not in ("", "bench")}
    flags, bench = _by_spelling(sections[""]), _by_spelling(sections.get("bench", []))
    return Release(head["engine"], head["version"], head["published"], head["source"], flags, bench, names)


@cache
def releases(engine: str) -> tuple[Release, ...]:
    """Return all releases of an engine whose flags are known, newest first; empty for an engine without a parser."""
    found = [read_release(path) for path in sorted(FOLDER.glob(f"{engine}-*.txt"))]
    return tuple(sorted(found, key=lambda r: number(r.version), reverse=True))


def release(engine: str, version: str = "") -> Release | None:
    """Return the newest known release of an engine that is not newer than `version`; without one, the newest.

    A version older than all known ones gets the oldest. None for an engine whose flags are not known. Raises
    `InputError` for a version that is no number.
    """
    known = releases(engine)
    if not known or not version or version == "latest" or engine == "llamacpp":
        return known[0] if known else None
    asked = number(version)
    if not asked:
        raise InputError(f"version {version!r} of {engine} is no version; write it like {known[0].version}")
    return next((r for r in known if number(r.version)[: len(asked)] <= asked), known[-1])


def elsewhere(engine: str, word: str) -> list[str]:
    """Return the versions of the engine's other known releases that take a flag."""
    return [r.version for r in releases(engine) if r.find(word)]
