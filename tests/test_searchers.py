"""Legality rules, searchers and fronts, against brute force."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hwdb import Device, InputError, UnknownName, device
from perfmodel import Deployments, ModelSpec, model
from perfmodel.dtypes import FORMAT_CODE
from search import SCORE, WHOLE_GROUP, Exhaustive, Legal, OptunaSearcher, Score, Searcher, SearchSpace, pareto, ranked
from search.space.space import AXES

LLAMA = model("meta-llama/Llama-3.1-70B")
MOE = model("Qwen/Qwen3-235B-A22B")
DEEPSEEK = model("deepseek-ai/DeepSeek-V3")
H100 = device("h100-sxm")
RTX = device("rtx-4090")


def space(spec: ModelSpec = LLAMA, devices: tuple[Device, ...] = (H100,), **axes: object) -> SearchSpace:
    return replace(SearchSpace(spec, devices), **axes)


def plainly_legal(s: SearchSpace, tp: float, pp: float, ep: float, dp: float) -> bool:
    """The rules once more, for one layout on the first device, in plain Python."""
    heads, kv, layers, experts = s.model.heads, s.model.kv_heads, s.model.layers, s.model.experts
    domain = s.domain.get(s.devices[0].name, s.devices[0].link.peers)
    if heads % tp or (kv % tp and tp % kv) or tp > domain:
        return False
    if pp > layers or -(-layers // pp) * pp > 1.15 * layers:
        return False
    if not experts and (dp > 1 or ep > 1):
        return False
    if ep > 1 and (experts % ep or (tp * dp) % ep):
        return False
    if dp > 1 and ep == 1:
        return False
    if s.model.name.startswith("deepseek") and 2048 % (128 * max(tp * dp / ep, 1)):  # shards of block-FP8 experts
        return False
    size = tp * pp * dp
    return size <= domain or size % domain == 0 or (tp * dp <= domain and domain % (tp * dp) == 0)


@pytest.mark.parametrize("spec", [LLAMA, MOE, DEEPSEEK], ids=lambda s: s.name)
def test_masks_agree_with_rules_written_out_one_candidate_at_a_time(spec: ModelSpec) -> None:
    degrees = {"tp": (1, 2, 3, 4, 8, 16), "pp": (1, 2, 3, 4, 8, 16), "ep": (1, 2, 4, 8, 16, 32), "dp": (1, 2, 4, 8)}
    s = space(spec, **degrees)
    columns = s.columns(s.legal().index)
    found = set(zip(*(columns[a].tolist() for a in degrees), strict=True))
    assert found == {c for c in product(*degrees.values()) if plainly_legal(s, *c)}


def test_every_removed_candidate_is_counted_once() -> None:
    legal = space(DEEPSEEK, (H100, RTX), stock={"rtx-4090": 4}).legal()
    assert len(legal) + sum(legal.removed.values()) == legal.space.size
    assert {r["rule"] for r in legal.rows()} == {n for n, c in legal.removed.items() if c}
    assert all(r["example"] for r in legal.rows())


def test_every_rule_fires_and_says_numbers() -> None:
    wide = space(
        DEEPSEEK, (H100, RTX), tp=(1, 3, 4, 16), pp=(1, 5, 16, 64), ep=(1, 3, 8, 7, WHOLE_GROUP), dp=(1, 2, 3, 8)
    )
    removed = {**wide.legal().removed}
    for extra in (
        space(LLAMA, dp=(1, 2)),
        space(LLAMA, tp=(1, 4), stock={"h100-sxm": 2}),
        space(LLAMA, tp=(1, 8, 16, 32, 64), domain={"h100-sxm": 64}),
        space(model("Qwen/Qwen2.5-7B"), tp=(1, 7, 14), domain={"h100-sxm": 64}),
        space(LLAMA, tp=(1, 4), pp=(1, 2), domain={"h100-sxm": 6}),
        space(LLAMA, (H100, device("mi300x")), vendors=("NVIDIA",)),
        space(LLAMA, power_cap=(float("nan"), 10.0)),
        space(LLAMA, weight=(-1, FORMAT_CODE["fp4"]), runs={"weight": (frozenset({-1}),)}),
    ):
        removed.update({n: c for n, c in extra.legal().removed.items() if c})
    assert [n for n, c in removed.items() if not c] == []


def test_whole_group_follows_tp_times_dp_and_never_repeats_a_layout() -> None:
    legal = space(MOE).legal()
    columns = legal.space.columns(legal.index)
    rows = list(zip(*(columns[a].tolist() for a in ("tp", "pp", "ep", "dp")), strict=True))
    assert len(set(rows)) == len(rows)
    assert all(ep in (1, tp * dp) for tp, _, ep, dp in rows)


def test_no_layout_needs_more_than_is_on_hand_and_a_whole_node_may_be_used() -> None:
    legal = space(LLAMA, stock={"h100-sxm": 8}).legal()
    sizes = legal.deployments().devices_per_replica
    assert sizes.max() == 8
    assert set(np.unique(sizes)) == {1, 2, 4, 8}


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"tp": (6,), "pinned": frozenset({"tp"})}, r"tp = 6 is possible: tp 6 does not divide the 64 attention"),
        (
            {"tp": (6,), "weight": (-1, FORMAT_CODE["fp8"]), "pinned": frozenset({"tp", "weight"})},
            "tp = 6, weight = the model's own, fp8 is possible",
        ),
        ({"tp": (16,)}, r"tp 16 exceeds the 8 h100-sxm"),
        ({"pp": (64,)}, r"pp 64 leaves the 80 layers uneven: 2 on the fullest stage"),
        ({"stock": {"h100-sxm": 1}, "tp": (2,)}, r"takes 2 h100-sxm, of which 1 are on hand"),
        ({"tp": ()}, "axis tp is empty"),
        ({"tp": (0,)}, "tp = 0 is no degree"),
        ({"pp": (1.5,)}, "pp = 1.5 is no degree"),
        ({"devices": ()}, "no hardware on offer"),
    ],
)
def test_impossible_parallelism_is_refused_with_its_numbers(axes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        space(**axes).legal()


def bowl(columns: Deployments) -> dict[str, np.ndarray]:
    """A score with one clear best layout: TP 4, PP 2 on the second device; half of the devices do not qualify."""
    off = np.abs(np.log2(columns.tp) - 2) + np.abs(np.log2(columns.pp) - 1) + (columns.device != 1)
    value = np.where(columns.tp * columns.pp > 32, np.inf, 1.0 + off + 1e-3 * np.log2(columns.max_num_batched_tokens))
    return {SCORE: value, "devices": columns.devices_per_replica}


class Conformance:
    """What every searcher promises; each inherits this and names itself."""

    def searcher(self) -> Searcher:
        raise NotImplementedError

    def legal(self) -> Legal:
        return space(
            LLAMA,
            (H100, device("h200-sxm")),
            max_num_batched_tokens=(1024.0, 2048.0, 4096.0),
            max_num_seqs=(64.0, 256.0),
        ).legal()

    def test_finds_the_best(self) -> None:
        legal = self.legal()
        found = self.searcher().search(legal, bowl)
        chosen = legal.deployments(np.array([found.best]))
        assert (chosen.tp[0], chosen.pp[0], chosen.device[0], chosen.max_num_batched_tokens[0]) == (4, 2, 1, 1024)

    def test_scores_belong_to_their_rows_and_no_row_comes_twice(self) -> None:
        legal = self.legal()
        found = self.searcher().search(legal, bowl)
        assert (np.diff(found.rows) > 0).all()
        again = bowl(legal.deployments(found.rows))
        for name, column in again.items():
            np.testing.assert_array_equal(found.scores[name], column)

    def test_same_call_same_answer_and_global_randomness_is_left_alone(self) -> None:
        before = np.random.get_state()[1].copy()  # noqa: NPY002 - to see that nobody touched it
        first, second = (self.searcher().search(self.legal(), bowl) for _ in range(2))
        np.testing.assert_array_equal(first.rows, second.rows)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_each_candidate_is_scored_at_most_once(self) -> None:
        seen: list[tuple] = []

        def counting(columns: Deployments) -> dict[str, np.ndarray]:
            seen.extend(
                zip(
                    columns.device,
                    columns.tp,
                    columns.pp,
                    columns.max_num_batched_tokens,
                    columns.max_num_seqs,
                    strict=True,
                )
            )
            return bowl(columns)

        self.searcher().search(self.legal(), counting)
        assert len(seen) == len(set(seen))

    def test_nothing_qualifies(self) -> None:
        found = self.searcher().search(self.legal(), lambda d: {SCORE: np.full(len(d), np.inf)})
        assert found.best == -1
        assert len(found) > 0

    def test_one_candidate_is_a_batch_of_one(self) -> None:
        legal = space(LLAMA, tp=(8,), pp=(1,)).legal()
        found = self.searcher().search(legal, lambda d: {SCORE: d.tp})
        assert (found.best, found.complete) == (0, True)

    def test_progress_ends_at_the_total_and_names_are_told(self) -> None:
        calls: list[tuple[float, float]] = []
        self.searcher().search(self.legal(), bowl, lambda done, total: calls.append((done, total)))
        assert calls
        assert 0 < calls[-1][0] <= calls[-1][1]
        assert self.searcher().name

    def test_silent(self, capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.searcher().search(self.legal(), bowl)
        assert capfd.readouterr() == ("", "")


class TestExhaustive(Conformance):
    def searcher(self) -> Searcher:
        return Exhaustive(chunk=17)

    def test_is_complete_and_chunks_do_not_matter(self) -> None:
        found, whole = (Exhaustive(c).search(self.legal(), bowl) for c in (17, 10**6))
        assert found.complete
        np.testing.assert_array_equal(found.scores[SCORE], whole.scores[SCORE])


class TestOptuna(Conformance):
    def searcher(self) -> Searcher:
        return OptunaSearcher(trials=150, batch=50, seed=7)

    def test_another_seed_looks_elsewhere(self) -> None:
        few = [OptunaSearcher(trials=20, batch=10, seed=s).search(self.legal(), bowl).rows.tolist() for s in (1, 2)]
        assert few[0] != few[1]

    @pytest.mark.parametrize("seed", range(3))
    def test_agrees_with_exhaustive_on_a_small_space(self, seed: int) -> None:
        legal = self.legal()
        best = Exhaustive().search(legal, bowl)
        found = OptunaSearcher(trials=200, batch=50, seed=seed).search(legal, bowl)
        assert np.nanmin(found.scores[SCORE]) == np.nanmin(best.scores[SCORE])

    def test_stops_once_everything_legal_is_known(self) -> None:
        legal = space(LLAMA, tp=(2, 4), pp=(1, 2)).legal()
        found = OptunaSearcher(trials=10_000, batch=20).search(legal, lambda d: {SCORE: d.tp * d.pp})
        assert found.complete
        assert len(found) == len(legal)

    def test_optuna_is_left_as_it_was(self) -> None:
        import optuna

        level = optuna.logging.get_verbosity()
        OptunaSearcher(trials=10, batch=10).search(self.legal(), bowl)
        assert optuna.logging.get_verbosity() == level


def slow_front(table: np.ndarray) -> list[bool]:
    """Pareto membership by comparing every pair."""
    return [
        not any((other <= row).all() and (other < row).any() for other in table) and not np.isnan(row).any()
        for row in table
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_front_agrees_with_all_pairs(seed: int, columns: int) -> None:
    """Coarse values make ties; a few rows are unknown or infinite."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 7, (150, columns)).astype(float)
    table[rng.random(150) < 0.05, 0] = np.nan
    table[rng.random(150) < 0.05, -1] = np.inf
    known = np.where(np.isnan(table).any(axis=1, keepdims=True), np.nan, table)
    assert pareto(list(table.T)).tolist() == slow_front(known)


