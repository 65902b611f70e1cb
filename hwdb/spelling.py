"""Find the device that a name means, in the spellings of people, drivers and clouds.

"RTX 4090", "4090" and "NVIDIA GeForce RTX 4090" mean one device, and so does what nvidia-smi prints. Makers and brands
are dropped; what is left has to be the whole name of a device. The size of memory is part of the identity: "RTX 4090
48GB" is no RTX 4090. Where a name fits several forms of a device, the module that clouds rent is meant; where it fits
devices with different memory, it is refused with the few that it may mean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hwdb.counts import Counted, counted
from hwdb.errors import InputError, SeveralDevices, nearest
from hwdb.tomlfile import Table, read_toml

_TABLE = Path(__file__).parent / "names" / "spellings.toml"
_SEPARATORS = re.compile(r"[^a-z0-9+.]+|\.(?!\d)")
_MEMORY = re.compile(r"(\d+)(?:gb|gib|g)")
_MEMORY_TYPE = re.compile(r"(?:hbm|gddr|lpddr)\d\w?")
#: Cores, also in brackets, and what /proc/cpuinfo prints around the name of a processor: generation and clock.
_CORES = re.compile(r"\(\d+-core[^)]*\)|\d+-core\b(?: cpu\b)?|\bcpu @ [\d.]+ ?ghz|\b\d+(?:st|nd|rd|th) gen\b")
#: Slices of TPUs: chips, or for v4 and v5p two TensorCores a chip (Google Cloud TPU documentation).
_SLICE = re.compile(r"(?:tpu[ -]?)?(v4|v5p|v5e|v5litepod|v6e|tpu7x)-(\d{1,5})")
_OF_CORES = ("v4", "v5p")
#: What Apple calls the computers that hold a chip.
_COMPUTERS = re.compile(r"^(?:apple[ -]?)?(?:macbook[ -]?(?:pro|air)|mac[ -]?(?:mini|studio|pro)|imac)[ -]+(?=m\d)")
#: A slice of a device that NVIDIA's MIG cuts off: "H100 3g.40gb", "MIG-1g.10gb".
_MIG = re.compile(r"\bmig\b|\b\d+g\.\d+gb\b")
#: A size of memory without its unit, at the end: "A100-80".
_BARE_SIZE = re.compile(r"(.*[a-z].*)[-_ ](\d{2,3})")
#: Letters of a family and the number of its generation: "m4", "mi355x", "v5e".
_GENERATION = re.compile(r"\b([a-z]+)(\d+)")
#: Characters from which on a word of a name tells a device, or a family.
_TELLS = 4
#: Characters of the longest text that is compared with names of devices; searches take more than its length.
_LONGEST = 200

#: (sizes of memory that are printed for a device, in GB; type of memory), by its name.
MemoryOf = Callable[[str], tuple[frozenset[int], str]]
#: (device, how many of them) of the node or type of cloud instance that a name means, None where it means none.
MachineOf = Callable[[str], tuple[str, int] | None]


@dataclass(frozen=True)
class Spelling:
    """A name of a device, taken apart.

    core: its words without separators. forms: words in `forms` that it has. memory: GB, 0 where the name has none.
    memory_type: "hbm3", or "".
    """

    core: str
    forms: frozenset[str] = frozenset()
    memory: int = 0
    memory_type: str = ""


@dataclass(frozen=True)
class _Words:
    """The contents of `spellings.toml`."""

    noise: frozenset[str]
    brands: tuple[str, ...]
    forms: tuple[str, ...]
    words: dict[str, str]
    aliases: dict[str, str]
    several: dict[str, tuple[str, ...]]
    machines: frozenset[str]


@cache
def _words() -> _Words:
    """Read `spellings.toml`, once."""
    top = read_toml(_TABLE, "spellings of devices")
    words, aliases, several = top.table("words"), top.table("aliases"), top.table("several")
    noise = frozenset(top.texts("noise"))
    return _Words(
        noise=noise,
        brands=top.texts("brands"),
        forms=top.texts("forms"),
        words={key: words.text(key) for key in words.values},
        aliases={form: _alias(aliases.table(key)) for key in aliases.values for form in _plain(key, noise)},
        several={form: several.texts(key) for key in several.values for form in _plain(key, noise)},
        machines=frozenset(top.texts("machines")),
    )


def _alias(entry: Table) -> str:
    """Return the device of an entry of `[aliases]`; its source is for the reader of the file."""
    entry.text("source")
    return entry.text("device")


def _plain(text: str, noise: frozenset[str]) -> tuple[str, str]:
    """Return the letters and digits of a name, with all of its words and without those that tell nothing apart."""
    return _squashed(text), _squashed("".join(w for w in _SEPARATORS.split(text.lower()) if w not in noise))


def _squashed(text: str) -> str:
    """Return the letters and digits of a text, in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def same_name(text: str, names: Iterable[str]) -> str:
    """Return the one of `names` that has the letters and digits of `text`, brands left out; "" for none.

    >>> same_name("NVIDIA GB200 NVL72", ["dgx-h100", "gb200-nvl72"])
    'gb200-nvl72'
    """
    asked = set(_plain(text, _words().noise)) - {""}
    return next((name for name in names if _squashed(name) in asked), "")


