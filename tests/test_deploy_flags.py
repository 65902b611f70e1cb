"""Every flag of the launch templates is one that each release's own parser has; versions without a parser are named."""

from __future__ import annotations

import pytest

from benchmarks.deploy_flags import unknown, written
from hwdb.tomlfile import Table
from perfmodel.engines import engine
from search.deploy import Launch, Pool
from search.deploy.cluster_manifests.custom_resources import TRTLLM_KEYS
from search.deploy.engine_settings.parsers import FOLDER, Release, plain, read_release, release, releases
from search.deploy.engine_settings.templates import engines, template
from search.deploy.launch import Check
from search.deploy.launch_commands.arguments import command
from search.deploy.launch_commands.benchmark import benchmark
from search.scenario import with_settings

#: Engines whose parser could not be had: MindIE reads a file, and its package is not public.
WITHOUT_PARSER = ("mindie",)
RELEASES = [(name, r) for name in engines() for r in releases(name)]


@pytest.mark.parametrize(("name", "known"), RELEASES, ids=[f"{n}-{r.version}" for n, r in RELEASES])
def test_every_flag_of_a_template_is_one_of_the_releases_parser(name: str, known: Release) -> None:
    assert len(written(template(name), known.version)) > 8
    assert unknown(template(name), known) == []


@pytest.mark.parametrize(("name", "known"), RELEASES, ids=[f"{n}-{r.version}" for n, r in RELEASES])
def test_the_benchmark_has_only_flags_of_the_engines_benchmark(name: str, known: Release) -> None:
    check = Check(1000, 200, rate=3.0, bounds={"ttft_ms_p90": 500.0, "tpot_ms": 50.0, "e2e_ms_p99": 9000.0})
    for load in (check, Check(1000, 200, concurrency=8.0)):
        launch = Launch("meta-llama/Llama-3.1-8B", name, known.version, (Pool(),), check=load)
        words = benchmark(launch).words
        bench = known.bench if name in ("vllm", "sglang") else releases("vllm")[0].bench
        flags = [w for w in words if w.startswith("--")]
        assert len(flags) >= 8
        assert [f for f in flags if plain(f) not in bench] == []


@pytest.mark.parametrize("known", releases("trtllm"), ids=lambda r: r.version)
def test_every_key_that_is_written_is_a_field_of_the_configuration_class(known: Release) -> None:
    how = template("trtllm")
    written_keys = {*how.keys.values(), how.pools["key"], *TRTLLM_KEYS.values()}
    assert len(written_keys) >= 12
    assert [key for key in written_keys if key not in known.sections["config"]] == []
    assert len(known.sections["config"]) > 100
    assert "kv_cache_config.free_gpu_mem_fraction" not in known.sections["config"]


def test_engines_without_a_parser_are_the_ones_listed() -> None:
    assert [name for name in engines() if not releases(name)] == list(WITHOUT_PARSER)


def test_a_template_that_invents_a_flag_is_caught() -> None:
    known = releases("vllm")[0]
    assert known.find("--max-num-batchd-tokens") is None
    assert known.near("--max-num-batchd-tokens")[0] == "--max-num-batched-tokens"


def test_templates_agree_with_the_own_words_of_the_engines() -> None:
    """A flag that the engine's catalogue file translates means the same setting in the template."""
    alike = {"total_batched_tokens": "max_num_batched_tokens"}
    compared = 0
    for name in engines():
        words = dict(engine(name).own_words)
        for setting, entry in template(name).flags.items():
            flag = str(entry.get("flag", entry.get("on", ""))).lstrip("-")
            for word in (flag, flag.replace("-", "_")):
                if word in words:
                    assert words[word] == alike.get(setting, setting), (name, flag)
                    compared += 1
    assert compared >= 12


def test_lists_of_flags_say_where_they_come_from() -> None:
    paths = sorted(FOLDER.glob("*.txt"))
    assert len(paths) >= 9
    for path in paths:
        found = read_release(path)
        assert found.engine
        assert found.version in path.name
        assert found.published.startswith("202")
        assert len(found.flags) > 30


@pytest.mark.parametrize(
    ("asked", "taken"),
    [("", "0.33.0"), ("0.33", "0.33.0"), ("0.25.1", "0.19.1"), ("0.12", "0.11.2"), ("0.6", "0.11.2")],
)
def test_a_version_gets_the_newest_known_release_that_is_not_newer(asked: str, taken: str) -> None:
    found = release("vllm", asked)
    assert found is not None
    assert found.version == taken


def test_balance_of_ranks_that_a_plan_counts_on_is_in_the_command() -> None:
    """The engines leave it off by default, so that a plan with it says so; decode pools have no prompts to hold."""
    held = {"rank_balance": True, "rank_balance_steps": 40}
    row = {"device": "h200-sxm", "weight": "fp8_block", "dp": 8, "ep": 8, **held}
    made = {
        (name, pool.role): command(Launch("deepseek-ai/DeepSeek-V3", name, releases(name)[0].version, (pool,)), pool)
        for name in ("sglang", "trtllm")
        for pool in (Pool(**row), Pool(**row, role="decode"))
    }
    words = made["sglang", "serve"].words
    assert words[words.index("--prefill-delayer-max-delay-passes") + 1] == "40"
    assert "--enable-prefill-delayer" in words
    assert "--enable-prefill-delayer" not in made["sglang", "decode"].words
    (text,) = made["trtllm", "serve"].files.values()
    for line in ("enable_balance: true", "timeout_iters: 40", "batching_wait_iters: 0"):
        assert line in text
    assert "balance" not in "".join(made["trtllm", "decode"].files.values())


@pytest.mark.parametrize(("name", "own"), [("sglang", "enable_prefill_delayer"), ("trtllm", "enable_balance")])
def test_balance_of_ranks_is_in_the_command_only_where_a_scenario_asks_for_it(name: str, own: str) -> None:
    """A key of `[engine]`, or the engine's own word for it, reaches the engine and the command."""
    for keys, on in (({}, False), ({"rank_balance": True}, True), ({own: True}, True)):
        chosen = with_settings(engine(name), Table(keys, "[engine]"))
        assert chosen.rank_balance is on
        pool = Pool(device="h200-sxm", weight="fp8_block", dp=8, ep=8, rank_balance=chosen.rank_balance)
        made = command(Launch("deepseek-ai/DeepSeek-V3", name, releases(name)[0].version, (pool,)), pool)
        text = " ".join((*made.words, *made.files.values()))
        assert ("enable_balance: true" in text or "--enable-prefill-delayer" in text) is on
