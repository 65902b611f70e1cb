"""One truth through all doors: random configurations, asked of every command and function, give the same figures.

    python -m benchmarks.doors [--count 200] [--seed 0] [--show 10]

The doors are `estimate` (command line, `--json`), `predict` (a row of CSV), `plan` (a scenario pinned to one layout)
and Python (`perfmodel.estimate`); `tests/test_doors.py` compares `fleet` and `report`. Two doors agree where both
refuse a configuration, or where every figure that both give is the same to 1e-9. The last line counts configurations
and differences; there should be none.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import cli
import hwdb
import perfmodel as pm
from benchmarks.door_questions import Question, questions
from hwdb import PerfmodelError
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.engines import engine as engine_of
from perfmodel.workload import histogram
from search.output.value_format import json_value
from search.planning import plan
from search.scenario import load_scenario

#: Figures count as equal within this share.
TOLERANCE = 1e-9
#: Name of a figure in one door -> its name in the others.
SAME = {"req_s": "request_rate_rps", "served_request_rate_rps": "request_rate_rps"}
#: Columns of the doors that describe the question rather than the answer.
NO_FIGURES = {"concurrency", "request_rate_rps_asked", "error", "case_id"}
#: The range of a plan's cost is over the replicas that may be needed; an estimate has as many as it is told.
NO_FIGURES |= {f"{name}_{end}" for name in ("usd_per_hour", "usd_per_million_tokens") for end in ("lo", "hi")}

Row = Mapping[str, Any]


# -- doors ----------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """Raised where a door refuses a question; the text is its message."""


def command(*words: str) -> str:
    """Run a command line in this process and return what it prints; `Refused` with its message where it fails."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say reaches no user: figures are what is compared
        code = cli.main(list(words))
    if code not in (0, 1) or (code == 1 and not out.getvalue()):
        raise Refused(errors.getvalue().strip())
    return out.getvalue()


def estimate_words(q: Question, layout: Mapping[str, float] | None = None) -> list[str]:
    """Return the command line of `estimate` that asks a question. layout: other degrees and replicas than its own.

    Prompts beyond the trained context are allowed: `predict` and Python answer for them.
    """
    degrees = {**q.layout, **(layout or {})}
    flags: dict[str, Any] = {"device": q.device, "engine": q.engine}
    flags |= {"dp-attention" if k == "dp" else k: v for k, v in degrees.items()}
    flags |= {{"weight": "weights", "act": "activations"}.get(k, k): v for k, v in q.formats.items()}
    flags |= {**q.settings, **q.lengths, **q.load, **q.memory, **q.site, **q.pools}
    bounds = [w for k, v in q.bounds.items() for w in ("--slo", f"{k}={v}")]
    words = [
        w
        for k, v in flags.items()
        if v != ""
        for w in (f"--{k.replace('_', '-')}", f"{v:g}" if v.__class__ is float else str(v))
    ]
    return ["estimate", q.model, *words, *bounds, "--allow-long-context", "--json"]


def ask_estimate(q: Question) -> Row:
    """Ask the command `estimate`."""
    return dict(json.loads(command(*estimate_words(q)))[0])


def ask_python(q: Question) -> Row:
    """Ask `perfmodel.estimate`, or `estimate_disaggregated` for pools."""
    try:
        model, columns = pm.model(q.model), _columns(q)
        engine = engine_of(q.engine)
        share = {k: v for k, v in q.settings.items() if k == "gpu_memory_utilization"}
        engine = engine.configured(**share) if share else engine
        device = hwdb.device(q.device)
        adapters = _adapters(q)
        if not q.pools:
            placed = pm.deployments([device], adapters=adapters, **columns)
            return _row(pm.estimate(model, workload(q), placed, engine=engine))
        decode = pm.deployments([device], adapters=adapters, **columns)
        prefill = pm.deployments([device], adapters=adapters, **{**columns, "tp": q.pools["prefill_tp"]})
        workers = {k: float(q.pools[k]) for k in ("prefill_workers", "decode_workers")}
        return _row(pm.estimate_disaggregated(model, workload(q), prefill, decode, engine=engine, **workers))
    except PerfmodelError as error:
        raise Refused(str(error)) from None