def plain_signs(text: str) -> str:
    r"""Return a text with plain signs for letters and digits of full width, and "x" for the sign of multiplication.

    >>> plain_signs("\uff34\uff14"), plain_signs("8\u00d7H100")
    ('T4', '8xH100')
    """
    return unicodedata.normalize("NFKC", text).replace("\u00d7", "x")


def taken_apart(text: str) -> Spelling:
    """Take the name of a device apart.

    >>> taken_apart("NVIDIA A100-SXM4-80GB")
    Spelling(core='a100', forms=frozenset({'sxm'}), memory=80, memory_type='')
    """
    known = _words()
    core, forms, memory, kind = [], set(), 0, ""
    plain = _CORES.sub(" ", re.sub(r"\((?:r|tm|c)\)", " ", text.lower()))
    for chunk in (part for written in _SEPARATORS.split(plain) for part in _form_apart(written)):
        word = known.words.get(chunk, chunk)
        size = _MEMORY.fullmatch(word)
        if size:
            memory = int(size.group(1))
        elif _MEMORY_TYPE.fullmatch(word):
            kind = word
        elif word in known.forms:
            forms.add(word)
        elif word not in known.noise:
            core.append(word.replace("+", "p"))
    return Spelling("".join(core), frozenset(forms), memory, kind)


def _form_apart(word: str) -> tuple[str, ...]:
    """Split a form from the end of a word: "h100sxm5" into "h100", "sxm5"."""
    known = _words()
    ends = [e for e in (*known.forms, *(w for w, f in known.words.items() if f in known.forms)) if word.endswith(e)]
    end = max(ends, key=len, default="")
    return (word.removesuffix(end), end) if end and len(word) > len(end) else (word,)


