"""Write the command of one pool: its words, the files that it reads, and the variables that it needs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwdb import InputError, plain
from perfmodel import model as model_of
from perfmodel.models import UNQUANTISED
from search.deploy.engine_settings.checkpoints import checkpoint
from search.deploy.engine_settings.drafting import draft_keys, draft_words
from search.deploy.engine_settings.parsers import number
from search.deploy.engine_settings.settings import to_engine
from search.deploy.engine_settings.templates import NODE_DEVICES, Template, nodes_for, template
from search.deploy.launch import DECODE, SERVE, Launch, Pool

#: Settings whose default needs no flag, with that default; others are always written.
PLAIN = {
    **dict.fromkeys(("tp", "total_tp", "pp", "dp", "cp", "kvp", "ep"), 1),
    **dict.fromkeys(("attention_dp", "experts", "rank_balance"), False),
}
#: Lines of a command are broken before a flag from this length on.
WIDTH = 100


@dataclass(frozen=True)
class Command:
    """One command. words: program and arguments. files: path -> text that has to be there. env: variables.

    notes: what to know of it, in sentences.
    """

    words: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def shell(self) -> str:
        """Return the command for a shell, one flag per line."""
        lines: list[str] = []
        for word in self.words:
            starts = word.startswith("-") and len(word) > 1 and not word[1].isdigit()
            if lines and not (starts and len(self.words) > 4 and word != "-m"):
                lines[-1] += " " + shlex.quote(word)
            else:
                lines.append(shlex.quote(word))
        return " \\\n  ".join(lines)


def command(launch: Launch, pool: Pool, config: str = "config.yaml") -> Command:
    """Return the command that starts one replica of a pool.

    config: path of the configuration file, where the engine needs one. Raises `InputError` for a layout or format that
    the engine's release has no flag for.
    """
    how = template(launch.engine)
    stored = checkpoint(launch.model, pool.weight, launch.engine)
    own_kv = model_of(stored.name).kv_format
    values = to_engine(launch, pool, own_weight=stored.format, own_kv=own_kv)
    kept = _kept_cache(how, stored.name, own_kv, values)
    words, written = list(how.command), set()
    if how.model_flag and not how.model:
        words.append(stored.name)
    elif how.model:
        words += [how.model, stored.name]
    for setting, entry in how.flags.items():
        value = values.get(setting)
        if how.has_flag(setting, launch.version):
            words += _words(how, setting, entry, value)
            written.add(setting)
    keys = {setting: values.get(setting) for setting in how.keys if setting not in written} | {
        "checkpoint": stored.name
    }
    held = _config(how, keys, pool)
    for key, value in draft_keys(launch, pool).items():
        put(held, key, value)
    _refuse_lost(launch, values, written | set(how.keys))
    words += _pool_words(how, pool, held)
    if held and how.file:
        words += [how.file, config]
    words += [*draft_words(launch, pool), *_lora_words(launch, how), *_node_words(launch, how, pool), *how.fixed]
    text = json.dumps(held, indent=1) if not how.file else as_yaml(held)
    return Command(tuple(words), {config: text} if held else {}, _env(launch, pool), (*stored.notes, *kept))


def _kept_cache(how: Template, stored: str, own: str, values: dict[str, Any]) -> tuple[str, ...]:
    """Take the format of the KV cache out where the engine always keeps that of the checkpoint; return a note on it.

    TensorRT-LLM can narrow the cache of a checkpoint, but not widen it to 16 bits.
    """
    planned = values.get("kv")
    if not how.formats or planned in (None, *how.formats) or planned not in UNQUANTISED:
        return ()
    values["kv"] = None
    return (f"{stored} has a KV cache in {own}, which {how.engine} keeps; the plan counts {planned}",)


def _words(how: Template, setting: str, entry: Mapping[str, Any], value: Any) -> list[str]:
    """Return the words of one setting: a flag and its value, a switch, or nothing."""
    if "flag" not in entry:
        return [entry[state]] if (state := "on" if value else "off") in entry and PLAIN.get(setting) != value else []
    if value is None or (setting in PLAIN and value == PLAIN[setting]):
        return []
    if "values" in entry:
        if value not in entry["values"]:
            raise InputError(
                f"export: {how.engine} has no {entry['flag']} for {value}; it has {', '.join(entry['values'])}"
            )
        value = entry["values"][value]
    return [entry["flag"], plain(value) if isinstance(value, float) else str(value)]


def _refuse_lost(launch: Launch, values: Mapping[str, Any], said: set[str]) -> None:
    """Raise `InputError` where a degree or format of the plan has no flag in this engine's release."""
    stands_for = {"tp": {"tp", "total_tp", "shards"}, "pp": {"pp", "shards"}, "dp": {"dp", "attention_dp"}}
    stands_for |= {"ep": {"ep", "experts"}, "kv": {"kv"}, "cp": {"cp"}, "kvp": {"kvp"}, "online": {"online"}}
    for setting, ways in stands_for.items():
        value = values.get(setting)
        if value is not None and value != PLAIN.get(setting) and not ways & said:
            raise InputError(
                f"export: {launch.engine} {launch.version} has no flag for {setting} {value}; plan without it"
            )


