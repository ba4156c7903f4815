"""A checkpoint in the format of ``torch.save``, with a SHA-256 of its bytes at the end.

The checksum is stored in the comment of the zip file: it is written together with the file, is kept by copies, and is
ignored by torch and Lightning.
"""

import hashlib
import io
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from logos_pl.artifacts.torch_files import load_torch_file
from logos_pl.errors import InputError
from logos_pl.io.parsing import open_regular

_MARK = b"logos-pl sha256 "
_DIGITS = 64
_HASH_BYTES = 2**24
_WANTED, _REMEDY = "a complete checkpoint of logos-pl", "give another one, or start again"

_PARTS: dict[str, type | tuple[type, ...]] = {
    "epoch": int, "global_step": int, "pytorch-lightning_version": str, "state_dict": dict, "loops": dict,
    "callbacks": dict, "optimizer_states": list, "lr_schedulers": list, "TrainingText": dict, "lens_identity": dict,
    "lens_start": (dict, type(None)), "lens_basis": (dict, type(None)), "lens_validation": dict,
}  # fmt: skip
"""Required entries of a checkpoint and their types; a run would silently restart a missing part."""


def checkpoint_bytes(checkpoint: Mapping[str, Any]) -> memoryview:
    """Bytes of a checkpoint file, with the checksum."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(-2, os.SEEK_END)  # length of the comment, so far 0
    buffer.write(struct.pack("<H", len(_MARK) + _DIGITS) + _MARK)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    buffer.write(digest.encode())
    return buffer.getbuffer()


def check_checkpoint(path: Path) -> dict[str, Any]:
    """Check that a file is a complete, unaltered checkpoint of a fit.

    Returns:
        Its contents, with tensors on the meta device.

    Raises:
        InputError: It is not.
    """
    return _read(path, outline=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of a fit on the CPU, checked as in ``check_checkpoint``.

    Raises:
        InputError: It is not a checkpoint of a fit, or was altered.
    """
    return _read(path, outline=False)


def read_unaltered(path: Path, outline: bool = False, remedy: str = _REMEDY) -> Any:
    """Contents of a file that ``checkpoint_bytes`` made, whatever they are; no code in it is executed.

    Args:
        path: The file.
        outline: Read tensors on the meta device.
        remedy: What to do if it cannot be used.

    Raises:
        InputError: It cannot be read, was altered, or holds something other than plain values and tensors.
    """
    shown = os.path.relpath(path)
    try:
        with open_regular(path) as file:
            _refuse_altered(file, shown, remedy)
            return load_torch_file(file, shown, _WANTED, remedy, outline)
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}): {remedy}.") from error


def _read(path: Path, outline: bool) -> dict[str, Any]:
    checkpoint = read_unaltered(path, outline)
    problem = _problem(checkpoint)
    if problem is not None:
        raise InputError(f"{os.path.relpath(path)} is not {_WANTED}: it {problem}: {_REMEDY}.")
    return dict(dict.items(checkpoint))


def _refuse_altered(file: BinaryIO, shown: str, remedy: str) -> None:
    """Compare the checksum with the bytes before it.

    Raises:
        InputError: There is none, or they differ.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _DIGITS - len(_MARK)))
    end = file.read()
    if not end.startswith(_MARK):
        raise InputError(
            f"{shown} is not a complete checkpoint of logos-pl: it has no checksum at its end, so it was cut off, "
            f"altered, or written by another version or program: {remedy}."
        )
    digest, rest = hashlib.sha256(), size - _DIGITS
    file.seek(0)
    while rest > 0 and (piece := file.read(min(rest, _HASH_BYTES))):
        digest.update(piece)
        rest -= len(piece)
    if digest.hexdigest().encode() != end[len(_MARK) :]:
        raise InputError(f"{shown} was altered: its content does not match the checksum at its end: {remedy}.")


def _problem(checkpoint: Any) -> str | None:
    """Description of a missing entry or one of the wrong type; None if the checkpoint is valid."""
    if not isinstance(checkpoint, dict):
        return "has another type"
    for name, kind in _PARTS.items():
        if name not in checkpoint:
            return f"has no {name}"
        if not isinstance(checkpoint[name], kind) or isinstance(checkpoint[name], bool):
            return f"has {name} of another type"
    if checkpoint["global_step"] < 0 or checkpoint["epoch"] < 0:
        return "has a negative step or epoch"
    if "hyper_parameters" in checkpoint:  # they would override the user's settings
        return "has hyperparameters, which would replace the user's"
    state: dict[Any, Any] = checkpoint["state_dict"]
    if not all(type(key) is str and isinstance(tensor, Tensor) for key, tensor in dict.items(state)):
        return "has a state_dict with something other than named tensors"
    basis = checkpoint["lens_basis"]
    if basis is not None and (
        basis.keys() != {"left", "right"} or not all(isinstance(part, Tensor) for part in basis.values())
    ):
        return "has a lens_basis with something other than two tensors"
    return _validation_problem(checkpoint["lens_validation"])


def _validation_problem(readings: Mapping[Any, Any]) -> str | None:
    """The same for the results of the last validation, which become part of the provenance."""
    for reading in readings.values():
        figures = reading.values() if isinstance(reading, dict) else [None]
        if not all(isinstance(values, list) and all(type(v) in (int, float) for v in values) for values in figures):
            return "has readings of another type"
    return None
