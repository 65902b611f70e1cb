"""Read one command of an engine flag by flag: what it sets, what is not known, and what contradicts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.deploy.engine_settings.parsers import LEAST_LIKENESS, Flag, Release, elsewhere, plain, releases
from search.deploy.engine_settings.templates import Template, engines, template

#: Suffixes of whole numbers that vLLM reads: k and M are thousands, K and M of 1024 are not told apart by readers.
_SUFFIX = {"k": 1000, "K": 1024, "m": 10**6, "M": 1024**2, "g": 10**9, "G": 1024**3}
#: Dashes that word processors put in place of hyphens.
DASHES = ("\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212")
#: Settings that engines count in their own way -> the same of other engines.
ALIKE = {"total_tp": "tp", "tp": "total_tp", "total_batched_tokens": "max_num_batched_tokens"}
#: Settings of `templates.toml` that are switches.
_SWITCHES = ("on", "off")


@dataclass
class Understood:
    """What a command says. values: setting -> value. given: flag -> value as written, in order.

    unknown, conflicts: sentences. unused: flags that are known but change nothing in an estimate. open: flag -> its
    value, where that is a variable or a command whose result is not known. uncounted: what changes speed or memory and
    is in no estimate, a sentence each.
    """

    values: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    positional: list[str] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)


def read_words(
    words: Sequence[str], how: Template, release: Release | None, around: Release | None = None
) -> Understood:
    """Return what the arguments of an engine's command set.

    words: without the program itself. around: flags of a program that starts the engine and takes its flags too.
    """
    found = Understood()
    if release is None:
        return found
    rest = list(words)
    while rest:
        word = _hyphens(found, rest.pop(0))
        if not _is_flag(word):
            found.positional.append(word)
            continue
        name, equals, value = _levels(how, release, word).partition("=")
        flag, keys = _looked_up(release, name)
        if flag is None and around is not None:
            flag, keys = _looked_up(around, name)
        if flag is None:
            _unknown(found, how, release, name)
            if not equals and rest and not _is_flag(rest[0]):
                rest.pop(0)
            continue
        values = [value] if equals else _taken(flag, rest)
        _set(found, flag, name, values, keys)
    _settings(found, how, release)
    return found


def _hyphens(found: Understood, word: str) -> str:
    """Return a word with hyphens in place of the long dashes that word processors make of them, which is named."""
    if word[:1] not in DASHES:
        return word
    meant = "--" + word.lstrip("".join(DASHES) + "-")
    found.unknown.append(f"{word} begins with a long dash, which no parser takes for a flag; write {meant}")
    return meant


def _levels(how: Template, release: Release, word: str) -> str:
    """Return vLLM's -O3 and -O.key=value as the flags that they stand for; other words as they are."""
    if how.engine != "vllm" or not re.match(r"-O[.\d]", word):
        return word
    if word[2] == ".":
        return f"--compilation-config{word[2:]}"
    known = release.find("--optimization-level")
    return f"--optimization-level={word[2:]}" if known else f"--compilation-config.level={word[2:]}"


def _is_flag(word: str) -> bool:
    """Return whether a word begins a flag; negative numbers do not."""
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word) and word != "-"


def _looked_up(release: Release, name: str) -> tuple[Flag | None, str]:
    """Return the flag of a spelling, and the key behind a dot (--kv-transfer-config.kv_role)."""
    flag = release.find(name)
    name = name.rstrip("+")  # --flag.key+ value adds to a list
    if flag is None and "." in name:
        head, _, keys = name.partition(".")
        flag = release.find(head)
        return (flag, keys) if flag is not None and flag.kind == "json" else (None, "")
    return flag, ""


def _unknown(found: Understood, how: Template, release: Release, name: str) -> None:
    """Note a flag that the release does not have: near ones, and other releases that have it."""
    others, near, own = elsewhere(how.engine, name), release.near(name), _translated(how, release, name)
    hint = f"known in {', '.join(others)}" if others else f"near: {', '.join(near)}" if near else "nothing is near"
    hint = f"here it is {own}" if own and not others else hint
    found.unknown.append(f"{name} is no flag of {how.engine} {release.version} ({hint})")


def _translated(how: Template, release: Release, name: str) -> str:
    """Return how this engine spells a flag that another engine has for the same setting; "" where none has it."""
    for engine in engines():
        known = next((r for r in releases(engine) if r.find(name)), None) if engine != how.engine else None
        other = known.find(name) if known else None
        for setting, entry in template(engine).flags.items():
            same = other is not None and "flag" in entry and known is not None and known.find(entry["flag"]) == other
            own = how.flags.get(ALIKE.get(setting, setting), how.flags.get(setting, {})).get("flag", "")
            if same and own and release.find(own):
                return str(own)
    return ""


