"""Tensors read from safetensors files when they are asked for: the numbers that the library reads."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from logos_pl.errors import InputError, RunError
from logos_pl.lm.stored_tensors import STORED_DTYPES, stored_tensors


def some(dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 20).to(dtype)


def test_every_number_format_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    tensors = {name: some(dtype) for name, dtype in STORED_DTYPES.items()}
    tensors |= {"empty": torch.zeros(0, 3), "number": torch.tensor(2.5)}
    save_file(tensors, tmp_path / "w.safetensors", {"format": "pt"})
    stored = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False)
    for key, wanted in load_file(tmp_path / "w.safetensors").items():
        assert stored[key][...].dtype == wanted.dtype
        assert torch.equal(stored[key][...], wanted)
        assert stored[key].nbytes == wanted.nbytes
    assert stored.keys() == tensors.keys()


def test_nothing_is_read_until_it_is_asked_for(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / "w.safetensors")
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    changed = torch.full((5, 7), 3.0)
    save_file({"a": changed}, tmp_path / "w.safetensors")
    assert torch.equal(stored[...], changed)


def test_a_quantised_number_format_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w.safetensors of m holds a in the number format F8_E4M3, which is not"):
        stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False)


def test_a_file_that_is_gone_or_cut_off_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": some(torch.float32)}, path)
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(RunError, match=r"w.safetensors of m has been cut off while it was in use"):
        stored[...]
    path.unlink()
    with pytest.raises(RunError, match=r"w.safetensors of m cannot be read any more \(No such file or directory\)"):
        stored[...]


def test_a_part_is_not_read(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / "w.safetensors")
    (stored,) = stored_tensors(tmp_path, ["w.safetensors"], "m", pinned=False).values()
    with pytest.raises(TypeError, match="read as a whole"):
        stored[0]
