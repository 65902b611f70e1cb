"""Tables, their fit, their files and what they rest on."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from call_counter import calls

import hwdb
from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.costs.measured_tables import lookup
from perfmodel.profiles import Bounds, ShapeBatch, families, joint_reads, store
from perfmodel.profiles.build import __main__ as build
from perfmodel.profiles.build import aiconfigurator, files, fit, heldout, package, smooth, spreads, tables
from perfmodel.profiles.families import FAMILY, Reference, Variant
from perfmodel.profiles.importers.rows import concat, rows_of
from perfmodel.profiles.kept_grids import KEPT, KeptGrids, Part
from perfmodel.profiles.shapes import shape_at
from perfmodel.profiles.stencil import stencil
from perfmodel.profiles.store import Measured
from perfmodel.profiles.table import Table
from perfmodel.vocabulary import BASIS_CODE, FAMILIES

BUILT_IN = store.folders()[0]
MEASURED, INTERPOLATED, EXTRAPOLATED = (BASIS_CODE[b] for b in ("measured", "interpolated", "extrapolated"))
PLAIN = Variant("bf16", "bf16")
CONSTANTS = Reference(1e15, 4e12, 4.5e11)


def plane_table() -> Table:
    """Sites on a 5x5 grid whose value is a plane in the sites and in the axis."""
    grid = np.log(2.0) * np.arange(5)
    sites = np.array([(a, b) for a in grid for b in grid])
    axis = np.log(2.0) * np.arange(6)
    values = (0.3 * sites[:, :1] - 0.2 * sites[:, 1:]) + 0.1 * axis[None, :]
    return Table(sites, np.ones(2), (axis,), values.astype(np.float32), np.ones(values.shape, bool))


# ---------------------------------------------------------------------------------------------------------- reading


def test_known_points_come_back_and_unknown_sites_follow_the_plane() -> None:
    table = plane_table()
    site, axis = table.sites[7], table.axes[0][3]
    value, basis = table.read([site[:1], site[1:]], [np.array([axis])])
    assert value == pytest.approx(table.values[7, 3], abs=1e-6)
    assert basis == MEASURED
    between = np.array([0.4, 1.1])
    value, basis = table.read([between[:1], between[1:]], [np.array([0.5])])
    assert value == pytest.approx(0.3 * 0.4 - 0.2 * 1.1 + 0.05, abs=2e-3)
    assert basis == INTERPOLATED


def test_outside_the_sites_the_border_is_held_and_says_so() -> None:
    table = plane_table()
    far, edge = np.array([table.sites[:, 0].max() + 2.0]), np.array([table.sites[:, 0].max()])
    other, axis = np.array([0.7]), np.array([1.0])
    beyond, basis = table.read([far, other], [axis])
    border, _ = table.read([edge, other], [axis])
    assert beyond == pytest.approx(border, abs=1e-6)
    assert basis == EXTRAPOLATED


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (0.0, np.log(2.0), np.log(4.0)), (0.0, -0.5, -1.0)])
def test_past_the_upper_end_of_an_axis_utilisation_is_that_at_the_end(values: tuple[float, ...]) -> None:
    """Nothing measured says that it rises or falls further."""
    axis = np.log(2.0) * np.arange(3)
    table = Table(np.zeros((1, 1)), np.ones(1), (axis,), np.array([values], np.float32), np.ones((1, 3), bool))
    value, basis = table.read([np.zeros(1)], [np.array([axis[-1] + np.log(2.0)])])
    assert value - values[-1] == pytest.approx(0.0, abs=1e-5)
    assert basis == EXTRAPOLATED


def test_outside_the_sites_utilisation_is_held_above_and_time_is_a_straight_line_below() -> None:
    """A launch-bound GEMM half as wide as any measured takes as long; one twice as wide has the same utilisation."""
    grid = np.log(2.0) * np.arange(4)
    sites = np.array([(a, b) for a in grid for b in grid])
    axes = (np.zeros(1),)
    for step, side in ((np.log(2.0), -1), (-np.log(2.0), 0)):
        other = [np.array([grid[side] + step]), np.array([grid[1]])]
        for values, launched in ((sites.sum(axis=1), True), (np.zeros(16), False)):
            table = Table(sites, np.ones(2), axes, values[:, None].astype(np.float32), np.ones((16, 1), bool))
            border, _ = table.read([grid[[side]], other[1]], [np.zeros(1)], (1.0, 1.0))
            beyond, basis = table.read(other, [np.zeros(1)], (1.0, 1.0))
            assert beyond - border == pytest.approx(step if launched and step < 0 else 0.0, abs=1e-3)
            assert basis == EXTRAPOLATED


def test_below_an_axis_a_launch_floor_keeps_its_time() -> None:
    axis = np.log(2.0) * np.arange(3)
    table = Table(np.zeros((1, 1)), np.ones(1), (axis,), axis[None].astype(np.float32), np.ones((1, 3), bool))
    value, _ = table.read([np.zeros(1)], [np.array([-np.log(8.0)])])
    assert value == pytest.approx(-np.log(8.0), abs=1e-5)


def test_blocks_of_many_sites_read_as_one_by_one() -> None:
    table = plane_table()
    rng = np.random.default_rng(3)
    site = [rng.uniform(0.0, 2.5, 5000) for _ in range(2)]
    axis = [rng.uniform(0.0, 3.0, 5000)]
    whole, basis = table.read(site, axis)
    pick = rng.integers(0, 5000, 20)
    parts = [table.read([s[[i]] for s in site], [axis[0][[i]]]) for i in pick]
    assert whole[pick] == pytest.approx(np.concatenate([p[0] for p in parts]), abs=1e-4)
    assert (basis[pick] == np.concatenate([p[1] for p in parts])).all()


def test_a_site_reads_the_same_whatever_other_sites_are_asked_for() -> None:
    """Also on the border: the logarithm of a stored size and that of a size asked for differ in their last bits."""
    table = plane_table()
    rng = np.random.default_rng(5)
    border = table.sites.max() + np.array([1e-8, 1e-3, 0.02, 0.0, -1e-8])
    near = np.concatenate([border, rng.uniform(0.0, 2.8, 20)])
    far = rng.uniform(3.0, 6.0, 5)  # outside the sites, so that the grids of the batch are extrapolated
    first, second = np.concatenate([near, far]), np.concatenate([near[::-1], far])
    axis = np.full(len(first), 0.7)
    whole, _ = table.read([first, second], [axis], (1.0, 1.0))
    for i in range(len(first)):
        alone, _ = table.read([first[i : i + 1], second[i : i + 1]], [axis[:1]], (1.0, 1.0))
        assert whole[i] == pytest.approx(alone[0], rel=1e-12, abs=1e-12)


def test_grids_of_a_site_are_kept_whatever_other_sites_it_is_asked_for_with(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = store.load("h100-sxm")
    assert profile is not None
    choice = lookup.choose(profile, "gemm", Variant("bf16", "bf16"), "")
    assert choice is not None
    made: list[int] = []
    rising = Table.rising

    def counted(self: Table, queries: Array, *given: Any) -> Any:
        made.append(len(queries))
        return rising(self, queries, *given)

    def seconds(widths: list[float]) -> list[float]:
        shape = {"m": np.full(len(widths), 77.0), "n": np.array(widths), "k": np.full(len(widths), 3000.0)}
        return lookup.price([choice], ShapeBatch(FAMILY["gemm"], shape)).time.tolist()

    monkeypatch.setattr(Table, "rising", counted)
    KEPT.forget()
    first = seconds([1234.0, 2345.0])
    both = seconds([3456.0, 2345.0, 1234.0])
    assert made == [2, 1]
    assert both[:0:-1] == first
    KEPT.forget()
    assert seconds([3456.0]) == both[:1]


@pytest.mark.parametrize("most", [1, 2000, 10**6])
def test_tables_that_are_read_together_read_as_each_alone(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is room for the grids of a few sites only."""
    monkeypatch.setattr(joint_reads, "KEPT", KeptGrids(most))
    choices = []
    for device in ("h100-sxm", "a100-sxm-80gb", "l40s", "b200-sxm"):
        profile = store.load(device)
        assert profile is not None
        choices.append(lookup.choose(profile, "gemm", PLAIN, ""))
    found = [choice for choice in choices if choice is not None]
    assert len(found) > 1
    draw = np.random.default_rng(0)
    shape = {name: np.exp2(draw.integers(3, 15, 40)) for name in ("m", "n", "k")}
    which = draw.integers(0, len(found), 40)
    whole = lookup.price(found, ShapeBatch(FAMILY["gemm"], shape, which))
    for number, choice in enumerate(found):
        rows = which == number
        alone = lookup.price([choice], ShapeBatch(FAMILY["gemm"], {k: v[rows] for k, v in shape.items()}))
        for one, other in zip(
            (whole.time, whole.basis, whole.bound), (alone.time, alone.basis, alone.bound), strict=True
        ):
            np.testing.assert_array_equal(one[rows], other)