def _taken(flag: Flag, rest: list[str]) -> list[str]:
    """Take the values of a flag off the words that follow it."""
    if flag.kind == "switch":
        return []
    if flag.kind != "list":
        return [rest.pop(0)] if rest and (not _is_flag(rest[0])) else []
    values = []
    while rest and not _is_flag(rest[0]):
        values.append(rest.pop(0))
    return values


def _set(found: Understood, flag: Flag, name: str, values: list[str], keys: str) -> None:
    """Note the value of one flag; a contradiction with what stood before, or a value that is none, is a conflict."""
    spelt = plain(name)
    if flag.kind == "switch":
        meant = f"--{spelt[5:]}" if spelt.startswith("--no-") else f"-{name[2:]}" if name[:2] == "-n" else ""  # -nkvo
        negated = bool(meant) and meant in map(plain, flag.spellings)
        value: Any = not negated if not values else values[0].lower() not in ("false", "0", "no")
    elif not values:
        found.conflicts.append(f"{name} has no value")
        return
    else:
        value = _value(found, flag, name, values if flag.kind == "list" else values[0], keys)
        if value is None:
            return
    if keys:
        held = found.given.setdefault(flag.name, {})
        if isinstance(held, dict):
            _put(held, keys, value)
        return
    if flag.name in found.given and found.given[flag.name] != value:
        before = found.given[flag.name]
        found.conflicts.append(
            f"{flag.name} is given twice, as {_shown(before)} and as {_shown(value)}; the last one counts"
        )
    found.given[flag.name] = value


def _value(found: Understood, flag: Flag, name: str, text: Any, keys: str) -> Any:
    """Return the value of a flag in its kind; None, with a conflict noted, where the text is none."""
    if keys:
        return _scalar(text)
    if flag.kind in ("int", "float"):
        try:
            number = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG])", text)
            return (
                int(float(number[1]) * _SUFFIX[number[2]])
                if number
                else int(text)
                if flag.kind == "int"
                else float(text)
            )
        except (ValueError, OverflowError):
            if text == "auto":
                return None
            if _is_open(text) or "$" in text or re.fullmatch(r"[A-Z][A-Z_]+", text):  # a name to fill in
                found.open[flag.name] = text
                return None
            found.conflicts.append(f"{name} {text!r} is no {'whole ' if flag.kind == 'int' else ''}number")
            return None
    if isinstance(text, str) and _is_open(text):
        found.open[flag.name] = text
        return text
    if flag.kind == "json" and isinstance(text, str) and not re.fullmatch(r"[\w./-]+", text):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            curly = "; its quotes are curly ones" if re.search("[\u2018\u2019\u201c\u201d]", text) else ""
            found.conflicts.append(f"{name} is not JSON: {error}{curly}")
            return None
    return text


def _is_open(text: str) -> bool:
    """Return whether a value is a variable, a command or a template's field."""
    return bool(re.match(r"\$|`|\{\{|<\w", text)) or "$(" in text


