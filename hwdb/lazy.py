"""Front doors that load a module when one of its names is first used, so that start-up stays fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that offers names of its inner modules.

    Args:
        package: dotted name of the package.
        homes: module below the package -> names that it offers. Modules that are offered themselves are listed
            under the package that holds them, with a point after it: "rows." for those of `package.rows`.

    The package repeats the imports under `TYPE_CHECKING`, so that type checkers see the names.
    """
    modules = {name: f"{package}.{home}" for home, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if modules[name].endswith("."):
            value: Any = importlib.import_module(f"{modules[name]}{name}")
        else:
            value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
