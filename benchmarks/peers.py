"""Comparison with other simulators: our predictions against those of Vidur, GenZ and AIConfigurator, and our speed.

    python -m benchmarks.peers [--vidur vidur.csv --trace AzureLLMInferenceTrace_conv_2023.csv.gz] [--genz genz.csv]
                               [--aic aic.csv] [--cases CASES.csv --truth TRUTH.csv] [--search search.md]
                               [-o docs/peers.md]

Each file holds what a peer predicts. Vidur has a row per scenario: `id, model, device, tp, pp, replicas, scheduler,
chunk, batch_cap, qps, n_req, max_num_batched_tokens, prefill_tokens, decode_tokens`, percentiles in seconds, `cpu_sim`
and `cpu_init` in CPU seconds. GenZ and AIConfigurator have a row per batch: `hardware` or `system`, `model, tp, batch,
isl, osl, ttft_ms, tpot_ms`. Nothing is fitted. With CASES and TRUTH, those of the batches that were measured are
scored. search.md is what `benchmarks.peers_search` wrote; it ends the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmarks import peers_vidur as vidur
from benchmarks.accuracy_tables import markdown
from benchmarks.peers_common import compared
from perfmodel.cases import predict

ROOT = Path(__file__).resolve().parents[1]
DEVICES = {
    "A100-80GB": "a100-sxm-80gb",
    "H100-80GB": "h100-sxm",
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "l40s": "l40s",
}
#: Models of one shape under several names.
SHAPES = {
    "meta-llama/Meta-Llama-3.1-8B": "meta-llama/Llama-3.1-8B",
    "meta-llama/Meta-Llama-3-8B": "meta-llama/Llama-3.1-8B",
    "meta-llama/Meta-Llama-3-8B-Instruct": "meta-llama/Llama-3.1-8B",
    "meta-llama/Meta-Llama-3.1-70B": "meta-llama/Llama-3.1-70B",
    "meta-llama/Meta-Llama-3-70B": "meta-llama/Llama-3.1-70B",
}
KEYS = ("model", "device", "tp", "batch", "isl", "osl")


def batches(peer: pd.DataFrame) -> pd.DataFrame:
    """A peer's batches as rows for `predict`, with its predictions in `peer_ttft_ms` and `peer_tpot_ms`.

    The mode `agg` (AIConfigurator's aggregated serving) is a closed loop; everything else is a static batch.
    """
    device = peer["hardware"] if "hardware" in peer else peer["system"]
    mode = peer["mode"] if "mode" in peer else pd.Series("static", index=peer.index)
    rows = pd.DataFrame(
        {
            "model": peer.model.replace(SHAPES),
            "device": device.map(DEVICES),
            "tp": peer.tp,
            "n_devices": peer.tp,
            "engine": peer.get("backend", "vllm"),
            "weight_dtype": "bf16",
            "engine_version": peer.get("version", ""),
            "isl": peer.isl,
            "osl": peer.osl,
            "mode": mode.map({"agg": "closed"}).fillna("static"),
            "batch": peer.batch,
            "concurrency": peer.batch,
            "peer_ttft_ms": pd.to_numeric(peer.ttft_ms, errors="coerce"),
            "peer_tpot_ms": pd.to_numeric(peer.tpot_ms, errors="coerce"),
        }
    )
    return rows[rows.device.notna()].reset_index(drop=True)


def answered(rows: pd.DataFrame) -> pd.DataFrame:
    """Our predictions beside a peer's, where both have one and the batch fits in memory."""
    found = predict(rows)
    fine = (found.error == "") & (found.fits == "true") & found.peer_tpot_ms.notna()
    return found[fine].reset_index(drop=True)


def shapes(name: str, found: pd.DataFrame, by: Iterable[str]) -> dict[str, dict[str, object]]:
    """Agreement on both metrics over all batches, then by every value of the columns `by`."""
    lines: dict[str, dict[str, object]] = {}
    parts = [("all", found)] + [(f"{c} {v}", part) for c in by for v, part in found.groupby(c)]
    for label, part in parts:
        for metric in ("ttft_ms", "tpot_ms"):
            pair = compared(part[metric].to_numpy(float), part[f"peer_{metric}"].to_numpy(float))
            lines[f"{name}, {label}: {metric}"] = pair
    return lines


def measured(found: pd.DataFrame, cases: pd.DataFrame, truth: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Error in E2E of both on the peer's batches that are measured test rows (static, 16-bit weights)."""
    keep = (cases.split == "test") & cases.trust.isin(["A", "B"]) & cases.weight_dtype.isin(["bf16", "fp16"])
    rows = truth[truth.metric == "e2e_ms"].merge(cases[keep & (cases["mode"] == "static")], on="case_id")
    rows = rows.assign(model=rows.model.replace(SHAPES))
    for column in ("tp", "batch", "isl", "osl"):
        rows[column] = pd.to_numeric(rows[column], errors="coerce").astype(float)
    static = found[found["mode"] == "static"].astype(dict.fromkeys(("tp", "batch", "isl", "osl"), float))
    pairs = rows[[*KEYS, "engine", "value"]].merge(static.drop(columns=["engine"]), on=list(KEYS))
    if not len(pairs):
        return {}
    steps = pairs.osl - 1
    errors = {
        "peer": (pairs.peer_ttft_ms + steps * pairs.peer_tpot_ms) / pairs.value - 1,
        "perfmodel": (pairs.ttft_ms + steps * pairs.tpot_ms) / pairs.value - 1,
    }
    return {
        who: {
            "runs": len(e),
            "median of abs(error)": e.abs().median(),
            "mean of abs(error)": e.abs().mean(),
            "bias (median error)": e.median(),
        }
        for who, e in errors.items()
    }


#: Why a peer differs from us, by section.
READING = {
    "GenZ": "GenZ is a roofline with one efficiency for all operators. It has no slower kernels, no kernel "
    "launches and no host time between steps. Ranks agree nevertheless; levels do not.",
    "AIConfigurator": "Both tools use the same kind of operator tables, so decode steps agree. TTFT differs most "
    "in a closed loop (`closed`): AIConfigurator counts one prefill, and perfmodel also counts "
    "the queue before it.",
}


def static_part(name: str, title: str, path: Path, by: tuple[str, ...], known: tuple[pd.DataFrame, ...]) -> str:
    """The section of a peer that predicts batches. by: columns that lines are split by. known: (cases, truth) or ()."""
    found = answered(batches(pd.read_csv(path, dtype={"version": str}, low_memory=False)))
    text = f"## {title}\n\n{READING[name]}\n\n" + markdown("batches and metric", shapes(name, found, by))
    lines = measured(found, *known) if known else {}
    if lines:
        text += (
            f"\nBatches of {name} that were also measured (E2E, rows of the test split). The row `peer` is {name}:\n\n"
        )
        text += markdown("tool", lines)
    return text


HEAD = """# Comparison with other simulators

This page compares the predictions of perfmodel with those of three other tools ("peers"): Vidur (microsoft/vidur, MIT)
as it is in its repository, GenZ (genz-llm) at its default efficiency, and AIConfigurator 0.12 (Apache-2.0). The peers
ran on a two-core machine. This command wrote the page:

```sh
python -m benchmarks.peers --vidur vidur.csv --trace AzureLLMInferenceTrace_conv_2023.csv.gz \\
    --genz genz.csv --aic aic.csv --cases CASES.csv --truth TRUTH.csv --search search.md
```

A ratio of 1 means that both tools predict the same value, not that the value is right. Errors against measurements are
on [the accuracy page](accuracy.md), with AIConfigurator on the same rows. A rank correlation near 1 means that both
tools would choose the same deployments.
"""


def main(arguments: list[str] | None = None) -> None:
    """Write the page from the files that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vidur", "trace", "genz", "aic", "cases", "truth", "search"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "peers.md")
    asked = parser.parse_args(arguments)
    known: tuple[pd.DataFrame, ...] = ()
    if asked.cases and asked.truth:
        known = (pd.read_csv(asked.cases, dtype=str, keep_default_na=False), pd.read_csv(asked.truth))
    parts = [HEAD]
    if asked.vidur and asked.trace:
        parts.append(vidur.section(asked.vidur, asked.trace))
    if asked.genz:
        parts.append(static_part("GenZ", "GenZ: batches priced by a roofline", asked.genz, ("device", "tp"), known))
    if asked.aic:
        by = ("device", "mode", "engine")
        parts.append(static_part("AIConfigurator", "AIConfigurator: measured operators", asked.aic, by, known))
    if asked.search:
        parts.append(asked.search.read_text(encoding="utf-8"))
    asked.output.write_text("\n".join(parts), encoding="utf-8")
    print("\n".join(parts))


if __name__ == "__main__":
    main()