def _row(found: pm.Estimates) -> Row:
    """Return the columns of one estimate as JSON has them."""
    columns = {**found.columns(), "devices": found.devices, "running": found.running}
    return {k: v[0].item() for k, v in columns.items()}


def _columns(q: Question) -> dict[str, Any]:
    """Return a question's deployment as arguments of `perfmodel.deployments`."""
    codes: dict[str, Any] = {k: (COMPUTE_CODE if k == "act" else FORMAT_CODE)[v] for k, v in q.formats.items()}
    limits = {k: v for k, v in q.settings.items() if k != "gpu_memory_utilization"}
    return {**q.layout, **codes, **limits, **{k: v for k, v in q.memory.items() if k.startswith("host_")}}


def _adapters(q: Question) -> Any:
    """Return a question's adapters, None without."""
    from perfmodel.models import Adapters

    return (
        Adapters(rank=int(q.memory["lora_rank"]), count=int(q.memory["lora_count"]))
        if "lora_rank" in q.memory
        else None
    )


def workload(q: Question) -> pm.Workload:
    """Return a question's workload."""
    number = next(iter(q.load.values()), math.nan)
    arrivals: dict[str, Any] = {"arrival": q.arrival, "cv": q.lengths.get("cv", 1.0)}
    name = {"open": "rate", "offline": "n_requests", "single": ""}.get(q.arrival, "concurrency")
    arrivals |= {name: number} if name else {"concurrency": 1.0}
    if "dataset" in q.lengths:
        found = pm.Workload.from_histogram(histogram(q.lengths["dataset"]), **arrivals)
        return found.at(prefix_hit=np.full(1, q.lengths["prefix_hit"])) if "prefix_hit" in q.lengths else found
    spread = {"isl_dist": q.lengths["isl_dist"]} if q.lengths["isl_dist"] else {}
    hit = q.lengths.get("prefix_hit", 0.0)
    return pm.Workload.from_lengths(q.lengths["isl"], q.lengths["osl"], prefix_hit=hit, **spread, **arrivals)


def case(q: Question) -> dict[str, Any]:
    """Return a question as a row of cases for `predict`, with the engine's own settings where it says nothing."""
    layout, pools = q.layout, q.pools
    size = layout["tp"] * layout["pp"] * layout["dp"] * layout["cp"]
    degrees: dict[str, Any] = {"tp": layout["tp"], "pp": layout["pp"], "ep": layout["ep"], "dp_attention": layout["dp"]}
    if pools:
        same = {f"{role}_{k}": layout[k] for role in ("prefill", "decode") for k in ("tp", "pp", "ep", "dp")}
        degrees = {**same, **pools}
    lengths = {{"dataset": "trace"}.get(k, k): v for k, v in q.lengths.items()}
    return {
        "model": q.model,
        "device": q.device,
        "engine": q.engine,
        "recipe": "default",
        "mode": q.arrival,
        **({} if pools else {"n_devices": size * layout["replicas"], "cp": layout["cp"]}),
        **degrees,
        **{f"{k}_dtype": v for k, v in q.formats.items()},
        **q.settings,
        **lengths,
        **q.load,
        **q.memory,
    }


def ask_predict(asked: Sequence[Question]) -> list[Row | Refused]:
    """Ask the command `predict` about all questions in one table."""
    rows = [case(q) for q in asked]
    names = list(dict.fromkeys(k for row in rows for k in row))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
        answers = json.loads(command("predict", str(path), "--json"))
    return [_predicted(a, names) for a in answers]


def _predicted(answer: dict[str, Any], asked: Sequence[str]) -> Row | Refused:
    """Return the figures that `predict` wrote into one row, or what it refuses the row for."""
    if answer["error"]:
        return Refused(answer["error"])
    return {
        k: {"true": True, "false": False}.get(v, v) if isinstance(v, str) else v
        for k, v in answer.items()
        if k not in asked
    }