def test_front_may_prefer_more() -> None:
    cost, speed = np.array([1.0, 2.0, 3.0]), np.array([5.0, 9.0, 7.0])
    assert pareto([speed, cost], largest=[True]).tolist() == [True, True, False]


def test_front_of_a_hundred_thousand_rows_holds_nothing_beaten() -> None:
    rng = np.random.default_rng(0)
    table = rng.random((100_000, 4))
    chosen = pareto(list(table.T))
    front = table[chosen]
    for row in table[rng.integers(0, len(table), 200)]:
        beaten = ((front <= row).all(axis=1) & (front < row).any(axis=1)).any()
        assert beaten or (row == front).all(axis=1).any()


def test_ranking_puts_what_qualifies_first_and_unknown_last() -> None:
    columns = {
        "usd_per_hour": np.array([3.0, np.nan, 1.0, 2.0, 2.0]),
        "devices": np.array([1.0, 1.0, 1.0, 8.0, 4.0]),
        "output_tok_s": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    }
    qualifies = np.array([True, True, False, True, True])
    assert ranked(columns, "usd_per_hour", qualifies).tolist() == [4, 3, 0, 1, 2]
    assert ranked(columns, "output_tok_s").tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(UnknownName, match="did you mean 'usd_per_hour'"):
        ranked(columns, "usd_per_hours")


