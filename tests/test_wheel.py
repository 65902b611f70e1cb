"""The wheel carries everything: built, installed elsewhere, it does the main job from any directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel in it; dependencies are borrowed from this one, the checkout is not."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--force-reinstall", str(wheel)], check=True, capture_output=True, text=True)
    return folder / "bin"


def run(command: list[str], folder: Path) -> str:
    """Output of a command run in `folder` without the checkout in sight."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shipped(folder: str, pattern: str) -> set[str]:
    """Files of the checkout below `folder`, named relative to it."""
    return {p.relative_to(ROOT / folder).as_posix() for p in (ROOT / folder).glob(pattern) if p.is_file()}


@pytest.mark.parametrize(
    ("source", "pattern", "inside"),
    [
        ("hwdb", "**/*.toml", "hwdb"),
        ("perfmodel", "*.toml", "perfmodel"),
        ("perfmodel/models/catalogue", "**/*.toml", "perfmodel/models/catalogue"),
        ("perfmodel/engines/catalogue", "*.toml", "perfmodel/engines/catalogue"),
        ("perfmodel/workload/lengths", "*.csv", "perfmodel/workload/lengths"),
        ("perfmodel/engines", "*.toml", "perfmodel/engines"),
        ("search/report/templates", "*", "search/report/templates"),
        ("data/profiles", "*/*", "perfmodel/_profiles"),
    ],
)
def test_data_files_are_inside(wheel: Path, source: str, pattern: str, inside: str) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = shipped(source, pattern)
    assert wanted
    assert {f"{inside}/{name}" for name in wanted} <= names


def test_nothing_else_is_inside(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"perfmodel", "hwdb", "search", "cli.py"}
    assert wheel.stat().st_size < 40e6


def test_licence_and_notice_travel_along(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


def test_the_main_job_runs_from_another_directory(bin_folder: Path, tmp_path: Path) -> None:
    place = run([str(bin_folder / "python"), "-c", "import perfmodel; print(perfmodel.__file__)"], tmp_path)
    assert str(ROOT / "perfmodel") not in place
    scenario = tmp_path / "chat.toml"
    scenario.write_text((ROOT / "examples" / "chat-70b-h100.toml").read_text(encoding="utf-8"), encoding="utf-8")
    rows = json.loads(run([str(bin_folder / "perfmodel"), "plan", "chat.toml", "--json"], tmp_path))
    assert rows
    assert rows[0]["device"] == "h100-sxm"


def test_profiles_are_found_there(bin_folder: Path, tmp_path: Path) -> None:
    rows = json.loads(run([str(bin_folder / "perfmodel"), "profile", "list", "--json"], tmp_path))
    assert {"h100-sxm"} <= {row["device"] for row in rows}