def scenario(q: Question) -> str:
    """Return a scenario pinned to a question's layout; replicas follow from the load."""
    work: dict[str, Any] = {"arrival": q.arrival, **q.lengths, **q.load}
    work |= {"concurrency": work.pop("batch")} if "batch" in work else {}
    work |= {"input_tokens": work.pop("isl"), "output_tokens": work.pop("osl")} if "isl" in work else {}
    axes = {k: [v] for k, v in {**q.layout, **q.formats}.items() if k != "replicas"}
    axes |= {k: [v] for k, v in q.settings.items() if k != "gpu_memory_utilization"}
    tables: dict[str, dict[str, Any]] = {
        "model": {"name": q.model, "allow_long_context": True},
        "workload": {k: v for k, v in work.items() if v != ""},
        "slo": q.bounds,
        "hardware": {"devices": [q.device]},
        "engine": {"name": q.engine, **{k: v for k, v in q.settings.items() if k == "gpu_memory_utilization"}},
        "search": axes,
        "site": {"pue": q.site["pue"]} if "pue" in q.site else {},
        "adapters": {k.removeprefix("lora_"): v for k, v in q.memory.items() if k.startswith("lora_")},
        "offload": {k.removeprefix("host_"): v for k, v in q.memory.items() if k.startswith("host_")},
    }
    text = "\n".join(
        f"[{n}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for n, t in tables.items() if t
    )
    price = q.site.get("usd_per_hour")
    return text + (f'\n[hardware.usd_per_hour]\n"{q.device}" = {price}\n' if price else "")


def ask_plan(q: Question) -> Row:
    """Ask the command `plan` for a scenario that is pinned to the question's layout; the best row, or the nearest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        path.write_text(scenario(q), encoding="utf-8")
        try:
            rows = json.loads(command("plan", str(path), "--json", "--top", "1", "--misses", "1"))
        except Refused as refusal:
            if "nothing meets" not in str(refusal):
                raise
            rows = [{k: json_value(v) for k, v in row.items()} for row in plan(load_scenario(path)).rows(1, 1)]
    if not rows:
        raise Refused("no candidate")
    return dict(rows[0])


def ask_estimate_of_plan(q: Question) -> tuple[Row, Row]:
    """Ask `plan`, then `estimate` with the replicas that the plan chose; returns both rows."""
    planned = ask_plan(q)
    words = estimate_words(q, {"replicas": int(planned["replicas"])})
    found = dict(json.loads(command(*words))[0])
    return planned, found


#: Columns of a plan's row that name a prefill worker -> flags of `estimate`; the others have the flag's own name.
FLAGS = {"dp": "dp-attention", "weight": "weights", "act": "activations"}
#: Columns of a plan's row that describe a deployment or a worker of a pool.
DEPLOYED = ("tp", "pp", "ep", "dp", "cp", "weight", "act", "kv", "max_num_batched_tokens", "max_num_seqs")
HOSTED = ("host_weights", "host_experts", "host_kv")
#: Cells of a row that leave a setting to the program.
OPEN = (None, "own", "")


def words_of_row(row: Row, question: Sequence[str]) -> list[str]:
    """Return the command line of `estimate` that estimates a plan's row again.

    row: as `plan --json` prints it. question: model, lengths and load, which the scenario states for all rows.
    """
    pooled = row["mode"] == "disaggregated"
    flags: dict[str, Any] = {"device": row["device"]}
    flags |= {FLAGS.get(c, c): row[c] for c in (*DEPLOYED, *HOSTED) if row.get(c) not in OPEN}
    if row.get("gpu_memory_utilization") not in OPEN:
        flags["gpu-memory-utilization"] = row["gpu_memory_utilization"]
    if not pooled:
        flags["replicas"] = row["replicas"]
    else:
        own = ("kv", *HOSTED)  # those that both pools share
        flags |= {"prefill-workers": row["prefill_workers"], "decode-workers": row["decode_workers"]}
        flags["prefill-device"] = row["prefill_device"]
        given = [c for c in DEPLOYED if c not in own and row.get(f"prefill_{c}") not in OPEN]
        flags |= {f"prefill-{FLAGS.get(c, c)}": row[f"prefill_{c}"] for c in given}
    return [*question, *(w for k, v in flags.items() for w in (f"--{k.replace('_', '-')}", str(v))), "--json"]


def ask_again(row: Row, question: Sequence[str]) -> Row:
    """Estimate a plan's row again from its columns."""
    return dict(json.loads(command(*words_of_row(row, question)))[0])


