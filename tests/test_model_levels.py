"""Levels of models: where they apply, that they are drawn to 1, and that they change no order within a chip family."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hwdb
from perfmodel.costs import FACTORS, default, model_level, plain_architecture
from perfmodel.costs.engine_effects import engine_factors, model_levels
from perfmodel.costs.step_costs.batched_pricing import of_architecture
from perfmodel.engines import engine
from perfmodel.fitting import levels_of, write_levels
from perfmodel.fitting.pooling import Place, Slopes


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Llama a level of 2 under vLLM on Hopper, and no other level."""
    found = {("vllm", "NVIDIA Hopper", "llama"): 2.0}
    monkeypatch.setattr(model_levels, "_levels", lambda: found)
    monkeypatch.setattr(engine_factors, "engines_with_levels", lambda: frozenset({"vllm"}))


def test_spellings_of_an_architecture_are_one() -> None:
    """A class of Transformers and the `model_type` of the same architecture share a level."""
    assert plain_architecture("LlamaForCausalLM") == plain_architecture("llama") == "llama"


@pytest.mark.usefixtures("doubled")
def test_a_level_holds_for_one_engine_one_chip_family_and_one_architecture() -> None:
    """Other engines, chips and architectures keep 1."""
    h100, b200 = hwdb.device("h100-sxm"), hwdb.device("b200-sxm")
    assert model_level("vllm", h100, "LlamaForCausalLM") == 2.0
    asked = (("sglang", h100, "llama"), ("vllm", b200, "llama"), ("vllm", h100, "qwen3"), ("vllm", h100, ""))
    assert [model_level(*one) for one in asked] == [1.0] * 4


@pytest.mark.usefixtures("doubled")
def test_levels_join_the_factors_of_kernels_and_not_of_links() -> None:
    """All limits but links take twice as long for the architecture, and no other model changes."""
    costs, other = (of_architecture(default(engine("vllm")), n).model for n in ("llama", "qwen3"))  # type: ignore[attr-defined]
    device = hwdb.device("h100-sxm")
    ratio = costs._factors(device, costs.architecture) / other._factors(device, other.architecture)
    assert ratio[:, 0] == pytest.approx([2.0, 2.0, 1.0, 2.0])


def test_a_fit_finds_a_level_and_draws_it_to_one() -> None:
    """Runs that all take 20 % longer than predicted give a level between 1 and 1.2, nearer 1.2 with more of them."""
    found = [_fitted(groups) for groups in (2, 40)]
    assert 1.0 < found[0] < found[1] <= 1.2
    assert found[1] > 1.19


def test_one_group_of_runs_shows_no_level() -> None:
    """A level needs two groups: one says as much of its source."""
    assert levels_of("vllm", _slopes(1)) == []


def _fitted(groups: int) -> float:
    """Return the level fitted to some groups of runs."""
    (fit,) = levels_of("vllm", _slopes(groups))
    assert (fit.engine, fit.chips, fit.architecture) == ("vllm", "NVIDIA Hopper", "llama")
    return fit.level


def _slopes(groups: int) -> Slopes:
    """Return values of groups of ten runs that take 20 % longer than predicted, all by memory traffic."""
    count = 10 * groups
    rows = pd.DataFrame(
        {"group": np.repeat(np.arange(groups).astype(str), 10), "device": "h100-sxm", "metric": "tpot_ms", "value": 1.0}
    ).assign(model="meta-llama/Llama-3.1-8B", opened=False)
    slopes = np.zeros((count, len(FACTORS)))
    slopes[:, FACTORS.index("memory")] = 1.0
    place = Place(start=np.ones(len(FACTORS)))
    ratios = np.full(count, -np.log(1.2))
    return Slopes(rows=rows, ratios=ratios, slopes=slopes, weight=np.ones(count), places={"h100-sxm": place})


def test_a_written_table_reads_as_it_was_fitted(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is what cost models read."""
    fits = levels_of("vllm", _slopes(3))
    path = tmp_path / "levels.toml"  # type: ignore[operator]
    write_levels(fits, path)
    monkeypatch.setattr(model_levels, "TABLE", path)
    read = model_levels._levels.__wrapped__()
    assert read == {("vllm", "NVIDIA Hopper", "llama"): fits[0].level}
