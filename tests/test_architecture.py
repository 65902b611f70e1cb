"""The shape of the repository: imports point one way, start-up stays light, modules stay readable."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import rooms

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("hwdb", "perfmodel", "search", "cli")  # each may import itself and what stands before it

#: Third parties that cost start-up time or tie us to a product: imported in functions, by these modules only.
GUARDED = {
    "pulp": ("search/fleet/integer_program/",),
    "highspy": ("search/fleet/integer_program/",),
    "optuna": ("search/searchers/optuna_searcher", "search/studies/"),
    "sqlalchemy": ("search/studies/",),
    "ray": ("search/studies/",),
    "plotly": ("search/report/", "search/notebook/"),
    "jinja2": ("search/report/",),
    "yaml": ("search/deploy/",),
    "rich": ("search/output/",),
    "fastapi": ("search/service/",),
    "starlette": ("search/service/",),
    "pydantic": ("search/service/",),
    "uvicorn": ("search/commands/serve",),
    "mcp": ("search/service/",),
    "typer": ("cli", "search/commands/", "search/options/"),
    "torch": ("perfmodel/profiler/",),
    "psutil": ("perfmodel/profiler/",),
    "numba": ("perfmodel/simulator/", "perfmodel/profiles/compiled.py"),
    "greenlet": ("perfmodel/cooperative_tasks.py",),
    "aiconfigurator_core": ("perfmodel/profiles/build/",),
}
#: Decorators need theirs at module level; the modules that hold them are imported only when used.
EAGER = {
    "numba": ("perfmodel/simulator/",),
    "greenlet": ("perfmodel/cooperative_tasks.py",),
    **dict.fromkeys(("fastapi", "starlette", "pydantic", "mcp"), ("search/service/",)),
}
#: May be used anywhere in the packages, but only inside a function.
LAZY = {*GUARDED, "pandas", "scipy", "pyarrow", "joblib", "ray"} - {"typer"}


#: Which rooms of its package each room may import, beside the ground (`rooms.GROUND`) and hwdb. A room that is not
#: listed may not exist. docs/architecture.md explains the order. Where a key names a room itself, as
#: `search.fleet` does, its table is the order of what lies inside that room.
MAY_IMPORT = {
    "perfmodel": {
        "hardware": "",
        "models": "",
        "profiles": "",
        "deployment": "hardware models",
        "engines": "models",
        "money": "",
        "power": "hardware",
        "profiler": "hardware profiles",
        "memory": "deployment engines hardware models",
        "operators": "deployment models",
        "costs": "deployment engines hardware operators profiles",
        "serving": "costs deployment engines hardware memory models operators power",
        "estimates": "costs deployment engines hardware memory models operators power serving",
        "cases": "costs deployment engines estimates hardware memory models operators power profiles serving",
        "user_calibration": "cases engines estimates models",
        "fitting": "cases costs deployment engines estimates hardware models operators power profiles serving",
        "simulator": "costs deployment engines estimates hardware memory models operators power serving",
    },
    "search": {
        "manifest": "",
        "scenario": "",
        "space": "",
        "searchers": "scenario space",
        "planning": "manifest scenario searchers space",
        "deploy": "planning scenario",
        "fleet": "manifest planning scenario searchers space",
        "output": "fleet planning scenario",
        "options": "planning scenario space",
        "sweeps": "planning scenario space",
        "whatif": "fleet planning scenario searchers",
        "studies": "planning searchers whatif",
        "report": "deploy fleet output planning scenario searchers whatif",
        "notebook": "fleet output planning report scenario searchers studies sweeps whatif",
        "service": "fleet options output planning report scenario sweeps whatif",
        "commands": "deploy fleet options output planning report scenario searchers service space studies whatif",
    },
    "search.fleet": {
        "problem_data": "",
        "replicas": "",
        "accounting": "problem_data replicas",
        "options": "accounting problem_data replicas",
        "integer_program": "accounting problem_data",
        "decomposition": "accounting integer_program problem_data",
        "checks": "accounting integer_program options problem_data replicas",
        "solution": "accounting checks decomposition integer_program options problem_data replicas",
        "results": "accounting checks decomposition integer_program problem_data solution",
    },
    "perfmodel.costs": {
        "cost": "",
        "measured_tables": "cost",
        "rooflines": "cost",
        "related_devices": "cost measured_tables rooflines",
        "engine_effects": "cost measured_tables related_devices rooflines",
        "cost_model_choice": "cost engine_effects measured_tables related_devices rooflines",
        "step_costs": "cost cost_model_choice measured_tables",
    },
    "search.planning": {
        "money": "",
        "operating_point": "money",
        "configuration": "operating_point",
        "evaluation": "money operating_point",
        "disaggregation": "evaluation money operating_point",
        "ranking": "configuration disaggregation evaluation",
        "plan_table": "configuration disaggregation evaluation money operating_point ranking",
        "plan_making": "configuration disaggregation evaluation money operating_point plan_table ranking",
        "plan_analysis": "disaggregation evaluation money operating_point plan_making plan_table",
        "simulation": "money plan_making",
        "replanning": "configuration evaluation operating_point plan_making",
    },
    "perfmodel.serving": {
        "limits": "",
        "queues": "limits",
        "step_times": "limits queues",
        "own_process": "step_times",
        "prefill_pool": "limits step_times",
        "served": "step_times",
        "adapter_slots": "limits served",
        "streaming": "limits served step_times",
        "fixed_concurrency": "limits own_process queues served step_times",
        "offline_batches": "limits queues served step_times",
        "open_loops": "limits offline_batches own_process queues served step_times",
        "closed_form": "adapter_slots fixed_concurrency limits offline_batches open_loops queues served step_times "
        "streaming",
    },
    "perfmodel.estimates": {
        "columns": "",
        "engine_refusals": "",
        "engine_shards": "",
        "operator_use": "",
        "start_up": "engine_shards",
        "latency_percentiles": "columns",
        "ranges": "columns latency_percentiles",
        "estimates": "columns latency_percentiles ranges",
        "estimation": "columns engine_refusals engine_shards estimates ranges",
        "slo_chances": "estimates latency_percentiles ranges",
        "disaggregation": "columns engine_refusals estimates estimation ranges",
        "explanation": "disaggregation estimation",
    },
    "perfmodel.simulator": {
        "kernel": "",
        "request_traffic": "",
        "replica_pools": "kernel request_traffic",
        "stationarity": "request_traffic",
        "simulation": "replica_pools request_traffic stationarity",
        "event_replay": "kernel replica_pools request_traffic simulation stationarity",
        "measurement": "kernel replica_pools request_traffic simulation stationarity",
        "runs": "event_replay measurement replica_pools request_traffic simulation",
    },
    "search.deploy": {
        "launch": "",
        "compare": "launch",
        "engine_settings": "launch",
        "launch_commands": "engine_settings launch",
        "cluster_manifests": "engine_settings launch launch_commands",
        "reading_back": "engine_settings launch launch_commands",
        "targets": "cluster_manifests engine_settings launch launch_commands",
    },
    "search.report": {
        "chart_drawing": "",
        "live_controls": "",
        "page_parts": "chart_drawing",
        "plan_page": "chart_drawing live_controls page_parts",
        "fleet_page": "chart_drawing page_parts plan_page",
    },
}
MOST_FLOORS = {
    "perfmodel": 8,
    "search": 8,
    "search.fleet": 6,
    "perfmodel.costs": 6,
    "search.planning": 8,
    "perfmodel.serving": 7,
    "perfmodel.estimates": 7,
    "perfmodel.simulator": 5,
    "search.deploy": 5,
    "search.report": 4,
}
#: Rooms that price or place nothing themselves: what they must not load, even through others.
BLIND = {
    "perfmodel.engines": ("costs", "operators", "serving", "estimates", "hardware"),
    "perfmodel.workload": ("hardware", "models", "engines", "deployment"),
    "perfmodel.models": ("hardware", "engines", "deployment"),
    "perfmodel.operators": ("engines", "costs", "profiles"),
    "perfmodel.costs": ("serving", "estimates", "memory"),
}


def forbidden(texts: Mapping[str, str], package: str) -> list[str]:
    """Imports between rooms that `MAY_IMPORT` does not list, and rooms that it does not know."""
    found = []
    for here, there in rooms.graph(texts, package).items():
        name = here.removeprefix(f"{package}.")
        if name not in MAY_IMPORT[package]:
            found.append(f"{here} is no listed room")
            continue
        allowed = {f"{package}.{r}" for r in MAY_IMPORT[package][name].split()}
        found += [f"{here} -> {other}" for other in sorted(there - allowed)]
    return found


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


#: Module -> handlers in it that may catch everything: what nobody foresaw becomes a sentence there, and only there.
LAST_RESORTS = {"cli.py": 1}


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
    assert len(swallowing(tree)) == LAST_RESORTS.get(path.name, 0), "catch what you can name"
    assert not undocumented(tree), "public names carry docstrings"
    assert source.count("\n") <= 400, "modules stay below 400 lines"


def test_modules_are_small_on_the_whole() -> None:
    sizes = sorted((ROOT / p).read_text(encoding="utf-8").count("\n") for p in modules())
    assert sizes[len(sizes) // 2] <= 150


MOST_LINES, MOST_PARAMETERS, MOST_EXCEPTIONS = 40, 8, 8
#: Comment directly above a function that says why it is longer, or takes more, than the rule allows.
REASON = re.compile(r"^\s*# size: \S+ \S+")


def oversized(source: str) -> tuple[list[str], list[str]]:
    """Functions of a module that break the size rule: (without a reason, with one)."""
    lines = source.splitlines()
    bare, excused = [], []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        parameters = len([name for name in given if name not in ("self", "cls")])
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MOST_LINES or parameters > MOST_PARAMETERS:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            text = f"{node.name}: {length} lines, {parameters} parameters"
            (excused if REASON.match(lines[first - 2]) else bare).append(text)
    return bare, excused


def test_functions_are_small_and_exceptions_few() -> None:
    found = {str(p): oversized((ROOT / p).read_text(encoding="utf-8")) for p in modules()}
    assert not {path: bare for path, (bare, _) in found.items() if bare}
    assert sum(len(excused) for _, excused in found.values()) <= MOST_EXCEPTIONS


def test_the_size_rule_fires() -> None:
    long = "def f():\n" + "    x = 1\n" * MOST_LINES
    wide = f"def f({', '.join(f'a{n}' for n in range(MOST_PARAMETERS + 1))}):\n    pass\n"
    for offence in (long, wide):
        assert oversized(offence)[0]
        assert oversized("# size: a reason\n" + offence) == ([], oversized(offence)[0])


#: Rates without "per": the phrases that strangers stumbled over.
UNITS_WITHOUT_PER = re.compile(
    r"\b(?:tokens|bytes|sequences|requests|layers|seconds|devices|watts|joules|steps|calls|replicas|FLOP|microseconds)"
    r" an? (?:step|device|replica|pass|token|layer|request|rank|node|stage|second|hour|sequence|call|expert)\b"
)


def test_rates_are_written_with_per() -> None:
    texts = [ROOT / p for p in modules()] + [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = {
        f"{path.relative_to(ROOT)}, line {number}": line.strip()
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNITS_WITHOUT_PER.search(line)
    }
    assert not found


def test_the_rule_about_rates_fires() -> None:
    assert UNITS_WITHOUT_PER.search("Tokens: 8,192 tokens a step")
    assert not UNITS_WITHOUT_PER.search("8,192 tokens per step; a step of 8,192 tokens; steps and a device")


TEXTS = rooms.modules(ROOT, ("perfmodel", "search")) | {"cli": (ROOT / "cli.py").read_text(encoding="utf-8")}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_rooms_import_only_what_the_table_lists(package: str) -> None:
    assert not forbidden(TEXTS, package)
    graph = rooms.graph(TEXTS, package)
    assert set(MAY_IMPORT[package]) == {r.removeprefix(f"{package}.") for r in graph}, (
        "the table lists rooms that do not exist"
    )
    assert not rooms.circles(graph)
    assert max(rooms.floors(graph).values()) <= MOST_FLOORS[package]


def test_commands_import_only_what_they_share() -> None:
    graph = rooms.graph(TEXTS, "search.commands")
    assert graph.pop("search.commands.application") > {"search.commands.plan", "search.commands.shared"}
    assert set().union(*graph.values()) == {"search.commands.shared"}


def test_no_module_is_part_of_a_circle() -> None:
    assert not rooms.circles(rooms.module_graph(TEXTS))


def test_rooms_are_entered_by_their_front_door() -> None:
    assert not rooms.around_the_door(TEXTS, ("perfmodel", "search"))


@pytest.mark.parametrize("room", sorted(BLIND))
def test_a_room_loads_nothing_that_it_must_not_know(room: str) -> None:
    probe = f"import sys, {room}\nprint(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert not [name for name in BLIND[room] if f"perfmodel.{name}" in loaded]


PLANTED = {
    "perfmodel.models.spec": "def f():\n    from perfmodel.costs import Cost",
    "perfmodel.engines.spec": "if TYPE_CHECKING:\n    import perfmodel.hardware.columns",
    "search.scenario.scenario": "from search.fleet import FleetPlan",
    "search.weather.sun": "X = 1",
    "search.fleet.integer_program.solve": "from search.fleet.solution.plan import fleet_plan",
    "search.fleet.replicas.rates": "if TYPE_CHECKING:\n    from search.fleet.accounting.fleet import FleetPlan",
    "search.fleet.checks.mix": "def f():\n    from search.fleet import fleet_plan",
    "search.fleet.stray": "X = 1",
    "perfmodel.costs.cost": "if TYPE_CHECKING:\n    from perfmodel.costs.rooflines.roofline import Bound",
    "perfmodel.costs.measured_tables.profiled": "def f():\n    from perfmodel.costs import Roofline",
    "perfmodel.costs.rooflines.roofline": "import perfmodel.costs.step_costs.steps",
    "perfmodel.costs.stray": "X = 1",
    "search.planning.operating_point.sizing": "from search.planning.evaluation.scoring import Scorer",
    "search.planning.ranking.candidates": "if TYPE_CHECKING:\n    from search.planning.plan_making import planner",
    "search.planning.plan_table.rows": "def f():\n    from search.planning import verify",
    "search.planning.stray": "X = 1",
    "perfmodel.serving.queues.queueing": "from perfmodel.serving.step_times.steps import StepModel",
    "perfmodel.serving.stray": "X = 1",
    "perfmodel.estimates.columns.groups": "if TYPE_CHECKING:\n    from perfmodel.estimates.estimates import Estimates",
    "perfmodel.estimates.stray": "X = 1",
    "perfmodel.simulator.kernel.core": "def f():\n    from perfmodel.simulator.simulation import Simulation",
    "perfmodel.simulator.stray": "X = 1",
    "search.deploy.reading_back.deployed": "from search.deploy.targets import export",
    "search.deploy.stray": "X = 1",
    "search.report.chart_drawing.charts": "def f():\n    from search.report.plan_page.brief import brief",
    "search.report.stray": "X = 1",
}


@pytest.mark.parametrize("module", sorted(PLANTED))
def test_a_planted_offence_against_the_table_is_found(module: str) -> None:
    package = max((p for p in MAY_IMPORT if module.startswith(f"{p}.")), key=len)
    assert forbidden({**TEXTS, module: PLANTED[module]}, package)


def test_a_planted_circle_floor_and_back_door_are_found() -> None:
    circle = {"perfmodel.a.x": "import perfmodel.b.y", "perfmodel.b.y": "def f():\n    from perfmodel.a import x"}
    assert rooms.circles(rooms.graph(circle, "perfmodel")) == [["perfmodel.a", "perfmodel.b"]]
    assert rooms.circles(rooms.module_graph(circle)) == [["perfmodel.a.x", "perfmodel.b.y"]]
    tower = {f"perfmodel.r{n}.m": f"import perfmodel.r{n - 1}.m" for n in range(1, 10)} | {"perfmodel.r0.m": ""}
    assert max(rooms.floors(rooms.graph(tower, "perfmodel")).values()) == 10
    for offence in ("from perfmodel.costs.cost import Cost", "from perfmodel.costs import _hidden"):
        assert rooms.around_the_door({**TEXTS, "search.space.odd": offence}, ("perfmodel", "search"))


RULES_THAT_FIRE = [
    (lambda tree: upward("hwdb", tree), "from perfmodel import demand"),
    (lambda tree: upward("perfmodel", tree), "def f():\n    import search.plan"),
    (lambda tree: upward("search", tree), "from . import front"),
    (lambda tree: private_reach("search", tree), "from perfmodel.estimate import _hidden"),
    (lambda tree: unguarded("search/planning/plan_making/ranked_plan.py", tree), "import pandas"),
    (lambda tree: unguarded("search/planning/plan_making/ranked_plan.py", tree), "def f():\n    import plotly"),
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
    assert not unguarded("search/planning/plan_making/ranked_plan.py", ast.parse(source))


HEAVY = {"pandas", "scipy", "plotly", "pulp", "optuna", "sqlalchemy", "ray", "numba", "torch", "jinja2"}


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
