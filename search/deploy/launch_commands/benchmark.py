"""Write the benchmark that checks the SLO of a launch, with the load that was planned for."""

from __future__ import annotations

from hwdb import plain
from search.deploy.engine_settings.checkpoints import checkpoint
from search.deploy.engine_settings.templates import template
from search.deploy.launch import Launch
from search.deploy.launch_commands.arguments import Command

#: Seconds of load to send, and fewest requests; chosen: percentiles of 99 in 100 need some hundred requests.
SECONDS, LEAST_REQUESTS = 120, 200
#: Our latencies -> those of the benchmarks of vLLM and SGLang.
METRICS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}


def benchmark(launch: Launch, url: str = "http://localhost:8000") -> Command:
    """Return the command that sends the planned load to the server at `url` and reports the latencies of the SLO."""
    check, how = launch.check, template(launch.engine)
    model = launch.model if how.has("served_name", launch.version) else _stored(launch)
    if check is None:
        return Command(())
    rate = check.rate
    count = max(LEAST_REQUESTS, round((rate or 0.0) * SECONDS))
    load = ["--request-rate", f"{rate:.4g}"] if rate else ["--max-concurrency", f"{max(1, round(_in_flight(launch)))}"]
    shared = ["--dataset-name", "random", "--random-input-len", f"{check.input_tokens:.0f}"]
    shared += ["--random-output-len", f"{check.output_tokens:.0f}", "--random-range-ratio"]
    if how.bench[-1] == "sglang.bench_serving":
        words = [*how.bench, "--backend", "sglang", "--base-url", url, "--model", model, *shared, "1.0"]
        return Command((*words, *load, "--num-prompts", str(count)))
    own = [] if launch.engine == "vllm" else ["--backend", "openai"]
    words = [*how.bench, *own, "--base-url", url, "--model", model, *shared, "0.0", "--ignore-eos"]
    words += [*load, "--num-prompts", str(count), *_statistics(launch)]
    return Command(tuple(words))


def _stored(launch: Launch) -> str:
    """Return the name of the checkpoint: servers without a name of their own are asked for it."""
    return checkpoint(launch.model, launch.main.weight, launch.engine).name


def _in_flight(launch: Launch) -> float:
    """Return the requests in flight over all replicas."""
    assert launch.check is not None
    return (launch.check.concurrency or 1.0) * launch.main.replicas


def _statistics(launch: Launch) -> list[str]:
    """Return the flags that ask for the percentiles and the goodput of the bounds."""
    assert launch.check is not None
    keys = {key: key.split("_ms") for key in launch.check.bounds}
    ranks = sorted({int(rank[2:]) for _, rank in keys.values() if rank} | {50, 99})
    metrics = sorted({METRICS[metric] for metric, _ in keys.values()} | {"ttft", "tpot"})
    words = ["--percentile-metrics", ",".join(metrics), "--metric-percentiles", ",".join(map(str, ranks))]
    least: dict[str, float] = {}
    for key, bound in launch.check.bounds.items():
        metric = METRICS[keys[key][0]]
        if metric != "itl":  # --goodput has no bound on single gaps
            least[metric] = min(bound, least.get(metric, bound))
    return [*words, "--goodput", *(f"{m}:{plain(b)}" for m, b in least.items())] if least else words
