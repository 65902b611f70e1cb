"""The packages' own front doors: what they offer is what type checkers see and what loads on first use."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Packages whose names are loaded on first use.
LAZY = ["perfmodel", "search", "search.planning", "search.output", "search.scenario", "search.space"]


def typed_names(package: str) -> set[str]:
    """Names that the package imports under `TYPE_CHECKING`."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {a.name for block in blocks for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}


@pytest.mark.parametrize(
    "package",
    ["perfmodel", "search", "search.planning", "search.output", "search.scenario", "search.space", "search.options"],
)
def test_type_checkers_and_first_use_see_the_same_names(package: str) -> None:
    module = importlib.import_module(package)
    offered = set(module.__all__) - {"__version__"}
    assert offered == typed_names(package)
    assert all(getattr(module, name) is not None for name in offered)


@pytest.mark.parametrize(
    "package", ["perfmodel", "search", "search.planning", "search.output", "search.scenario", "search.space"]
)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


@pytest.mark.parametrize("package", ["perfmodel", "hwdb", "search"])
def test_packages_say_that_they_carry_types(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


#: Loaded where a load, an engine, a name or a site asks for it, which the plan below does not.
ELSEWHERE = {
    *("perfmodel.serving.open_loops.open_loop", "perfmodel.serving.offline_batches.offline"),
    *("perfmodel.costs.engine_effects.engine_kernels", "perfmodel.estimates.disaggregation.pool_parts"),
    *("hwdb.spelling", "hwdb.instances", "hwdb.gridfile", "search.options.deployment_options"),
    *("search.searchers.optuna_searcher", "pandas", "numba", "optuna", "pydantic", "rich"),
}


def test_a_plan_of_a_closed_loop_loads_no_part_that_it_does_not_run() -> None:
    code = (
        "import sys, cli; cli.main(['plan', 'Qwen/Qwen3-8B', '--on', 'h100-sxm=2', '--concurrency', '8']); "
        f"print(sorted(set(sys.modules) & {ELSEWHERE!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
