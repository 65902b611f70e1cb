"""Calibration: decisions are scored as defined, fits find what they are given, files are written as they are read."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
from perfmodel import predict
from perfmodel.costs import FACTORS, default, unfitted
from perfmodel.costs.engine_effects import engine_factors, model_levels
from perfmodel.costs.engine_effects.engine_factors import factors
from perfmodel.engines import FOLDER
from perfmodel.engines import engine as engine_of
from perfmodel.estimates import CAUSES, uncertainty
from perfmodel.fitting import (
    EngineFit,
    Part,
    TooFew,
    by_data_set,
    decisions,
    fit_devices,
    fit_engines,
    measured_devices,
    measured_slopes,
    transfer_spreads,
    transferred,
    write_constants,
    write_device_factors,
    write_factors,
)
from perfmodel.fitting.engine_files import CORRECTIONS, factor_entries
from perfmodel.fitting.engine_fit import CONSTANTS
from perfmodel.fitting.interval_fit import fit_spreads, spreads_of
from perfmodel.fitting.intervals import intervals_text, quantile
from perfmodel.fitting.measured import fold_of
from perfmodel.fitting.memo import TrialCosts, memoised
from perfmodel.fitting.pooling import Place, Pulls, factor_table, slopes_of
from perfmodel.fitting.report import device_lines, engine_lines
from perfmodel.fitting.targets import run_groups
from perfmodel.operators import Step

LLAMA = "meta-llama/Llama-3.1-8B"
ONES = np.ones(len(FACTORS))


# -- decisions ----------------------------------------------------------------------------------------------------


def alternatives(**columns: list[object]) -> pd.DataFrame:
    """Six configurations on one device, 100 tokens in and 101 out; other columns as given."""
    base = {
        "case_id": list("abcdef"),
        "dataset": ["lab"] * 6,
        "model": ["m"] * 6,
        "device": ["gpu"] * 6,
        "n_devices": ["1"] * 6,
        "isl": ["100"] * 6,
        "osl": ["101"] * 6,
        "mode": ["closed"] * 6,
        "concurrency": ["8"] * 6,
    }
    return pd.DataFrame({**base, **columns})


def truth_of(tpot: list[float], rate: list[float]) -> pd.DataFrame:
    """Measured TPOT in ms and tokens/s of the six configurations."""
    both = {"tpot_ms": tpot, "total_tok_s": rate}
    return pd.DataFrame(
        [
            {"case_id": c, "metric": metric, "value": value}
            for metric, values in both.items()
            for c, value in zip("abcdef", values, strict=True)
        ]
    )


TPOT, RATE = [10.0, 20, 30, 40, 50, 60], [1.0, 2, 3, 4, 5, 6]
PERFECT = pd.DataFrame({"case_id": list("abcdef"), "tpot_ms": TPOT, "total_tok_s": RATE})


def test_a_perfect_predictor_has_no_regret() -> None:
    made = decisions(alternatives(), PERFECT, truth_of(TPOT, RATE))
    assert made.limit_ms.tolist() == [20.0, 30.0, 40.0, 50.0]
    assert made.pick.tolist() == made.best.tolist() == list("bcde")
    assert made.limit_kept.all()
    assert made.regret.tolist() == [0.0] * 4


def test_an_optimist_breaks_limits_and_a_pessimist_pays_for_it() -> None:
    optimist = decisions(alternatives(), PERFECT.assign(tpot_ms=PERFECT.tpot_ms / 3), truth_of(TPOT, RATE))
    assert not optimist.limit_kept.any()
    pessimist = decisions(alternatives(), PERFECT.assign(tpot_ms=PERFECT.tpot_ms * 2), truth_of(TPOT, RATE))
    assert pessimist.pick.tolist() == ["a", "a", "b", "b"]
    assert pessimist.regret.tolist() == pytest.approx([1 - 1 / 2, 1 - 1 / 3, 1 - 2 / 4, 1 - 2 / 5])


def test_no_pick_is_a_broken_limit_with_full_regret() -> None:
    made = decisions(alternatives(), PERFECT.assign(tpot_ms=1e3), truth_of(TPOT, RATE))
    assert (made.pick == "").all()
    assert (made.regret == 1.0).all()
    (line,) = by_data_set(made).to_dict("records")
    assert (line["no_pick"], line["limit_kept"], line["decisions"]) == (1.0, 0.0, 4)


def test_hardware_is_compared_by_throughput_per_price() -> None:
    cases = alternatives(device=["cheap"] * 3 + ["dear"] * 3)
    truth = truth_of([10.0] * 6, [4.0, 4, 4, 6, 6, 6])
    told = PERFECT.assign(tpot_ms=10.0, total_tok_s=[4.0, 4, 4, 6, 6, 6])
    made = decisions(cases, told, truth, {"cheap": 1.0, "dear": 2.0})
    assert set(made.kind) == {"hardware"}, "three alternatives on one device are too few for a decision"
    assert made.best.tolist() == ["a"] * 4
    assert made.right_device.all()
    biased = decisions(cases, told.assign(total_tok_s=[4.0, 4, 4, 9, 9, 9]), truth, {"cheap": 1.0, "dear": 2.0})
    assert not biased.right_device.any()
    assert biased.regret.tolist() == pytest.approx([1 - 3 / 4] * 4)
    assert decisions(cases, told, truth, {"cheap": 1.0}).empty


def test_throughput_follows_from_latencies_where_it_was_not_measured() -> None:
    truth = truth_of(TPOT, RATE)
    truth.loc[truth.metric == "total_tok_s", ["metric", "value"]] = ["ttft_ms", 100.0]
    told = PERFECT.assign(ttft_ms=100.0, total_tok_s=-1.0)
    made = decisions(alternatives(concurrency=["1", "4", "9", "16", "25", "36"]), told, truth)
    # Little's law: c requests of 201 tokens leave every 0.1 s + 100 TPOT, so a has 201 / 1.1 and b 4 x 201 / 2.1
    assert made.pick.tolist() == list("bcde")
    assert made.regret.tolist() == [0.0] * 4


# -- fits ---------------------------------------------------------------------------------------------------------


def measured(path: Path, wrong: float, device: str = "h100-sxm") -> tuple[Path, Path]:
    """(cases, truth): runs whose decode steps take `wrong` times what is predicted."""
    rows = [
        {
            "case_id": f"{tp}-{users}",
            "dataset": "lab",
            "group": f"lab|{tp}",
            "split": "train",
            "trust": "A",
            "twin_in_train": "0",
            "model": LLAMA,
            "device": device,
            "n_devices": tp,
            "tp": tp,
            "engine": "vllm",
            "engine_version": "0.9",
            "isl": 500,
            "osl": 200,
            "concurrency": users,
            "spec_decode": "",
            "recipe": "default",
        }
        for tp in (1, 2)
        for users in (1, 2, 4, 8, 16, 32, 64)
    ]
    cases, truth = path / "cases.csv", path / "truth.csv"
    frame = pd.DataFrame(rows).astype(str)
    frame.to_csv(cases, index=False)
    found = predict(frame)
    pd.DataFrame({"case_id": found.case_id, "metric": "tpot_ms", "value": wrong * found.tpot_ms}).to_csv(
        truth, index=False
    )
    return cases, truth


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> EngineFit:
    """The fit to runs that are a quarter slower than predicted, loosely drawn because they are few."""
    (found,) = fit_engines(*measured(tmp_path_factory.mktemp("fit"), 1.25), pulls=Pulls(device=2.0))
    assert isinstance(found, EngineFit)
    return found


def test_a_fit_takes_the_bias_out(fitted: EngineFit) -> None:
    whole, *places = fitted.parts
    assert len(whole.target.rows) == 14
    assert np.abs(whole.before).mean() > 0.1
    assert np.abs(whole.after).mean() < 0.5 * np.abs(whole.before).mean()
    assert [dict(p.place) for p in places] == [{"device": "h100-sxm"}]
    assert fitted.engine.family == "vllm"
    lines = list(engine_lines(fitted))
    assert "14 values" in lines[0]
    assert any("on h100-sxm" in line for line in lines)


def test_constants_that_are_held_stay_and_firm_pulls_move_factors_less(fitted: EngineFit, tmp_path: Path) -> None:
    runs = measured(tmp_path, 1.25)
    (held,) = fit_engines(*runs, hold=True)
    (firm,) = fit_engines(*runs, hold=True, pulls=Pulls(engine=100.0, family=100.0, device=100.0))
    assert isinstance(held, EngineFit)
    assert isinstance(firm, EngineFit)
    assert held.constants == ()
    assert held.engine == engine_of("vllm", "0.9") != fitted.engine
    near, far = (np.abs(np.log(f.parts[-1].factors)).max() for f in (firm, held))
    assert near < 0.02 < far
    path = tmp_path / f"{held.engine.name}.toml"
    shutil.copy(FOLDER / path.name, path)
    text = path.read_text(encoding="utf-8")
    write_constants(held, tmp_path)
    assert path.read_text(encoding="utf-8") == text


def test_memoised_steps_cost_what_the_parts_add_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels of architectures aside, which are fitted to what the factors leave."""
    monkeypatch.setattr(model_levels, "_levels", dict)
    cases, _ = measured(tmp_path, 1.0)
    ((engine, group),) = next(iter(run_groups(cases, hwdb.load()).values()))
    step = Step(decode_seqs=np.full(len(group.ids), 8.0), decode_context=np.full(len(group.ids), 600.0))
    memo: dict = {}
    plain = memoised(group.setup.steps, engine, factor_table(ONES), memo).price(step)
    np.testing.assert_allclose(plain.time, group.setup.steps.price(step).time, rtol=1e-12)
    slower = memoised(group.setup.steps, engine, 2.0 * factor_table(ONES), memo).price(step)
    np.testing.assert_allclose(slower.time, 2.0 * plain.time, rtol=1e-12)
    device = hwdb.device(group.device)
    served = replace(group.setup.steps, costs=default(engine)).price(step)
    fitted = memoised(group.setup.steps, engine, factors(engine.name, device), memo).price(step)
    np.testing.assert_allclose(fitted.time, served.time, rtol=1e-12)
    trial = TrialCosts(unfitted(engine), engine, factors(engine.name, device))
    again = replace(group.setup.steps, costs=trial)
    np.testing.assert_allclose(again.price(step).time, served.time, rtol=1e-12)
    np.testing.assert_allclose(again.price(step).time, served.time, rtol=1e-12)
    assert len(memo) == 1, "the second model prices nothing"


