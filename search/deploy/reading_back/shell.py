"""Split shell text into commands: quoted words, continued lines, variables of the environment, comments, here-files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
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
#: What a shell would run or compute in place of the text: `$((A - 1))`, `$(nvidia-smi -L | wc -l)`, and backquotes.
_COMPUTED = re.compile(r"\$\(\((?:[^()]|\([^()]*\))*\)\)|\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|`[^`\n]+`")
#: Stands for such a text while words are split: a letter of Unicode's private use, and its number.
_HELD = re.compile("\ue000(\\d+)\ue001")
#: Ends of lines that go on: of a Unix shell, of Windows' (^) and of PowerShell (a backquote behind a blank).
_CONTINUED = re.compile(r"(?:\\|\^|(?<=\s)`)[ \t]*\r?\n")
#: Prompts in front of copied commands, and in front of the lines that continue them.
_PROMPT = re.compile(r"^[ \t]*(?:\[?[\w-]+@[\w.:~/ -]+\]?[$#%]|[$%])[ \t]+(?=[\w./])", re.M)
_MORE = re.compile(r"^>[ \t]", re.M)
#: Words that open and close what runs several times, or perhaps.
_OPENS, _CLOSES, _BRANCHES = ("for", "while", "until"), "done", {"if": 1, "case": 1, "fi": -1, "esac": -1}
#: What ends one command and begins the next: operators and redirections.
_ENDS = re.compile(r"[;&|()<>]+|\d*[<>]{1,2}(&\d*)?")
#: An array of words, `NAME=(a b)` or `NAME+=(c)`, and its use, `"${NAME[@]}"`.
_ARRAY = re.compile(r"^[ \t]*(\w+)(\+?)=\(([^()]*)\)", re.M)
_ALL_OF = re.compile(r"\$\{(\w+)\[@\]\}")


@dataclass(frozen=True)
class Given:
    """One command as it was written: its words, the variables in force, the files written before it, and its marks.

    marks: what stands beside the command, such as `device` and `replicas`. doubts: sentences on what a reader cannot
    know, such as a variable that a branch sets.
    """

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


def stated(**marks: str) -> dict[str, str]:
    """Return the marks of a command that are known: all but empty ones."""
    return {name: text for name, text in marks.items() if text}


@dataclass
class _Scope:
    """What is in force while a text is read. loops: repetitions of each open loop, with its variable. branches: open
    ones. choices: variable -> values that branches give it."""

    env: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    loops: list[tuple[str, int]] = field(default_factory=list)
    branches: int = 0
    choices: dict[str, list[str]] = field(default_factory=dict)

    def assign(self, values: Mapping[str, str]) -> None:
        """Set variables; those of a branch are remembered as one of several."""
        for name, value in values.items():
            filled = _filled(value, self.env)
            if self.branches:
                before = [self.env[name]] if name in self.env and name not in self.choices else []
                self.choices.setdefault(name, before).append(filled)
            else:
                self.choices.pop(name, None)
            self.env[name] = filled

    def doubts(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return what is not certain of the variables that words use."""
        used = dict.fromkeys(m[1] or m[2] for word in words for m in _VARIABLE.finditer(word))
        several = {n: list(dict.fromkeys(self.choices[n])) for n in used if n in self.choices}
        return tuple(
            f"a branch sets ${name}: {' or '.join(values)}; {values[-1]} is taken"
            for name, values in several.items()
            if len(values) > 1
        )


def commands(text: str, env: Mapping[str, str] | None = None) -> list[Given]:
    """Return the commands of a shell text, or of the lines ExecStart of a unit of systemd, in order.

    env: variables in force before the text.
    """
    text = _unit(text.replace("\r\n", "\n"))
    files = {found[1]: found[3] for found in _HERE.finditer(text)}
    text = _HERE.sub("", text)
    if _PROMPT.search(text):
        text = _MORE.sub("", _PROMPT.sub("", text))
    text = re.sub(
        r"^([ \t]*#.*?)[ \t\\]+$", r"\1", text, flags=re.M
    )  # a comment ends with its line, also a continued one
    text = _CONTINUED.sub(" ", text)
    arrays, text = _arrays(text)
    found: list[Given] = []
    scope = _Scope(env=dict(env or {}))
    for line in _lines(text):
        mark = _MARK.match(line)
        if mark:
            scope.marks = dict(part.partition("=")[::2] for part in mark[1].split())
            continue
        for words in _split(_words(line)):
            found += _command(words, scope, files, arrays)
    return found


