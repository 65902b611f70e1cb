"""Read names of the Ollama library: a family, and a tag that says size, training and format ("devstral:24b-q4_K_M").

`[tags]` in `name_words.toml` has the checkpoints that families and tags stand for. A tag is read from the longest part
that is listed there; what is left may only say how the checkpoint was trained or stored, or repeat words of its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from perfmodel.models.checkpoint_name import HARMLESS, TAGS, Parts, parts_of, without_publisher
from perfmodel.models.format_suffix import gguf_type, is_format_word
from perfmodel.models.resolver import Reading

#: What a copy without refusals adds to the name of a family; its shape is that of the family.
_RETRAINED = re.compile(r"-(?:abliterated|uncensored)$")
#: Sizes from here on are printed without decimals, in billions of parameters.
_WHOLE = 10.0


def tagged(name: str, billions: Callable[[str], float]) -> Reading | None:
    """Return how a name of the Ollama library is read; None for other names.

    billions: parameters of a checkpoint in billions, by its name.
    """
    family, _, tag = without_publisher(name.lower()).removeprefix("ollama/").removeprefix("library/").partition(":")
    family = family.strip().replace(" ", "-")
    if tag:  # a copy of some user: "huihui_ai/qwen3-abliterated:32b"
        family = _RETRAINED.sub("", family.rpartition("/")[2])
    words = [word for word in re.split(r"[-_]", _joined(tag)) if word and word != "latest"]
    if len(words) > len(set(words)):  # no tag says a thing twice ("llama3:8b-8b")
        return None
    for length in range(len(words), -1, -1):
        known = TAGS.get(":".join([family, "-".join(words[:length])]) if length else family)
        if known and _explained(words[length:], known, billions):
            return Reading(known=known, stored=parts_of(tag).stored)
    return None


def _joined(tag: str) -> str:
    """Return a tag without its quantisation type of llama.cpp, whose "_" would part it."""
    return gguf_type(tag)[0]


def _explained(words: list[str], known: str, billions: Callable[[str], float]) -> bool:
    """Return whether words of a tag say nothing but format, training, the size and words of a checkpoint."""
    own = parts_of(known.partition("/")[2].lower())
    mine = set(re.split(r"[^a-z0-9.]+", known.lower()))
    return all(w in HARMLESS or w in mine or is_format_word(w) or _is_size(w, own, known, billions) for w in words)


def _is_size(word: str, own: Parts, known: str, billions: Callable[[str], float]) -> bool:
    """Return whether a word is the size of a checkpoint: as its name prints it, else its count, rounded."""
    size = parts_of(word).size
    if size != size:
        return False
    return (
        size == own.size if own.size == own.size else abs(size - billions(known)) <= (0.5 if size >= _WHOLE else 0.05)
    )
