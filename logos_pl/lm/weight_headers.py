"""How many numbers the weights of a model hold, from the headers of their files: no data is read.

A configuration can describe a model of any size, and transformers would make what the files lack; a header can state
sizes of terabytes, which the libraries refuse where the file is shorter.
"""

import json
import math
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.io.parsing import MIB, open_regular
from logos_pl.lm.model_files import refuse_pointer

MAX_HEADER_BYTES = 100 * MIB
"""Largest header of a safetensors file that the library reads, too."""


DAMAGED_PICKLE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    AssertionError, struct.error,
)  # fmt: skip
"""What torch's unpickler ends in where it meets bytes that are not a pickle of tensors."""


class Weights(NamedTuple):
    """The weights of a folder, as their headers describe them.

    Attributes:
        tensors: Number of tensors.
        numbers: Numbers in all of them.
    """

    tensors: int
    numbers: int


def measure_weights(folder: Path, files: list[str], name: str) -> Weights:
    """Number and size of the tensors in files of weights, from their headers.

    Raises:
        InputError: A file is missing, not a regular file, damaged, or holds anything but tensors.
    """
    tensors = numbers = 0
    for path in (folder / file for file in files):
        if not path.exists():
            raise InputError(f"{name} lacks {path.name}, a file of its weights; fetch the complete model.")
        refuse_pointer(path, name)
        sizes = _safetensors_sizes(path, name) if path.suffix == ".safetensors" else _pickle_sizes(path, name)
        tensors, numbers = tensors + len(sizes), numbers + sum(sizes)
    return Weights(tensors, numbers)


def _safetensors_sizes(path: Path, name: str) -> list[int]:
    _check_length(path, name)
    try:
        with safe_open(path, framework="pt") as file:
            return [math.prod(file.get_slice(key).get_shape()) for key in file.keys()]  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise _damaged(path, name, error) from error


def _check_length(path: Path, name: str) -> None:
    """Refuse a file of safetensors that is longer than its header says: it would be mapped into memory as a whole.

    Raises:
        InputError: It is. A short file whose header cannot be read is left to the library, which says what is wrong.
    """
    size = path.stat().st_size
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, MAX_HEADER_BYTES))
    try:
        tensors = [part for key, part in json.loads(header).items() if key != "__metadata__"]
        wanted = 8 + length + max((int(part["data_offsets"][1]) for part in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        wanted = MAX_HEADER_BYTES
    if size > wanted:
        raise InputError(
            f"{path.name} of {name}, a file of its weights, is damaged ({size:,} bytes, and its header says "
            f"at most {wanted:,}); fetch it again."
        )


def _pickle_sizes(path: Path, name: str) -> list[int]:
    """Sizes in a file of ``torch.save``; its data stays on the disk where the format allows it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # notices on the protocol of the pickle
            content = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path.name} of {name} is damaged or holds code, which is never run; fetch it again, or take weights in "
            "safetensors."
        ) from error
    except DAMAGED_PICKLE as error:
        raise _damaged(path, name, error) from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) and tensor.layout == torch.strided
        for key, tensor in content.items()
    ):
        raise InputError(f"{path.name} of {name} holds something else than dense tensors by name; fetch it again.")
    return [tensor.numel() for tensor in content.values()]


def _damaged(path: Path, name: str, error: Exception) -> InputError:
    return InputError(f"{path.name} of {name}, a file of its weights, is damaged ({_line(error)}); fetch it again.")


def _line(error: Exception) -> str:
    """The first line of an error, short enough to stand in a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(" .:")
