"""Split shell text into commands: quoted words, continued lines, variables of the environment, comments, here-files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hwdb import InputError

#: Comment of an exported script that holds what a command cannot carry.
_MARK = re.compile(r"#\s*perfmodel:\s*(.*)")
_HERE = re.compile(
    r"^(?:sudo\s+)?(?:cat|tee)\s+.*?>?\s*(\S+)\s*<<-?\s*['\"]?(\w+)['\"]?.*?$\n(.*?)^\s*\2\s*$", re.M | re.S
)
#: A variable, `$NAME`, `${NAME}` or `${NAME:-default}`; a default may hold braces of JSON.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*))?\})")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
#: What ends one command and begins the next: operators and redirections.
_ENDS = re.compile(r"[;&|()<>]+|\d*[<>]{1,2}(&\d*)?")
#: An array of words, `NAME=(a b)` or `NAME+=(c)`, and its use, `"${NAME[@]}"`.
_ARRAY = re.compile(r"^[ \t]*(\w+)(\+?)=\(([^()]*)\)", re.M)
_ALL_OF = re.compile(r"\$\{(\w+)\[@\]\}")


@dataclass(frozen=True)
class Given:
    """One command as it was written: its words, the variables in force, the files written before it, and its marks."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)


def commands(text: str) -> list[Given]:
    """Return the commands of a shell text, in order."""
    files = {found[1]: found[3] for found in _HERE.finditer(text)}
    text = _HERE.sub("", text).replace("\\\r\n", "\n")
    text = re.sub(r"\\[ \t]*\n", " ", text)
    arrays, text = _arrays(text)
    found: list[Given] = []
    env: dict[str, str] = {}
    marks: dict[str, str] = {}
    for line in _lines(text):
        mark = _MARK.match(line)
        if mark:
            marks = dict(part.partition("=")[::2] for part in mark[1].split())
            continue
        for words in _split(_words(line)):
            given, rest = _assignments(words)
            if not rest or rest[0] in ("export", "local", "declare", "set", "unset"):
                set_here = given | _assignments(rest[1:])[0]
                env |= {name: _filled(value, env) for name, value in set_here.items()}
                continue
            rest = [w for word in rest for w in _expanded(word, env | given, arrays)]
            found.append(Given(tuple(rest), {**env, **given}, files, marks))
    return found


def _lines(text: str) -> list[str]:
    """Return the lines of a text; lines inside quotes stay together, comments stand alone."""
    lines: list[str] = []
    open_text = ""
    for line in text.splitlines():
        joined = f"{open_text}\n{line}" if open_text else line
        if not open_text and line.lstrip().startswith("#"):
            lines.append(line.strip())
        elif _closed(joined):
            lines.append(joined.strip())
            open_text = ""
        else:
            open_text = joined
    return [*lines, open_text.strip()]


def _closed(line: str) -> bool:
    """Return whether all quotes of a text are closed."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def _words(line: str) -> list[str]:
    """Return the words of one line; `InputError` where a quote is not closed."""
    if not line or line.startswith("#"):
        return []
    line = re.sub(r"(?<=\w)>(?=\s)", " >", line)
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split, lexer.commenters = True, "#"
        return list(lexer)
    except ValueError:
        raise InputError(f"--from: a quote is not closed in {line[:60]!r}; close it") from None


def _split(words: Sequence[str]) -> list[list[str]]:
    """Split words where one command ends and the next begins."""
    parts: list[list[str]] = [[]]
    for word in words:
        if _ENDS.fullmatch(word):
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def _assignments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables set before a command, and the command."""
    env: dict[str, str] = {}
    rest = list(words)
    while rest and (_ASSIGNED.match(rest[0]) or rest[0] in ("env", "nohup", "sudo", "exec")):
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if equals:
            env[name] = value
    return env, rest


def _arrays(text: str) -> tuple[dict[str, list[str]], str]:
    """Return name -> words of the arrays that a text builds, and the text without them."""
    arrays: dict[str, list[str]] = {}
    for found in _ARRAY.finditer(text):
        words = [w for line in found[3].splitlines() for w in _words(line.strip())]
        arrays[found[1]] = [*(arrays.get(found[1], []) if found[2] else []), *words]
    return arrays, _ARRAY.sub("", text)


def _expanded(word: str, env: Mapping[str, str], arrays: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a word with variables put in; unknown ones stay. An array, or a variable with flags, is several words."""
    whole = _ALL_OF.fullmatch(word)
    if whole:
        return [w for one in arrays.get(whole[1], ()) for w in _expanded(one, env, {})]
    text = _filled(word, env)
    if _VARIABLE.fullmatch(word) and text.startswith("-") and " " in text:
        return [_filled(w, env) for w in _words(text)]
    return [text] if text.strip() or not _VARIABLE.fullmatch(word) else []


def _filled(text: str, env: Mapping[str, str]) -> str:
    """Return a text with the variables that are known, or have a default, put in."""
    return _VARIABLE.sub(lambda m: env.get(m[1] or m[2], m[0] if m[3] is None else m[3]), text)