def test_axes_are_fields_of_deployments() -> None:
    assert set(AXES) <= set(Deployments.__dataclass_fields__)


def test_score_type_is_public() -> None:
    score: Score = bowl
    assert set(score(self_contained := space(LLAMA).legal().deployments())) == {SCORE, "devices"}
    assert len(self_contained)


@pytest.mark.parametrize("seed", range(5))
def test_exhaustive_scores_candidates_in_any_order_alike_and_in_that_order(seed: int) -> None:
    legal = space(MOE, (H100, RTX)).legal()
    shuffled = replace(legal, index=np.random.default_rng(seed).permutation(legal.index))

    def score(candidates: Deployments) -> dict[str, np.ndarray]:
        assert np.all(np.diff(candidates.device) >= 0)  # neighbours in the space are scored together
        return {SCORE: candidates.tp * 100 + candidates.pp * 10 + candidates.dp + candidates.device / 10}

    found = Exhaustive(chunk=7).search(shuffled, score)
    assert found.rows.tolist() == list(range(len(legal)))
    np.testing.assert_array_equal(found.scores[SCORE], score_of_all(score, legal, shuffled))


def score_of_all(score: Score, legal: Legal, shuffled: Legal) -> np.ndarray:
    """Scores of the candidates in the order of `shuffled`, from scoring `legal` at once."""
    return score(legal.deployments())[SCORE][np.searchsorted(legal.index, shuffled.index)]
