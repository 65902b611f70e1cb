"""The shape of the repository: imports point one way, start-up stays light, modules stay readable."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("hwdb", "perfmodel", "search", "cli")  # each may import itself and what stands before it

#: Third parties that cost start-up time or tie us to a product: imported in functions, by these modules only.
GUARDED = {
    "pulp": ("search/fleet/",),
    "highspy": ("search/fleet/",),
    "optuna": ("search/searchers/optuna_searcher",),
    "plotly": ("search/report/",),
    "jinja2": ("search/report/page",),
    "rich": ("search/output/tables",),
    "typer": ("cli", "search/commands/"),
    "torch": ("perfmodel/profiler/",),
    "psutil": ("perfmodel/profiler/",),
    "numba": ("perfmodel/simulator/",),
    "aiconfigurator_core": ("perfmodel/profiles/",),
}
#: Decorators need theirs at module level; the modules that hold them are imported only when used.
EAGER = {"numba": ("perfmodel/simulator/",)}
#: May be used anywhere in the packages, but only inside a function.
LAZY = {*GUARDED, "pandas", "scipy", "pyarrow", "joblib", "ray"} - {"typer"}


def modules() -> list[Path]:
    """Every module of the product, relative to the root."""
    files = [p.relative_to(ROOT) for layer in LAYERS[:-1] for p in (ROOT / layer).rglob("*.py")]
    return sorted([*files, Path("cli.py")])


def imports(tree: ast.Module, *, top_level: bool = False) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import; with `top_level`, of those run when the module is imported."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or ""), node.lineno
        if top_level and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _type_checking(node)):
            continue
        pending.extend(ast.iter_child_nodes(node))


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def upward(layer: str, tree: ast.Module) -> list[str]:
    """Imports of `layer` that point to a layer above it, or are relative."""
    above = LAYERS[LAYERS.index(layer) + 1 :]
    return [f"line {n}: {m}" for m, n in imports(tree) if m.startswith(".") or m.split(".")[0] in above]


def private_reach(layer: str, tree: ast.Module) -> list[str]:
    """Imports of another layer's underscored modules or names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in LAYERS:
            parts = [*node.module.split("."), *(a.name for a in node.names)]
            if parts[0] != layer and any(p.startswith("_") and not p.startswith("__") for p in parts):
                found.append(f"line {node.lineno}: {'.'.join(parts)}")
    return found


def unguarded(path: str, tree: ast.Module) -> list[str]:
    """Third parties imported by a module that is not theirs, or at import time."""
    eager = [
        f"line {n}: {m} at module level"
        for m, n in imports(tree, top_level=True)
        if m.split(".")[0] in LAZY and not path.startswith(EAGER.get(m.split(".")[0], ("nowhere",)))
    ]
    strangers = [
        f"line {n}: {m} is for {', '.join(GUARDED[m.split('.')[0]])}"
        for m, n in imports(tree)
        if m.split(".")[0] in GUARDED and not path.startswith(GUARDED[m.split(".")[0]])
    ]
    return eager + strangers


def swallowing(tree: ast.Module) -> list[str]:
    """Handlers that catch more than they can name."""
    broad = {"Exception", "BaseException"}
    return [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in broad)
    ]


def undocumented(tree: ast.Module) -> list[str]:
    """The module, public classes and public functions that carry no docstring."""
    found = [] if ast.get_docstring(tree) or not tree.body else ["module"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                found.append(node.name)
            if isinstance(node, ast.ClassDef):
                methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
                found += [f"{node.name}.{m.name}" for m in methods if not ast.get_docstring(m)]
    return found


@pytest.mark.parametrize("path", modules(), ids=str)
def test_module_keeps_the_rules(path: Path) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    layer = path.parts[0].removesuffix(".py")
    assert not upward(layer, tree), "imports point cli -> search -> perfmodel -> hwdb"
    assert not private_reach(layer, tree), "across packages, import public names"
    assert not unguarded(path.as_posix(), tree), "heavy third parties: lazily, in the module that owns them"
    assert not swallowing(tree), "catch what you can name"
    assert not undocumented(tree), "public names carry docstrings"
    assert source.count("\n") <= 400, "modules stay below 400 lines"


def test_modules_are_small_on_the_whole() -> None:
    sizes = sorted((ROOT / p).read_text(encoding="utf-8").count("\n") for p in modules())
    assert sizes[len(sizes) // 2] <= 200


RULES_THAT_FIRE = [
    (lambda tree: upward("hwdb", tree), "from perfmodel import demand"),
    (lambda tree: upward("perfmodel", tree), "def f():\n    import search.plan"),
    (lambda tree: upward("search", tree), "from . import front"),
    (lambda tree: private_reach("search", tree), "from perfmodel.estimate import _hidden"),
    (lambda tree: unguarded("search/plan.py", tree), "import pandas"),
    (lambda tree: unguarded("search/plan.py", tree), "def f():\n    import plotly"),
    (lambda tree: unguarded("search/report/page.py", tree), "from plotly import graph_objects"),
    (swallowing, "try:\n    f()\nexcept Exception:\n    pass"),
    (swallowing, "try:\n    f()\nexcept:\n    pass"),
    (undocumented, '"""Module."""\ndef public():\n    return 1'),
    (undocumented, "X = 1"),
]


@pytest.mark.parametrize(("rule", "source"), RULES_THAT_FIRE)
def test_each_rule_fires(rule, source) -> None:
    assert rule(ast.parse(source))


def test_lazy_imports_inside_functions_and_for_types_are_welcome() -> None:
    source = '"""M."""\nif TYPE_CHECKING:\n    import pandas\ndef f():\n    """F."""\n    import pandas'
    assert not unguarded("search/plan.py", ast.parse(source))


HEAVY = {"pandas", "scipy", "plotly", "pulp", "optuna", "numba", "torch", "jinja2"}


def _loaded_by(code: str) -> set[str]:
    probe = f"import sys\n{code}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_no_numerics() -> None:
    loaded = _loaded_by("import cli\ntry:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass")
    assert not loaded & (HEAVY | {"numpy"})


@pytest.mark.parametrize("package", ["hwdb", "perfmodel", "search"])
def test_packages_import_without_heavy_third_parties(package: str) -> None:
    assert not _loaded_by(f"import {package}") & HEAVY


TEXT = {".py", ".md", ".toml", ".html", ".ipynb", ".yaml", ".css", ".js", ".txt", ""}
MACHINE_PATHS = re.compile(r"/(?:home|Users|root|work)/\w|\.\./" + "shared")


def tracked() -> list[Path]:
    """Files under version control, or, in an unpacked archive, every file outside hidden folders."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode == 0:
        return [ROOT / line for line in listed.stdout.splitlines()]
    files = [p for p in ROOT.rglob("*") if p.is_file()]
    return [p for p in files if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    texts = [p for p in tracked() if p.suffix in TEXT and p.exists() and p.stat().st_size < 1_000_000]
    found = [p.name for p in texts if MACHINE_PATHS.search(p.read_text(encoding="utf-8", errors="replace"))]
    assert not found


def test_machine_paths_are_recognised() -> None:
    assert MACHINE_PATHS.search("read " + "/ho" + "me/somebody/cases.csv")
    assert not MACHINE_PATHS.search("https://example.org/framework/home")
