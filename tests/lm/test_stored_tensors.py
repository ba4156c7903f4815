"""Tensors read from safetensors files when they are asked for: the numbers that the library reads."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from logos_pl.errors import InputError, RunError
from logos_pl.lm.stored_tensors import STORED_DTYPES, stored_tensors


def some(dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 20).to(dtype)


@pytest.mark.parametrize("part_bytes", [2**24, 24, 8])
def test_every_number_format_is_read_as_the_library_reads_it(
    part_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one part, in several with a shorter last one, and in many."""
    monkeypatch.setattr("logos_pl.lm.stored_tensors.PART_BYTES", part_bytes)
    tensors = {name: some(dtype) for name, dtype in STORED_DTYPES.items()}
    tensors |= {"empty": torch.zeros(0, 3), "number": torch.tensor(2.5)}
    save_file(tensors, tmp_path / "w.safetensors", {"format": "pt"})
    stored = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False)
    for key, wanted in load_file(tmp_path / "w.safetensors").items():
        assert stored[key][...].dtype == wanted.dtype
        assert torch.equal(stored[key][...], wanted)
        assert stored[key].nbytes == wanted.nbytes
    assert stored.keys() == tensors.keys()


def test_nothing_is_read_until_it_is_asked_for_and_then_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / "w.safetensors")
    reads: list[int] = []
    read = os.preadv

    def counted(file: int, rooms: Any, offset: int) -> int:
        reads.append(offset)
        return read(file, rooms, offset)

    monkeypatch.setattr(os, "preadv", counted)
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    assert reads == []
    assert torch.equal(stored[...], some(torch.float32))
    assert torch.equal(stored[...], some(torch.float32))
    assert len(reads) == 2


def test_a_quantised_number_format_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w.safetensors of m holds a in the number format F8_E4M3, which is neither"):
        stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False)


def test_rows_are_read_without_the_others(tmp_path: Path) -> None:
    written = torch.arange(7 * 3 * 2).view(7, 3, 2).float()
    save_file({"a": torch.ones(5), "b": written}, tmp_path / "w.safetensors")
    stored = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False)["b"]
    for start, count in ((0, 7), (2, 3), (6, 1), (7, 0)):
        assert torch.equal(stored.rows(start, count), written[start : start + count])


@pytest.mark.parametrize("part_bytes", [2**24, 24])
def test_a_file_that_is_gone_or_cut_off_is_one_sentence(
    part_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logos_pl.lm.stored_tensors.PART_BYTES", part_bytes)
    path = tmp_path / "w.safetensors"
    save_file({"a": some(torch.float32)}, path)
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(RunError, match=r"w.safetensors of m was truncated while it was in use"):
        stored[...]
    path.unlink()
    with pytest.raises(RunError, match=r"w.safetensors of m can no longer be read \(No such file or directory\)"):
        stored[...]


@pytest.mark.parametrize("how", ["written in place", "replaced by a rename"])
def test_a_file_that_has_been_changed_is_not_mixed_with_what_was_read_of_it(how: str, tmp_path: Path) -> None:
    path, other = tmp_path / "w.safetensors", tmp_path / "other.safetensors"
    save_file({"a": some(torch.float32)}, path)
    save_file({"a": some(torch.float32) + 1}, other)
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    assert torch.equal(stored[...], some(torch.float32))
    if how == "replaced by a rename":
        other.replace(path)
    else:
        path.write_bytes(other.read_bytes())
    with pytest.raises(RunError, match=r"w.safetensors of m was changed while it was in use"):
        stored[...]


def test_a_part_is_not_read(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / "w.safetensors")
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    with pytest.raises(TypeError, match="read as a whole"):
        stored[0]
