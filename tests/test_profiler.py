"""The profiler: timing, grids, resuming, fitting; and the machine the tests run on, really profiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import sleep

import numpy as np
import pytest

import cli
import hwdb
from hwdb import InputError, UnknownName
from perfmodel import profiler
from perfmodel.profiler import card, grid, power, roofline, timing
from perfmodel.profiler.backends.protocol import Abilities, Call, NotHere
from perfmodel.profiler.machine import Machine, machine, size
from perfmodel.profiles.importers import plain, rows_of
from search.report.chart_drawing.roofline_plot import roofline_figure, write_roofline

ROOT = Path(__file__).resolve().parents[1]
#: Rate and bandwidth of the pretended device.
RATE, BANDWIDTH, LAUNCH = 2e12, 50e9, 5e-6


class Pretended:
    """A device that takes exactly roofline time, so that what the profiler makes of it is known in closed form."""

    title, kind, vendor, software, memory = "Pretended One", "gpu", "ACME", "pretend 1.0", 16e9
    abilities = Abilities((("bf16", "bf16"),), ("bf16",), ("copy", "launch", "copy t1"), "bf16")
    meter = None

    def __init__(self) -> None:
        self.prepared: list[grid.Point] = []
        self.flushes = 0

    def prepare(self, point: grid.Point) -> Call:
        if point.family == "attention_prefill":
            raise NotHere("no such kernel")
        self.prepared.append(point)
        return lambda: self.seconds(point)

    def seconds(self, point: grid.Point) -> float:
        if point.family == "gemm":
            m, n, k = (point[key] for key in "mnk")
            return max(2.0 * m * n * k / RATE, 2.0 * (m * k + n * k + m * n) / BANDWIDTH) + LAUNCH
        if point.family == "elementwise":
            return point["moved_bytes"] / BANDWIDTH + LAUNCH
        return 4.0 * point["batch"] * point["context"] * point["kv_heads"] * point["head_dim"] / BANDWIDTH + LAUNCH

    def flush(self) -> None:
        self.flushes += 1

    def stopwatch(self, call: Call) -> float:
        return float(call())  # type: ignore[arg-type]

    def wait(self) -> None:
        pass


@pytest.fixture
def pretended(tmp_path: Path) -> tuple[Pretended, Path]:
    backend, path = Pretended(), tmp_path / "rows.csv"
    profiler.measure(backend, profiler.everything(backend, "small"), path, device="acme-1")
    return backend, path


class TestGrid:
    def test_small_is_small_and_full_covers_it_with_octaves(self):
        small = grid.points("small", (("fp32", "fp32"),), ("fp32",), ("copy",), "fp32")
        full = grid.points("full", (("fp32", "fp32"),), ("fp32",), ("copy",), "fp32")
        assert 20 <= len(small) <= 60 < 300 <= len(full)
        tokens = sorted({p["m"] for p in full if p.family == "gemm"})
        assert tokens[0] == 1
        assert tokens[-1] == 2**14
        assert set(np.diff(np.log2(tokens))) == {1.0}

    def test_a_prefix_of_the_order_sees_every_family(self):
        every = grid.points("full", (("bf16", "bf16"),), ("bf16",), ("copy",), "bf16")
        assert {p.family for p in every[:60]} == {p.family for p in every}
        assert every == grid.points("full", (("bf16", "bf16"),), ("bf16",), ("copy",), "bf16")

    def test_no_point_asks_for_more_than_the_limits(self):
        for p in grid.points("full", (), ("bf16",), (), "bf16"):
            if p.family == "attention_decode":
                assert 4.0 * p["batch"] * p["context"] * p["kv_heads"] * p["head_dim"] <= grid.MOST_CACHE

    def test_unknown_grid_is_named(self):
        with pytest.raises(UnknownName, match="grid 'tiny'"):
            grid.points("tiny", (), (), (), "fp32")


class TestTiming:
    def test_the_median_ignores_a_stray_and_warm_up_is_not_timed(self):
        times = iter([99.0, 99.0, 1.0, 1.0, 50.0, 1.0, 1.0])
        effort = timing.Effort(warmup=2, repeats=5, seconds=9.0)
        found = timing.timed(lambda: next(times), effort, lambda: None, lambda call: call())
        assert (found.median, found.scatter) == (1.0, 0.0)

    def test_scatter_is_the_gap_between_the_quartiles(self):
        times = iter([1.0, 2.0, 3.0, 4.0, 5.0])
        found = timing.timed(lambda: next(times), timing.Effort(0, 5, seconds=9.0), lambda: None, lambda call: call())
        assert found.scatter == pytest.approx((4.0 - 2.0) / 3.0)

    def test_caches_are_flushed_before_every_repeat(self, pretended: tuple[Pretended, Path]):
        backend, _ = pretended
        assert backend.flushes >= 3 * len(backend.prepared)

    def test_the_wall_clock_counts_seconds(self):
        assert 0.02 <= timing.wall(lambda: sleep(0.02)) < 2.0

    def test_watts_are_joules_over_seconds(self):
        joules = iter([100.0, 130.0])
        meter = power.Meter("fake", lambda: next(joules))
        watts = timing.watts(lambda: None, timing.Effort(watts=0.1), meter, lambda: sleep(0.01))
        assert 30.0 / 1.0 < watts <= 30.0 / 0.1
        assert np.isnan(timing.watts(lambda: None, timing.Effort(watts=0.1), None, lambda: None))

    def test_rapl_counts_all_sockets_through_a_wrap(self, tmp_path: Path):
        for number in range(2):
            zone = tmp_path / f"intel-rapl:{number}"
            zone.mkdir()
            (zone / "max_energy_range_uj").write_text("5000000\n")
            (zone / "energy_uj").write_text("4000000\n")
        meter = power.processor(tmp_path)
        assert meter is not None
        before = meter.joules()
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1000000\n")  # 2 J later, wrapped at 5 J
        assert meter.joules() - before == pytest.approx(2.0)
        assert power.processor(tmp_path / "none") is None


class TestMachine:
    def test_this_one(self):
        here = machine()
        assert here.title
        assert here.title != "1"
        assert 1 <= here.cores <= (os.cpu_count() or 1)
        assert sum(len(s) for s in here.sockets) == here.cores
        assert here.memory > 1e8

    def test_sizes_and_slug(self):
        assert size("512K") == 2**19
        assert np.isnan(size("lots"))
        assert Machine("Intel(R) Xeon(R) Gold 6230", 4, (), 0.0, 0.0).slug == "intel-r-xeon-r-gold-6230"


class TestRun:
    def test_a_second_run_measures_nothing(self, pretended: tuple[Pretended, Path]):
        backend, path = pretended
        before = path.read_bytes()
        again = profiler.measure(backend, profiler.everything(backend, "small"), path, device="acme-1")
        assert again.measured == 0
        assert again.known == len(backend.prepared)
        assert path.read_bytes() == before

    def test_a_killed_run_goes_on_where_it_was(self, pretended: tuple[Pretended, Path]):
        backend, path = pretended
        whole = plain.read(path)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:6]) + lines[6][:20])  # killed while writing the sixth point
        profiler.measure(backend, profiler.everything(backend, "small"), path, device="acme-1")
        resumed = plain.read(path)
        assert len(resumed) == len(whole)
        assert grid.keys(resumed) == grid.keys(whole)
        np.testing.assert_array_equal(np.sort(resumed["time"]), np.sort(whole["time"]))

    def test_what_cannot_run_is_counted_by_reason(self, tmp_path: Path):
        backend = Pretended()
        run = profiler.measure(backend, profiler.everything(backend, "small"), tmp_path / "r.csv", device="acme-1")
        assert run.refused == {"no such kernel": 4}
        assert run.rows()[0]["not_possible"] == 4

    def test_a_budget_stops_before_the_next_point(self, tmp_path: Path):
        backend = Pretended()
        points = profiler.everything(backend, "small")
        run = profiler.measure(backend, points, tmp_path / "r.csv", device="acme-1", budget=-1.0)
        assert (run.measured, run.left) == (0, len(points))

    def test_progress_is_reported(self, tmp_path: Path):
        backend, seen = Pretended(), []
        points = profiler.everything(backend, "small")[:3]
        profiler.measure(backend, points, tmp_path / "r.csv", device="x", progress=lambda *at: seen.append(at))
        assert seen == [(0, 3), (1, 3), (2, 3)]

    def test_another_machine_may_not_continue_the_file(self, pretended: tuple[Pretended, Path]):
        backend, path = pretended
        backend.title = "Pretended Two"
        with pytest.raises(InputError, match="holds rows of 'Pretended One', this machine is 'Pretended Two'"):
            profiler.measure(backend, [], path, device="acme-1")

    def test_a_damaged_card_is_named(self, pretended: tuple[Pretended, Path]):
        _, path = pretended
        card.place(path).write_text(json.dumps({"title": "x"}))
        with pytest.raises(InputError, match=r"rows.csv.machine.json: not the card"):
            card.read(path)


class TestFit:
    def test_ceilings_are_the_best_that_was_reached(self, pretended: tuple[Pretended, Path]):
        _, path = pretended
        found = profiler.measured_ceilings(plain.read(path))
        best = 2.0 * 256 * 2048 * 2048
        assert found["gemm.bf16"] == pytest.approx(best / (best / RATE + LAUNCH))
        assert found["memory_bandwidth"] == pytest.approx(2**26 / (2**26 / BANDWIDTH + LAUNCH))

    def test_the_device_file_is_read_back_by_hwdb(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        _, path = pretended
        fitted = profiler.fit(path, device="acme-1", out=tmp_path / "hw")
        device = hwdb.Hwdb((*hwdb.load().folders, tmp_path / "hw")).device("acme-1")
        assert device.kind == "gpu"
        assert device.memory == pytest.approx(16e9)
        assert device.measured("gemm.bf16") == pytest.approx(fitted.ceilings["gemm.bf16"])
        assert device.peak("bf16") == pytest.approx(fitted.ceilings["gemm.bf16"])
        assert "rated peak is not known" in device.records["peak.bf16"].note
        assert device.records["memory.bandwidth"].kind == "measured"

    def test_a_known_device_keeps_its_rated_figures(self, tmp_path: Path):
        a100 = hwdb.device("a100-sxm-80gb")
        m = 2.0 ** np.arange(4, 13)
        table = rows_of(
            len(m),
            device="x",
            family="gemm",
            software="torch 2",
            m=m,
            n=8192.0,
            k=8192.0,
            weight="bf16",
            act="bf16",
            time=2.0 * m * 8192.0**2 / 250e12 + 1.4e-4,
        )
        plain.write(table, tmp_path / "rows.csv")
        profiler.fit(tmp_path / "rows.csv", device="my-a100", out=tmp_path / "hw", like=a100.name)
        mine = hwdb.Hwdb((*hwdb.load().folders, tmp_path / "hw")).device("my-a100")
        assert mine.peak("bf16") == a100.peak("bf16")
        assert mine.bandwidth == a100.bandwidth
        assert 200e12 < mine.measured("gemm.bf16") < 250e12

    def test_a_table_reproduces_its_own_points(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        backend, path = pretended
        profiler.fit(path, device="acme-1", out=tmp_path / "hw")
        found = [p for p in roofline.measured_points("acme-1", [tmp_path / "hw"]) if p["family"] == "gemm"]
        times = sorted(backend.seconds(p) * 1e6 for p in backend.prepared if p.family == "gemm")
        np.testing.assert_allclose(sorted(p["latency_us"] for p in found), times, rtol=0.01)

    def test_side_measurements_stay_out_of_the_tables(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        _, path = pretended
        fitted = profiler.fit(path, device="acme-1", out=tmp_path / "hw")
        stream = next(t for t in fitted.tables if t["family"] == "elementwise")
        assert stream["rows"] + stream["left_out"] == len(grid.MOVED["small"])

    @pytest.mark.parametrize("name", ["", "../evil", "a b", "-x", "x/y"])
    def test_a_name_that_is_no_file_name_is_refused(self, pretended: tuple[Pretended, Path], tmp_path: Path, name: str):
        with pytest.raises(InputError, match="device name"):
            profiler.fit(pretended[1], device=name, out=tmp_path)

    def test_unknown_memory_and_missing_stream_are_named(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        _, path = pretended
        table = plain.read(path)
        card.place(path).unlink()
        with pytest.raises(InputError, match="give --like DEVICE or --memory-gb N"):
            profiler.fit(path, device="acme-1", out=tmp_path / "hw")
        plain.write(table.family("gemm"), tmp_path / "gemm.csv")
        with pytest.raises(InputError, match="without a stream the memory bandwidth is not known"):
            profiler.fit(tmp_path / "gemm.csv", device="acme-1", out=tmp_path / "hw", memory=16e9)

    def test_decode_passes_of_dense_models_give_a_ceiling_and_mixtures_do_not(self, tmp_path: Path):
        shape = {"batch": 1.0, "context": 64.0, "parameters": 8e9, "moved_bytes": 4.9e9, "software": "llama.cpp"}
        both = ["llama 8B Q4_K - Medium", "qwen3moe 30B.A3B Q4_K - Medium"]
        table = rows_of(2, family="model_decode", time=[0.1, 0.01], kernel=np.array(both, dtype=object), **shape)
        plain.write(table, tmp_path / "rows.csv")
        fitted = profiler.fit(tmp_path / "rows.csv", device="my-mac", out=tmp_path / "hw", like="m2-ultra")
        assert fitted.ceilings == {"memory_bandwidth": pytest.approx(49e9)}
        assert fitted.tables == ()
        mine = hwdb.Hwdb((*hwdb.load().folders, tmp_path / "hw")).device("my-mac")
        assert mine.measured("memory_bandwidth") == pytest.approx(49e9)
        plain.write(table.take(np.array([1])), tmp_path / "moe.csv")
        with pytest.raises(InputError, match="nothing to fit"):
            profiler.fit(tmp_path / "moe.csv", device="my-mac", out=tmp_path / "hw", like="m2-ultra")

    def test_milliseconds_in_the_rows_are_refused(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        _, path = pretended
        table = plain.read(path)
        plain.write(table.replace(time=table["time"] / 1e3), path)
        with pytest.raises(InputError, match="ms not us"):
            profiler.fit(path, device="acme-1", out=tmp_path / "hw")


class TestListing:
    def test_one_row_a_device_and_family(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        profiler.fit(pretended[1], device="acme-1", out=tmp_path / "hw")
        found = profiler.list_rows([tmp_path / "hw"])
        pairs = [(row["device"], row["family"]) for row in found]
        assert len(pairs) == len(set(pairs))
        assert {("acme-1", "gemm"), ("acme-1", "attention_decode"), ("acme-1", "elementwise")} <= set(pairs)
        assert all(not isinstance(value, dict | list) for row in found for value in row.values())

    def test_show_names_source_and_coverage(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        profiler.fit(pretended[1], device="acme-1", out=tmp_path / "hw")
        gemm = next(r for r in profiler.show_rows("acme-1", [tmp_path / "hw"]) if r["family"] == "gemm")
        assert gemm["sites"] == len(grid.SITES["small"])
        assert gemm["framework"] == "pretend"
        assert "perfmodel profile run" in gemm["source"]
        with pytest.raises(UnknownName, match=r"profile 'acme-7'; did you mean.*acme-1"):
            profiler.show_rows("acme-7", [tmp_path / "hw"])

    def test_the_roofline_has_roofs_and_no_point_above_them(self, pretended: tuple[Pretended, Path], tmp_path: Path):
        profiler.fit(pretended[1], device="acme-1", out=tmp_path / "hw")
        points = roofline.measured_points("acme-1", [tmp_path / "hw"])
        for p in points:
            assert p["tflops"] <= 1.01 * min(RATE, p["flop_per_byte"] * BANDWIDTH) / 1e12
        device = hwdb.Hwdb((*hwdb.load().folders, tmp_path / "hw")).device("acme-1")
        page = write_roofline(device, points, tmp_path / "roofline.html").read_text()
        assert "Measured operators of Pretended One" in page
        assert "<script src" not in page
        with pytest.raises(InputError, match="no measured point"):
            roofline_figure(device, [])


class TestBackends:
    def test_numpy_is_always_there_and_others_say_what_they_need(self):
        assert profiler.available()[0] == "numpy"
        with pytest.raises(UnknownName, match="profiler backend 'cuda'"):
            profiler.backend("cuda")
        if find_spec("torch") is None:
            with pytest.raises(InputError, match=r"'torch-gpu' needs torch; here are: numpy"):
                profiler.backend("torch-gpu")

    def test_numpy_refuses_what_it_cannot_measure(self):
        backend = profiler.backend("numpy", threads=machine().cores)
        with pytest.raises(NotHere, match="no bf16 gemm"):
            backend.prepare(profiler.point("gemm", m=1, n=1, k=1, weight="bf16", act="bf16"))
        with pytest.raises(NotHere, match="larger than the memory"):
            backend.prepare(profiler.point("gemm", m=1, n=10**7, k=10**6, weight="fp32", act="fp32"))

    def test_numpy_attention_is_attention(self):
        """The call that is timed computes causal softmax attention with grouped heads."""
        backend = profiler.backend("numpy", threads=machine().cores)
        point = profiler.point(
            "attention_prefill", batch=1, query=5, context=0, heads=4, kv_heads=2, head_dim=8, act="fp32", kv="fp32"
        )
        drawn: list[np.ndarray] = []
        values = backend._values  # type: ignore[attr-defined]
        backend._values = lambda *shape: drawn.append(values(*shape)) or drawn[-1]  # type: ignore[attr-defined]
        result = np.asarray(backend.prepare(point)()).reshape(4, 5, 8)
        q, k, v = drawn[0].reshape(4, 5, 8), drawn[1][0], drawn[2][0]
        for head in range(4):
            for t in range(5):
                weight = np.exp(k[head // 2][: t + 1] @ q[head, t])
                expected = weight @ v[head // 2][: t + 1] / weight.sum()
                np.testing.assert_allclose(result[head, t], expected, rtol=2e-4, atol=2e-5)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of `perfmodel profile ...`."""
    code = cli.main(["profile", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


class TestCommands:
    def test_list_is_flat_objects_one_a_device_and_family(self, capsys: pytest.CaptureFixture[str]):
        code, out, _ = command(capsys, "list", "--json")
        found = json.loads(out)
        assert code == 0
        assert {"device", "family", "rows", "points_median_percent"} <= set(found[0])
        assert len({(row["device"], row["family"]) for row in found}) == len(found)

    def test_fit_then_show_then_estimate(
        self, pretended: tuple[Pretended, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        out = tmp_path / "hw"
        code, text, _ = command(capsys, "fit", pretended[1], "--device", "acme-1", "-o", out)
        assert code == 0
        assert "memory_bandwidth: " in text
        page = tmp_path / "roofline.html"
        code, text, _ = command(capsys, "show", "acme-1", "--hwdb", out, "--plot", page, "--json")
        assert code == 0
        assert {row["family"] for row in json.loads(text)} == {"gemm", "attention_decode", "elementwise"}
        assert "acme-1" not in page.name
        assert page.stat().st_size > 10**6
        load = ["--isl", "64", "--osl", "8", "--concurrency", "1", "--hwdb", str(out), "--explain", "--json"]
        assert cli.main(["estimate", "meta-llama/Llama-3.2-1B", "--device", "acme-1", *load]) == 0
        terms = json.loads(capsys.readouterr().out)
        gemms = [term for term in terms if term.get("family") == "gemm"]
        assert gemms
        assert all(term["basis"] != "roofline" for term in gemms)

    def test_import_writes_rows_and_counts_what_it_set_aside(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        m = 2.0 ** np.arange(4, 13)
        time = 2.0 * m * 8192.0**2 / 250e12 + 1e-4
        time[3] = np.nan
        table = rows_of(
            len(m), device="a100-sxm-80gb", family="gemm", m=m, n=8192.0, k=8192.0, weight="bf16", act="bf16", time=time
        )
        plain.write(table, tmp_path / "in.csv")
        code, out, _ = command(capsys, "import", "csv", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--json")
        assert code == 0
        assert [(row["outcome"], row["rows"]) for row in json.loads(out)] == [("read", 8), ("set aside", 1)]
        assert len(plain.read(tmp_path / "out.csv")) == 8

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("show", "h1000"), "unknown profile 'h1000'"),
            (("run", "-o", "x.csv", "--backend", "tpu"), "unknown profiler backend 'tpu'"),
            (("run", "-o", "x.csv", "--backend", "numpy", "--grid", "huge"), "unknown grid 'huge'"),
            (("run", "-o", "x.csv", "--socket", "99"), "socket 99: this machine has"),
            (("fit", "none.csv", "--device", "x", "-o", "y"), "none.csv: no such CSV file"),
            (("import", "csv", "none.csv", "-o", "y"), "none.csv: no such file"),
        ],
    )
    def test_bad_input_is_one_sentence_and_code_2(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: tuple[str, ...],
        message: str,
    ):
        monkeypatch.chdir(tmp_path)
        code, _, err = command(capsys, *arguments)
        assert code == 2
        assert message in err
        assert "Traceback" not in err


#: Profiles a small grid with one BLAS thread, which other work on the machine disturbs least; then fits, and times
#: fresh operands of the same and of unseen shapes.
REAL = """
import json, sys
from pathlib import Path
from perfmodel import profiler
from perfmodel.profiler import timing
path, out = Path(sys.argv[1]), Path(sys.argv[2])
backend = profiler.backend("numpy", threads=1)
effort = profiler.Effort(warmup=2, repeats=15, least=5, seconds=0.15)
run = profiler.measure(backend, profiler.everything(backend, "small"), path, device="this-machine", effort=effort)
fresh = []
for m, n, k in json.loads(sys.argv[3]):
    point = profiler.point("gemm", m=m, n=n, k=k, weight="fp32", act="fp32")
    fresh.append(timing.timed(backend.prepare(point), effort, backend.flush, backend.stopwatch).median)
profiler.fit(path, device="this-machine", out=out)
print(json.dumps({"measured": run.measured, "fresh": fresh}))
"""
SEEN = [(8, 1024, 1024), (64, 1024, 1024), (64, 2816, 1024), (256, 2048, 2048), (64, 2048, 2048)]
UNSEEN = [(32, 1024, 1024), (128, 2816, 1024), (128, 1536, 1536), (24, 2048, 2048), (96, 1024, 2048)]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[float]]]:
    """This machine, profiled."""
    out = tmp_path_factory.mktemp("real")
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-c", REAL, str(out / "rows.csv"), str(out / "hw"), json.dumps(SEEN + UNSEEN)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **single}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


class TestThisMachine:
    def test_every_family_was_measured_and_nothing_is_absurd(self, real: tuple[Path, dict[str, list[float]]]):
        out, _ = real
        table = plain.read(out / "rows.csv")
        assert set(table["family"]) == {"gemm", "attention_prefill", "attention_decode", "elementwise"}
        found = profiler.measured_ceilings(table)
        assert 1e9 < found["gemm.fp32"] < 1e12  # a core does 2 to 64 fp32 FLOP a cycle at 1 to 6 GHz
        assert 5e8 < found["memory_bandwidth"] < 1e12

    def test_more_work_takes_longer(self, real: tuple[Path, dict[str, list[float]]]):
        out, _ = real
        gemm = plain.read(out / "rows.csv").family("gemm")
        site = (gemm["n"] == 2048.0) & (gemm["k"] == 2048.0)
        time = dict(zip(gemm["m"][site], gemm["time"][site], strict=True))
        assert time[256.0] > 2.0 * time[8.0]  # 32 times the work, and bound by memory only at the low end

    def test_prediction_agrees_with_fresh_measurements(self, real: tuple[Path, dict[str, list[float]]]):
        """Median within a factor 2 on a shared machine, of points it has seen and of shapes it has not."""
        from perfmodel.costs.measured_tables.profiled import Profiled
        from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
        from perfmodel.hardware.columns import hardware_of
        from perfmodel.operators.demand import Demand

        out, result = real
        device = hwdb.Hwdb((*hwdb.load().folders, out / "hw")).device("this-machine")
        m, n, k = np.array(SEEN + UNSEEN, dtype=float).T
        one = np.ones(len(m))
        demand = Demand(
            "gemm",
            "gemm",
            2 * m * n * k,
            4 * (m * k + n * k + m * n),
            one,
            COMPUTE_CODE["fp32"],
            shape={"m": m, "n": n, "k": k, "weight": one * FORMAT_CODE["fp32"], "act": one * COMPUTE_CODE["fp32"]},
        )
        here = hardware_of([device], np.zeros(len(m), dtype=int))
        predicted = Profiled(folders=(out / "hw" / "profiles",)).cost(demand, here).time
        ratio = np.abs(np.log(predicted / np.array(result["fresh"])))
        assert np.median(ratio[: len(SEEN)]) < np.log(2.0)
        assert np.median(ratio[len(SEEN) :]) < np.log(2.0)
        wrong_unit = np.abs(np.log(predicted * 1e3 / np.array(result["fresh"])))
        assert np.median(wrong_unit) > np.log(2.0)  # the band can fail
