"""Take the name of a checkpoint apart: publisher, family and version, sizes, date, storage format.

"RedHatAI/Qwen3-14B-FP8-dynamic" has the publisher "redhatai", the core [qwen, 3], the size 14 (billion) and the format
"fp8". Case does not matter, and "-", "_", ".", "/" and blanks all separate words; "llama3_1", "llama-3-1" and
"llama-v3p1" mean 3.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hwdb.tomlfile import read_toml
from perfmodel.arrays import NAN
from perfmodel.models.format_suffix import Suffix, gguf_type, is_format_word, suffix

_WORDS = read_toml(Path(__file__).with_name("name_words.toml"), "words in names")
#: Words that say nothing about the shape; those that say nothing where a size stands beside them; those that mean
#: another shape; those of draft models, which are such words too (`name_words.toml`).
HARMLESS, PURPOSE, _SHAPES, DRAFTS = (
    frozenset(_WORDS.texts(kind)) for kind in ("harmless", "purpose", "shapes", "drafts")
)
SHAPES = _SHAPES | DRAFTS
#: Families of models that are no decoders -> what they are.
OTHER = {name: _WORDS.table("other").text(name) for name in _WORDS.table("other").values}
#: Families of decoders whose layers are not modelled -> what they are.
UNMODELLED = {name: _WORDS.table("unmodelled").text(name) for name in _WORDS.table("unmodelled").values}
#: Families whose weights are not published -> who serves them.
CLOSED = {name: _WORDS.table("closed").text(name) for name in _WORDS.table("closed").values}
#: How clouds write the publisher in front of a name, with a dot ("mistral.mistral-large-2407").
CLOUD_PUBLISHERS = frozenset(_WORDS.texts("cloud_publishers"))
#: Names of another library -> the checkpoint that they stand for.
TAGS = {name: _WORDS.table("tags").text(name) for name in _WORDS.table("tags").values}
_DECODERS_ONLY = "; only models that write token after token (decoders) are estimated"
_BRACKETS = re.compile(r"\[[^\]]*\]|\([^)]*\)")
_PART_OF_FILES = re.compile(r"-\d{5}-of-\d{5}")
#: What clouds and hubs append: the revision of an address, the version of a deployment ("-v1:0", "-1:0", "@001").
_APPENDED = re.compile(r"\?.*$|-v?\d:\d$|@\d+$")
#: The region of an address of Amazon Bedrock ("us.deepseek.r1-v1:0"), and the version of a registry of Azure.
_REGION, _REGISTRY_VERSION = (
    re.compile(r"^(?:us|us-gov|eu|apac|au|ca|jp|global)\.(?=[a-z0-9]+\.)"),
    re.compile(r"/versions/\d+$"),
)
#: "Command R+" is called "command-r-plus" where the sign is not allowed.
_R_PLUS = re.compile(r"(?<=[-_ ]r)\+")
_DECIMAL = re.compile(
    r"(?<![\d.])(\d)[_-](\d)(?![\da-z.])|(?<![\d.])(\d)_(\d{1,2})(?![\da-z.])|(?<![\d.])(\d)p(\d)(?![\da-z.])"
)
#: A size whose point is written "_": "Qwen-1_8B", "stablelm-2-1_6b".
_SIZE_WITHOUT_POINT = re.compile(r"(?<=[-_ ])(\d)_(\d+[bm])(?![a-z\d])")
_SEPARATORS = re.compile(r"[-_/\s:+,@]+|(?<!\d)\.|\.(?!\d)")
#: What spellings of one name differ in. A separator between two numbers counts: Gemma-2-9B is no Gemma-29B.
_BETWEEN = re.compile(r"(?<!\d)[^a-z0-9.]+|[^a-z0-9.]+(?!\d)|(?<!\d)\.|\.(?!\d)")
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)[^a-z0-9.]+(?=\d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bmt])(\d)?")
_ACTIVE = re.compile(r"a(\d+(?:\.\d+)?)b")
_BOTH = re.compile(r"(\d+(?:\.\d+)?b)-?(a\d+(?:\.\d+)?b)")
_MIXTURE = re.compile(r"\d+x\d+(?:\.\d+)?b")
_EXPERTS = re.compile(r"\d+e")
_CONTEXT = re.compile(r"(\d+)k")
#: Contexts that names give in tokens ("llama3-70b-8192"), beside a size.
_TOKENS = tuple(str(2**power) for power in range(12, 21))
_DATE = re.compile(
    r"2[3-9](?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|202\d|202\d(?:0[1-9]|1[0-2])(?:\d\d)?"
)
_MONTH = re.compile(r"0[1-9]|1[0-2]")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_LETTERS_NUMBER = re.compile(r"([a-z]{2,}|v)((?:\d+(?:\.\d+)*)(?:x\d+)?[bmnt]?)")
#: Words on both sides of a number, without signs between: "qwen2.5vl", "phi4mini".
_WORD_NUMBER_WORD = re.compile(r"([a-z]{2,})(\d+(?:\.\d+)*)([a-z]{2,})")
_GLUED_VERSION = re.compile(r"v(\d.*)")
#: Publishers -> words that go without saying in their names.
_PUBLISHER_WORDS = {"mlx-community": ("mlx",)}
#: Version of the training behind a word for it: "Llama-3-8B-Instruct-v0.1".
_TRAINED = re.compile(r"[01]\.\d")
#: Factor of a printed size -> billions of parameters.
_BILLIONS = {"m": 1e-3, "b": 1.0, "t": 1e3}


@dataclass
class Parts:
    """What a name says.

    core: its words and version numbers in order, without those in `HARMLESS`. late: positions in `core` after the first
    word of the format; trained: those of versions of the training ("Instruct-v0.1"). plain: the words in `HARMLESS` and
    `PURPOSE`. size, active: billions of parameters as printed,
    NaN where the name has none. mixture, experts: "8x7b", "128e", or "". context: tokens, 0 where the name has none.
    """

    publisher: str = ""
    core: list[str] = field(default_factory=list)
    late: set[int] = field(default_factory=set)
    trained: set[int] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    size: float = NAN
    active: float = NAN
    mixture: str = ""
    experts: str = ""
    date: str = ""
    context: int = 0
    stored: Suffix = field(default_factory=Suffix)

    @property
    def sized(self) -> bool:
        """Return whether the name has a size."""
        return self.size == self.size or bool(self.mixture)


def leaf_and_publisher(name: str) -> tuple[str, str, str]:
    """Return (last part of a name or path, publisher, part before the last), in lower case, "" where there is none.

    >>> leaf_and_publisher("/workspace/DeepSeek-R1-0528")
    ('deepseek-r1-0528', '', 'workspace')
    """
    text = _BRACKETS.sub(_format_in, name.strip().lower().replace("\\", "/")).strip().rstrip("/")
    text = _R_PLUS.sub("-plus", _REGION.sub("", _REGISTRY_VERSION.sub("", text)))
    parts = [p for p in text.split("/") if p]
    cached = next((p for p in parts if p.startswith("models--")), "")  # the cache of Hugging Face's hub
    if cached:
        parts = cached.removeprefix("models--").split("--")
    if not parts:
        return "", "", ""
    leaf = _APPENDED.sub("", _PART_OF_FILES.sub("", parts[-1]))
    local = text.startswith(("/", ".", "~")) and not cached
    return leaf, parts[0] if len(parts) > 1 and not local else "", parts[-2] if len(parts) > 1 else ""


def without_publisher(name: str) -> str:
    """Return a name without what a cloud writes around it: region, publisher with a dot, version of the deployment.

    >>> without_publisher("us.cohere.command-r-plus-v1:0"), without_publisher("Qwen/Qwen3.5-9B")
    ('command-r-plus', 'Qwen/Qwen3.5-9B')
    """
    short = _APPENDED.sub("", _REGION.sub("", name.strip()))
    publisher, _, rest = short.partition(".")
    return rest if rest and publisher.lower() in CLOUD_PUBLISHERS else _R_PLUS.sub("-plus", name.strip())


def _format_in(brackets: re.Match[str]) -> str:
    """Return what counts of a remark in brackets: the format in it, such as "(AWQ)"; other remarks are dropped."""
    inside = brackets.group(0)[1:-1]
    return inside if gguf_type(inside)[1] or any(is_format_word(w) for w in _SEPARATORS.split(inside)) else ""


def parts_of(leaf: str, publisher: str = "") -> Parts:
    """Take the last part of a name apart.

    >>> parts = parts_of("qwen3-30b-a3b-instruct-2507-fp8")
    >>> parts.core, parts.size, parts.active, parts.date, parts.stored.weights
    (['qwen', '3'], 30.0, 3.0, '2507', 'fp8')
    """
    text, quant = gguf_type(leaf.lower())
    text = _SIZE_WITHOUT_POINT.sub(r"\1.\2", text)
    text = _DECIMAL.sub(lambda m: ".".join(g for g in m.groups() if g), text)
    words = [w for chunk in _SEPARATORS.split(text) if chunk for w in _split(chunk)]
    out = Parts(publisher=publisher, stored=suffix([*words, *_PUBLISHER_WORDS.get(publisher, ())], quant))
    seen_format = False
    for i, word in enumerate(words):
        if is_format_word(word):
            seen_format = True
        elif not _quantity(out, word, words[i + 1 : i + 2]):
            if _TRAINED.fullmatch(word) and i and words[i - 1] in HARMLESS:
                out.trained.add(len(out.core))
            _add(out, word, seen_format)
    return out


def _split(chunk: str) -> list[str]:
    """Split a chunk between separators into words and numbers: "llama3.1" into "llama", "3.1"; "v3" into "3"."""
    if is_format_word(chunk) or _EXPERTS.fullmatch(chunk):
        return [chunk]
    both = _BOTH.fullmatch(chunk)
    if both:
        return [both.group(1), both.group(2)]
    version = _GLUED_VERSION.fullmatch(chunk)
    if version:
        return _split(version.group(1))
    both_sides = _WORD_NUMBER_WORD.fullmatch(chunk)
    if both_sides and both_sides.group(3) in HARMLESS | PURPOSE | SHAPES:
        return [*both_sides.groups()]
    glued = _LETTERS_NUMBER.fullmatch(chunk)
    if glued:
        letters, rest = glued.groups()
        return [letters[:-1] if letters.endswith("v") and len(letters) > 2 else letters, rest]
    return [chunk]


def _quantity(out: Parts, word: str, following: list[str]) -> bool:
    """Store a word that is a size, a number of experts, a context or a date; return whether it is one."""
    size, active, context = _SIZE.fullmatch(word), _ACTIVE.fullmatch(word), _CONTEXT.fullmatch(word)
    if word == "1m" and (out.sized or any(_SIZE.fullmatch(w) for w in following)):
        out.context = 1024 * 1024  # Qwen2.5-7B-Instruct-1M, beside its size
    elif word in _TOKENS and out.sized:
        out.context = int(word)
    elif size and not out.sized:
        number = float(size.group(1)) + (float(size.group(3)) / 10.0 if size.group(3) else 0.0)
        out.size = number * _BILLIONS[size.group(2)]
    elif active:
        out.active = float(active.group(1))
    elif _MIXTURE.fullmatch(word):
        out.mixture = word
    elif _EXPERTS.fullmatch(word):
        out.experts = word
    elif context:
        thousands = int(context.group(1))
        out.context = thousands * (1024 if thousands & (thousands - 1) == 0 else 1000)
    elif _DATE.fullmatch(word) or (_MONTH.fullmatch(word) and any(_DATE.fullmatch(w) for w in following)):
        out.date = word
    else:
        return False
    return True


def _add(out: Parts, word: str, late: bool) -> None:
    """Add a word of the name that is no quantity and no part of its format."""
    if word in HARMLESS or word in PURPOSE:
        out.plain.add(word)
        return
    if late:
        out.late.add(len(out.core))
    out.core.append(word.removesuffix(".0") if _NUMBER.fullmatch(word) and "." in word else word)


def is_number(word: str) -> bool:
    """Return whether a word of a core is a version: a number, or one letter with a number ("r1", "k2.5")."""
    return bool(re.fullmatch(r"[a-z]?\d+(?:\.\d+)*[a-z]?", word))


def merged(core: list[str]) -> tuple[str, ...]:
    """Return a core with neighbouring words joined: ("gptoss",) of ["gpt", "oss"]; versions stay apart.

    >>> merged(["phi", "3", "mini"])
    ('phi', '3', 'mini')
    """
    out: list[str] = []
    for word in core:
        if out and not is_number(word) and not is_number(out[-1]):
            out[-1] += word
        else:
            out.append(word)
    return tuple(out)


def squashed(leaf: str) -> str:
    """Return the letters and digits of a name, and what parts its numbers: what spellings of one name have in common.

    >>> squashed("gemma-2_9b-it"), squashed("Llama-3.1-8B".lower())
    ('gemma2-9bit', 'llama3.1-8b')
    """
    return _BETWEEN.sub("", _BETWEEN_NUMBERS.sub("-", leaf))


def in_order(words: list[str], core: list[str]) -> bool:
    """Return whether all words of a name stand in the core of a known name, in that order."""
    rest = iter(core)
    return all(word in rest for word in words)


def of_later_generation(core: list[str], words: list[str]) -> bool:
    """Return whether a core has a version from 2 on right behind one of the words of a name without that version.

    ChatGLM-6B is no ChatGLM2-6B, whereas the first generation may leave out its version (Vicuna 13B is v1.5).
    """
    behind = [number for word, number in pairwise(core) if word in words and number not in words]
    return any(_NUMBER.fullmatch(number) and float(number.split(".")[0]) >= 2 for number in behind)


def is_draft(name: str) -> bool:
    """Return whether a name is that of a draft model for speculative decoding.

    >>> is_draft("RedHatAI/Qwen3-8B-speculator.eagle3"), is_draft("Qwen/Qwen3-8B")
    (True, False)
    """
    return bool(DRAFTS & set(parts_of(leaf_and_publisher(name)[0]).core))


def no_decoder(name: str) -> str:
    """Return why a name is that of no decoder; "" elsewhere.

    >>> no_decoder("openai/whisper-large-v3")
    'whisper is an encoder-decoder for speech; only models that write token after token (decoders) are estimated'
    """
    leaf = leaf_and_publisher(name)[0]
    other = next((family for family in OTHER if _of_family(family, leaf)), "")
    return f"{other} is {OTHER[other]}{_DECODERS_ONLY}" if other else ""


def unestimated(name: str) -> str:
    """Return why a model is not estimated where its name is that of a family that is not; "" elsewhere.

    >>> unestimated("NX-AI/xLSTM-7b"), unestimated("Qwen/Qwen3-8B")
    ('xlstm is a recurrent network whose cells are not modelled', '')
    """
    leaf, publisher, _ = leaf_and_publisher(name)
    family = next((family for family in UNMODELLED if _of_family(family, f"{publisher} {leaf}")), "")
    if family:
        return f"{family} is {UNMODELLED[family]}"
    served = next((maker for family, maker in CLOSED.items() if f"{without_publisher(leaf)}-".startswith(family)), "")
    return f"its weights are not published; {served} alone serves it, and its shape is not known" if served else ""


def _of_family(family: str, text: str) -> bool:
    """Return whether a text has the name of a family as a word, or with one letter or other signs behind it."""
    return bool(re.search(rf"(?<![a-z]){re.escape(family)}(?![a-z]{{2}})", text))