def test_blocks_of_sites_of_several_tables_read_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = [store.load(device) for device in ("h100-sxm", "b200-sxm")]
    choices = [lookup.choose(profile, "gemm", PLAIN, "") for profile in profiles if profile is not None]
    found = [choice for choice in choices if choice is not None]
    draw = np.random.default_rng(0)
    shape = {name: np.exp2(draw.uniform(4, 14, 300)) for name in ("m", "n", "k")}
    asked = ShapeBatch(FAMILY["gemm"], shape, draw.integers(0, len(found), 300))
    whole = lookup.price(found, asked)
    monkeypatch.setattr(joint_reads, "SITES_PER_BLOCK", 70)
    parts = lookup.price(found, asked)
    np.testing.assert_allclose(parts.time, whole.time, rtol=1e-12)
    np.testing.assert_array_equal(parts.basis, whole.basis)


def test_threads_that_share_kept_grids_read_what_one_does() -> None:
    """Each asks for other sites, and there is room for those of one or two threads only."""
    table, bound = plane_table(), Bounds(at=lambda site, axis: site[..., 0] + axis[..., 0], formats=())
    kept, wrong = KeptGrids(40), []

    def ask(seed: int) -> None:
        sites = np.random.default_rng(seed).uniform(0.0, 2.7, (3, 2))
        expected = table.rising(sites, (), bound).grids
        for _ in range(200):
            found = kept.find([Part(table, bound, (), slice(0, 3))], sites)
            cells = found.grids.start[found.place][:, None] + np.arange(expected.shape[1])
            wrong.append(not np.array_equal(found.grids.cells[cells], expected))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 800
    assert not any(wrong)


