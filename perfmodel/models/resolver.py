"""Find the known model that the name of a checkpoint belongs to, and the format in which it is stored by its name.

Publishers of quantised copies and fine-tunes put the name of the base into theirs, with what they changed behind it. A
name belongs to a known one where family, version and size agree; what is left over may only say how a model was trained
or stored. A size or a version is never rounded or guessed, so that invented names are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from perfmodel.models.checkpoint_name import (
    CLOUD_PUBLISHERS,
    PURPOSE,
    SHAPES,
    Parts,
    in_order,
    is_number,
    leaf_and_publisher,
    merged,
    of_later_generation,
    parts_of,
    squashed,
)
from perfmodel.models.format_suffix import Suffix
from perfmodel.models.spec import UNQUANTISED

#: Largest relative difference of a size in a name from the published count of a model whose own name has no size: BLOOM
#: has 176 billion parameters and is also called 175B.
_SAME_COUNT = 0.01
#: Accuracy targets that MLPerf Inference appends to names ("llama2-70b-99.9").
_TARGETS = ("99", "99.9")
#: Words that say that a model reads images or sound.
_ENCODERS = frozenset(("vl", "vision", "omni", "multimodal"))

#: A version whose point is left out: "llama31-70b".
_NO_POINT = re.compile(r"(?<=[a-z])[-_ ]?([1-9])([1-9])(?=[-_ ])")
#: A "_" in front of a size that is no point in it: "Llama_3_8B".
_PARTING = re.compile(r"(?<=\d)_(?=\d+[bm](?![a-z\d]))")

#: Published counts of a known name: (total, active) parameters, NaN where unknown.
Counts = Callable[[str], tuple[float, float]]


@dataclass(frozen=True)
class Known:
    """A name of the catalogue, taken apart. core: its words with neighbours joined (`merged`)."""

    name: str
    parts: Parts
    core: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How a name was read.

    known: the name of the catalogue whose shape it has. stored: the format in the name, empty where the known name has
    that format already. context: tokens that the name says, 0 where it says none. encoders: whether
    the name says that the model has encoders, which the known name does not say. plain: where the known name is that of
    a quantised copy, the one in 16 bits that is nearest, whose context counts; else "".
    """

    known: str
    stored: Suffix
    context: int = 0
    encoders: bool = False
    plain: str = ""


@dataclass(frozen=True)
class _Match:
    """A known name that fits, with the positions of the core that are left over.

    early: the name asked for has no version, and the known one has.
    """

    known: Known
    left: tuple[int, ...]
    early: bool = False

    @property
    def length(self) -> int:
        """Return how many words and versions of the known name stand in the name asked for."""
        return len(self.known.core) - self.early


