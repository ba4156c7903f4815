"""Sizes from the headers of weights, and headers that lie."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from logos_pl.errors import InputError
from logos_pl.lm.weight_headers import Weights, measure_weights


def sentence(call: Callable[[], object]) -> str:
    """What a call is refused with; nothing where it is not."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


TENSORS = {"a": torch.ones(3, 5), "b": torch.ones(7), "c": torch.tensor(2.0)}


def test_tensors_and_numbers_are_counted_in_both_formats(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    torch.save(TENSORS, tmp_path / "b.bin")
    assert measure_weights(tmp_path, ["a.safetensors"], "m") == Weights(3, 23)
    assert measure_weights(tmp_path, ["a.safetensors", "b.bin"], "m") == Weights(6, 46)


def test_a_size_of_terabytes_in_the_header_allocates_nothing(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match=r"a\.safetensors of m, a file of its weights, is damaged"):
        measure_weights(tmp_path, ["a.safetensors"], "m")


def test_a_file_that_is_longer_than_its_header_says_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(2**40)  # of holes
    with pytest.raises(InputError, match=r"damaged \(1,099,511,627,776 bytes, but its header declares at most \d{3}\)"):
        measure_weights(tmp_path, ["a.safetensors"], "m")


@pytest.mark.parametrize("end", ["1e999", "1e300", "-1e999", "NaN", "9" * 400, '"4"', "null", "[4]"])
def test_an_end_that_is_no_size_is_refused_in_one_sentence(end: str, tmp_path: Path) -> None:
    header = f'{{"a": {{"dtype": "F32", "shape": [1], "data_offsets": [0, {end}]}}}}'.encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match=r"^a.safetensors of m, a file of its weights, is damaged .*; fetch it again"):
        measure_weights(tmp_path, ["a.safetensors"], "m")


def test_every_damage_of_the_header_is_refused_in_one_sentence_or_leaves_a_header(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.safetensors", random.Random(12)
    save_file(TENSORS, path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(8 + int.from_bytes(whole[:8], "little"))] = rng.randrange(256)
        path.write_bytes(bytes(damaged[: rng.randrange(len(whole)) if rng.random() < 0.2 else None]))
        said = sentence(lambda: measure_weights(tmp_path, ["a.safetensors"], "m"))
        refused += said != ""
        assert "\n" not in said
        assert len(said) < 400
    assert refused > 200


@pytest.mark.parametrize("opcodes", [b"0.", b"a.", b"\x85\x85\x85.", b"h\x05.", b"M.", b"K", b"\x8a\xff.", b"X\xff"])
def test_opcodes_in_no_order_are_damage_and_no_fault_of_the_program(opcodes: bytes, tmp_path: Path) -> None:
    """Of the pickle machine: pop, append, tuple, get, …, with nothing on its stack."""
    for start in (b"", b"\x80\x02"):
        (tmp_path / "a.bin").write_bytes(start + opcodes)
        with pytest.raises(InputError, match=r"a\.bin of m"):
            measure_weights(tmp_path, ["a.bin"], "m")


def test_a_terabyte_of_holes_from_its_first_byte_is_not_mapped(tmp_path: Path) -> None:
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"a\.safetensors of m, a file of its weights, is damaged"):
        measure_weights(tmp_path, ["a.safetensors"], "m")