def test_what_is_left_out_or_rare_is_not_fitted(tmp_path: Path) -> None:
    cases, truth = measured(tmp_path, 1.0)
    part = fold_of("lab|1", 2)
    left = run_groups(cases, hwdb.load(), Part(folds=2, left_out=part))
    kept = {case for members in left.values() for _, group in members for case in group.ids}
    assert all(fold_of(f"lab|{case[0]}", 2) != part for case in kept)
    pd.read_csv(truth).head(5).to_csv(truth, index=False)
    assert list(fit_engines(cases, truth)) == [TooFew(engine=engine_of("vllm", "0.9").name, values=5)]


def test_fits_are_written_as_they_are_read(fitted: EngineFit, tmp_path: Path) -> None:
    name = fitted.engine.name
    shutil.copy(FOLDER / f"{name}.toml", tmp_path)
    write_constants(fitted, tmp_path)
    read = engine_of(str(tmp_path / f"{name}.toml"))
    for field in fitted.constants:
        assert getattr(read, field) == pytest.approx(getattr(fitted.engine, field), rel=5e-3)
        assert CONSTANTS[field].key in (tmp_path / f"{name}.toml").read_text(encoding="utf-8")
    copy = tmp_path / "corrections.toml"
    shutil.copy(CORRECTIONS, copy)
    write_factors([fitted], copy)
    entries = tomllib.loads(copy.read_text(encoding="utf-8"))["correction"]
    assert [e for e in entries if e["engine"] == name] == factor_entries(fitted)
    before = tomllib.loads(CORRECTIONS.read_text(encoding="utf-8"))["correction"]
    assert [e for e in entries if e["engine"] != name] == [e for e in before if e["engine"] != name]


