"""Front doors that load names when they are first used: no inner module may hide a name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

PACKAGES = [
    found.name
    for package in ("perfmodel", "search")
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    if found.ispkg
]
LAZY = [name for name in PACKAGES if "__getattr__" in vars(importlib.import_module(name))]


def test_there_are_such_doors() -> None:
    assert {"search.planning", "search.output", "perfmodel.workload"} <= set(LAZY)


@pytest.mark.parametrize("package", LAZY)
def test_no_module_has_the_name_of_what_another_one_offers(package: str) -> None:
    """Importing an inner module sets it as an attribute of its package, in place of what is to be loaded."""
    door = importlib.import_module(package)
    homes = inspect.getclosurevars(door.__getattr__).nonlocals["modules"]
    inner = {module.name for module in pkgutil.iter_modules(door.__path__)}
    assert not inner & set(homes)
