"""Counts the numbers in the weights of a model from the headers of their files, without reading data.

A configuration can describe a model of any size, and transformers would allocate what the files lack; a header can
declare terabytes, which the libraries refuse if the file is shorter.
"""

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
from logos_pl.io.parsing import MIB, open_regular, parse_json
from logos_pl.lm.model_files import refuse_pointer

MAX_HEADER_BYTES = 100 * MIB
"""Maximum header size of a safetensors file, equal to the library's."""


DAMAGED_PICKLE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    AssertionError, struct.error,
)  # fmt: skip
"""Exceptions of torch's unpickler on bytes that are not a pickle of tensors."""


class Weights(NamedTuple):
    """Size of the weights in a folder, from their headers.

    Attributes:
        tensors: Number of tensors.
        numbers: Total number of values.
    """

    tensors: int
    numbers: int


def measure_weights(folder: Path, files: list[str], name: str) -> Weights:
    """Number and size of the tensors in files of weights, from their headers.

    Raises:
        InputError: A file is missing, not a regular file, damaged, or holds something other than tensors.
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
        # Read, not mapped: a file may be larger than the address space that the process may map.
        with safe_open(path, framework="pt", backend="pread") as file:
            return [math.prod(file.get_slice(key).get_shape()) for key in file.keys()]  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise _damaged(path, name, error) from error


def _check_length(path: Path, name: str) -> None:
    """Refuse a safetensors file that is longer than its header declares, as all of it would be mapped into memory.

    Raises:
        InputError: It is longer. A file with an unreadable header is left to the library, which reports it.
    """
    size = path.stat().st_size
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, MAX_HEADER_BYTES))
    try:
        parts = parse_json(header.decode(), path.name)
        tensors = [part for key, part in parts.items() if key != "__metadata__"]
        wanted = 8 + length + max((int(part["data_offsets"][1]) for part in tensors), default=0)
    except (InputError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        wanted = MAX_HEADER_BYTES
    if size > wanted:
        raise InputError(
            f"{path.name} of {name}, a file of its weights, is damaged ({size:,} bytes, but its header declares "
            f"at most {wanted:,}); fetch it again."
        )


def _pickle_sizes(path: Path, name: str) -> list[int]:
    """Sizes in a file of ``torch.save``; its data is not read if the format allows it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # warnings about the pickle protocol
            content = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path.name} of {name} is damaged or holds code, which is never run; fetch it again, or use weights in "
            "safetensors."
        ) from error
    except DAMAGED_PICKLE as error:
        raise _damaged(path, name, error) from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) and tensor.layout == torch.strided
        for key, tensor in content.items()
    ):
        raise InputError(f"{path.name} of {name} holds something other than named dense tensors; fetch it again.")
    return [tensor.numel() for tensor in content.values()]


def _damaged(path: Path, name: str, error: Exception) -> InputError:
    return InputError(f"{path.name} of {name}, a file of its weights, is damaged ({_line(error)}); fetch it again.")


def _line(error: Exception) -> str:
    """The first line of an error, shortened to fit in a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(" .:")
