"""Bounds of SLOs that have to be longer before a fleet is possible, and why options serve no class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search import FleetInfeasible, Relaxation, load_scenario, plan_fleet

SCENARIO = """\
[limits]
utilisation = 0.8
[hardware]
stock = {{ h100-sxm = {stock} }}
[fleet]
[[fleet.region]]
name = "here"
latency_ms = {{ there = {away} }}
[[fleet.region]]
name = "there"
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B-Instruct"
input_tokens = 2000
output_tokens = 200
request_rate_rps = {rate}
slo = {{ ttft_ms_p90 = {ttft}, tpot_ms = {tpot} }}
region = "there"
[[fleet.option]]
name = "one"
device = "h100-sxm"
tp = 1
region = "here"
{more}
"""


def ways(folder: Path, **told: object) -> tuple[str, dict[str, float]]:
    """The message, and by bound the milliseconds that the message asks for, of changes of one bound."""
    path = folder / "fleet.toml"
    usual: dict[str, object] = {"stock": 64, "away": 0, "rate": 10, "ttft": 300, "tpot": 25, "more": ""}
    path.write_text(SCENARIO.format_map({**usual, **told}), encoding="utf-8")
    try:
        plan_fleet(load_scenario(path))
    except FleetInfeasible as error:
        alone = [r for r in error.relaxations if len(r.limits) == 1]
        return str(error), {n: to for r in alone for n, (_, to) in r.limits.items() if n.startswith("slo[")}
    return "", {}


@pytest.mark.parametrize(
    "told", [{"ttft": 20}, {"tpot": 3}, {"stock": 3, "tpot": 9}, {"away": 250}, {"away": 400}], ids=str
)
def test_the_bound_that_is_named_gives_a_fleet_and_a_shorter_one_does_not(
    told: dict[str, object], tmp_path: Path
) -> None:
    """SLOs that no replica keeps; that the stock is too small for; that the network takes up."""
    message, found = ways(tmp_path, **told)
    assert found, message
    for name, milliseconds in found.items():
        key = re.sub(r"_ms.*", "", name.removeprefix("slo["))
        assert ways(tmp_path, **{**told, key: milliseconds})[0] == ""
        assert ways(tmp_path, **{**told, key: milliseconds / 1.03})[0] != ""


def test_bounds_are_named_together_where_none_alone_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    message, alone = ways(tmp_path, ttft=20, tpot=3)
    assert alone == {}
    found = re.search(
        r"raise ttft_ms_p90 of chat from 20 to (\S+) ms and raise tpot_ms of chat from 3 to (\S+) ms", message
    )
    assert found is not None
    ttft, tpot = map(float, found.groups())
    assert ways(tmp_path, ttft=ttft, tpot=tpot)[0] == ""
    assert ways(tmp_path, ttft=ttft / 1.03, tpot=tpot)[0] != ""
    assert ways(tmp_path, ttft=ttft, tpot=tpot / 1.03)[0] != ""
    assert path.exists()


def test_an_option_that_is_left_out_says_what_it_would_need(tmp_path: Path) -> None:
    """The bound that its nearest layout keeps without load, round trip included; or that the model does not fit."""
    message, found = ways(tmp_path, ttft=20, away=10)
    said = re.search(
        r"'one' is left out: .* needs a ttft_ms_p90 of (\S+) ms for chat even without load, and 20 ms are", message
    )
    assert said is not None
    (needed,) = found.values()
    assert float(said.group(1)) <= needed <= float(said.group(1)) * 1.1
    more = '[[fleet.option]]\nname = "small"\ndevice = "l4"\ntp = 1\nregion = "here"\nmodels = ["{0}"]'
    other = '[[fleet.class]]\nname = "big"\nmodel = "{0}"\ninput_tokens = 9\noutput_tokens = 9\nrequest_rate_rps = 1'
    big = "meta-llama/Llama-3.1-70B-Instruct"
    message, found = ways(tmp_path, more=f"{more.format(big)}\n{other.format(big)}")
    assert found == {}
    assert "no option serves request class 'big'" in message
    assert (
        "option 'small' is left out: none of its layouts serves a class within its SLO: the model fits none" in message
    )


def test_a_bound_is_raised_in_words() -> None:
    assert (
        str(Relaxation({"slo[ttft_ms_p90 of chat]": (300.0, 412.51)}))
        == "raise ttft_ms_p90 of chat from 300 to 412.51 ms"
    )
