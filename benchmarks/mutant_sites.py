"""Find where one small change of a source file makes its code wrong, and write the file with that change.

A site is one node of the syntax tree; it has one or more mutants. The change replaces the text of the node alone, so
the rest of the file stays as it is. Docstrings, messages, annotations, decorators, `__all__` and what
only type checkers read have no sites.
"""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Operators and what they turn into.
_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.MatMult: ast.Mult,
}
_COMPARISON: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
#: Functions and methods, and what is called in their place.
_CALLS = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "argmin": "argmax",
    "argmax": "argmin",
    "ceil": "floor",
    "floor": "ceil",
    "rint": "floor",
    "round": "ceil",
    "any": "all",
    "all": "any",
    "sum": "max",
    "mean": "max",
    "cumsum": "asarray",
    "expm1": "exp",
    "log1p": "log",
    "log2": "log",
    "isfinite": "isnan",
    "isnan": "isfinite",
    "square": "abs",
    "sqrt": "abs",
}
#: Numbers closer to 0 than this only keep divisions and comparisons safe; twice as much says nothing.
_TINY = 1e-4
#: Calls whose arguments are only told to the user.
_MESSAGES = frozenset({"warn", "print", "info", "debug", "warning", "error", "log"})


@dataclass(frozen=True)
class Mutant:
    """Describe one change of one file.

    path: the file, relative to the root. operator: kind of change. function: dotted name of what holds the site, "" for
    the module. called: whether the site runs when a function is called, and not when the module is imported. line,
    end_line: lines of the site, from 1. start, end: bytes of the file that `after` replaces. was, becomes: the lines
    of the site before and after the change, stripped.
    """

    path: str
    operator: str
    function: str
    called: bool
    line: int
    end_line: int
    start: int
    end: int
    after: str
    was: str = field(compare=False)
    becomes: str = field(compare=False)

    def applied(self, source: str) -> str:
        """Return `source`, the text of the file, with the change."""
        raw = source.encode()
        return (raw[: self.start] + self.after.encode() + raw[self.end :]).decode()


def sites(path: str, source: str) -> list[list[Mutant]]:
    """List the sites of a file in the order of its text, each with its mutants.

    path: of the file, relative to the root. source: its text.
    """
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return [found for found in finder.found if found]


class _Finder(ast.NodeVisitor):
    """Walk the syntax tree of one file and collect its mutants by site."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.raw = source.encode()
        self.starts = [0]
        for line in self.raw.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.scope: list[str] = []
        self.called = False
        self.found: list[list[Mutant]] = []

    def visit(self, node: ast.AST) -> None:
        """Collect the mutants of `node`, then those of the nodes in it, unless it has no part in what is computed."""
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.expr | ast.Return | ast.If | ast.While | ast.comprehension):
            self.found.append([self._mutant(*change) for change in _changes(node)])
        super().visit(node)

    def _mutant(self, node: ast.AST, operator: str, after: str) -> Mutant:
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        first, last = self.starts[node.lineno - 1], self.starts[node.end_lineno]
        becomes = self.raw[first:start] + after.encode() + self.raw[end:last]
        was, now = (" ".join(text.decode().split()) for text in (self.raw[first:last], becomes))
        where = (node.lineno, node.end_lineno, start, end)
        return Mutant(self.path, operator, ".".join(self.scope), self.called, *where, after, was, now)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Visit default values as part of the surrounding scope, and the body, without its docstring."""
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        before, self.called = self.called, True
        self._body(node)
        self.called = before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the body alone: bases and decorators compute nothing."""
        self._body(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Visit the body of a lambda, which runs when it is called."""
        self.visit(node.body)

    def _body(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self.scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.scope.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Visit the value, not the annotation."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Visit the value, except of `__all__`."""
        if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            self.visit(node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        """Visit the value, except of `strict`, which only guards against mistakes of the programmer."""
        if node.arg != "strict":
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        """Visit the arguments of calls that tell the user nothing."""
        if _name(node.func) not in _MESSAGES:
            self.generic_visit(node)

    def _skip(self, node: ast.AST) -> None:
        """Leave out a node that computes nothing."""

    visit_Raise = visit_Assert = visit_JoinedStr = visit_Import = visit_ImportFrom = _skip


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """List the changes of one node: (node whose text is replaced, kind of change, new text)."""
    if isinstance(node, ast.BinOp):
        yield from _binary(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
        yield node, "dropped not", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISON:
        yield node, "comparison", _with(node, ops=[_COMPARISON[type(node.ops[0])]()])
    elif isinstance(node, ast.BoolOp):
        yield node, "and, or", _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        yield node, "dropped term", f"({ast.unparse(node.values[0])})"
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, ast.Constant):
        yield from _constant(node)
    elif isinstance(node, ast.If | ast.IfExp):
        yield node.test, "branch forced", "True"
        yield node.test, "branch forced", "False"
    elif isinstance(node, ast.comprehension):
        yield from ((test, "branch forced", "True") for test in node.ifs)
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) > 1:
        first, second, *rest = node.value.elts
        yield node.value, "returned order", _with(node.value, elts=[second, first, *rest])


def _binary(node: ast.BinOp) -> Iterator[tuple[ast.AST, str, str]]:
    """List the changes of an arithmetic expression: another operator, or a term or factor less."""
    if type(node.op) in _ARITHMETIC:
        yield node, "arithmetic", _with(node, op=_ARITHMETIC[type(node.op)]())
    if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.BitAnd | ast.BitOr):
        yield node, "dropped term", f"({ast.unparse(node.left)})"
    if isinstance(node.op, ast.Add | ast.Mult | ast.BitAnd | ast.BitOr):
        yield node, "dropped term", f"({ast.unparse(node.right)})"


def _call(node: ast.Call) -> Iterator[tuple[ast.AST, str, str]]:
    """List the changes of a call: another function, or a condition of `np.where` that always or never holds."""
    name = _name(node.func)
    if name in _CALLS:
        func = copy.copy(node.func)
        setattr(func, "id" if isinstance(func, ast.Name) else "attr", _CALLS[name])
        yield node, "function", _with(node, func=func)
    if name == "where" and len(node.args) == 3:
        for forced in (True, False):
            yield node.args[0], "branch forced", str(forced)


def _constant(node: ast.Constant) -> Iterator[tuple[ast.AST, str, str]]:
    """List the changes of a number (twice, a quarter, one more) or of a truth value."""
    value = node.value
    if isinstance(value, bool):
        yield node, "constant", str(not value)
    elif isinstance(value, int | float):
        if _TINY < abs(value) < math.inf:
            yield node, "constant", repr(value * 2)
        if isinstance(value, float) and _TINY < abs(value) < math.inf:
            yield node, "constant", repr(value * 0.25)
        yield node, "constant", repr(value + 1)


def _with(node: ast.expr, **changed: object) -> str:
    """Return the text of `node` with other fields, in parentheses."""
    other = copy.copy(node)
    for name, value in changed.items():
        setattr(other, name, value)
    return f"({ast.unparse(other)})"


def _name(func: ast.expr) -> str:
    """Return the last name of what is called, "" where it has none."""
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
