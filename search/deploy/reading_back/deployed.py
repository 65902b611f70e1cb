"""Read a deployment back: commands, compose files and manifests become the same launch that a plan is exported from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hwdb import InputError, PerfmodelError, counted, infile
from perfmodel import ModelSpec
from perfmodel import model as model_of
from perfmodel.engines import engine as engine_of
from perfmodel.models import UNQUANTISED
from search.deploy.engine_settings.drafting import drafts_read
from search.deploy.engine_settings.parsers import Release, release
from search.deploy.engine_settings.rules import between, conflicts
from search.deploy.engine_settings.settings import from_engine
from search.deploy.engine_settings.templates import Template, template
from search.deploy.launch import DECODE, PREFILL, SERVE, SWITCHES, Launch, Pool
from search.deploy.reading_back.documents import documents_of, engine_words, givens, repeated
from search.deploy.reading_back.files import read_keys
from search.deploy.reading_back.reading import Understood, on_host, read_words, variables
from search.deploy.reading_back.recognised import recognised
from search.deploy.reading_back.shell import Given, commands

#: Engines whose --config names a file with more flags.
FLAG_FILES = ("vllm", "sglang")
#: How a way out of a text that is none ends.
_FORMS = "a command such as 'vllm serve MODEL ...', a script, a compose file or a manifest"


@dataclass(frozen=True)
class Reading:
    """A deployment that was read. unknown, conflicts: sentences. unused: flags that change no estimate.

    checkpoint: name of the weights that are loaded. uncounted: what changes speed or memory and is in no estimate.
    """

    launch: Launch
    unknown: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    checkpoint: str = ""
    uncounted: tuple[str, ...] = ()


def read_back(source: str | Path, *, device: str = "", version: str = "") -> Reading:
    """Read a deployment from the text of a command or the path of a file.

    device: name of the device, where the source does not say it; it takes precedence. version: of the engine, likewise.
    Raises `InputError` where nothing in the source starts a known engine.
    """
    text, folder = _text(source)
    found = documents_of(text)
    given = givens(found) if found else _commands(text)
    engines = [pair for pair in map(recognised, given) if pair is not None]
    if not engines:
        raise InputError(f"--from: nothing in it starts a known engine; give {_FORMS}")
    leaders = [pair for pair in engines if not _follows(pair[1])]
    if not leaders:
        raise InputError(
            "--from: every command in it joins a first node (--node-rank, --headless); give that one's too"
        )
    read = [_one(engine, one, folder, device, version) for engine, one in leaders]
    read[-1].found.conflicts += repeated(text) if found else _alone(given)
    return _merged(read)


def _commands(text: str) -> list[Given]:
    """Return the commands of a text: of a shell, or one list of words in JSON or YAML."""
    listed: Any = None
    if re.match(r"\s*(\[|- )", text):
        import yaml

        try:
            listed = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError):
            listed = None
    if isinstance(listed, list) and listed and all(isinstance(w, str | int | float) for w in listed):
        return [Given(tuple(str(w) for w in listed))]
    return commands(text)


#: Flags of a node that joins another: it belongs to the replica of the first node.
_RANKS = ("--node-rank", "--data-parallel-start-rank", "-dpr", "--node_rank", "-r")


def _follows(given: Given) -> bool:
    """Return whether a command starts a further node of a replica whose first node is started by another command."""
    words = [part for word in given.words for part in word.split("=", 1)]
    ranks = [value for flag, value in pairwise(words) if flag in _RANKS]
    return "--headless" in words or any(rank.isdigit() and int(rank) > 0 for rank in ranks)


def _alone(given: Sequence[Given]) -> list[str]:
    """Return sentences for flags on a line of their own, which the shell takes for a command."""
    lost = [one.words[0] for one in given if re.match(r"--?[A-Za-z]", one.words[0] if one.words else "")]
    return [f"{word} begins a command of its own: the line before it does not end in \\" for word in lost]


def _text(source: str | Path) -> tuple[str, Path]:
    """Return the text of a source and the folder that its file names are relative to."""
    if not str(source).strip():
        raise InputError(f"--from is empty; give {_FORMS}")
    path = Path(source) if not re.search(r"[\n\0]", str(source)) and len(str(source)) < 1000 else None
    if path is not None and path.is_file():
        return infile.read_text(path, "deployment", f"give {_FORMS}"), path.parent
    if path is not None and " " not in str(source):
        raise InputError(f"--from {source}: no such file; give {_FORMS}")
    return str(source), Path()


@dataclass(frozen=True)
class _Read:
    """One pool that was read, and what there is to say of it."""

    launch: Launch
    found: Understood
    spec: ModelSpec


def _one(engine: str, given: Given, folder: Path, device: str, version: str) -> _Read:
    """Read one command."""
    how, known = template(engine), release(engine, version or given.marks.get("version", ""))
    given = _with_variables(how, _with_flag_file(engine, given, folder, known))
    around = "dynamo_trtllm" if engine == "trtllm" else "dynamo"
    found = read_words(given.words, how, known, release(around) if "dynamo" in given.marks else None)
    _read_file(found, how, given, folder, known)
    found.unknown += [*given.doubts, *variables(given.env, known)]
    name, served = _names(found, how)
    spec = _spec(name, served)
    if spec.weight_format not in UNQUANTISED:  # then --quantization only says how the weights are loaded
        found.values.pop("online", None)
    found.uncounted += on_host(engine, known, found.given, spec.layers)
    model = _model(spec, served or given.marks.get("model", ""))
    weight = given.marks.get("weight") or spec.weight_format
    runs = engine_of(engine, known.version if known and engine != "llamacpp" else "")
    start = Pool(
        role=_role(found, given),
        device=device or given.marks.get("device", ""),
        replicas=_whole(given.marks.get("replicas", "1")),
        weight=weight,
        kv=spec.kv_format,
        **{k: getattr(runs, k) for k in SWITCHES},
        gpu_memory_utilization=None if "gpu_memory_utilization" in how.flags else runs.gpu_memory_utilization,
    )
    try:
        pool, length = from_engine(engine, found.values, start)
    except (TypeError, ValueError, ZeroDivisionError):
        raise InputError(f"--from: {engine}: the degrees of parallelism are no numbers of 1 or more") from None
    pool = replace(pool, **_drafting(engine, found))
    if engine == "vllm" and not spec.experts:
        # without experts to share, each rank of vLLM's data parallelism is a model of its own (its docs)
        pool = replace(pool, dp=1, replicas=pool.replicas * pool.dp)
    version = known.version if known else given.marks.get("version", "unknown")
    launch = Launch(model, engine, version, (pool,), length)
    held = _whole(given.marks.get("devices", "0"))
    found.conflicts += conflicts(launch, pool, spec, found.given, held=held, env=given.env)
    return _Read(launch, found, spec)


def _drafting(engine: str, found: Understood) -> dict[str, Any]:
    """Return what the flags say of drafts, by field of a `Pool`; flags that are counted so are no longer named.

    {} where they say nothing, or name a draft model that is not known here.
    """
    drafts = drafts_read(engine, found.given)
    if drafts.get("speculation") == "draft-model":
        try:
            model_of(drafts["draft_model"])
        except PerfmodelError:
            return {}
    if drafts:
        found.uncounted = [text for text in found.uncounted if not text.startswith("--speculative")]
        found.unused = [name for name in found.unused if not name.startswith("--speculative")]
    return drafts


def _with_variables(how: Template, given: Given) -> Given:
    """Return a command with the flags that variables of the environment stand for; flags that are given count."""
    own = {word.partition("=")[0] for word in given.words}
    more = [
        w
        for name, flag in how.variables.items()
        if name in given.env and flag not in own
        for w in (flag, given.env[name])
    ]
    return replace(given, words=(*given.words, *more))


def _with_flag_file(engine: str, given: Given, folder: Path, known: Release | None) -> Given:
    """Return a command with the flags of the YAML file of --config (vLLM, SGLang) in front of its own, which count."""
    words = [part for w in given.words for part in (w.split("=", 1) if w.startswith("--config=") else [w])]
    if engine not in FLAG_FILES or "--config" not in words[:-1]:
        return given
    import yaml

    at = words.index("--config")
    name = words[at + 1]
    try:
        held = yaml.safe_load(_file_text(given, folder, name))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(held, Mapping):
        text = f"the file {name} is not here, or holds no flags: what it sets is not known"
        return replace(given, words=(*words[:at], *words[at + 2 :]), doubts=(*given.doubts, text))
    own = {word.partition("=")[0].replace("_", "-") for word in words}
    held = {k: v for k, v in held.items() if f"--{str(k).replace('_', '-')}" not in own}
    held = {k: v for k, v in held.items() if v is not False or _can_be_off(str(k).replace("_", "-"), known)}
    return replace(given, words=(*words[:at], *words[at + 2 :], *engine_words(held)))


def _can_be_off(name: str, known: Release | None) -> bool:
    """Return whether false in a file of flags says more than leaving it out: --no-NAME exists, or nothing of it."""
    return known is None or known.find(f"--no-{name}") is not None or known.find(f"--{name}") is None


def _file_text(given: Given, folder: Path, name: str) -> str:
    """Return the text of a file that a command names: of the same source, else of the disk; "" for a file that is not
    there."""
    text = given.files.get(name) or given.files.get(Path(name).name) or ""
    if name and not text and (folder / name).is_file():
        text = infile.read_bytes(folder / name, "configuration", infile.MOST_CONFIG).decode("utf-8", "replace")
    return text


def _whole(text: str) -> int:
    """Return a whole number; 0 for other text."""
    return int(text) if text.isdigit() else 0


def _read_file(found: Understood, how: Template, given: Given, folder: Path, known: Release | None) -> None:
    """Read the configuration file of an engine that has one: from the same source, else from the disk."""
    if not how.keys:
        return
    import yaml

    name = next(
        (str(found.given[f]) for f in (how.file, "--config", "--extra_llm_api_options") if f in found.given), ""
    )
    name = name or ("" if how.file else next(iter(given.files), "config.json"))
    text = _file_text(given, folder, name)
    if not text:
        if name:
            found.unknown.append(f"the file {name} is not here: what it sets is not known")
        return
    try:
        held = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{name}: neither YAML nor JSON: {' '.join(str(error).split())}") from None
    if isinstance(held, Mapping):
        read_keys(found, how, held, known)


def _names(found: Understood, how: Template) -> tuple[str, str]:
    """Return the checkpoint that is loaded and the name that requests call it; "" for a name that is not given."""
    flagged = next(
        (found.given[f] for f in (how.model_flag, "--model", "--hf-repo", "--model-path") if f in found.given), ""
    )
    placed = found.positional[0] if found.positional else ""
    for word in found.positional[1:] if not flagged or placed == flagged else ():
        found.unknown.append(f"{word!r} is neither a flag nor the value of one")
    if placed and flagged and placed != flagged:
        found.conflicts.append(f"the model is given twice, as {placed} and as {flagged}")
    name = str(found.values.get("checkpoint") or placed or flagged)
    served = found.values.get("served_name", "")
    served = served[0] if isinstance(served, list) and served else served
    if not name and not served:
        raise InputError(f"--from: {' '.join(how.command)} has no model; name it")
    return name, str(served)


def _spec(name: str, served: str) -> ModelSpec:
    """Return the checkpoint that is loaded: by its name, by the last parts of its path, or by the served name."""
    parts = name.rstrip("/").split("/")
    tries = dict.fromkeys([name, "/".join(parts[-2:]), parts[-1], name.replace(":", "-"), served])
    if re.search(r"\{\{|[<>]", name) and not served:
        raise InputError(f"--from: the model is {name!r}, a place to fill in; render the template, or write the name")
    first: InputError | None = None
    for one in tries:
        if not one or one.startswith("$"):
            continue
        try:
            return model_of(one)
        except InputError as error:
            first = first or error
    raise InputError(f"--from: {first or f'the model is {name}, which is not known here; write its name'}")


def _model(spec: ModelSpec, served: str) -> str:
    """Return the name of the model: the served one where it is that of the checkpoint's base, else the checkpoint's."""
    if served:
        try:
            known = model_of(served)
        except InputError:
            known = None
        if known is not None and (known.hidden, known.layers) == (spec.hidden, spec.layers):
            return served
    return spec.base or spec.name


def _role(found: Understood, given: Given) -> str:
    """Return the role of a pool: from the mark of an export, the connector, or the mode of a worker."""
    transfer = found.given.get("--kv-transfer-config")
    kind = transfer.get("kv_role") if isinstance(transfer, Mapping) else None
    by_role = {"kv_producer": PREFILL, "kv_consumer": DECODE}
    mode = str(found.given.get("--disaggregation-mode", found.given.get("--server_role", ""))).lower()
    mode = next((m for m in ("prefill", "decode") if found.given.get(f"--is-{m}-worker")), mode)
    modes = {"prefill": PREFILL, "context": PREFILL, "decode": DECODE, "generation": DECODE}
    said = given.marks.get("pool", SERVE)
    return by_role.get(str(kind), modes.get(mode, said if said in (PREFILL, DECODE) else SERVE))


def _merged(read: Sequence[_Read]) -> Reading:
    """Return the pools of all commands as one deployment; equal pools are replicas of one."""
    models = list(dict.fromkeys(one.launch.model for one in read))
    engines = {one.launch.engine for one in read}
    if len(models) > 1 or len(engines) > 1:
        runs = f"{counted(len(models), 'model')} with {counted(len(engines), 'engine')} ({', '.join(models)})"
        raise InputError(f"--from: it serves {runs}; read one by one")
    pools: list[Pool] = []
    for one in read:
        pool = one.launch.main
        same = next((i for i, p in enumerate(pools) if replace(p, replicas=pool.replicas) == pool), None)
        if same is None:
            pools.append(pool)
        else:
            pools[same] = replace(pools[same], replicas=pools[same].replicas + pool.replicas)
    pools.sort(key=lambda p: (PREFILL, DECODE, SERVE).index(p.role))
    serving = [p for p in pools if p.role == SERVE]
    if len(serving) > 1:
        raise InputError("--from: its servers have different settings; read them one by one")
    every: dict[str, list[str]] = {"unknown": [], "conflicts": [*between(tuple(pools))], "unused": [], "uncounted": []}
    for one in read:
        for key, texts in every.items():
            texts += getattr(one.found, key)
    told: dict[str, Any] = {key: tuple(dict.fromkeys(texts)) for key, texts in every.items()}
    launch = replace(read[-1].launch, pools=tuple(pools))
    return Reading(launch, **told, checkpoint=read[-1].spec.name)
