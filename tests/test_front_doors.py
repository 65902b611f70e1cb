"""The packages' own front doors: what they offer is what type checkers see and what loads on first use."""

from __future__ import annotations

import ast
import importlib
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
    "package", ["perfmodel", "search", "search.planning", "search.output", "search.scenario", "search.space"]
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