def _command(
    words: Sequence[str], scope: _Scope, files: Mapping[str, str], arrays: Mapping[str, Sequence[str]]
) -> Iterator[Given]:
    """Yield the command of some words, if they are one; assignments, loops and branches change the scope."""
    given, rest = _assignments(_keywords(words, scope))
    if not rest or rest[0] in ("export", "local", "declare", "set", "unset", "readonly"):
        scope.assign(given | _assignments(rest[1:])[0])
        return
    doubts = scope.doubts(rest)
    env = scope.env | {name: _filled(value, scope.env) for name, value in given.items()}
    filled = tuple(w for word in rest for w in _expanded(word, env, arrays))
    times = 1
    for _, count in scope.loops:
        times *= count
    marks = {"replicas": str(times), **scope.marks} if times > 1 else scope.marks
    yield Given(filled, env, files, marks, doubts)


def _keywords(words: Sequence[str], scope: _Scope) -> list[str]:
    """Return words without the shell's own in front of a command: loops are counted, branches noted."""
    rest = list(words)
    while rest:
        head = rest[0]
        if head in _OPENS:
            counted = rest[3:] if head == "for" and rest[2:3] == ["in"] else []
            scope.loops.append((rest[1] if len(rest) > 1 else "", _count(counted)))
            return []
        if head == _CLOSES:
            scope.loops = scope.loops[:-1]
        elif head in _BRANCHES:
            scope.branches = max(scope.branches + _BRANCHES[head], 0)
            return [] if _BRANCHES[head] > 0 else rest[1:]
        elif head not in ("do", "then", "else", "time", "{", "!"):
            return rest
        rest = rest[1:]
    return rest


def _count(words: Sequence[str]) -> int:
    """Return over how many values a loop runs; 1 where the text does not say."""
    count = 0
    for word in words:
        span = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", word)
        listed = re.fullmatch(r"\$\(seq (?:(\d+) )?(\d+)\)|`seq (?:(\d+) )?(\d+)`", word)
        if span:
            count += abs(int(span[2]) - int(span[1])) + 1
        elif listed:
            count += int(listed[2] or listed[4]) - int(listed[1] or listed[3] or 1) + 1
        elif "$" in word or "`" in word or "*" in word:
            return 1
        else:
            count += 1
    return max(count, 1)


def _unit(text: str) -> str:
    """Return the text of a unit of systemd as a script: its variables and the command that it starts; others as is."""
    if not re.search(r"^\[Service\]", text, re.M):
        return text
    text = re.sub(r"\\[ \t]*\n", " ", text)
    kept = re.findall(r"^(Environment|ExecStart)=[-@:+!]*(.*)$", text, re.M)
    lines = [f"export {value}" if key == "Environment" else value for key, value in kept]
    # systemd takes a whole assignment in quotes
    return "\n".join(
        re.sub(r"([\"'])(\w+)=(.*?)\1", r"\2=\1\3\1", line) if line.startswith("export ") else line for line in lines
    )


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
    held: list[str] = []

    def hold(found: re.Match[str]) -> str:
        held.append(found[0])
        return f"\ue000{len(held) - 1}\ue001"

    line = _COMPUTED.sub(hold, line)
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split, lexer.commenters = True, "#"
        return [_HELD.sub(lambda m: held[int(m[1])], word) for word in lexer]
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
    while rest and (_ASSIGNED.match(rest[0]) or rest[0] in ("env", "nohup", "sudo", "exec", "command")):
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


def filled(text: str, env: Mapping[str, str]) -> str:
    """Return a text with known variables put in, written as $(NAME), as Kubernetes has it, or as ${NAME:-default}."""
    return _filled(in_brackets(text, env), env)


def in_brackets(text: str, env: Mapping[str, str]) -> str:
    """Return a text with the known variables put in that are written as $(NAME), which Kubernetes does itself."""
    return re.sub(r"\$\((\w+)\)", lambda m: env.get(m[1], m[0]), text)


def _filled(text: str, env: Mapping[str, str]) -> str:
    """Return a text with the variables that are known, or have a default, put in."""
    return _VARIABLE.sub(lambda m: env.get(m[1] or m[2], m[0] if m[3] is None else m[3]), text)
