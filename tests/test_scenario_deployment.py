"""Adapters, host memory and pools as scenarios and flags ask for them: read, refused by name, searched, estimated."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import cli
import hwdb
import search
from hwdb import InputError
from perfmodel import Workload, deployments, estimate_disaggregated, model
from perfmodel.deployment import HandOver
from perfmodel.estimates.estimates import Estimates
from perfmodel.hardware.host import host_figures
from perfmodel.models.lora import Adapters
from search.planning import space_of, tariff_of
from search.planning.plan_analysis.explained import memory_of, terms_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODEL = "llama-3.1-8b"
BASE = """\
[model]
name = "Llama-3.1-8B-Instruct"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 4
[hardware]
nodes = ["desktop-rtx-4090"]
[search]
tp = 1
pp = 1
"""


def read(tmp_path: Path, extra: str) -> search.Scenario:
    path = tmp_path / "s.toml"
    path.write_text(BASE + extra, encoding="utf-8")
    return search.load_scenario(path)


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert cli.main(list(words)) == code
    told = capsys.readouterr()
    return told.err if code else told.out


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    row: dict[str, object] = json.loads(run(capsys, "estimate", MODEL, "--device", "h100-sxm", *words, "--json"))[0]
    return row


# -------------------------------------------------------------------------------------------------------- scenarios


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    s = read(
        tmp_path,
        '[adapters]\nrank = 8\ncount = 90\nresident = 9\nzipf = 1.2\ntargets = ["q", "v"]\n'
        '[offload]\nweights = [0, 0.5]\nkv = 0.25\nwhere = "compute"\nhost = "xeon-8592p"\nsockets = 0.5\n'
        "host_link_gbs = 20\n",
    )
    assert s.adapters == Adapters(8, 90, 9, 1.2, ("q", "v"))
    assert s.offload.axes == {"host_weights": (0.0, 0.5), "host_experts": (0.0,), "host_kv": (0.25,)}
    host = s.offload.host
    assert (host.link, host.where, host.prefetch) == (20e9, "compute", False)
    assert {k: getattr(host, k) for k in ("memory", "bandwidth", "flops", "matrix_flops")} == host_figures(
        hwdb.device("xeon-8592p"), 0.5
    )


def test_the_link_between_pools_reaches_every_candidate(tmp_path: Path) -> None:
    s = read(tmp_path, '[pools]\nkv_link = "network"\nkv_link_gbs = 12\nhand_over_ms = 5\nlayerwise = true\n')
    assert s.hand_over == HandOver(place="network", bandwidth=12e9, delay=0.005, layerwise=True)
    spec = s.model_called(s.model)
    assert space_of(s, spec, tariff_of(s)).deployments(np.zeros(1, int)).hand_over is s.hand_over
    assert read(tmp_path, "").hand_over == HandOver()


def test_without_the_tables_nothing_is_asked(tmp_path: Path) -> None:
    s = read(tmp_path, "")
    assert s.adapters is None
    assert all(shares == (0.0,) for shares in s.offload.axes.values())
    assert s.offload.host.memory == hwdb.node("desktop-rtx-4090").si("host.memory")  # of the node on offer


WRONG = [
    ("[adapters]\nrank = 0", r"line 13, \[adapters\] rank"),
    ("[adapters]\nrank = -4", r"\[adapters\] rank: -4"),
    ("[adapters]\ncount = 4", r"'rank' is missing"),
    ("[adapters]\nrank = 8\ncount = 2\nresident = 3", r"\[adapters\]: adapters: resident 3 exceeds count 2"),
    ("[adapters]\nrank = 8\nzipf = -1", r"\[adapters\] zipf: -1"),
    ('[adapters]\nrank = 8\ntargets = ["qkv"]', r"unknown adapter target 'qkv'"),
    ("[adapters]\nrank = 8\nranks = 8", r"unknown key 'ranks'; did you mean 'rank'"),
    ("[offload]\nweights = 1.5", r"line 13, \[offload\] weights: 1.5 is no share; give 0 \(none\) to 1"),
    ("[offload]\nkv = [0.5, -0.5]", r"\[offload\] kv: -0.5"),
    ('[offload]\nwhere = "there"', r"\[offload\] where: .*'there'"),
    ('[offload]\nhost = "h100-sxm"', r"\[offload\] host: h100-sxm is no CPU but a gpu; name the CPU"),
    ('[offload]\nhost = "xeon-8592"', r"unknown device 'xeon-8592'; did you mean 'xeon-8592p'"),
    ("[offload]\nhost_link_gbs = 0", r"\[offload\] host_link_gbs: 0"),
    ("[offload]\nsockets = -1", r"\[offload\] sockets: -1"),
    ('[offload]\nwhere = "compute"\nprefetch = true', r"\[offload\] prefetch: offload: prefetch is for streaming"),
    ("[offload]\nweight = 0.5", r"unknown key 'weight'; did you mean 'weights'"),
    ('[pools]\nkv_link = "moon"', r"line 13, \[pools\] kv_link: .*'moon'"),
    ("[pools]\nkv_link_gbs = 0", r"\[pools\] kv_link_gbs: 0"),
    ("[pools]\nhand_over_ms = -1", r"\[pools\] hand_over_ms: -1"),
    ("[pools]\nlayerwise = 1", r"\[pools\] layerwise"),
    ("[pools]\nlink = 1", r"unknown key 'link'"),
]


@pytest.mark.parametrize(("extra", "says"), WRONG, ids=[w.replace("\n", " ") for w, _ in WRONG])
def test_mistakes_are_named_with_line_and_way_out(tmp_path: Path, extra: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(tmp_path, extra)


def test_a_host_of_which_nothing_is_known_is_named_by_the_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rtx-4090: the memory bandwidth of its host is not known; give host_memory"):
        search.plan(read(tmp_path, '[offload]\nweights = 0.5\nwhere = "compute"\n'))


def test_a_plan_chooses_the_least_share_that_fits() -> None:
    found = search.plan(search.load_scenario(EXAMPLES / "offload-experts.toml"))
    shares = found.layouts.host_experts
    assert shares.tolist() == [0.0, 0.5, 0.75, 0.85, 1.0]
    assert found.row(found.best)["host_experts"] == 0.75
    assert "75 % of experts in host memory" in found.name(found.best)
    assert [bool(q) for q in found.qualifies] == [False, False, True, True, True]
    assert memory_of(found)["host_gb"] == pytest.approx(0.75 * 61, rel=0.03)  # of 36 layers x 128 experts in 4.25 bits
    assert {"host_memory"} <= {t["operator"] for t in terms_of(found)}


def test_a_plan_with_adapters_needs_more_than_one_without(tmp_path: Path) -> None:
    base, lora = (
        search.plan(read(tmp_path, text)) for text in ("", "[adapters]\nrank = 64\ncount = 40\nresident = 10\n")
    )
    assert lora.columns["tpot_ms"][lora.best] > base.columns["tpot_ms"][base.best]
    assert memory_of(lora)["adapters_gb"] == pytest.approx(10 * 8 * 41_943_040 / 1e9)
    assert "adapters_gb" not in memory_of(base)


# ------------------------------------------------------------------------------------------------------------ flags


def test_flags_ask_for_adapters_and_host_memory(capsys: pytest.CaptureFixture[str]) -> None:
    load = ("--concurrency", "16")
    base = asked(capsys, *load)
    lora = asked(capsys, *load, "--lora-rank", "16", "--lora-count", "20")
    away = asked(capsys, *load, "--host-weights", "0.5", "--host-prefetch")
    assert "20 adapters of rank 16" in str(lora["layout"])
    assert "50 % of weights in host memory" in str(away["layout"])
    for slower in (lora, away):
        assert float(str(slower["tpot_ms"])) > float(str(base["tpot_ms"]))
    assert float(str(away["memory_gb_per_device"])) < float(str(base["memory_gb_per_device"]))
    computed = asked(
        capsys, *load, "--host-weights", "0.5", "--host-compute", "--host-cpu", "xeon-8592p", "--host-sockets", "0.25"
    )
    assert float(str(computed["tpot_ms"])) > float(str(base["tpot_ms"]))


POOLS = ("--prefill-workers", "3", "--decode-workers", "2", "--prefill-device", "l40s", "--request-rate-rps", "4")


def test_pools_print_what_the_library_computes(capsys: pytest.CaptureFixture[str]) -> None:
    row = asked(capsys, *POOLS, "--tp", "2", "--prefill-tp", "1")
    back = deployments([hwdb.device("h100-sxm")], tp=2)
    front = deployments([hwdb.device("l40s")])
    found: Estimates = estimate_disaggregated(
        model(MODEL),
        Workload.from_lengths(1024, 256, rate=4.0),
        front,
        back,
        prefill_workers=np.array([3.0]),
        decode_workers=np.array([2.0]),
    )
    for name in ("ttft_ms", "tpot_ms", "output_tok_s", "power_w_per_device"):
        assert row[name] == pytest.approx(float(found.columns()[name][0])), name
    assert row["devices"] == 3 * 1 + 2 * 2
    assert (row["prefill_tp"], row["tp"], row["prefill_workers"], row["decode_workers"]) == (1, 2, 3, 2)
    prices = {d: asked(capsys, "--device", d, "--request-rate-rps", "4")["usd_per_hour"] for d in ("h100-sxm", "l40s")}
    assert row["usd_per_hour"] == pytest.approx(3 * float(str(prices["l40s"])) + 4 * float(str(prices["h100-sxm"])))


def test_pools_come_as_csv_and_as_a_sheet(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "estimate", MODEL, "--device", "h100-sxm", *POOLS, "--csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["layout"] == "prefill 3 x 1 l40s + decode 2 x 1 h100-sxm"
    sheet = run(capsys, "estimate", MODEL, "--device", "h100-sxm", *POOLS, "--ttft-ms", "2000")
    assert "prefill 3 x 1 l40s + decode 2 x 1 h100-sxm" in sheet
    assert "Sure %" in sheet


def test_pools_are_explained_each_by_its_phase(capsys: pytest.CaptureFixture[str]) -> None:
    terms = json.loads(run(capsys, "estimate", MODEL, "--device", "h100-sxm", *POOLS, "--explain", "--json"))
    alone = json.loads(run(capsys, "estimate", MODEL, "--device", "l40s", "--explain", "--json"))
    assert [t["phase"] for t in terms] == sorted((t["phase"] for t in terms), reverse=True)
    first = {t["operator"]: t["time_us"] for t in terms if t["phase"] == "prefill"}
    assert first["up"] == pytest.approx(next(t["time_us"] for t in alone if t["operator"] == "up"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--prefill-workers", "2"), "--decode-workers is missing; give 1 or more"),
        (("--decode-workers", "2"), "--prefill-workers is missing"),
        (("--prefill-workers", "0", "--decode-workers", "2"), "--prefill-workers 0 is too few; give 1 or more"),
        (("--prefill-tp", "2"), "--prefill-tp needs two pools; give --prefill-workers and --decode-workers"),
        (("--prefill-dp-attention", "2"), "--prefill-dp-attention needs two pools"),
        (("--prefill-workers", "1", "--decode-workers", "2", "--replicas", "2"), "--replicas and --decode-workers"),
        (("--prefill-workers", "1", "--decode-workers", "2", "--prefill-tp", "0"), "tp=0 is no degree"),
        (("--prefill-workers", "1", "--decode-workers", "2", "--prefill-device", "h10"), "unknown device 'h10'"),
        (("--lora-count", "3"), "--lora-count needs --lora-rank"),
        (("--lora-rank", "0"), "rank 0 is impossible"),
        (("--lora-rank", "8", "--lora-targets", "q,x"), "unknown adapter target 'x'"),
        (("--lora-rank", "5000"), "rank 5000 exceeds the width 4096"),
        (("--host-kv", "2"), "host_kv 2 is no share"),
        (("--host-experts", "0.5"), "host_experts 0.5: meta-llama/Llama-3.1-8B has no routed experts"),
        (("--host-link-gbs", "nan"), "--host-link-gbs nan is impossible; give more than 0"),
        (("--host-memory-gb", "-3"), "--host-memory-gb -3 is impossible"),
        (("--host-sockets", "-1"), "--host-sockets -1 is impossible"),
        (("--host-cpu", "xeon-8592p", "--host-sockets", "0"), "--host-sockets 0 is impossible"),
        (("--host-cpu", "xeon-8592p", "--host-sockets", "nan"), "--host-sockets nan is impossible"),
        (("--host-sockets", "2"), "--host-sockets needs --host-cpu; name the CPU"),
        (("--device", "rtx-4090", "--host-kv", "0.5", "--host-compute"), "name the host's CPU (flag --host-cpu"),
        (("--device", "b300-sxm", "--host-kv", "0.5"), "give host_link_gbs in a scenario, or the flag --host-link-gbs"),
        (("--host-cpu", "l40s"), "l40s is no CPU"),
        (("--host-compute", "--host-prefetch"), "leave out one of the two (flags --host-prefetch and --host-compute"),
    ],
)
def test_flags_that_cannot_be_are_named(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    told = run(capsys, "estimate", MODEL, "--device", "h100-sxm", *words, code=2)
    assert says in told
    assert told.startswith("error: ")


def test_one_adapter_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, "--lora-rank", "16")["layout"] == "1 x 1 h100-sxm, 1 adapter of rank 16"


# -------------------------------------------------------------------------------------------------- link between pools


def two_pools(capsys: pytest.CaptureFixture[str], *words: str, device: str = "a100-sxm-80gb") -> float:
    """Mean TTFT in ms of a 13B model on two pools of one device each."""
    load = ("--isl", "512", "--osl", "64", "--request-rate-rps", "1")
    pools = ("--prefill-workers", "1", "--decode-workers", "1")
    return json.loads(run(capsys, "estimate", "facebook/opt-13b", "--device", device, *load, *pools, "--json", *words))[
        0
    ]["ttft_ms"]


def test_flags_state_the_link_between_pools(capsys: pytest.CaptureFixture[str]) -> None:
    usual, node = two_pools(capsys), two_pools(capsys, "--kv-link", "node")
    assert usual == node < two_pools(capsys, "--kv-link", "rack") < two_pools(capsys, "--kv-link", "network")
    assert two_pools(capsys, "--hand-over-ms", "0") == pytest.approx(usual - 20.0)
    slow = two_pools(capsys, "--kv-link-gbs", "1")
    assert slow - usual > 0.9 * 512 * 2 * 40 * 5120 * 2 / 1e9 * 1e3 - 20  # OPT-13B: 0.8 MB of KV cache per token
    assert two_pools(capsys, "--kv-link-gbs", "4", "--layerwise") < two_pools(capsys, "--kv-link-gbs", "4")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--kv-link", "moon"), "pools: link 'moon' is unknown; choose one of auto, node, rack, network"),
        (("--kv-link-gbs", "0"), "moves nothing; give more than 0"),
        (("--hand-over-ms", "-1"), "is impossible; give 0 or more"),
    ],
)
def test_impossible_links_are_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    base = ("estimate", "facebook/opt-13b", "--device", "a100-sxm-80gb")
    pools = ("--prefill-workers", "1", "--decode-workers", "1")
    assert says in run(capsys, *base, *pools, *words, code=2)
    assert "needs two pools" in run(capsys, *base, *words, code=2)


def test_pools_of_one_node_meet_a_tight_limit_on_the_first_token(capsys: pytest.CaptureFixture[str]) -> None:
    """A hand-over inside a node takes milliseconds, so a limit of 0.2 s is within reach (DistServe)."""
    words = ("--isl", "1200", "--osl", "150", "--request-rate-rps", "0.2", "--prefill-workers", "1")
    limit = ("--slo", "ttft_ms_p90=200", "--slo", "tpot_ms_p90=100")
    base = ("estimate", "facebook/opt-13b", "--device", "a100-sxm-80gb", "--decode-workers", "1", *words, "--json")
    assert json.loads(run(capsys, *base, *limit))[0]["ttft_ms_p90"] < 200
    far = run(capsys, *base, "--kv-link", "network")
    assert json.loads(far)[0]["ttft_ms_p90"] > 200