class Spellings:
    """The names of a hardware database, ready to find devices by other spellings."""

    def __init__(
        self, names: Iterable[str], memory_of: MemoryOf, machine_of: MachineOf, nodes: Iterable[str] = ()
    ) -> None:
        self._known = {name: taken_apart(name) for name in names}
        self._nodes = list(nodes)
        self._memory_of = memory_of
        self._machine_of = machine_of

    def find(self, text: str) -> str:
        """Return the name of the device that `text` means, "" where it means none.

        Raises `InputError` with the devices that it may mean where they differ in memory or are no one module.
        """
        if len(text) > _LONGEST:
            return ""
        text = plain_signs(text)
        text = _COMPUTERS.sub("", text.strip().lower()) if _COMPUTERS.match(text.strip().lower()) else text
        alias = self._alias(text)
        if alias:
            return alias
        asked = taken_apart(text)
        fitting = [name for name, own in self._known.items() if self._fits(name, own, asked)]
        if len(fitting) > 1:
            return self._usual(text, fitting)
        if fitting:
            return fitting[0]
        sized = _BARE_SIZE.fullmatch(text.strip().lower())
        return (self.find(f"{sized.group(1)} {sized.group(2)}gb") if sized else "") or self._of_several(text)

    def _alias(self, text: str) -> str:
        """Return the device of a name in `[aliases]`, "" where there is none; names in `[several]` are refused.

        A size of memory may stand behind those of several devices ("RTX PRO 6000 96GB").
        """
        known = _words()
        without_memory = " ".join(w for w in _SEPARATORS.split(text.lower()) if not _MEMORY.fullmatch(w))
        for form in _plain(text, known.noise):
            if known.aliases.get(form) in self._known:
                return known.aliases[form]
        for form in (*_plain(text, known.noise), *_plain(without_memory, known.noise)):
            if form in known.several:
                raise self._ambiguous(text, [name for name in known.several[form] if name in self._known])
        return ""

    def near(self, text: str, most: int = 4) -> list[str]:
        """Return devices that a name may mean which means none: the same in another size, with a word in common.

        First come names with all of its words in any order, nodes too ("6000 Pro", "NVL72"), then those with a word
        that has a digit ("Core Ultra 7 258V", "RTX 6000"), the nearest generations ("M5"), then words of names
        ("EPYC 7763", "Orin").
        """
        if len(text) > _LONGEST:
            return []
        text = _COMPUTERS.sub("", text.strip().lower())
        asked = taken_apart(text)
        found = [name for name, own in self._known.items() if asked.core and asked.core in _cores(own.core)]
        found = found or self._with_all_words(text)
        words = [w for w in _SEPARATORS.split(text) if len(w) >= _TELLS and not _MEMORY.fullmatch(w)]
        telling = [w for w in words if any(c.isdigit() for c in w)]
        ends = [n for w in telling for n, own in self._known.items() if _holds(own.core, w)]
        if not (found or ends) and (generations := self._generations(text)):
            return generations[:most]
        kin = [name for w in words if w.isalpha() for name in self._known if w in name.split("-")]
        return nearest(text, found or ends or kin, most) or list(dict.fromkeys(found or ends or kin))[:most]

    def _with_all_words(self, text: str) -> list[str]:
        """Return the devices and nodes that have all words of a name, in any order; one word has to tell a device."""
        words = {w for w in _SEPARATORS.split(text) if w and w not in _words().noise}
        if not any(len(w) >= _TELLS and any(c.isdigit() for c in w) for w in words):
            return []
        return [name for name in (*self._known, *self._nodes) if words <= set(name.split("-"))]

    def _generations(self, text: str) -> list[str]:
        """Return the devices of the family that a name has, nearest generation first ("M5": m4, m4-max, ...).

        A family is the letters before the first number of a name, a generation is that number.
        """
        asked = _generation(text)
        own = {name: _generation(name) for name in self._known if asked is not None}
        apart = {n: abs(own_n[1] - asked[1]) for n, own_n in own.items() if asked and own_n and own_n[0] == asked[0]}
        return sorted(apart, key=lambda name: (apart[name], not text.endswith(name.split("-")[-1]), len(name)))

    def _of_several(self, text: str) -> str:
        """Return ""; raise `SeveralDevices` where a name says how many devices there are: "8x H100", "2x DGX H100"."""
        slice_ = _SLICE.fullmatch(text.strip().lower())
        if slice_:
            generation, number = slice_.group(1).removeprefix("tpu"), int(slice_.group(2))
            chips, rest = divmod(number, 2 if generation in _OF_CORES else 1)
            device = self.find(f"tpu {generation.replace('v5litepod', 'v5e')}")
            raise _several(text, SeveralDevices(text, device, 0 if rest else chips))
        for part in counted(text):
            each = self._each(text, part)
            if each is not None:
                raise _several(text, SeveralDevices(text, each.device, part.number * each.count, each.machine))
        return ""

    def _each(self, text: str, part: Counted) -> SeveralDevices | None:
        """Return what each of those is that the name `text` counts: a machine, a device; None for neither.

        Raises `InputError` for machines that may hold four devices or eight.
        """
        name = part.name
        machine = None if part.of_devices else self._machine_of(name)
        if machine is not None:
            return SeveralDevices(text, *machine, machine=name)
        try:
            device = self.find(name)
        except SeveralDevices as several:
            return several
        named = not self._alias(name) and _words().machines & set(_SEPARATORS.split(name))
        if device and not part.of_devices and (part.of_machines or named):
            raise InputError(
                f"device {text!r} does not say how many {device} each machine holds; give {device} and how many there "
                f"are in all, as in {device}=16, or a node of `hw list --nodes`"
            )
        return SeveralDevices(text, device, 1) if device else None

    def _fits(self, name: str, own: Spelling, asked: Spelling) -> bool:
        """Return whether a device has the core, the forms, the memory and its type that a name asks for."""
        if not asked.core or asked.core not in _cores(own.core) or not asked.forms <= self._forms_of(own):
            return False
        if asked.memory and asked.memory != own.memory and (own.memory or asked.memory not in self._memory_of(name)[0]):
            return False
        kind = self._memory_of(name)[1].lower() if asked.memory_type else ""
        return not kind or asked.memory_type in kind.split()[0] or kind.split()[0] in asked.memory_type

    def _forms_of(self, own: Spelling) -> frozenset[str]:
        """Return the forms that may stand behind the name of a device: its own; any where no sibling has one."""
        told_apart = any(other.forms for other in self._known.values() if other.core == own.core)
        return own.forms if told_apart else frozenset(_words().forms)

    def _usual(self, text: str, fitting: list[str]) -> str:
        """Return the one of several devices that a name usually means: the only one of their first form."""
        exact = [name for name in fitting if not self._known[name].forms and not self._known[name].memory]
        if len(exact) == 1:
            return exact[0]
        for form in _words().forms:
            of_form = [name for name in fitting if form in self._known[name].forms]
            if len(of_form) == 1:
                return of_form[0]
            if of_form:
                break
        raise self._ambiguous(text, fitting)

    def _ambiguous(self, text: str, fitting: list[str]) -> InputError:
        """Return the error for a name that fits several devices, and maybe nodes, to be raised by the caller."""
        machine = _words().machines & set(_SEPARATORS.split(text.lower()))
        nodes = [name for name in self._with_all_words(text.lower()) if machine and name in self._nodes]
        whole = f", or the whole nodes {', '.join(sorted(nodes))}" if nodes else ""
        return InputError(f"device {text!r} may mean {', '.join(sorted(fitting))}{whole}; give one of these names")


