"""Write how an engine is told to draft tokens (speculative decoding), and read it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hwdb import InputError
from search.deploy.engine_settings.parsers import number
from search.deploy.launch import PREFILL, Launch, Pool

#: Engine -> our method -> the engine's name of it. vLLM docs, "Speculative Decoding" (2026); SGLang docs, "Speculative
#: Decoding" (2026: MTP runs as EAGLE with the model's own layer); TensorRT-LLM docs 1.3, "Speculative Decoding".
NAMES: Mapping[str, Mapping[str, str]] = {
    "vllm": {"mtp": "mtp", "eagle": "eagle", "eagle3": "eagle3", "draft-model": "draft_model", "ngram": "ngram"},
    "sglang": {"mtp": "EAGLE", "eagle": "EAGLE", "eagle3": "EAGLE3", "draft-model": "STANDALONE", "ngram": "NGRAM"},
    "trtllm": {"mtp": "MTP", "eagle3": "Eagle3", "draft-model": "DraftTarget", "ngram": "NGram"},
}
#: First release that knows a method later than the others (vllm-project/vllm pull 24322, merged 2026-01; SGLang docs).
SINCE = {("vllm", "draft-model"): "0.19", ("sglang", "draft-model"): "0.5.9", ("sglang", "ngram"): "0.5.9"}
#: Methods that need a checkpoint of the drafter, and what stands for it where none is named.
CHECKPOINTS = {"eagle": "EAGLE_HEAD", "eagle3": "EAGLE3_HEAD", "draft-model": "DRAFT_MODEL"}
#: Longest and shortest n-gram that is looked up. Chosen: the values of vLLM's documentation.
LONGEST_MATCH, SHORTEST_MATCH = 4, 2


def draft_words(launch: Launch, pool: Pool) -> list[str]:
    """Return the words of a command that make a pool draft tokens; [] without drafts, and on a prefill worker.

    Raises `InputError` where the engine's release does not know the method.
    """
    if not pool.drafts or pool.role == PREFILL:
        return []
    name, drafter = _name(launch, pool), _drafter(pool)
    if launch.engine == "vllm":
        matches = {"prompt_lookup_max": LONGEST_MATCH, "prompt_lookup_min": SHORTEST_MATCH}
        held: dict[str, Any] = {"method": name, "num_speculative_tokens": pool.drafts}
        held |= {"model": drafter} if drafter else {}
        return ["--speculative-config", json.dumps(held | (matches if name == "ngram" else {}))]
    if launch.engine != "sglang":
        return []
    words = ["--speculative-algorithm", name]
    words += ["--speculative-draft-model-path", drafter] if drafter else []
    if name != "NGRAM":
        words += ["--speculative-num-steps", str(pool.drafts), "--speculative-eagle-topk", "1"]
    return [*words, "--speculative-num-draft-tokens", str(pool.drafts + 1)]


def draft_keys(launch: Launch, pool: Pool) -> dict[str, Any]:
    """Return dotted key -> value of an engine's configuration file (TensorRT-LLM), as `draft_words` does."""
    if not pool.drafts or pool.role == PREFILL or launch.engine in ("vllm", "sglang"):
        return {}
    name, drafter = _name(launch, pool), _drafter(pool)
    count = "num_nextn_predict_layers" if name == "MTP" else "max_draft_len"
    held: dict[str, Any] = {"decoding_type": name, count: pool.drafts}
    held |= {"speculative_model": drafter} if drafter else {}
    held |= {"max_matching_ngram_size": LONGEST_MATCH} if name == "NGram" else {}
    return {f"speculative_config.{key}": value for key, value in held.items()}


def _name(launch: Launch, pool: Pool) -> str:
    """Return the engine's name of the method of a pool; `InputError` where its release does not know it."""
    known = NAMES.get(launch.engine, {})
    since = SINCE.get((launch.engine, pool.speculation), "0")
    if pool.speculation not in known or number(launch.version) < number(since):
        raise InputError(
            f"export: {launch.engine} {launch.version} has no words here for speculative decoding by "
            f"{pool.speculation}; plan without [speculation], or with another method"
        )
    return known[pool.speculation]


def _drafter(pool: Pool) -> str:
    """Return the checkpoint that drafts: the stated one, else a word that stands for it; "" where none is needed."""
    return (pool.draft_model or CHECKPOINTS[pool.speculation]) if pool.speculation in CHECKPOINTS else ""


def draft_notes(pool: Pool) -> list[str]:
    """Return what to know of a pool that drafts, in sentences."""
    if not pool.drafts or pool.draft_model or pool.speculation not in CHECKPOINTS:
        return []
    return [f"Put the drafter's checkpoint in place of {CHECKPOINTS[pool.speculation]}."]


def drafts_read(engine: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Pool` that the flags or keys of an engine say of drafts; {} where they say none.

    given: name of a flag, or dotted key of the file, -> value. Methods that are not known here are left out.
    """
    if engine == "sglang":
        name, count = given.get("--speculative-algorithm"), given.get("--speculative-num-steps")
        if count is None and given.get("--speculative-num-draft-tokens"):
            count = int(given["--speculative-num-draft-tokens"]) - 1
        drafter = given.get("--speculative-draft-model-path")
        name = {"NEXTN": "EAGLE"}.get(str(name), name)
    else:
        held = given.get("--speculative-config" if engine == "vllm" else "speculative_config")
        held = held if isinstance(held, Mapping) else {}
        name = held.get("method") if engine == "vllm" else held.get("decoding_type")
        name = "mtp" if str(name).endswith("_mtp") else {"Eagle": "Eagle3"}.get(str(name), name)
        counts = ("num_speculative_tokens", "num_nextn_predict_layers", "max_draft_len")
        count = next((held[key] for key in counts if key in held), None)
        drafter = next((held[k] for k in ("model", "speculative_model", "speculative_model_dir") if k in held), None)
    ours = {theirs: method for method, theirs in reversed(list(NAMES.get(engine, {}).items()))}
    method = ours.get(str(name), "")
    method = "eagle" if method == "mtp" and drafter and engine == "sglang" else method
    number_of = int(str(count)) if str(count).isdigit() else 0
    if not method or not number_of:
        return {}
    return {"speculation": method, "drafts": number_of, "draft_model": str(drafter or "")}
