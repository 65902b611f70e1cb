"""Damaged profiles end in a sentence with the file's name; a file that changed since it was recorded is noticed."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

import cli
from hwdb import InputError
from perfmodel.profiles import store

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "profiles" / "l40s"
SOURCE = min(SHIPPED.glob("gemm.*.npz"), key=lambda path: path.stat().st_size)
RAW = SOURCE.read_bytes()


def damaged(seed: int) -> bytes:
    """The content of a profile with bytes cut off, changed, added, or another archive."""
    draw = random.Random(seed)
    raw, at = bytearray(RAW), draw.randrange(len(RAW))
    how = seed % 5
    if how == 0:
        return bytes(raw[:at])
    if how == 1:
        for _ in range(draw.choice((1, 3, 40))):
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    elif how == 2:
        at = draw.randrange(len(raw) - 400, len(raw))  # the archive's list of files
        raw[at : at + 4] = draw.randbytes(4)
    elif how == 3:
        raw[at:at] = draw.randbytes(draw.choice((1, 100)))
    else:
        return rewritten(draw)
    return bytes(raw)


def rewritten(draw: random.Random) -> bytes:
    """A sound archive in which one array is not what a profile has there."""
    with np.load(io.BytesIO(RAW)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = draw.choice(sorted(arrays))
    old = arrays[name]
    wrong = [
        np.array(["x"]),
        np.zeros(0),
        np.zeros((2, 0)),
        np.full(3, np.nan),
        np.array({"a": 1}, dtype=object),
        -np.ones(3),
        np.array(7.0),
        np.concatenate([old.ravel()] * 2),
    ]
    choice = draw.randrange(len(wrong) + 1)
    if choice == len(wrong):
        del arrays[name]
    else:
        arrays[name] = wrong[choice]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_any_damage_is_a_sentence_with_the_name_of_the_file(tmp_path: Path) -> None:
    """Where the file still unpacks to a table, that table can be read."""
    refused = 0
    for seed in range(150):
        path = tmp_path / f"{seed}.npz"
        path.write_bytes(damaged(seed))
        try:
            tables = store._read(path)
        except InputError as error:
            refused += str(path) in str(error)
            continue
        for measured in tables:
            assert np.isfinite(measured.table.sites).all()
            assert all((np.diff(axis) > 0).all() for axis in measured.table.axes)
    assert refused >= 100


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_noticed_by_the_recorded_sum(seed: int, tmp_path: Path) -> None:
    path = tmp_path / SOURCE.name
    path.write_bytes(damaged(seed))
    assert path.read_bytes() != RAW
    digest = hashlib.sha256(RAW).hexdigest()
    with pytest.raises(InputError, match=r"has changed since run\.toml recorded its sha256"):
        store._read(path, digest)
    (tmp_path / "sound.npz").write_bytes(RAW)
    assert store._read(tmp_path / "sound.npz", digest)


def test_the_command_ends_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("devices", "profiles/mine"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "devices/mine.toml").write_text('like = "l40s"\ntitle = "x"\n')
    table = f'[[table]]\nfamily = "gemm"\nfile = "{SOURCE.name}"\nsha256 = "{hashlib.sha256(RAW).hexdigest()}"\n'
    (tmp_path / "profiles/mine/run.toml").write_text(f'device = "mine"\n{table}')
    path = tmp_path / "profiles/mine" / SOURCE.name
    words = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "mine", "--hwdb", str(tmp_path)]
    path.write_bytes(RAW[:-1] + b"?")
    assert cli.main(words) == 2
    assert f"{path}: not a profile table, or damaged (it has changed" in capsys.readouterr().err


def test_the_shipped_files_are_what_their_records_say() -> None:
    for device in store.names():
        found = store.load(device)
        assert found is not None
        for family in found.families():
            for framework in found.frameworks(family):
                path = found.files[family][framework]
                assert found._digest(path.name) == hashlib.sha256(path.read_bytes()).hexdigest(), path


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("variants.npy", bytes(2**21))
    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        store._read(tmp_path / "b.npz")


@pytest.mark.parametrize("column", ["weight", "act", "kv"])
@pytest.mark.parametrize(
    ("written", "own"), [("bF16", "bf16"), (" FP8 ", "fp8"), ("float16", "fp16"), ("bf61", "bf61")]
)
def test_formats_count_however_they_are_written(column: str, written: str, own: str) -> None:
    """In any case, and by their other names; what is unknown keeps its name, under which it is set aside."""
    from perfmodel.profiles.importers.rows import rows_of

    found = rows_of(1, family="gemm", m=1, n=8, k=8, time=1.0, device="h100-sxm", **{column: written})[column][0]
    expected = {own, "bf16"} if own == "fp16" else {own}
    assert str(found) in expected


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["fp8", "bf16"]),
        np.zeros((0, 2), np.float32),
        np.array(3.0),
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_of_files_are_read_as_numpy_reads_them(array: np.ndarray, version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    for content in (stream.getvalue(), stream.getvalue()):  # the second time, the header is known
        found = store._array(content)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    if array.size:
        with pytest.raises(store._DAMAGES):
            store._array(stream.getvalue()[:-1])


def test_arrays_of_python_objects_are_not_read() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([{}], object), (1, 0))
    with pytest.raises(ValueError, match="Python objects"):
        store._array(stream.getvalue())