def _scalar(text: str) -> Any:
    """Return a value behind a dotted key as JSON has it, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(held: dict[str, Any], keys: str, value: Any) -> None:
    """Put a value under a dotted key."""
    *path, last = keys.split(".")
    for part in path:
        held = held.setdefault(part, {})
    held[last] = value


def _shown(value: Any) -> str:
    """Return a value in short."""
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def _settings(found: Understood, how: Template, release: Release) -> None:
    """Translate the flags that were given into settings; the others are unused."""
    used: set[str] = set()
    for setting, entry in how.flags.items():
        for state in ("flag", *_SWITCHES):
            flag = release.find(entry[state]) if state in entry else None
            if flag is None or flag.name not in found.given or flag.name in used:
                continue
            used.add(flag.name)
            value = found.given[flag.name]
            if flag.name in found.open:
                continue
            if state == "flag":
                found.values[setting] = _format(found, entry, flag, value)
            else:  # a switch whose flag says "off" is off where it is given as true
                found.values[setting] = bool(value) if _says(entry, state, flag) else not value
    found.values = {k: v for k, v in found.values.items() if v is not None}
    _open_settings(found, how, release)
    for name, value in found.given.items():
        flag = release.find(name)
        if flag is not None and flag.keys and isinstance(value, dict):
            _json_keys(found, release, name, value, flag.keys)
    written = (how.model_flag, "--model", *how.fixed, how.file, *_pool_flags(how))
    known = {flag.name for word in written if word.startswith("-") and (flag := release.find(word))}
    told = {
        flag.name: (n, why) for n, why in how.uncounted.items() if (flag := release.find(n)) and _counts(found, flag, n)
    }
    found.uncounted = [f"{name} ({why})" for name, why in told.values()]
    found.unused = [n for n in found.given if n not in used and n not in known and n not in told]


def _open_settings(found: Understood, how: Template, release: Release) -> None:
    """Name the flags of settings whose value is a variable that is not known here."""
    flags = {flag.name for entry in how.flags.values() if "flag" in entry and (flag := release.find(entry["flag"]))}
    for name, text in found.open.items():
        if name in flags:
            found.unknown.append(f"{name} is {text}, which is not known here: the default is taken; give its value")


def _counts(found: Understood, flag: Flag, written: str) -> bool:
    """Return whether a flag is given, under any of its names, and says what it says as `written`."""
    off = written.startswith("--no-") and f"--{written[5:]}" in flag.spellings
    return flag.name in found.given and (found.given[flag.name] is False) == off


def on_host(engine: str, release: Release | None, given: Mapping[str, Any], layers: int) -> list[str]:
    """Return what is said of layers that llama.cpp keeps in host memory; [] where all are on the device.

    layers: of the model. llama.cpp counts the output as one more, which is on the device once all layers are.
    """
    flag = release.find("--n-gpu-layers") if engine == "llamacpp" and release is not None else None
    held = str(given.get(flag.name, "all")) if flag is not None else "all"
    if not held.isdigit() or int(held) >= layers:
        return []
    share = 1.0 - int(held) / layers
    return [f"--n-gpu-layers {held} (of {layers} layers: say it with --host-weights {share:.2g})"]


def _says(entry: Mapping[str, Any], state: str, flag: Flag) -> bool:
    """Return whether a switch that is given as true turns its setting on."""
    negated = entry[state].startswith("--no-") and f"--{entry[state][5:]}" in flag.spellings
    return (state == "on") != negated


def _pool_flags(how: Template) -> Iterable[str]:
    """Return the flags that make a worker one of prefill or of decode, and those that join nodes."""
    joined = (*how.pools.get("more", []), *how.nodes.get("flags", []))  # LoRA's are named: adapters are not read
    return [w for w in (how.pools.get("flag"), how.pools.get("role_flag"), *joined) if w and w.startswith("-")]


def _format(found: Understood, entry: Mapping[str, Any], flag: Flag, value: Any) -> Any:
    """Return our name of a value that the engine calls otherwise; the value itself without such a list."""
    value = value[0] if isinstance(value, list) and value else value
    if "values" not in entry:
        return value
    names = {theirs: ours for ours, theirs in entry["values"].items()} | dict(entry.get("also", {}))
    if str(value) in entry.get("load", ()):
        return None
    if str(value) not in names:
        known = {*names, *entry.get("load", ())}
        text = near(str(value), known) or f" ({', '.join(names)})"
        found.conflicts.append(f"{flag.name} {value} is not known here{text}: the checkpoint's own format is taken")
    return None if names.get(str(value)) in (None, "own") else names[str(value)]


def _json_keys(found: Understood, release: Release, name: str, value: Mapping[str, Any], section: str) -> None:
    """Note keys of a JSON value that its class does not have."""
    known = release.sections.get(section)
    if not known:
        return
    for key in value:
        if key not in known:
            found.unknown.append(f"{name}: {key!r} is no key of it{near(key, known)}")


#: What the variables of an engine begin with.
PREFIXES = {"vllm": "VLLM_", "sglang": "SGLANG_", "llamacpp": "LLAMA_"}
#: Variables that are not the engine's: KServe hands flags over in it.
FOREIGN = ("VLLM_ADDITIONAL_ARGS",)


def variables(env: Mapping[str, str], release: Release | None) -> list[str]:
    """Return sentences for variables with the prefix of the engine that its release does not have."""
    names = release.sections.get("env") if release else None
    if release is None or not names:
        return []
    own = [n for n in env if n.startswith(PREFIXES.get(release.engine, "\0")) and n not in FOREIGN]
    return [f"{n} is no variable of {release.engine} {release.version}{near(n, names)}" for n in own if n not in names]


def near(name: str, known: Iterable[str]) -> str:
    """Return the nearest known names in brackets; "" where none is near."""
    near = difflib.get_close_matches(name, list(known), 2, LEAST_LIKENESS)
    return f" (near: {', '.join(near)})" if near else ""