class Resolver:
    """Finds known names for names that people type. names: those of the catalogue. counts: their published counts."""

    def __init__(self, names: Iterable[str], counts: Counts) -> None:
        self._counts = counts
        self._known = [self._take_apart(name) for name in names]
        self._owners = {known.parts.publisher for known in self._known} - {""}
        self._family_versions = {known.core[:2] for known in self._known}
        self._spelled: dict[str, list[Known]] = {}
        for known in self._known:
            leaf = leaf_and_publisher(known.name)[0]
            for spelling in (squashed(leaf), "=" + leaf.replace("-", "")):  # "=": of a name without hyphens ("qwen38b")
                self._spelled.setdefault(spelling, []).append(known)
        #: Families whose version a name may leave out. A name without version means the first generation that has the
        #: size ("LLaMA 70B" is Llama 2).
        self._versionless = {k.core[0] for k in self._known if self._may_lack_version(k)}

    def _may_lack_version(self, known: Known) -> bool:
        """Return whether names of the family may lack the version.

        They may where a generation has none (LLaMA, Gemma), where versions are releases of one generation (Mistral
        v0.1), and where the family has one version that is no generation (BitNet b1.58).
        """
        if len(known.core) != 2:
            return len(known.core) == 1
        family, version = known.core
        alone = all(k.core == known.core for k in self._known if k.core[0] == family)
        return version.startswith("0.") or (alone and version[0].isalpha() and is_number(version))

    def _take_apart(self, name: str) -> Known:
        leaf, publisher, _ = leaf_and_publisher(name)
        parts = parts_of(leaf, publisher)
        return Known(name=name, parts=parts, core=merged(parts.core))

    def find(self, name: str) -> Reading | None:
        """Return how `name` is read; None where no known name fits, or several of different shape do."""
        leaf, publisher, before = leaf_and_publisher(name)
        found = self._found(leaf, publisher, before)
        for other in (_NO_POINT.sub(r"-\1.\2", leaf), _PARTING.sub("-", leaf)):
            found = self._found(other, publisher, before) if found is None and other != leaf else found
        owner, _, rest = leaf.partition("_")  # a copy called "owner_NAME" is of that owner where it made known models
        if found is None and rest and owner in self._owners:
            return self._found(rest, owner, "")
        owner, _, rest = leaf.partition(".")  # a cloud's "owner.NAME"
        return self._found(rest, owner, "") if found is None and rest and owner in CLOUD_PUBLISHERS else found

    def _found(self, leaf: str, publisher: str, before: str) -> Reading | None:
        """Return how a name in its parts is read, as `leaf_and_publisher` gives them; or None."""
        spelled = self._spelled.get(squashed(leaf)) or self._spelled.get(f"={leaf}", [])
        same = [k for k in spelled if k.parts.publisher == publisher]
        same = same or [k for k in spelled if not publisher or _unquantised(k.parts.stored)]
        if same:
            return Reading(known=same[0].name, stored=Suffix())
        return self._read(parts_of(leaf, publisher)) or (self._with_folder(leaf, before) if before else None)

    def family(self, name: str) -> list[str]:
        """Return the known names of the family, and if possible the version, that `name` begins with; may be empty."""
        leaf, _, before = leaf_and_publisher(name)
        found: list[str] = []
        for text in (leaf, f"{before}-{leaf}"):
            parts = parts_of(text)
            for length in (2, 1):
                long = [k for k in self._known if len(k.core) >= length]
                found = found or [k.name for k in long if _position(k.core[:length], parts.core) is not None]
        return found

    def _with_folder(self, leaf: str, before: str) -> Reading | None:
        """Read a name of which the slash parts more than the publisher: "Llama-3.1/8B", "DeepSeek-V3/R1".

        In the second form both names have to be of one shape; the last one is taken. A folder whose words the last part
        repeats, or that is a publisher, is no part of the name ("Qwen/Qwen3.4-32B", "Qwen/Mathis1.5-7B").
        """
        words = {word for word in parts_of(leaf).core if not is_number(word)}
        if set(parts_of(before).core) & set(parts_of(leaf).core) or (words and before in self._owners):
            return None
        joined = self._read(parts_of(f"{before}-{leaf}"))
        if joined:
            return joined
        stem = before.rpartition("-")[0]
        one, other = self._read(parts_of(before)), self._read(parts_of(f"{stem}-{leaf}")) if stem else None
        return other if one and other else None

    def _read(self, asked: Parts) -> Reading | None:
        """Return how the parts of a name are read, or None.

        Known names that have most words in common come first; where the size in the name is none of theirs, those with
        fewer do (Llama-3.1-Tulu-3-405B, where Tulu 3 is known in other sizes), if they have a version.
        """
        matches = [m for m in (self._match(k, asked) for k in self._known) if m]
        lengths = sorted({m.length for m in matches}, reverse=True)
        for length in lengths if asked.sized else lengths[:1]:
            of_length = [m for m in matches if m.length == length]
            if length < lengths[0]:
                of_length = [m for m in of_length if not m.early and any(map(is_number, m.known.core))]
            fitting = self._fitting(of_length, asked)
            if fitting:
                return self._nearest(fitting, asked)
        within = self._within(asked)
        return self._nearest(within, asked) if within else None

    def _nearest(self, matches: list[_Match], asked: Parts) -> Reading:
        """Return the reading of the nearest of the matches that a name may mean."""
        plain = [m for m in matches if _unquantised(m.known.parts.stored)]
        owners = {m.known.parts.publisher for m in plain}

        def distance(match: _Match) -> tuple[object, ...]:
            """Return how far a match is from the name asked for."""
            return _distance(match, asked, owners)

        nearest = min(matches, key=distance)
        # Qwen3-30B-A3B-Instruct-2507-FP8 is stored as Qwen3-30B-A3B-FP8 is, and has the context of its own name
        like = min(plain, key=distance).known.name if plain and nearest not in plain else ""
        return replace(self._reading(nearest, asked), plain=like)

    def _within(self, asked: Parts) -> list[_Match]:
        """Return known names of the size asked for that have all its words and some more ("Nemotron Ultra 253B").

        Words that mean another shape have to be the same; none where models of several counts fit, or where a publisher
        stands in front, whose names are whole.
        """
        words = [word for word in asked.core if not is_number(word)]
        if not words or asked.size != asked.size or asked.publisher:
            return []
        fitting = [
            known
            for known in self._known
            if known.parts.size == asked.size and in_order(asked.core, known.parts.core) and _alike(known.parts, asked)
        ]
        fitting = [known for known in fitting if not of_later_generation(known.parts.core, asked.core)]
        fitting = [known for known in fitting if self._sizes_fit(known, asked) and _date_fits(known.parts, asked)]
        counts = {self._counts(known.name)[0] for known in fitting}
        return [_Match(known, ()) for known in fitting] if len(counts) == 1 else []

    def _fitting(self, matches: list[_Match], asked: Parts) -> list[_Match]:
        """Return those of the matches of one length that the name asked for means; none where their shapes differ."""
        matches = self._named_by_size(matches)
        matches = [m for m in matches if not self._contradicts(m, asked)]
        if any(not m.early for m in matches):
            matches = [m for m in matches if not m.early]
        elif matches:
            first = min(_version(m.known) for m in matches)
            matches = [m for m in matches if _version(m.known) == first]
        if not asked.sized and len({_shape(m.known) for m in matches}) > 1:
            matches = [m for m in matches if _is_whole(m, asked)]
        return [] if not asked.sized and len({_shape(m.known) for m in matches}) > 1 else matches

    def _match(self, known: Known, asked: Parts) -> _Match | None:
        """Return the match of a known core in the core asked for; sizes are checked later."""
        core, early = known.core, False
        span = _position(core, asked.core)
        if span is None and len(core) == 2 and is_number(core[1]) and core[0] in self._versionless:
            core, early = core[:1], True
            span = _position(core, asked.core)
        if span is None:
            return None
        return _Match(known, tuple(i for i in range(len(asked.core)) if not span[0] <= i < span[1]), early)

    def _contradicts(self, match: _Match, asked: Parts) -> bool:
        """Return whether sizes, dates or words of the name speak against a match, or another version of the family."""
        later = [asked.core[i] for i in match.left if i not in asked.late | asked.trained]
        if match.length == 1 and any((match.known.core[0], word) in self._family_versions for word in later):
            return True  # Granite-Speech-3.3-8B is a Granite 3.3
        return not (
            self._sizes_fit(match.known, asked) and _date_fits(match.known.parts, asked) and _rest_fits(match, asked)
        )

    def _named_by_size(self, matches: list[_Match]) -> list[_Match]:
        """Leave out known names without a size where another name of the same core and count has one, which decides."""
        sizes = {(_purposes(m.known), m.known.parts.size) for m in matches if m.known.parts.sized}
        if not sizes:
            return matches

        def repeats(known: Known) -> bool:
            """Return whether a known name without a size is that of a model whose size another known name gives."""
            own = {size for alike, size in sizes if alike == _purposes(known)}
            return bool(own) and any(_same_count(size, self._counts(known.name)[0]) for size in own)

        return [m for m in matches if m.known.parts.sized or not repeats(m.known)]

    def _sizes_fit(self, known: Known, asked: Parts) -> bool:
        """Return whether every size in the name asked for is that of the known model."""
        own = known.parts
        if asked.mixture and asked.mixture != own.mixture:
            return False
        if asked.experts and asked.experts != own.experts:
            return False
        if asked.size == asked.size and asked.size != own.size:
            stands_for_total = (own.size != own.size and not (own.plain ^ asked.plain) & PURPOSE) or bool(own.experts)
            if not stands_for_total or not _same_count(asked.size, self._counts(known.name)[0]):
                return False
        if asked.active == asked.active and asked.active != own.active:
            return own.active != own.active and _same_count(asked.active, self._counts(known.name)[1])
        return True

    def _reading(self, match: _Match, asked: Parts) -> Reading:
        """Return the reading of the best match: the format, context and encoders that differ from the known name."""
        own = match.known.parts
        same = asked.stored == own.stored
        context = asked.context if asked.context != own.context else 0
        return Reading(
            known=match.known.name,
            stored=Suffix() if same else asked.stored,
            context=context,
            encoders=bool((asked.plain - own.plain) & _ENCODERS),
        )


