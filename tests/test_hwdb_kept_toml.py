"""What shipped TOML files say is kept between runs: the same values, and never those of another text."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwdb import InputError, kept_toml, tomlfile

ROOT = Path(__file__).parents[1]
SHIPPED = [*ROOT.glob("hwdb/**/*.toml"), *ROOT.glob("perfmodel/**/*.toml"), *ROOT.glob("data/profiles/*/run.toml")]
#: A text that is worth keeping.
TEXT = "\n".join(f"key_{i} = {i}.5" for i in range(200))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Entries lie in a folder of the test, and all its files count as shipped."""
    place = tmp_path / "entries"
    monkeypatch.setattr(kept_toml, "_folder", lambda: place)
    monkeypatch.setattr(kept_toml, "_SHIPPED", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    kept_toml._writable.cache_clear()
    yield place
    kept_toml._writable.cache_clear()


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("file", SHIPPED[::7], ids=lambda f: str(f.relative_to(ROOT)))
def test_shipped_files_say_the_same_from_an_entry(file: Path, folder: Path) -> None:
    text = file.read_text(encoding="utf-8")
    own = str(folder.parent / "file.toml")
    first = tomlfile.parse_values(text, own)
    again = tomlfile.parse_values(text, own)
    assert (
        repr(first) == repr(again) == repr(tomllib.loads(text))
    )  # repr tells 1 from 1.0 and True, and keeps the order
    assert len(entries(folder)) == (len(text) >= 1000)


def test_a_text_that_is_kept_is_not_parsed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(text: str) -> dict[str, Any]:
        raise AssertionError(text)

    own = str(folder.parent / "file.toml")
    first = tomlfile.parse_values(TEXT, own)
    monkeypatch.setattr(tomllib, "loads", refused)
    assert tomlfile.parse_values(TEXT, own) == first


def test_a_changed_text_has_values_of_its_own(folder: Path) -> None:
    own = str(folder.parent / "file.toml")
    assert tomlfile.parse_values(TEXT, own)["key_7"] == 7.5
    assert tomlfile.parse_values(TEXT.replace("7.5", "8.5"), own)["key_7"] == 8.5
    assert len(entries(folder)) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_entry_is_not_read(content: bytes, folder: Path) -> None:
    own = str(folder.parent / "file.toml")
    tomlfile.parse_values(TEXT, own)
    entries(folder)[0].write_bytes(content)
    assert tomlfile.parse_values(TEXT, own)["key_7"] == 7.5


def test_files_of_users_dates_and_errors_are_not_kept(folder: Path, tmp_path: Path) -> None:
    tomlfile.parse_values(TEXT, str(tmp_path.parent / "mine.toml"))
    tomlfile.parse_values(TEXT + "\nday = 2026-11-30", str(tmp_path / "dated.toml"))
    with pytest.raises(InputError, match="not TOML"):
        tomlfile.parse_values(TEXT + "\nkey_1 = 2", str(tmp_path / "twice.toml"))
    assert entries(folder) == []


def test_without_a_folder_files_are_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_toml, "_folder", lambda: None)
    assert tomlfile.parse_values(TEXT, str(folder.parent / "file.toml"))["key_7"] == 7.5
    assert entries(folder) == []


def test_a_full_disk_leaves_no_part_of_an_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, place: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert tomlfile.parse_values(TEXT, str(folder.parent / "file.toml"))["key_7"] == 7.5
    assert entries(folder) == []


def test_files_of_users_in_a_checkout_are_not_shipped_ones() -> None:
    assert kept_toml._kept(TEXT, str(ROOT / "hwdb" / "devices" / "a2.toml"))
    assert kept_toml._kept(TEXT, str(ROOT / "data" / "profiles" / "h100-sxm" / "run.toml"))
    assert not kept_toml._kept(TEXT, str(ROOT / "mine.toml"))
    assert not kept_toml._kept(TEXT, str(ROOT / "examples" / "mine.toml"))


def test_a_folder_that_only_the_administrator_may_enter_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, own = tmp_path / "__pycache__" / "toml-1", tmp_path / "cache" / "perfmodel" / "toml-1"
    beside.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(kept_toml, "__file__", str(tmp_path / "file.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    # as another user would find it, whoever runs this test
    monkeypatch.setattr(os, "access", lambda place, _mode: Path(place) != beside)
    monkeypatch.setattr(kept_toml, "_writable", lambda place: None if place == beside else place)
    kept_toml._folder.cache_clear()
    try:
        assert kept_toml._folder() == own
    finally:
        kept_toml._folder.cache_clear()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders of others")
def test_a_folder_that_others_may_write_in_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "cache"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setattr(kept_toml, "__file__", str(tmp_path / "absent" / "file.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    (shared / "perfmodel" / "toml-1").mkdir(parents=True)
    (shared / "perfmodel").chmod(0o777)
    (tmp_path / "absent").write_text("")  # no folder can be made there
    kept_toml._folder.cache_clear()
    try:
        assert kept_toml._folder() is None
        (shared / "perfmodel").chmod(0o700)
        kept_toml._folder.cache_clear()
        assert kept_toml._folder() == shared / "perfmodel" / "toml-1"
    finally:
        kept_toml._folder.cache_clear()
