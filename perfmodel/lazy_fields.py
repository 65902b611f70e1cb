"""Compute parts of a result when they are first read: most callers read few of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

Value = TypeVar("Value")


class LazyValue(Generic[Value]):
    """A value that is computed once, when it is first asked for."""

    def __init__(self, compute: Callable[[], Value]) -> None:
        """Keep the function that computes it."""
        self._compute: Callable[[], Value] | None = compute
        self._value: Value | None = None

    def __call__(self) -> Value:
        """Return the value."""
        compute = self._compute  # another thread may compute it, and let go of the function, meanwhile
        if compute is not None:
            self._value = compute()
            self._compute = None  # what the function holds is let go
        return cast("Value", self._value)


def lazy_value(compute: Callable[[], Value]) -> Value:
    """Return a stand-in for what `compute` returns, to be given to a class made from `LazyFields`."""
    return cast("Value", LazyValue(compute))


class LazyFields:
    """Base of a frozen dataclass whose fields may be given as `lazy_value`: reading such a field computes it.

    A copy by pickle holds values only. Such a field has no plain default, which would be read in its place.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Figures(LazyFields):
    ...     mean: float
    ...     worst: float
    >>> Figures(mean=1.0, worst=lazy_value(lambda: 2.0)).worst
    2.0
    """

    def __post_init__(self) -> None:
        """Set aside the fields that are not computed yet, so that `__getattr__` is asked for them."""
        pending = {name: value for name, value in vars(self).items() if isinstance(value, LazyValue)}
        for name in pending:
            del vars(self)[name]
        vars(self)["_pending"] = pending

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Compute a field that was set aside."""
            own = vars(self)
            found = own.get("_pending", {}).get(name)
            if found is not None:
                own.setdefault(name, found())  # another thread may have read the field meanwhile
                own["_pending"].pop(name, None)
            elif name not in own:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return own[name]

    def __getstate__(self) -> dict[str, Any]:
        """Return the values of all fields, and of what was derived from them."""
        for name in tuple(vars(self)["_pending"]):
            getattr(self, name)
        return dict(vars(self))

    def changed(self, **values: Any) -> Self:
        """Return the same with other values of some fields; what is not computed yet is left for later."""
        return type(self)(**{**self._as_they_are(), **values})

    def mapped(self, change: Callable[[Any], Any]) -> Self:
        """Return the same with each field as `change` returns it; what is not computed yet is left for later."""
        return type(self)(**{name: _mapped(value, change) for name, value in self._as_they_are().items()})

    def _as_they_are(self) -> dict[str, Any]:
        """Return the fields by name, each with its value or with what will compute it."""
        known, pending = vars(self), dict(vars(self)["_pending"])  # another thread may read a field meanwhile
        return {f.name: pending[f.name] if f.name in pending else known[f.name] for f in fields(cast("Any", self))}


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return what `change` makes of a value: later, where that is computed later."""
    return LazyValue(lambda: change(value())) if isinstance(value, LazyValue) else change(value)