def test_weights_of_neighbours_sum_to_one() -> None:
    table = plane_table()
    near = stencil(np.random.default_rng(0).uniform(0.0, 2.7, (50, 2)), table.sites, np.ones(2))
    assert near.weight.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)


# --------------------------------------------------------------------------------------------------------- families


def random_shape(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    counts = {
        "heads": 32.0,
        "kv_heads": 8.0,
        "head_dim": 128.0,
        "window": 0.0,
        "key_dim": 128.0,
        "value_dim": 64.0,
        "ep": 4.0,
        "tp": 2.0,
        "group": 4.0,
        "experts": 128.0,
        "top_k": 8.0,
        "context": 0.0,
    }
    keys = FAMILY[name].keys
    shape = {k: np.full(6, counts[k]) if k in counts else np.exp2(rng.integers(3, 12, 6)) for k in keys}
    if name.endswith("decode") and "context" in keys:
        shape["context"] = np.exp2(rng.integers(5, 14, 6))
    return shape


@pytest.mark.parametrize("name", FAMILIES)
def test_coordinates_lead_back_to_a_shape_of_the_same_place_and_bound(name: str) -> None:
    family = FAMILY[name]
    shape = random_shape(name)
    site, axis = family.locate(shape)
    columns = [np.stack([np.broadcast_to(a, (6,)) for a in part], axis=1) for part in (site, axis)]
    again = shape_at(family, *columns)
    assert families.bound(family, again, PLAIN, CONSTANTS)[0] == pytest.approx(
        families.bound(family, shape, PLAIN, CONSTANTS)[0], rel=1e-9
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_bound_on_a_grid_is_that_of_each_of_its_points(name: str) -> None:
    """Sites and points of axes broadcast: every pair of them has the bound that it has alone, to the last bit."""
    family = FAMILY[name]
    site, axis = (
        np.stack([np.broadcast_to(a, (6,)) for a in part], axis=1) for part in family.locate(random_shape(name))
    )
    grid = shape_at(family, site[:, None], axis[None, :4])
    found = np.broadcast_to(families.bound(family, grid, PLAIN, CONSTANTS)[0], (6, 4))
    for place, row in enumerate(site):
        alone = shape_at(family, np.tile(row, (4, 1)), axis[:4])
        np.testing.assert_array_equal(found[place], families.bound(family, alone, PLAIN, CONSTANTS)[0])


def test_bound_of_a_gemm_is_the_roofline_of_williams() -> None:
    shape = {"m": np.array([1.0, 8192.0]), "n": np.array(4096.0), "k": np.array(4096.0)}
    seconds, what = families.bound(FAMILY["gemm"], shape, PLAIN, CONSTANTS)
    assert seconds[0] == pytest.approx((4096 * 4096 * 2 + 4096 * 2 * 2) / 4e12)
    assert seconds[1] == pytest.approx(2.0 * 8192 * 4096 * 4096 / 1e15)
    assert what.tolist() == [1, 0]


def test_decode_of_few_heads_sits_where_many_heads_at_a_smaller_batch_do() -> None:
    """h KV heads at batch b take the time of H heads at b*h/H: same coordinates, but for the site's own heads."""
    locate = FAMILY["attention_decode"].locate
    few = {"batch": 32.0, "context": 4096.0, "heads": 8.0, "kv_heads": 2.0, "head_dim": 128.0, "window": 0.0}
    many = {**few, "batch": 8.0, "heads": 32.0, "kv_heads": 8.0}
    assert locate(few)[1] == pytest.approx(locate(many)[1])
    assert locate(few)[0][0] == pytest.approx(locate(many)[0][0])


def test_a_chunk_after_a_context_counts_as_part_of_a_longer_sequence() -> None:
    shape = {"batch": 1.0, "query": 512.0, "context": 7936.0, "heads": 8.0, "kv_heads": 8.0, "head_dim": 128.0}
    (rows, length) = FAMILY["attention_prefill"].locate({**shape, "window": 0.0})[1]
    assert np.exp(rows) / 8.0 * np.exp(length) == pytest.approx(512.0)
    assert np.exp(length) / 2.0 == pytest.approx(7936.0 + 256.0)


def test_all_reduce_bound_is_twice_the_share_that_leaves_home() -> None:
    shape = {"group": np.array(8.0), "message_bytes": np.array(8e6)}
    seconds, what = families.bound(FAMILY["all_reduce"], shape, Variant(), CONSTANTS)
    assert float(seconds) == pytest.approx(2.0 * 7 / 8 * 8e6 / 4.5e11)
    assert int(what) == 2


# -------------------------------------------------------------------------------------------------------------- fit


def staircase(noise: float = 0.0) -> fit.Points:
    """Sites that share a staircase over m, each with its own level."""
    rng = np.random.default_rng(0)
    sites = np.log(np.array([(n, k) for n in 2.0 ** np.arange(8, 14) for k in 2.0 ** np.arange(8, 14)]))
    m = np.log(np.arange(1.0, 41.0))
    step = -0.5 * (np.arange(40) // 8 % 2)
    value = 0.1 * sites[:, :1] - 0.05 * sites[:, 1:] + step[None, :] + noise * rng.standard_normal((36, 40))
    return fit.Points(np.repeat(sites, 40, axis=0), np.tile(m, 36)[:, None], value.reshape(-1))


def test_empty_cells_follow_the_staircase_that_neighbours_share() -> None:
    hidden = heldout.hide(FAMILY["gemm"], staircase(), "points")
    assert hidden.quantile(0.9) < 0.02, "interpolating the steps away would leave a fifth of the points 20 % off"


def test_whole_sites_are_found_from_their_neighbours() -> None:
    assert heldout.hide(FAMILY["gemm"], staircase(), "sites").quantile(0.9) < 0.03


def test_a_stuck_sample_is_left_out_of_the_table() -> None:
    data = staircase()
    broken = data.value.copy()
    broken[605] -= 5.0
    table = fit.fitted_table(FAMILY["gemm"], fit.Points(data.site, data.axis, broken))
    assert (~table.known).sum() == 1
    assert table.values.min() > data.value.min() - 0.1


def test_impossible_times_are_no_points() -> None:
    shape = {"m": np.full(4, 4096.0), "n": np.full(4, 4096.0), "k": np.full(4, 4096.0)}
    seconds = np.array([np.nan, -1.0, 1e-9, 2e-4])
    assert len(fit.points(FAMILY["gemm"], shape, seconds, PLAIN, CONSTANTS)) == 1


def test_more_bytes_than_the_cache_cannot_beat_memory() -> None:
    shape = {"m": np.ones(2), "n": np.full(2, 65536.0), "k": np.full(2, 8192.0)}
    seconds = 65536 * 8192 * 2 / 4e12 * np.array([0.6, 1.1])
    kept = fit.points(FAMILY["gemm"], shape, seconds, PLAIN, CONSTANTS, cache=50e6)
    assert np.exp(kept.value) == pytest.approx(1 / 1.1, rel=1e-3)


def test_chunks_lose_what_idle_blocks_cost() -> None:
    axes = (np.log(2.0 ** np.arange(3)), np.log(np.array([1024.0, 8192.0])))
    table = Table(np.zeros((1, 4)), np.ones(4), axes, np.zeros((1, 3, 2), np.float32), np.ones((1, 3, 2), bool))
    longer = fit.with_chunks(table, np.array([16.0]), np.zeros(1), rows=12e3)
    chunk = int(np.abs(longer.axes[0] - np.log(1 / 16)).argmin())
    busy = (1 + 12e3 / (8192 * 16)) / (1 + 12e3 / (512 * 16))
    assert np.exp(longer.values[0, chunk, 1]) == pytest.approx(busy, rel=1e-5)
    assert not longer.known[0, chunk].any()


def test_a_polynomial_keeps_coefficients_and_finds_its_own_degree() -> None:
    rng = np.random.default_rng(5)
    place = rng.uniform(0, 5, (400, 3))
    value = 1.0 + place[:, 0] * place[:, 1] - 0.3 * place[:, 2] ** 2
    fitted = smooth.surface(place, value, 2)
    assert len(fitted.terms) == 10
    assert fitted.at(place) == pytest.approx(value, abs=0.02)


# ------------------------------------------------------------------------------------------------------------ files


def some_rows(device: str = "h100-sxm") -> object:
    m, n = np.meshgrid(2.0 ** np.arange(13), [1024.0, 4096.0, 8192.0], indexing="ij")
    seconds = 2e-6 + n.ravel() * 4096 * 2 / 3e12 + 2.0 * m.ravel() * n.ravel() * 4096 / 7e14
    return rows_of(
        m.size,
        device=device,
        software="vllm 1.0",
        kernel="torch",
        family="gemm",
        m=m.ravel(),
        n=n.ravel(),
        k=4096.0,
        weight="bf16",
        act="bf16",
        time=seconds,
        source="test",
        licence="MIT",
    )


def test_written_tables_come_back_within_their_resolution(tmp_path: Path) -> None:
    folder, *_ = tables.write_profile(some_rows(), tmp_path)
    profile = store.load("h100-sxm", [tmp_path])
    assert profile is not None
    (item,) = profile.tables("gemm", "vllm")
    exact = tables.fitted_table(
        FAMILY["gemm"], next(iter(tables.located(some_rows(), hwdb.device("h100-sxm")).values()))[2]
    )
    assert item.table.values == pytest.approx(exact.values, abs=0.5 * store.STEP + 1e-6)
    assert (folder / "run.toml").is_file()


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tables.write_profile(some_rows(), tmp_path / name)
    one, two = ((tmp_path / n / "h100-sxm" / "gemm.vllm.npz").read_bytes() for n in ("a", "b"))
    assert one == two


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    folder, *_ = tables.write_profile(some_rows("h200-sxm"), tmp_path)
    (folder / "gemm.vllm.npz").write_bytes(b"no table")
    profile = store.load("h200-sxm", [tmp_path])
    assert profile is not None
    with pytest.raises(InputError, match=r"gemm\.vllm\.npz"):
        profile.tables("gemm", "vllm")


def test_rows_that_make_no_table_are_refused(tmp_path: Path) -> None:
    few = some_rows()
    with pytest.raises(InputError, match="no usable rows"):
        tables.write_profile(few.take(np.arange(2)), tmp_path)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def built_in() -> dict[str, store.Profile]:
    found = {name: store.load(name) for name in store.names([BUILT_IN])}
    return {name: profile for name, profile in found.items() if profile is not None}


def test_every_shipped_table_says_what_it_rests_on(built_in: dict[str, store.Profile]) -> None:
    needed = ("family", "framework", "software", "source", "licence", "date", "method", "rows", "sha256", "held_out")
    assert len(built_in) >= 20
    for profile in built_in.values():
        for entry in profile.run["table"]:
            assert all(entry.get(key) not in (None, "") for key in needed), (profile.device, entry["file"])
            path = BUILT_IN / profile.device / entry["file"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], path


def test_tables_of_closed_sources_hold_coefficients_only(built_in: dict[str, store.Profile]) -> None:
    for profile in built_in.values():
        for entry in profile.run["table"]:
            (fitted,) = {t.fitted for t in profile.tables(entry["family"], entry["framework"])}
            is_open = all(files.is_open(part) for part in entry["licence"].split("; "))
            assert is_open or fitted, (profile.device, entry["file"], entry["licence"])


def test_the_notice_credits_every_source(built_in: dict[str, store.Profile]) -> None:
    notice = (BUILT_IN.parents[1] / "NOTICE").read_text()
    for profile in built_in.values():
        for entry in profile.run["table"]:
            for source in entry["source"].split("; "):
                assert source.split("@")[0].split(" ")[0] in notice, source


def test_the_tree_is_small_and_a_table_is_read_whole() -> None:
    size = sum(p.stat().st_size for p in BUILT_IN.rglob("*") if p.is_file())
    assert size <= 25e6
    profile = store.load("h200-sxm")
    assert profile is not None
    for family in profile.families():
        file = profile.files[family][profile.frameworks(family, "vllm")[0]]
        assert calls(lambda file=file: store._read.__wrapped__(file)) < 20_000, "tables are arrays, not cells"


# ---------------------------------------------------------------------------------------------------------- sources


def write_parquet(path: Path, **columns: object) -> Path:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(columns), path)
    return path


def read(path: Path, family: str) -> object:
    return aiconfigurator.read_table(path, device="h100-sxm", family=family, framework="vllm", version="1.0")


def test_a_collective_message_is_counted_in_elements(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "nccl_perf.parquet",
        nccl_dtype=["half", "half"],
        num_gpus=[8, 8],
        message_size=[1024, 2048],
        kernel_source=["NCCL"] * 2,
        op_name=["alltoall", "all_reduce"],
        latency=[0.01, 0.02],
    )
    table = read(path, "collective")
    assert table["message_bytes"].tolist() == [2048.0, 4096.0]  # type: ignore[index]
    assert table["family"].tolist() == ["all_to_all", "all_reduce"]  # type: ignore[index]
    assert table["time"] == pytest.approx([1e-5, 2e-5])  # type: ignore[index]


def test_a_decode_reads_its_input_and_all_steps_before(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "generation_attention_perf.parquet",
        kernel_source=["x"],
        batch_size=[4],
        isl=[1],
        num_heads=[32],
        num_key_value_heads=[8],
        head_dim=[128],
        attn_dtype=["bfloat16"],
        kv_cache_dtype=["fp8"],
        step=[4095],
        latency=[0.05],
    )
    table = read(path, "attention_decode")
    assert (table["context"][0], table["kv"][0], table["window"][0]) == (4096.0, "fp8", 0.0)  # type: ignore[index]


def test_convolution_and_scan_make_one_recurrent_call(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "gdn_perf.parquet",
        kernel_source=["causal_conv1d_fn", "chunk_rule"],
        phase=["context"] * 2,
        batch_size=[1, 1],
        seq_len=[64, 64],
        num_v_heads=[8, 8],
        head_k_dim=[128, 128],
        head_v_dim=[128, 128],
        latency=[0.01, 0.03],
    )
    assert read(path, "recurrent")["time"] == pytest.approx([4e-5])  # type: ignore[index]


def test_the_newest_version_wins_unless_it_is_a_fragment() -> None:
    def version(count: int, seconds: float) -> object:
        return rows_of(
            count, family="gemm", m=np.arange(1.0, count + 1), n=8.0, k=8.0, weight="bf16", act="bf16", time=seconds
        )

    keys = ("m", "n", "k")
    merged = aiconfigurator.merged([("1.9", version(8, 1.0)), ("1.10", version(6, 2.0))], keys, ("weight",))  # type: ignore[list-item]
    assert sorted(merged["time"]) == [2.0] * 6
    merged = aiconfigurator.merged([("1.9", version(8, 1.0)), ("1.10", version(2, 2.0))], keys, ("weight",))  # type: ignore[list-item]
    assert sorted(merged["time"]) == [1.0] * 6 + [2.0] * 2


def test_operator_files_are_read_under_their_own_conventions(tmp_path: Path) -> None:
    head = "device,op,dtype,m,n,k,batch,q_len,kv_len,heads,kv_heads,head_dim,model,framework,latency_us,note,source,"
    head += "license\n"
    lines = [
        "RTX 4090,gemm,bf16,16,4096,4096,,,,,,,m,vllm,40,tp1,casys/x@1 file,MIT (CASYS)",
        "RTX 4090,attention_prefill,bf16,,,,1,64,192,32,8,128,m,vllm,20,tp1,casys/x@1 file,MIT (CASYS)",
        "RTX 4090,elementwise:act_fn,bf16,8,,,,,,,,,meta-llama/Llama-3.1-8B,vllm,5,layer=act_fn tp2,casys/x@1,MIT (C)",
        "RTX 4090,attention_mixed,bf16,,,,1,64,192,32,8,128,m,vllm,20,tp1,casys/x@1 file,MIT (CASYS)",
    ]
    (tmp_path / "ops_rtx4090_llmservingsim.csv").write_text(head + "\n".join(lines) + "\n")
    table = files.open_rows(tmp_path)
    assert sorted(table["family"]) == ["attention_prefill", "elementwise", "gemm"]
    assert table.family("attention_prefill")["context"].tolist() == [128.0]
    assert table.family("elementwise")["moved_bytes"].tolist() == [2.0 * 3 * 14336 / 2 * 8]
    assert set(table["device"]) == {"rtx-4090"}


def test_rows_without_an_open_licence_make_no_open_table(tmp_path: Path) -> None:
    (tmp_path / "ops_rtx4090_llmservingsim.csv").write_text(
        "device,op,dtype,m,n,k,framework,latency_us,note,source,license\n"
        "RTX 4090,gemm,bf16,16,4096,4096,vllm,40,tp1,x,no LICENSE file\n"
    )
    assert len(files.open_rows(tmp_path)) == 0


def small_package(root: Path) -> None:
    """A package tree of one system: GEMMs under one framework, measured twice at one size."""
    m, n = np.meshgrid([1, 16, 256, 4096], [1024, 2048, 4096, 8192, 16384], indexing="ij")
    m, n = np.append(m.ravel(), 1), np.append(n.ravel(), 1024)
    milliseconds = 3e-3 + n * 4096 * 2 / 1.7e12 * 1e3 + 2.0 * m * n * 4096 / 2.5e14 * 1e3
    milliseconds[-1] *= 1.02
    write_parquet(
        root / "a100_sxm/gemm/vllm/0.1.0/gemm_perf.parquet",
        framework=["VLLM"] * len(m),
        kernel_source=["x"] * len(m),
        gemm_dtype=["bfloat16"] * len(m),
        m=m,
        n=n,
        k=np.full(len(m), 4096),
        latency=milliseconds,
    )


def test_the_build_command_writes_profiles_and_spreads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_package(tmp_path / "tree")
    monkeypatch.setattr(aiconfigurator, "installed", lambda: (tmp_path / "tree", "0.12.0"))
    build.main(["--out", str(tmp_path / "out")])
    profile = store.load("a100-sxm-80gb", [tmp_path / "out"])
    assert profile is not None
    (entry,) = profile.run["table"]
    assert (entry["rows"], entry["sites"], entry["software"]) == (20, 5, "vllm 0.1.0")
    learned = store.read_toml(tmp_path / "out" / "spread.toml")["spread"]
    assert set(learned["gemm"]) >= {"interpolated", "extrapolated"}


def test_a_second_measurement_tells_the_noise(tmp_path: Path) -> None:
    small_package(tmp_path)
    path = tmp_path / "a100_sxm/gemm/vllm/0.1.0/gemm_perf.parquet"
    table = aiconfigurator.read_table(path, device="a100-sxm-80gb", family="gemm", framework="vllm", version="0.1.0")
    assert np.exp(package.repeats(table).residual) == pytest.approx([1.02])


def test_building_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        aiconfigurator.installed()


# ---------------------------------------------------------------------------------------------------------- look-up


def test_formats_stand_in_for_others_only_when_they_are_near() -> None:
    assert lookup.distance(Variant("int4", "bf16"), Variant("int4", "bf16")) == 0.0
    assert 0.0 < lookup.distance(Variant("int4", "bf16"), Variant("q4_k_m", "bf16")) < lookup.MAX_FORMAT_GAP
    assert lookup.distance(Variant("int4", "bf16"), Variant("q8_0", "bf16")) == np.inf
    assert lookup.distance(Variant("fp8", "fp8"), Variant("fp8", "bf16")) == np.inf


def test_a_fitted_surface_never_claims_to_be_a_measurement() -> None:
    table = plane_table()
    item = Measured(PLAIN, CONSTANTS, table, fitted=True)
    shape = {"n": np.exp(table.sites[3, :1]), "k": np.exp(table.sites[3, 1:]), "m": np.exp(table.axes[0][[2]])}
    priced = lookup.price([lookup.Choice(item, PLAIN, 0)], ShapeBatch(FAMILY["gemm"], shape))
    assert priced.basis.tolist() == [INTERPOLATED]


def test_spreads_hold_the_share_they_promise() -> None:
    residual = np.random.default_rng(0).standard_normal(20000) * 0.1
    width = spreads.half_width(residual)
    assert np.mean(np.abs(residual) <= width) == pytest.approx(0.8, abs=0.01)
    hidden = heldout.Hidden(residual, np.zeros(20000, np.int8))
    ledger = [tables.Trial("x", "gemm", "vllm", test, hidden) for test in ("points", "octave", "repeats")]
    assert spreads.learned(ledger)["gemm"]["interpolated"] == pytest.approx(width, rel=0.05)


def test_merging_keeps_what_was_learned_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "spread.toml"
    spreads.merge(path, {"gemm": {"calibrated": 0.2}})
    spreads.merge(path, {"gemm": {"measured": 0.03}})
    assert store.read_toml(path)["spread"]["gemm"] == {"measured": 0.03, "calibrated": 0.2}


def test_an_empty_folder_of_files_gives_no_rows(tmp_path: Path) -> None:
    assert len(concat([files.open_rows(tmp_path), files.closed_rows(tmp_path)])) == 0


def test_an_installation_without_measured_tables_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "__file__", str(tmp_path / "perfmodel" / "profiles" / "store.py"))
    with pytest.raises(InputError, match=r"no measured tables: neither .*_profiles nor .*data/profiles is a folder"):
        store.folders.__wrapped__()
