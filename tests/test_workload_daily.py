"""The load of a trace over time: peaks are found, noise is not, and a scenario is sized for what it asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwdb import InputError
from perfmodel.workload import Histogram, Trace, hours_of_day, peak_of, periods_of, read_histogram
from search.scenario import load_scenario
from search.scenario.workload import Request

HOUR = 3600.0


def arrivals(rates: np.ndarray, seconds: float, seed: int, cv: float = 1.0) -> np.ndarray:
    """Times at which requests arrive at `rates` (one per second of the trace), with gaps of variation `cv`."""
    rng = np.random.default_rng(seed)
    clock = np.concatenate([[0.0], np.cumsum(rates)]) * seconds / len(rates)
    gaps = rng.gamma(1.0 / cv**2, cv**2, int(clock[-1] + 10.0 * cv * clock[-1] ** 0.5 + 50))
    work = np.cumsum(gaps)
    return np.interp(work[work < clock[-1]], clock, np.linspace(0.0, seconds, len(rates) + 1))


def trace_of(arrival: np.ndarray) -> Trace:
    return Trace(arrival - arrival[0], np.full(len(arrival), 500), np.full(len(arrival), 100))


def wave(mean: float, depth: float, hours: float) -> np.ndarray:
    turn = np.linspace(0.0, 2.0 * np.pi, 2000, endpoint=False)
    return mean * (1.0 + depth * np.sin(turn)) * np.ones(2000 if hours else 0)


@pytest.mark.parametrize("seed", range(24))
def test_a_steady_load_has_no_peak(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hours, rate, cv = rng.choice([0.6, 2.0, 5.0, 24.0]), 10.0 ** rng.uniform(-2, 0), rng.choice([0.0, 0.5, 1.0, 2.0])
    found = arrivals(np.full(10, rate), hours * HOUR, seed, max(cv, 1e-3))
    assert len(found) < 50 or peak_of(trace_of(found)) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_peak_of_a_day_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hours, mean, depth = rng.choice([12.0, 24.0]), 10.0 ** rng.uniform(-0.7, 0.5), rng.uniform(0.3, 0.95)
    trace = trace_of(arrivals(wave(mean, depth, hours), hours * HOUR, seed, rng.choice([0.7, 1.0, 1.3])))
    peak = peak_of(trace)
    assert peak is not None
    assert peak.rate == pytest.approx(mean * (1.0 + depth), rel=0.12)
    assert peak.mean == pytest.approx(mean, rel=0.05)
    assert peak.cv < 1.6
    assert max(p.rate for p in hours_of_day(periods_of(trace))) == peak.rate


@pytest.mark.parametrize("minutes", [5, 15, 60])
@pytest.mark.parametrize("times", [2.0, 4.0])
def test_a_rush_is_measured_over_its_own_length(minutes: int, times: float) -> None:
    """Wherever it starts in its hour; of an hour that straddles two, the busiest part is measured."""
    for seed, start in enumerate((0.0, 17.0, 41.0)):
        rates = np.ones(24 * 60)
        first = int(11 * 60 + start)
        rates[first : first + minutes] = times
        peak = peak_of(trace_of(arrivals(rates, 24 * HOUR, seed)))
        assert peak is not None
        assert peak.rate == pytest.approx(times, rel=0.15)
        assert peak.window <= max(minutes, 5) * 60


def test_quiet_time_does_not_hide_a_rush() -> None:
    rates = np.full(6 * 60, 1e-3)
    rates[200:205] = 3.0
    peak = peak_of(trace_of(arrivals(rates, 6 * HOUR, 3)))
    assert peak is not None
    assert peak.rate == pytest.approx(3.0, rel=0.15)


def test_several_days_are_folded_into_the_busiest_of_each_hour() -> None:
    rates = np.ones(72)
    rates[24 + 9] = 5.0
    periods = hours_of_day(periods_of(trace_of(arrivals(rates, 72 * HOUR, 1))))
    assert len(periods) == 24
    assert periods[9].rate == pytest.approx(5.0, rel=0.1)
    assert max(p.rate for i, p in enumerate(periods) if i != 9) < 1.5


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_a_short_trace_is_steady(count: int) -> None:
    times = np.linspace(0.0, 20.0, count)
    trace = Trace(times, np.full(count, 10), np.full(count, 10)) if count else None
    assert trace is None or (peak_of(trace) is None and periods_of(trace) == ())


def test_a_histogram_keeps_the_peak_of_its_trace(tmp_path: Path) -> None:
    made = Histogram.from_trace(trace_of(arrivals(wave(1.0, 0.8, 24), 24 * HOUR, 2)))
    assert made.peak is not None
    made.write(tmp_path / "h.csv")
    back = read_histogram(tmp_path / "h.csv").peak
    assert back is not None
    assert back.rate == pytest.approx(made.peak.rate, rel=1e-5)
    assert back.words == made.peak.words
    text = (tmp_path / "h.csv").read_text(encoding="utf-8")
    for wrong in ("many", "0.1 over 300 s", "7 over -1 s", "7", "nan over 3 s"):
        (tmp_path / "w.csv").write_text(
            text.replace(text.split("# peak_rate_rps: ")[1].split("\n")[0], wrong), encoding="utf-8"
        )
        with pytest.raises(InputError, match="peak_rate_rps"):
            read_histogram(tmp_path / "w.csv")


# -- what a scenario is sized for -----------------------------------------------------------------------------------

SCENARIO = """\
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
{load}
[slo]
tpot_ms = 50
[hardware]
devices = ["h100-sxm"]
"""


def request(folder: Path, load: str) -> Request:
    path = folder / "s.toml"
    path.write_text(SCENARIO.format(load=load), encoding="utf-8")
    found = load_scenario(path).request
    assert found is not None
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trace that has a daily shape, and one that is steady."""
    made = tmp_path_factory.mktemp("traces")
    trace_of(arrivals(wave(0.5, 0.8, 24), 24 * HOUR, 5)).to_csv(made / "day.csv")
    trace_of(arrivals(np.full(10, 0.5), 6 * HOUR, 5)).to_csv(made / "steady.csv")
    return made


