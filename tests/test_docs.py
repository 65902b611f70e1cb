"""The docs say what the program does: commands, options, errors, names; and what they show runs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cli
import hwdb
import search
from search.commands import command_tree

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def snippets(page: Path, language: str) -> list[str]:
    """Blocks of code of a language on a page."""
    return [body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """docs/reference.py as a module."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli.md", "api.md", "notation.md", "cases.md"])
def test_reference_is_up_to_date(page: str, reference: ModuleType) -> None:
    stands = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert stands == reference.written(page), "run `make docs`"


def test_every_command_and_option_explains_itself(reference: ModuleType) -> None:
    import typer

    for name, command in reference.commands(typer.main.get_command(command_tree())):
        assert command.help, name
        for parameter in command.params:
            assert parameter.name == "help" or parameter.help, f"{name}: {parameter.name} has no help"


def test_every_public_name_is_documented_with_a_sentence(reference: ModuleType) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for package in ("perfmodel", "search", "hwdb"):
        module = importlib.import_module(package)
        for name in module.__all__:
            assert f"| `{name}" in page, f"{package}.{name}"
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{package}.{name}"


def test_every_error_class_is_explained() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    found = {
        name
        for package in (hwdb, search)
        for name in package.__all__
        if inspect.isclass(getattr(package, name)) and issubclass(getattr(package, name), hwdb.PerfmodelError)
    }
    assert {"PerfmodelError", "InputError", "UnknownName", "Infeasible", "FleetInfeasible"} <= found
    assert all(f"`{name}`" in page for name in found)


def test_columns_that_leave_the_program_are_in_the_notation() -> None:
    notation = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    from perfmodel.cases import OUTPUT

    for column in OUTPUT:
        stem = re.sub(r"_p\d+$", "", column)
        assert f"`{stem}`" in notation, column


LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def runnable(page: Path) -> list[str]:
    """Lines of shell blocks that call perfmodel on its own examples."""
    blocks = [block.replace("\\\n", " ") for block in snippets(page, "sh")]
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("perfmodel ") and "|" not in line]


COMMANDS = sorted({(page.name, line) for page in PAGES for line in runnable(page)})


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_shell_snippets_name_real_commands(page: str, line: str, reference: ModuleType) -> None:
    import typer

    known = dict(reference.commands(typer.main.get_command(command_tree())))
    words = shlex.split(line)
    name = next((n for n in (" ".join(words[:k]) for k in (4, 3, 2)) if n in known), None)
    assert name, f"{page}: {line}"
    options = {o for p in known[name].params for o in p.opts}
    used = [w.split("=")[0] for w in words if w.startswith("-")]
    assert set(used) <= options, f"{page}: {line}"


CHEAP = ("estimate", "plan", "hw", "models", "fleet")
RUN = [line for page, line in COMMANDS if page in ("README.md", "cli.md") and line.split()[1] in CHEAP]


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted(set(RUN)))
def test_shell_snippets_run(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(shlex.split(line)[1:]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "api.md"], ids=lambda p: p.name)
def test_python_snippets_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    blocks = snippets(page, "python")
    assert blocks
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)


def test_device_file_of_the_guide_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "capped.toml").write_text(snippets(ROOT / "docs" / "cli.md", "toml")[0], encoding="utf-8")
    assert cli.main(["hw", "show", "capped", "--hwdb", str(tmp_path)]) == 0
    assert "500" in capsys.readouterr().out


def test_two_commands_of_the_readme_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^make (\w+)", "\n".join(snippets(ROOT / "README.md", "sh")), re.M)
    assert {"plan", "test"} <= set(named)
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in named)


def test_continuous_integration_runs_the_same_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert "make test" in script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)


def test_changelog_knows_this_version() -> None:
    from perfmodel import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert sys.version_info >= (3, 11)


PATHS = re.compile(r"`((?:perfmodel|search|hwdb|data|tools|tests|benchmarks|examples)/[\w/.\-]*)`")
#: Named on a page without being in the checkout: future homes, patterns, the wheel's own folders.
PLANNED = {"search/deploy/", "perfmodel/device", "perfmodel/models/catalogue/OWNER--NAME.toml", "perfmodel/_profiles"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_named_on_a_page_exist(page: Path) -> None:
    named = {match.rstrip(".") for match in PATHS.findall(page.read_text(encoding="utf-8"))} - PLANNED
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("rooms_picture", ROOT / "tools" / "rooms_picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert shown == module.drawn(module.edges_between_rooms()), "run `make docs`"


def test_the_architecture_page_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in ("perfmodel", "search"):
        rooms = [p.parent.name for p in (ROOT / package).glob("*/__init__.py")]
        assert not [room for room in rooms if f"`{room}/`" not in page]