# -- intervals and transfer ---------------------------------------------------------------------------------------


def test_a_group_weighs_the_root_of_its_size() -> None:
    rows = pd.DataFrame({"group": ["a"] * 100 + ["b"] * 4, "ratio": [0.1] * 100 + [0.9] * 4})
    # weights 10 and 2: the large group holds 83 %, and four fifths of all lie below 0.9
    assert quantile(rows) < 0.9
    assert quantile(rows, 0.99) == pytest.approx(0.9)


def drawn_rows(seed: int, count: int = 4000) -> pd.DataFrame:
    """Values of closed loops whose errors come from memory (0.2) and a rest of 0.1, twice as wide on a roofline; and of
    open loops with a rest of 0.05 idle and of 0.4 at capacity."""
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(0.0, index=range(count), columns=list(CAUSES))
    rows["memory"] = random.uniform(0.0, 1.0, count)
    rows["figure"], rows["kind"], rows["power_doubt"], rows["doubt"] = "tpot_mean", "tpot", 1.0, 1.0
    rows["arrival"] = np.where(np.arange(count) % 2, "open", "closed")
    rows["load"] = np.where(rows.arrival == "open", random.uniform(0.0, 1.0, count), np.nan)
    rows["class"] = np.where(random.random(count) < 0.3, "roofline", "table")
    rows["group"] = rows["model"] = [f"g{i // 4}" for i in range(count)]
    rows["device"], rows["engine"] = "d", "e"
    rest = np.where(rows.arrival == "open", 0.05 + 0.35 * rows.load.fillna(0.0) ** 2, 0.1)
    shared = random.normal(size=count // 4)[np.arange(count) // 4]
    deviate = np.sqrt(0.5) * shared + np.sqrt(0.5) * random.normal(size=count)
    memory = 0.2 * rows.memory * random.normal(size=count // 4)[np.arange(count) // 4]
    rows["ratio"] = (memory + rest * deviate) * np.where(rows["class"] == "roofline", 2.0, 1.0)
    return rows


def test_spreads_that_made_the_values_are_found_again() -> None:
    rows = drawn_rows(0)
    found = fit_spreads(rows, rows.ratio.to_numpy())
    assert found.causes["memory"] == pytest.approx(0.2, rel=0.15)
    assert found.rest["tpot_mean"]["closed"] == pytest.approx(0.1, rel=0.25)
    assert found.rest["tpot_mean"]["idle"] == pytest.approx(0.05, rel=0.5)
    assert found.rest["tpot_mean"]["open"] == pytest.approx(0.4, rel=0.25)
    assert found.classes["tpot"]["roofline"] == pytest.approx(2.0, rel=0.15)
    assert found.shared["tpot"] == pytest.approx(0.5, abs=0.2)
    for mine in (rows.arrival == "open", rows.arrival == "closed", rows["class"] == "roofline"):
        causes, rest = spreads_of(rows, found)
        width = 1.28155 * np.sqrt(np.square(causes).sum(axis=1) + np.square(rest))
        assert (np.abs(rows.ratio) <= width)[mine].mean() == pytest.approx(0.8, abs=0.03)


def test_spreads_are_written_as_they_are_read() -> None:
    known = uncertainty()
    assert tomllib.loads(intervals_text(known)) == {
        "causes": known.causes,
        "classes": known.classes,
        "rest": known.rest,
        "shared": known.shared,
    }


def test_a_hidden_device_is_told_by_its_relatives() -> None:
    name = "a100-sxm-80gb" if "a100-sxm-80gb" in measured_devices() else measured_devices()[0]
    every = transferred(name)
    assert every
    assert {t.relative for t in every} != {name}
    assert all(np.isfinite(t.calibrated).all() for t in every)
    for spreads in transfer_spreads(every).values():
        assert set(spreads) <= {"calibrated_twin", "calibrated", "calibrated_stranger"}
        assert all(width > 0 for width in spreads.values())


def test_factors_of_one_device_are_fitted_alone(tmp_path: Path) -> None:
    cases, truth = measured(tmp_path, 1.6)
    ((engine, found),) = fit_devices(cases, truth, ["h100-sxm"])
    assert engine == engine_of("vllm", "0.9"), "the engine stays as it is"
    assert found.place == {"device": "h100-sxm"}
    assert np.abs(found.after).mean() < 0.6 * np.abs(found.before).mean()
    assert "14 values" in next(device_lines(engine.name, found))
    copy = tmp_path / "corrections.toml"
    shutil.copy(CORRECTIONS, copy)
    write_device_factors([(engine, found)], copy)
    before, after = (tomllib.loads(p.read_text(encoding="utf-8"))["correction"] for p in (CORRECTIONS, copy))
    mine = [e for e in after if (e["engine"], e.get("device")) == (engine.name, "h100-sxm")]
    assert [e["values"] for e in mine] == [14]
    assert [e for e in after if e not in mine] == [
        e for e in before if (e["engine"], e.get("device")) != (engine.name, "h100-sxm")
    ]


def test_a_card_without_runs_takes_what_its_class_was_fitted_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, truth = measured(tmp_path, 1.6, "rtx-4090")
    fits = list(fit_devices(cases, truth, ["rtx-4090"]))
    assert [dict(part.place) for _, part in fits] == [{"kind": "NVIDIA card"}, {"device": "rtx-4090"}]
    copy = tmp_path / "corrections.toml"
    shutil.copy(CORRECTIONS, copy)
    write_device_factors(fits, copy)
    engine, part = fits[0]
    monkeypatch.setattr(engine_factors, "TABLE", copy)
    for known in (engine_factors._fitted, engine_factors._table, engine_factors.factors, engine_factors._shown):
        known.cache_clear()
    try:
        other = engine_factors.place_factors(engine.name, hwdb.device("rtx-4070-ti"))
        np.testing.assert_allclose(other, part.factors, rtol=6e-3)
    finally:
        monkeypatch.undo()
        for known in (engine_factors._fitted, engine_factors._table, engine_factors.factors, engine_factors._shown):
            known.cache_clear()


def test_of_open_loops_the_time_per_token_counts_where_no_queue_rules_it(tmp_path: Path) -> None:
    cases, _ = measured(tmp_path, 1.0)
    frame = pd.read_csv(cases, dtype=str).head(2)
    opened = frame.assign(mode="open", concurrency="", rate_rps=["0.5", "28"], case_id=["idle", "nearly full"])
    opened.to_csv(cases, index=False)
    assert run_groups(cases, hwdb.load()) == {}
    ((engine, group),) = run_groups(cases, hwdb.load(), opened=True)["vllm-v1"]
    rows = [(c, m, 20.0, "lab") for c in opened.case_id for m in ("tpot_ms", "output_tok_s", "ttft_ms")]
    values = pd.DataFrame(rows, columns=["case_id", "metric", "value", "group"])
    found = slopes_of(engine, [group], values, (), {group.device: Place(ONES)})
    assert found.rows.metric.unique().tolist() == ["tpot_ms"]
    assert found.rows.case_id[found.known()].tolist() == ["idle"]


def test_slopes_of_measured_runs_have_open_loops_that_weigh_apart(tmp_path: Path) -> None:
    cases, truth = measured(tmp_path, 1.0)
    frame = pd.read_csv(cases, dtype=str)
    opened = frame.head(1).assign(mode="open", concurrency="", rate_rps="0.5", case_id="opened")
    pd.concat([frame, opened]).to_csv(cases, index=False)
    values = pd.read_csv(truth)
    pd.concat([values, values.head(1).assign(case_id="opened", metric="tpot_ms")]).to_csv(truth, index=False)
    (slopes,) = measured_slopes(cases, truth, keep=tmp_path / "kept").values()
    rows = slopes.rows
    assert rows.case_id[rows.opened].tolist() == ["opened"]
    assert set(rows.dataset) == {"lab"}
    assert np.mean(np.square(slopes.weight[~rows.opened.to_numpy(bool)])) == pytest.approx(1.0)
    assert list(measured_slopes(cases, truth, keep=tmp_path / "kept")) == ["vllm-v1"]


def test_a_fit_that_makes_the_median_worse_does_not_hold(fitted: EngineFit) -> None:
    assert fitted.holds
    (whole, *others) = fitted.parts
    worse = replace(whole, after=1.2 * whole.before)
    assert not replace(fitted, parts=(worse, *others)).holds
    assert "not kept" in "\n".join(engine_lines(replace(fitted, parts=(worse, *others))))