@pytest.mark.parametrize(
    ("more", "rate", "for_peak"),
    [
        ("", 0.9, True),
        ('size_for = "peak"', 0.9, True),
        ('size_for = "mean"', 0.5, False),
        ("request_rate_rps = 10", 10.0, False),
        ('request_rate_rps = 10\nsize_for = "peak"', 18.0, True),
        ('request_rate_rps = 10\nsize_for = "mean"', 10.0, False),
    ],
)
def test_the_rate_that_a_trace_is_sized_for(folder: Path, more: str, rate: float, for_peak: bool) -> None:
    found = request(folder, f'trace = "day.csv"\n{more}')
    assert found.for_peak is for_peak
    assert found.workload.rate == pytest.approx(rate, rel=0.1)
    mean = 10.0 if "request_rate" in more else 0.5
    assert found.mean_rate == pytest.approx(mean, rel=0.03)
    assert found.read_trace().rate == pytest.approx(found.mean_rate)
    assert found.peak is not None
    assert found.peak.mean == pytest.approx(found.mean_rate)
    assert found.peak.rate == pytest.approx(found.periods[int(np.argmax([p.rate for p in found.periods]))].rate)


def test_a_steady_trace_is_sized_for_its_mean(folder: Path) -> None:
    for more in ("", 'size_for = "peak"', 'size_for = "mean"'):
        found = request(folder, f'trace = "steady.csv"\n{more}')
        assert (found.peak, found.for_peak, found.periods) == (None, False, ())
        assert found.workload.rate == pytest.approx(found.read_trace().rate)


def test_rates_by_the_hour(folder: Path) -> None:
    load = "input_tokens = 100\noutput_tokens = 10\nrate_by_hour = [1, 4, 0, 3]\n"
    found = request(folder, load)
    assert (found.workload.rate, found.mean_rate, len(found.periods)) == (4.0, 2.0, 4)
    assert request(folder, load + 'size_for = "mean"').workload.rate == 2.0
    level = request(folder, load.replace("[1, 4, 0, 3]", "[2, 2]"))
    assert (level.workload.rate, level.peak) == (2.0, None)


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ("input_tokens = 9\noutput_tokens = 9\nrequest_rate_rps = 1\nsize_for = 'peak'", "size_for: the load has no"),
        ("input_tokens = 9\noutput_tokens = 9\nrate_by_hour = [0, 0]", "rate_by_hour: 2 hours"),
        ("input_tokens = 9\noutput_tokens = 9\nrate_by_hour = [1, -2]", "rate_by_hour"),
        ("input_tokens = 9\noutput_tokens = 9\nrate_by_hour = [1]\nconcurrency = 4", "contradict each other"),
        ("trace = 'day.csv'\nsize_for = 'median'", "size_for: unknown value 'median'|size_for"),
    ],
)
def test_mistakes_of_a_load_over_the_day_are_named(folder: Path, load: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        request(folder, load)