def _alike(own: Parts, asked: Parts) -> bool:
    """Return whether two names have the same words for shapes, and the known one all purposes of the other."""
    return SHAPES & {*own.core} == SHAPES & {*asked.core} and not (asked.plain & PURPOSE) - own.plain


def _position(core: tuple[str, ...], words: list[str]) -> tuple[int, int] | None:
    """Return (first, past the last) position of `core` in `words`, whose neighbouring words may be joined; or None."""
    for start in range(len(words)):
        at = start
        for segment in core:
            text = ""
            while at < len(words) and len(text) < len(segment) and segment.startswith(text + words[at]):
                text += words[at]
                at += 1
            if text != segment:
                break
        else:
            return start, at
    return None


def _same_count(printed: float, count: float) -> bool:
    """Return whether a printed size (billions) is the published count of parameters: to its last digit, or 1 %."""
    billions = count / 1e9
    last_digit = 100.0 if printed >= 1000.0 else 1.0 if printed == int(printed) else 0.1  # 1T stands for 1.03T
    return abs(printed - billions) <= max(_SAME_COUNT * billions, last_digit) if billions == billions else False


def _date_fits(own: Parts, asked: Parts) -> bool:
    """Return whether dates agree: one of two, or both with a size in the known name, which then decides."""
    return not (own.date and asked.date) or own.date == asked.date or (own.sized and asked.sized)