def _several(text: str, several: SeveralDevices) -> InputError:
    """Return the error for a name that says how many devices there are, to be raised; 0 is no whole number of them."""
    if not several.count:
        return InputError(f"device {text!r} is no whole number of {several.device} above 0; give {several.device}")
    return several


def slice_hint(text: str) -> str:
    """Return how a slice that MIG cuts off a device is described; "" for a name that asks for none.

    >>> bool(slice_hint("H100 3g.40gb")), slice_hint("h100")
    (True, '')
    """
    if not _MIG.search(text.lower()):
        return ""
    return (
        '(a MIG slice is described in a file of your own: like = "h100-sxm", and its share of peaks, memory, '
        "bandwidth and power; --hwdb DIR, folders in [hardware])"
    )


def _generation(name: str) -> tuple[str, int] | None:
    """Return the family and the generation of a name, None where it has no letters before a number.

    >>> _generation("tpu-v5e"), _generation("rtx-4090")
    (('v', 5), None)
    """
    found = _GENERATION.search(name)
    return (found[1], int(found[2])) if found else None


def _holds(core: str, word: str) -> bool:
    """Return whether a core begins or ends with a word, or has a number as a whole ("6000" in "rtx6000ada")."""
    number = word.isdigit() and re.search(rf"(?<!\d){word}(?!\d)", core)
    return bool(number) or core.startswith(word) or core.endswith(word)


def _cores(core: str) -> set[str]:
    """Return the core of a known name with and without the brands that it begins with, while a number is left.

    >>> sorted(_cores("rtx4090"))
    ['4090', 'rtx4090']
    """
    found = {core}
    for _ in range(2):
        for brand in _words().brands:
            found |= {c.removeprefix(brand) for c in found if c.startswith(brand) and _telling(c.removeprefix(brand))}
    return found


def _telling(rest: str) -> bool:
    """Return whether what is left of a name without its brand still tells a device: three characters and a digit.

    Three digits alone do not: "100" may be an A100, an H100 or an MI100.
    """
    return len(rest) >= (4 if rest.isdigit() else 3) and any(c.isdigit() for c in rest)
