"""Models that are described by a few sizes: what is derived, what is refused, and their way through a scenario."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hwdb import InputError
from perfmodel.costs.engine_effects import model_levels
from perfmodel.models import Described, model
from search.planning import plan, space_of, tariff_of
from search.scenario import load_scenario

DENSE = {"parameters": 8.03e9, "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "vocabulary": 128256}


PUBLISHED = (
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen3-235B-A22B",
    "mistralai/Mixtral-8x7B-v0.1",
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sizes_of_a_published_model_give_that_model(name: str) -> None:
    known = model(name)
    (block,) = known.blocks
    assert block.mixer is not None
    assert block.mlp is not None
    routed = {"experts": block.mlp.experts, "experts_per_token": block.mlp.top_k} if block.mlp.experts else {}
    found = Described(
        name="mine",
        parameters=known.parameters(),
        active_parameters=known.parameters(active=True) if routed else 0.0,
        layers=known.layers,
        hidden=known.hidden,
        heads=known.heads,
        kv_heads=known.kv_heads,
        head_dim=block.mixer.head_dim,
        vocabulary=known.vocab,
        **routed,
    ).model()
    assert found.blocks[0].mlp == block.mlp
    assert found.parameters() == pytest.approx(known.parameters(), rel=1e-5)
    assert found.parameters(active=True) == pytest.approx(known.parameters(active=True), rel=1e-5)
    assert found.kv_bytes_per_token() == known.kv_bytes_per_token()
    assert f"approximate; derived: intermediate = {block.mlp.intermediate:,}" in found.reading


def test_derived_widths_keep_the_stated_parameters() -> None:
    rng = random.Random(7)
    for _ in range(20):
        layers, heads = rng.randrange(8, 90), rng.choice([16, 32, 48, 64])
        hidden, experts = heads * 128, rng.choice([0, 8, 64, 256])
        each = 3 * hidden * layers
        total = 2 * 100_000 * hidden + layers * 4 * hidden**2 + each * max(experts, 1) * rng.randrange(1024, 9000)
        found = Described(
            name="any",
            parameters=float(total),
            layers=layers,
            hidden=hidden,
            kv_heads=8,
            vocabulary=100_000,
            experts=experts,
            experts_per_token=min(experts, 8),
        ).model()
        assert found.parameters() == pytest.approx(total, abs=each * max(experts, 1) * 64 + 1e-3 * total)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({key: 0}, f"the model lacks {key}") for key in ("layers", "hidden", "kv_heads", "vocabulary", "parameters")),
        ({"experts": 8}, "lacks experts_per_token"),
        ({"experts_per_token": 2}, "lacks experts;"),
        ({"experts": 4, "experts_per_token": 8}, "experts_per_token 8 exceeds the 4 experts"),
        ({"active_parameters": 1e9}, "of a mixture of experts"),
        ({"kv_heads": 5}, "kv_heads 5 does not divide the 32 heads"),
        ({"heads": 0, "hidden": 4000}, "no multiple of the head_dim 128; state heads too"),
        ({"heads": 31}, "no multiple of the 31 heads; state head_dim too"),
        ({"parameters": 1e9}, "leave nothing for the MLPs"),
    ],
)
def test_what_is_missing_or_impossible_is_named(change: dict[str, float], message: str) -> None:
    stated = {**DENSE, **change}
    with pytest.raises(InputError, match=message):
        Described(name="mine", **stated).model()  # type: ignore[arg-type]


SCENARIO = """
[model]
{model}
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 1
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1]
pp = [1]
max_num_seqs = 64
max_num_batched_tokens = 8192
"""
SIZES = 'parameters = "8.03B"\nlayers = 32\nhidden = 4096\nheads = 32\nkv_heads = 8\nvocabulary = 128256\n'


def scenario(folder: Path, text: str) -> Path:
    path = folder / "scenario.toml"
    path.write_text(SCENARIO.format(model=text), encoding="utf-8")
    return path


def test_a_scenario_with_sizes_is_planned_like_the_model_they_describe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels of architectures aside: sizes say nothing of how far an engine has tuned an architecture."""
    monkeypatch.setattr(model_levels, "_levels", dict)
    own = plan(load_scenario(scenario(tmp_path, SIZES + "max_context = 131072")))
    known = plan(load_scenario(scenario(tmp_path, 'name = "meta-llama/Llama-3.1-8B"')))
    mine, theirs = own.rows(1)[0], known.rows(1)[0]
    assert mine["tpot_ms"] == pytest.approx(theirs["tpot_ms"], rel=1e-9)
    assert "own model: a generic decoder from stated sizes, approximate" in mine["remark"]


def test_a_scenario_names_its_model_and_keeps_its_context(tmp_path: Path) -> None:
    asked = load_scenario(scenario(tmp_path, f'name = "in-house"\nmax_context = 4096\n{SIZES}'))
    spec = asked.model_called("in-house")
    assert (spec.name, spec.max_context) == ("in-house", 4096)
    assert space_of(asked, spec, tariff_of(asked)).model is spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters = 8\nlayers = 32\nhidden = 4096\nkv_heads = 8\nvocabulary = 1000", "8 is no number of parameters"),
        (SIZES.replace('"8.03B"', '"8.03"'), "'8.03' is no number of parameters; write it like \"70.6B\""),
        (SIZES.replace("hidden = 4096\n", ""), "the model lacks hidden"),
        (SIZES + 'config = "config.json"', "sizes are stated too"),
        (SIZES + "hiden = 3", "unknown key 'hiden'; did you mean 'hidden'"),
    ],
)
def test_mistakes_in_a_described_model_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_scenario(scenario(tmp_path, text))