def _rest_fits(match: _Match, asked: Parts) -> bool:
    """Return whether the words that are left over only name a fine-tune.

    That takes a size in both names, no word that means another shape, and no number but as the version of such a word.
    A number right behind the known name is a version of that (Ling-2.5-1T is no Ling-1T, Falcon-H1 no Falcon), and so
    is a letter or a purpose where the known name's version was left out (Falcon-E, Granite-3B-Code).
    """
    own = match.known.parts
    identified = asked.sized and own.sized
    left = [i for i in match.left if i not in asked.late and asked.core[i] not in _TARGETS]
    left = left if match.early else [i for i in left if i not in asked.trained]
    words = [i for i in left if not is_number(asked.core[i])]
    if (asked.plain & PURPOSE) - own.plain and (match.early or not identified):
        return False
    if any(asked.core[i] in SHAPES for i in words) or (left and not identified):
        return False
    if match.early and any(len(asked.core[i]) == 1 for i in words):
        return False
    return all(i - 1 in left for i in left if is_number(asked.core[i]))


def _purposes(known: Known) -> tuple[object, ...]:
    """Return the core of a known name and the words of its purpose: Qwen3-Coder-Next is not Qwen3-Next."""
    return known.core, frozenset(known.parts.plain & PURPOSE)


def _is_whole(match: _Match, asked: Parts) -> bool:
    """Return whether a name without size is that of a known model without size, in all its words but of the format."""
    own = match.known.parts
    same = (own.plain & PURPOSE) == (asked.plain & PURPOSE)
    return same and not own.sized and not match.left and not match.early


def _version(known: Known) -> tuple[float, ...]:
    """Return the version of a known name, to find the earliest; one without a version is the earliest of all."""
    number = next((w for w in known.core[1:] if is_number(w)), "")
    return tuple(float(p) for p in number.split(".") if p.isdecimal())


def _shape(known: Known) -> tuple[object, ...]:
    """Return what tells shapes apart among known names of one core: their sizes."""
    own = known.parts
    size = own.size if own.size == own.size else -1.0
    return known.core, size, own.mixture, own.experts


def _distance(match: _Match, asked: Parts, owners: set[str]) -> tuple[object, ...]:
    """Return how far a known name is from the name asked for; the least is taken.

    A quantised copy only stands for names of its publisher, or for names without publisher where the publisher is one
    of `owners`, who publish the model itself: other copies differ in what they leave in 16 bits.
    """
    own = match.known.parts
    same_format = own.stored == asked.stored
    copy = same_format and (own.publisher == asked.publisher or (not asked.publisher and own.publisher in owners))
    return (
        bool((own.plain ^ asked.plain) & _ENCODERS),
        not (copy or _unquantised(own.stored)),
        not copy,
        own.publisher != asked.publisher,
        own.date != asked.date,
        len(own.plain ^ asked.plain),
        own.context != asked.context,
        len(match.known.name),
        match.known.name,
    )


def _unquantised(stored: Suffix) -> bool:
    """Return whether a known name has no quantised format in it."""
    return stored.weights in ("", *UNQUANTISED)
