"""The errors that a user can cause. Every message names the place, the value and the way out.

The command line's `main` catches their base class, `PerfmodelError`, and ends the process with its `exit_code`
(1: nothing meets the request, 2: bad input).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PerfmodelError(Exception):
    """Base of every error that perfmodel raises on purpose."""

    exit_code = 2


class InputError(PerfmodelError):
    """An input of the user is malformed, unknown or impossible."""


class UnknownKey(InputError):
    """A key of a file that is not known in its table.

    key: its name. problem: the message without what to write. near: whether a key of the same table resembles it.
    """

    def __init__(self, message: str, key: str, problem: str, *, near: bool = False) -> None:
        super().__init__(message)
        self.key = key
        self.problem = problem
        self.near = near


class SeveralDevices(InputError):
    """A name says how many devices there are, where one device is asked for: "8x H100", "2x DGX H100".

    device: name of the device. count: how many in all. machine: the node or type of cloud instance that holds them, ""
    where none is named.
    """

    def __init__(self, text: str, device: str, count: int, machine: str = "") -> None:
        super().__init__(
            f"device {text!r} is {count} of {device}; give {device}, and their number where it is asked for (--tp, "
            f"--pp and --replicas of a deployment, --on {device}={count} or stock of a plan), or the type of a cloud "
            "instance"
        )
        self.device = device
        self.count = count
        self.machine = machine


class UnknownName(InputError):
    """A name that is not known; the message offers the nearest known ones, or all where they are few.

    what: kind of name ("device"). known: names to choose from. hint: text added to the message. near: the names that
    are offered, where better ones are known than those that look alike. others: other words for the known names, which
    are offered where they look alike and do not count.
    """

    def __init__(
        self,
        what: str,
        name: str,
        known: Iterable[str],
        hint: str = "",
        near: Iterable[str] = (),
        others: Iterable[str] = (),
    ) -> None:
        names = list(known)
        near = list(near) or nearest(name, [*names, *others])
        offer = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else _known(names)
        super().__init__(f"unknown {what} {name!r}; {offer}" + (f" {hint}" if hint else ""))
        self.nearest = near


def check_name(what: str, value: object) -> None:
    """Raise `InputError` where a name is no text.

    >>> check_name("device", None)
    Traceback (most recent call last):
    ...
    hwdb.errors.InputError: device None is no name; give its name as text
    """
    if not isinstance(value, str):
        raise InputError(f"{what} {repr(value)[:40]} is no name; give its name as text")


class Infeasible(PerfmodelError):
    """Nothing meets the request; the message names what to relax."""

    exit_code = 1


def _known(names: list[str]) -> str:
    """Say which names are known, or how many where they are more than `MOST_LISTED`."""
    return f"known are {', '.join(names)}" if 0 < len(names) <= MOST_LISTED else f"{len(names)} are known"


#: Most names that a message lists where none is similar. Chosen: they fit three lines of a terminal.
MOST_LISTED = 8
#: Least similarity (difflib, 0 to 1) of a name that is offered. Chosen: "h100" still finds "h100-sxm".
_LEAST_SIMILARITY = 0.45


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return at most `count` names of `known` that are similar to `name`; case does not matter.

    Names that begin with `name` come first, then the most similar ones.

    >>> nearest("h100", ["a100-sxm-80gb", "mi100", "h100-sxm", "h100-pcie"])
    ['h100-sxm', 'h100-pcie', 'mi100']
    """
    lowered = {n.lower(): n for n in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=_LEAST_SIMILARITY)
    return [lowered[c] for c in sorted(close, key=lambda c: not c.startswith(name.lower()))]
