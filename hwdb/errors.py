"""The errors a user can cause. Every one names the place, the value and the way out.

One base class, `PerfmodelError`, is caught once, in the command line's `main`; `exit_code` is what the
process then ends with (1: nothing meets the request, 2: bad input).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PerfmodelError(Exception):
    """Base of every error that perfmodel raises on purpose."""

    exit_code = 2


class InputError(PerfmodelError):
    """Something the user gave is malformed, unknown or impossible."""


class UnknownName(InputError):
    """A name that is not in the catalogue; the message offers the nearest ones."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        near = nearest(name, names)
        offer = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"{len(names)} are known"
        super().__init__(f"unknown {what} {name!r}; {offer}" + (f" {hint}" if hint else ""))
        self.nearest = near


class Infeasible(PerfmodelError):
    """Nothing satisfies the request; the message names what to relax."""

    exit_code = 1


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names of `known` closest to `name`, best first.

    >>> nearest("h100", ["a100-sxm-80gb", "h100-sxm", "h100-pcie"])
    ['h100-sxm', 'h100-pcie']
    """
    lowered = {n.lower(): n for n in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.45)
    return [lowered[c] for c in close]
