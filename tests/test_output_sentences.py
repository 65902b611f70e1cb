"""Sentences of a plan and of an estimate: odds in plain words, what each miss lacks, one of a thing in the singular."""

from __future__ import annotations

import random
import re
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import cli
from hwdb import counted
from hwdb.tomlfile import Table
from perfmodel.costs import Roofline
from search import Plan, plan
from search.output import headline, plan_tables, price_note, print_plan, question
from search.scenario.scenario import read_scenario

TEXT = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 500
output_tokens = 100
{load}
[slo]
{slo}
[hardware]
devices = [{devices}]
{stock}
[search]
tp = [1]
pp = [1]
weight = "bf16"
{search}
[limits]
{limits}
"""
SLO = "ttft_ms_p90 = 400\ntpot_ms = 15"
#: "1 requests" and the like: a plural behind a lone 1.
PLURAL_OF_ONE = re.compile(r"(?<![\d.,])1 (requests|devices|replicas|nodes|models|candidates|prices|streams|workers)\b")


@cache
def planned(
    load: str = "request_rate_rps = 20",
    slo: str = SLO,
    *,
    devices: str = '"h100-sxm", "l40s"',
    stock: str = "",
    search: str = "",
    limits: str = "",
) -> Plan:
    text = TEXT.format(load=load, slo=slo, devices=devices, stock=stock, search=search, limits=limits)
    return plan(read_scenario(Table(tomllib.loads(text), "scenario.toml"), Path()), costs=Roofline())


def screen(found: Plan, capsys: pytest.CaptureFixture[str]) -> str:
    print_plan(found, found.rows())
    return " ".join(capsys.readouterr().out.split())


# ------------------------------------------------------------------------------------------ odds


@pytest.mark.parametrize("chance", [0.2, 0.335, 0.5, 0.51, 0.6, 0.64, 0.66, 0.8, 0.97])
def test_a_plan_is_taken_only_where_it_is_sure_enough(chance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(slo="tpot_ms = 60")
    chances = np.full(len(found), chance)
    safer = int(found.order[1])
    assert found.qualifies[safer]
    chances[safer] = 0.99
    monkeypatch.setitem(found.columns, "slo_chance", chances)  # type: ignore[arg-type]
    said = headline(found)
    assert f"{chance:.0%}".replace("%", " %") in said or chance > 0.99
    assert said.startswith("Take ") is (chance >= 0.65)
    assert ("measure it first" in said) is (chance < 0.65)
    if chance < 0.65:
        assert f"or take rank 2 ({found.name(safer)}" in said
    assert ("coin flip" in said) is (chance in (0.5, 0.51))
    assert ("about 1 in 3" in said) is (chance == 0.335)
    assert ("about 3 in 5" in said) is (chance == 0.6)


def test_without_a_safer_candidate_more_confidence_is_advised_and_what_was_asked_for_is_enough() -> None:
    full = planned("", SLO, stock="stock = { h100-sxm = 2, l40s = 2 }")
    assert "measure it first, or " in headline(full)
    assert "less traffic with a higher confidence in [limits]" in headline(full) or "take rank" in headline(full)
    asked = planned(limits="confidence = 0.6")
    assert asked.columns["slo_chance"][asked.best] >= 0.6
    assert headline(asked).startswith("Take ")


def test_without_slos_nothing_is_kept_and_no_chance_is_told() -> None:
    said = headline(planned(slo=""))
    assert "SLO" not in said
    assert "sure" not in said
    assert "It serves up to " in said
    assert "It keeps the SLOs up to " in headline(planned())


# ------------------------------------------------------------------------------------------ one of a thing


@pytest.mark.parametrize("seed", range(20))
def test_amounts_agree_with_their_nouns(seed: int) -> None:
    draw = random.Random(seed)
    noun = draw.choice(["device", "request/s", "request in flight", "node", "price"])
    amount = draw.choice([1, 1.0, 0, 2, 7, 1.5, 1000, 11])
    word = counted(amount, noun).split(" ", 1)[1]
    assert word == noun if amount == 1 else word.startswith(re.match("[a-z]+", noun)[0] + "s")  # type: ignore[index]


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ("request_rate_rps = 1", "1 request/s of"),
        ("concurrency = 1", "1 request in flight of"),
        ("n_requests = 1", "1 request at once of"),
        ("concurrency = 3", "3 requests in flight of"),
    ],
)
def test_one_request_is_no_plural(load: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(load, "tpot_ms = 60", devices='"h100-sxm"', stock="stock = { h100-sxm = 1 }")
    assert words in question(found)
    assert "rate" not in load or not PLURAL_OF_ONE.search(screen(found, capsys))


def test_lists_of_one_are_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("hw", "list", "--vendor", "groq"), ("models", "list", "--like", "gpt-oss-20b")):
        assert cli.main([*words]) == 0
        assert capsys.readouterr().out.startswith(("1 device\n", "1 model\n"))


# ------------------------------------------------------------------------------------------ misses


@pytest.mark.parametrize("seed", range(8))
def test_each_miss_says_what_it_lacks_and_by_how_much(seed: int) -> None:
    """Random bounds that some candidates miss: a reason never reads as kept, is within stock, and fits in memory."""
    draw = random.Random(seed)
    slo = f"ttft_ms_p90 = {draw.choice([30, 60, 400])}\ntpot_ms = {draw.choice([4, 8, 15])}"
    stock = draw.choice(["", "stock = { h100-sxm = 2, l40s = 4 }"])
    limits = draw.choice(["", "confidence = 0.8", "power_kw = 2", "devices = 2", "usd_per_hour = 6"])
    found = planned("request_rate_rps = 40", slo, stock=stock, limits=limits)
    missed = found.order[int(found.qualifies.sum()) :]
    listed = missed[(found.columns["within_limits"][missed] > 0) & (found.columns["fits"][missed] > 0)]
    for number in listed.tolist():
        why, device = found.reason(number), found.layouts.devices[int(found.layouts.device[number])].name
        assert not why.startswith(("keeps", "does not fit"))
        assert re.search(r"too much|more than on hand|serves .* at most|misses .* by ", why), why
        assert re.search(r"\d", why)
        numbers = re.search(r"is ([\d.,]+) ms against ([\d.,]+) ms", why)
        if numbers:
            assert float(numbers[1].replace(",", "")) >= float(numbers[2].replace(",", ""))
        if stock:
            assert found.columns["devices"][number] <= {"h100-sxm": 2, "l40s": 4}[device]
    if seed < 2 and len(listed):
        assert {row["reason"] for row in found.misses(4)} <= {found.reason(number) for number in listed.tolist()}


def test_what_does_not_fit_is_listed_only_where_nothing_does() -> None:
    text = (
        TEXT.replace("8B", "70B")
        .replace("tp = [1]", "tp = [1, 4]")
        .format(load="request_rate_rps = 2", slo="tpot_ms = 3", devices='"h100-sxm"', stock="", search="", limits="")
    )
    some = plan(read_scenario(Table(tomllib.loads(text), "scenario.toml"), Path()), costs=Roofline())
    assert (some.columns["fits"] == 0).any()
    assert not any("does not fit" in row["reason"] for row in some.misses(10))
    assert "does not fit" not in some.message
    alone = text.replace("tp = [1, 4]", "tp = [1]")
    none = plan(read_scenario(Table(tomllib.loads(alone), "scenario.toml"), Path()), costs=Roofline())
    assert re.search(r"does not fit: .*; [\d.]+ GB per device too much", none.message)


# ------------------------------------------------------------------------------------------ prices, titles, estimates


def test_prices_name_their_devices_and_read_as_sentences() -> None:
    rows = planned().rows()
    (said,) = price_note(rows)
    used = {row["device"] for row in rows}
    assert all(f"{device}: " in said for device in used) if len(used) > 1 else said.startswith("Price: ")
    assert " by " in said
    assert "various any" not in said


def test_the_times_of_pools_are_those_of_their_workers(capsys: pytest.CaptureFixture[str]) -> None:
    pools = planned(devices='"h100-sxm"', search='modes = ["disaggregated"]', slo="tpot_ms = 60")
    assert "a prefill worker: all steps of the prompts that it computes together" in screen(pools, capsys)
    assert "all steps of a prompt, mean over the prompts" in screen(planned(), capsys)


def test_an_estimate_without_a_price_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", "meta-llama/Llama-3.1-8B", "--device", "mi350x"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no price is known for mi350x: give one with --usd-per-hour" in said
    assert "[hardware]" not in said


@pytest.mark.parametrize("words", [("estimate", "meta-llama/Llama-3.1-8B", "--device"), ("hw", "show")])
def test_an_unknown_device_may_be_described(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "no-such-thing-at-all"]) == 2
    assert "--hwdb" in capsys.readouterr().err


def test_the_list_of_models_has_the_longest_context(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["models", "list", "--like", "llama-3.1"]) == 0
    said = capsys.readouterr().out
    assert "131,072" in said
    assert max(map(len, said.splitlines())) <= 80


# ---------------------------------------------------------------- which ranks a table lists, and why


def ranked(*rows: tuple[int, str]) -> list[dict[str, object]]:
    return [{"rank": rank, "best_of": best_of} for rank, best_of in rows]


def test_a_rank_left_out_before_a_row_that_is_best_of_its_kind_is_said() -> None:
    """Ranks 1, 2 and 4 are the three asked for; that the last is also the best of a mode changes nothing."""
    rows = ranked((1, "colocated"), (2, ""), (4, "disaggregated"))
    (told,) = plan_tables._rented_alike(rows[:3])
    assert told.startswith("Rank 3 rents")
    assert plan_tables._beyond_the_list(rows[3:]) == []


def test_only_rows_below_the_list_are_explained() -> None:
    rows = ranked((1, "colocated; h100-sxm"), (2, ""), (9, "h200-sxm"), (30, "disaggregated"))
    assert plan_tables._rented_alike(rows[:2]) == []
    (told,) = plan_tables._beyond_the_list(rows[2:])
    assert told == "Among these, rank 9 is the best of h200-sxm; rank 30 is the best of disaggregated."


@pytest.mark.parametrize(("slo", "said"), [("tpot_ms = 200", True), ("tpot_ms = 200\nttft_ms = 1e6", False)])
def test_a_wait_that_nothing_bounds_is_said(slo: str, said: bool) -> None:
    """Of 4,000 requests in flight a replica runs a few hundred: the others wait for their first token."""
    found = planned(slo=slo, load="concurrency = 4000", devices='"h100-sxm"', stock="stock = { h100-sxm = 1 }")
    row = found.row(found.best)
    assert row["running"] < row["concurrency_per_replica"] / 2
    assert ("Nothing bounds the time to the first token" in headline(found)) is said
