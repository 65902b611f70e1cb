"""Split a name of hardware from the number in it: "8x H100", "H100 (x8)", "2 nodes of 8x H100", "HGX B200 8-GPU"."""

from __future__ import annotations

import re
from typing import NamedTuple

#: What stands between a number in front and a name: a sign ("8x H100"), or a space where the name begins with a letter
#: ("8 H100"); "4090" and "7 258V" are no numbers of devices.
_IN_FRONT = re.compile(r"(\d{1,4}) ?[x*] ?(\D.+|\d{4}.*|\d+ ?[x*] ?.+)|(\d{1,4}) +([a-z].+)")
#: "H100 x8", "h100:8", "H100 (8x)", "h100-8x".
_BEHIND = re.compile(r"(.+?) ?(?:[x*]|(?<=\w):) ?(\d{1,4})|(.+?)[ -]?\(?(?:(?<=\()x(\d{1,4})|(?<=[( -])(\d{1,4})x)\)?")
#: "HGX B200 8-GPU", "H100, 4 GPUs".
_GPUS = re.compile(r"(.+?)[ ,-]+(\d{1,4})[ -]?(?:gpu|npu|card)s?")
#: What may stand between the number of machines and that of their devices: "2 nodes of 8x H100".
_MACHINES = re.compile(r"^(?:nodes?|servers?|machines?|boxes|box|hosts?|systems?)(?: (?:of|with))? +")


class Counted(NamedTuple):
    """A name without the number that it said. of_devices, of_machines: whether it is said to be one of these."""

    name: str
    number: int
    of_devices: bool = False
    of_machines: bool = False


def counted(text: str) -> list[Counted]:
    """Return the readings of a name that says how many there are, likeliest first; [] where it says none.

    >>> [(c.name, c.number) for text in ("HGX H100 8-GPU", "8 H100s", "2x 8xH100") for c in counted(text)]
    [('hgx h100', 8), ('h100s', 8), ('h100', 8), ('8xh100', 2)]
    """
    plain = text.strip().lower()
    found: list[Counted] = []
    if front := _IN_FRONT.fullmatch(plain):
        count, name = front.group(1) or front.group(3), front.group(2) or front.group(4)
        each = _MACHINES.sub("", name, count=1)
        found += [Counted(part, int(count), of_machines=each != name) for part in _in_the_plural(each)]
    if behind := _BEHIND.fullmatch(plain):
        name, *counts = behind.group(1) or behind.group(3), behind.group(2), behind.group(4), behind.group(5)
        found.append(Counted(name.rstrip(" (-"), int(next(filter(None, counts)))))
    if gpus := _GPUS.fullmatch(plain):
        found.append(Counted(gpus.group(1), int(gpus.group(2)), of_devices=True))
    return found


def _in_the_plural(name: str) -> list[str]:
    """Return a name, and its singular where it may be a plural ("h100s"); "l40s" is a name as it stands."""
    return [name, name.removesuffix("s")] if name.endswith("s") else [name]