def _pool_words(how: Template, pool: Pool, held: dict[str, Any]) -> list[str]:
    """Return the words that make a worker one of prefill or of decode; keys of a file are put into `held`."""
    if pool.role == SERVE:
        return []
    if not how.pools:
        raise InputError(f"export: {how.engine} has no pools for prefill and decode; plan colocated")
    if "key" in how.pools:
        put(held, how.pools["key"], how.pools[pool.role])
    words = [how.pools["flag"], how.pools[pool.role]] if how.pools["flag"] else []
    role = [how.pools["role_flag"], how.pools["roles"][pool.role]] if "role_flag" in how.pools else []
    return [*words, *how.pools.get("more", []), *role]


def _lora_words(launch: Launch, how: Template) -> list[str]:
    """Return the words that make room for LoRA adapters; [] without adapters."""
    if launch.adapters is None:
        return []
    if not how.lora or number(launch.version) < number(how.lora["since"]):
        raise InputError(
            f"export: {how.engine} {launch.version} has no flags here for LoRA adapters; name another --engine-version"
        )
    rank, slots = launch.adapters
    return [word.format(rank=rank, slots=slots) for word in how.lora["flags"]]


def _node_words(launch: Launch, how: Template, pool: Pool) -> list[str]:
    """Return the words that join several nodes to one replica; none on a single node, or where a launcher joins."""
    nodes = nodes_for(pool.devices)
    if nodes < 2 or "launcher" in how.nodes or how.engine == "mindie":
        return []
    if not how.nodes:
        raise InputError(
            f"export: a replica on {pool.devices} devices takes {nodes} nodes, which {how.engine} does not join; "
            f"plan with at most {NODE_DEVICES} devices per replica"
        )
    if number(launch.version) < number(how.nodes["since"]):
        return list(how.nodes["before"])
    return [word.format(nodes=nodes) for word in how.nodes["flags"]]


def follower_words(launch: Launch, pool: Pool) -> list[str]:
    """Return the words that only the nodes after the first one of a replica have."""
    how = template(launch.engine)
    by_flags = nodes_for(pool.devices) > 1 and not ray_starts(launch, pool)
    return list(how.nodes.get("follower", [])) if by_flags else []


def ray_starts(launch: Launch, pool: Pool) -> list[str]:
    """Return what starts Ray on the first node of a replica, and on the others; [] where flags join the nodes."""
    how = template(launch.engine)
    early = "ray" in how.nodes and number(launch.version) < number(how.nodes["since"])
    return list(how.nodes["ray"]) if early and nodes_for(pool.devices) > 1 else []


def launcher_words(launch: Launch, pool: Pool) -> list[str]:
    """Return what stands in front of the command of a replica that spans nodes; [] for most engines."""
    nodes = nodes_for(pool.devices)
    words = template(launch.engine).nodes.get("launcher", []) if nodes > 1 else []
    return [word.format(nodes=nodes, devices=pool.devices, each=pool.devices // nodes) for word in words]


def _config(how: Template, values: Mapping[str, Any], pool: Pool) -> dict[str, Any]:
    """Return the content of the configuration file of an engine that has one: nested keys and values."""
    held: dict[str, Any] = {}
    for setting, key in how.keys.items():
        value = values.get(setting)
        if value is None or (setting in PLAIN and value == PLAIN[setting] and how.engine != "mindie"):
            continue
        if setting == "graph_capture":
            if value is False:
                put(held, key, None)
            continue
        if setting == "kv" and how.formats:
            if value not in how.formats:
                raise InputError(f"export: {how.engine} has no {key} for {value}; it has {', '.join(how.formats)}")
            value = how.formats[value]
        put(held, key, value)
    if how.engine == "mindie":
        nodes = nodes_for(pool.devices)
        put(held, "BackendConfig.npuDeviceIds", [list(range(pool.devices // nodes))])
        if nodes > 1:
            put(held, "BackendConfig.multiNodesInferEnabled", True)
        put(held, "BackendConfig.ModelDeployConfig.ModelConfig.0.npuMemSize", -1)
    return held


def put(held: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under a dotted key; a part `0` is the first entry of a list."""
    here: Any = held
    parts = key.split(".")
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part == "0":
            if not here:
                here.append({})
            here = here[0]
        elif not following:
            here[part] = value
        else:
            here = here.setdefault(part, [] if following == "0" else {})


def take(held: Any, key: str) -> Any:
    """Return the value under a dotted key; KeyError where there is none."""
    for part in key.split("."):
        if isinstance(held, list):
            held = dict(enumerate(held)).get(int(part), {})
        elif isinstance(held, Mapping):
            held = held[part]
        else:
            raise KeyError(key)
    return held


def as_yaml(held: Mapping[str, Any]) -> str:
    """Return a mapping as YAML, in the order of its keys, without anchors, and texts of several lines as blocks."""
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        """Write every part in full."""

        def ignore_aliases(self, _data: Any) -> bool:
            """Return that nothing is an alias."""
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump(dict(held), Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True))


def _env(launch: Launch, pool: Pool) -> dict[str, str]:
    """Return the variables that a pool needs: vLLM's connector listens on an address of its own."""
    if launch.engine == "vllm" and pool.role != SERVE:
        return {"VLLM_NIXL_SIDE_CHANNEL_PORT": "5600" if pool.role == DECODE else "5500"}
    return {}