# -- comparison -----------------------------------------------------------------------------------------------------


def figures(row: Row) -> dict[str, Any]:
    """Return the numbers, flags and the basis of a row under one name each; unknown ones (None, NaN) are None."""
    out = {}
    for name, value in row.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number or isinstance(value, bool) or name == "basis" or value is None:
            known = value if not number or math.isfinite(value) else None
            out.setdefault(SAME.get(name, name), known)
    return {k: v for k, v in out.items() if k not in NO_FIGURES}


def differences(one: Row, other: Row) -> list[str]:
    """Return a line for each figure that two doors give differently."""
    a, b = figures(one), figures(other)
    return [f"{k}: {a[k]!r} and {b[k]!r}" for k in a if k in b and not _equal(a[k], b[k])]


def _equal(a: Any, b: Any) -> bool:
    """Return True where two values are the same figure."""
    if isinstance(a, str | bool) or isinstance(b, str | bool) or a is None or b is None:
        return bool(a == b)
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=0.0)


@dataclass
class Tally:
    """Counts what a pair of doors was asked, and how it differs. names: how often each figure differs."""

    asked: int = 0
    answered: int = 0
    different: int = 0
    names: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, q: Question, one: Callable[[], Row], other: Callable[[], Row]) -> None:
        """Ask two doors and count."""
        self.asked += 1
        answers: list[Row | Refused] = []
        for ask in (one, other):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answers.append(ask())
            except Refused as refusal:
                answers.append(refusal)
        refusals = [a for a in answers if isinstance(a, Refused)]
        if len(refusals) == len(answers):
            return
        self.answered += 1
        found = [f"one refuses: {refusals[0]}"] if refusals else differences(answers[0], answers[1])  # type: ignore[arg-type]
        if found:
            self.different += 1
            self.names.update(line.split(":")[0] for line in found)
            self.examples.append(f"{' '.join(estimate_words(q))}\n      " + "\n      ".join(found[:4]))


def raised(answer: Row | Refused) -> Row:
    """Return an answer; raise it where it is a refusal."""
    if isinstance(answer, Refused):
        raise answer
    return answer


def compare(asked: Sequence[Question]) -> dict[str, Tally]:
    """Ask all doors all questions; returns a tally for each pair of doors."""
    tallies = {name: Tally() for name in ("python and estimate", "predict and estimate", "plan and estimate")}
    predicted = ask_predict(asked)
    for q, row in zip(asked, predicted, strict=True):
        direct = cache(lambda q=q: ask_estimate(q))
        tallies["python and estimate"].add(q, lambda q=q: ask_python(q), direct)
        tallies["predict and estimate"].add(q, lambda row=row: raised(row), direct)
        if not q.pools:
            both = cache(lambda q=q: ask_estimate_of_plan(q))
            tallies["plan and estimate"].add(q, lambda both=both: both()[0], lambda both=both: both()[1])
    return tallies


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=5)
    options = parser.parse_args()
    tallies = compare(list(questions(options.count, options.seed)))
    for name, t in tallies.items():
        print(
            f"{name}: {t.asked} asked, {t.answered} answered, {t.different} different; {dict(t.names.most_common(8))}"
        )
        for text in t.examples[: options.show]:
            print(f"   {text}")
    tried = sum(t.answered for t in tallies.values())
    print(
        f"{options.count} configurations, {tried} comparisons, {sum(t.different for t in tallies.values())} differences"
    )


if __name__ == "__main__":
    main()
