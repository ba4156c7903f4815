"""Reads files of ``torch.save`` after checking that what they declare matches what they contain.

``torch.load(weights_only=True)`` runs no code, but creates whatever a file declares: sparse, quantised and nested
tensors, views of terabytes over a few bytes, allocations of any size. Only plain values and plain dense tensors, in
total no larger than the file, are accepted here.
"""

import pickle
import pickletools
import struct
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from logos_pl.errors import InputError

MAGIC = b"PK\x03\x04"
"""Signature of the zip files that torch.save writes; its older formats are not read."""
MAX_ENTRIES = 10_000
MAX_PICKLE_BYTES = 2**24
"""Maximum size of the pickle that lists the tensors; in our files it has about ten kilobytes at most."""

# End records of a zip file, which give size and offset of its directory: plain, zip64, and the locator of zip64.
_END, _END_64, _LOCATOR_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_MAX_DIRECTORY_BYTES = 2**22

_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {f"torch {kind}Storage" for kind in _STORAGES}
"""Globals needed for plain dense tensors, dictionaries, lists and numbers."""
_OPERATIONS = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "EMPTY_DICT",
    "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
}  # fmt: skip

# Exceptions of torch's restricted unpickler and zip reader on malformed or malicious bytes.
_BROKEN = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    OverflowError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


class _UnfitError(Exception):
    """Describes what is wrong with a file; name and remedy are added where it is caught."""


def load_torch_file(file: BinaryIO, name: str, wanted: str, remedy: str, outline: bool = False) -> Any:
    """Load a file of ``torch.save`` with plain values and dense tensors; no code in it is executed.

    Args:
        file: The file, open for reading and seeking.
        name: Name in messages.
        wanted: What it must be, in words.
        remedy: What to do if it is not.
        outline: Load tensors on the ``meta`` device, with shapes and dtypes only; otherwise on the CPU.

    Raises:
        InputError: It is not such a file, is incomplete, or contains anything else.
    """
    try:
        _check_archive(file, with_contents=not outline)
        shapes = _load(file, "meta")
        _check_tensors(_tensors(shapes), _size(file))
        return shapes if outline else _load(file, "cpu")
    except _UnfitError as error:
        raise InputError(f"{name} is not {wanted}: it {error}: {remedy}.") from error
    except _BROKEN as error:
        raise InputError(f"{name} is not {wanted}: {remedy}.") from error


def _load(file: BinaryIO, device: str) -> Any:
    file.seek(0)
    return torch.load(file, weights_only=True, map_location=device)


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _check_archive(file: BinaryIO, with_contents: bool) -> None:
    """Check entries, sizes and names before anything is unpacked, and optionally the checksum of each part.

    Raises:
        _UnfitError: One of them is wrong.
    """
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise _UnfitError("is not a file of torch.save")
    _check_directory_size(file)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise _UnfitError(f"has {len(entries):,} parts, but at most {MAX_ENTRIES:,} are read")
        names = {entry.filename for entry in entries}
        if len(names) < len(entries) or min(entry.header_offset for entry in entries) != 0:
            raise _UnfitError("has two parts of the same name, or data before the first")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise _UnfitError(f"has the compressed or encrypted part {entry.filename!r}")
            if entry.file_size != entry.compress_size or entry.file_size > _size(file):
                raise _UnfitError(f"has the part {entry.filename!r}, whose declared size is wrong")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise _UnfitError("has no list of tensors, more than one, or one that is too long")
        _check_pickle(archive.read(pickles[0]))
        if with_contents and (altered := archive.testzip()) is not None:
            raise _UnfitError(f"was altered in the part {altered!r}, whose checksum differs")


def _check_directory_size(file: BinaryIO) -> None:
    """Check the size of the directory from the end record before reading it, as all entries are held in memory.

    Raises:
        _UnfitError: It is larger than a directory of `MAX_ENTRIES` entries.
    """
    size = _size(file)
    tail = _read_at(file, size - min(size, _END.size + 2**16), size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise _UnfitError("is incomplete")
    end, (*_, directory, _place, comment) = size - len(tail) + at, _END.unpack_from(tail, at)
    if end + _END.size + comment != size:
        raise _UnfitError("is incomplete, or has data after its end")
    if end >= _LOCATOR_64.size:
        signature, _, place, _ = _LOCATOR_64.unpack(_read_at(file, end - _LOCATOR_64.size, end))
        if signature == b"PK\x06\x07":
            if place + _END_64.size != end - _LOCATOR_64.size:
                raise _UnfitError("has its directory at another offset than it declares")
            plain = 0 if directory == 0xFFFFFFFF else directory  # this value refers to the zip64 record
            directory = max(plain, _END_64.unpack(_read_at(file, place, place + _END_64.size))[8])
    if directory > _MAX_DIRECTORY_BYTES:
        raise _UnfitError(f"has a directory of {directory:,} bytes, but at most {_MAX_DIRECTORY_BYTES:,} are read")


def _read_at(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _check_pickle(data: bytes) -> None:
    """Check, without executing them, that all operations are those of plain values and dense tensors.

    Raises:
        _UnfitError: One is not; named.
        ValueError: It is truncated, or not a pickle.
    """
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "GLOBAL" and argument not in _NAMES:
            what = str(argument).replace(" ", ".")[:80]
            raise _UnfitError(f"holds a {what}, but only plain dense tensors and values are read")
        if operation.name not in _OPERATIONS:
            raise _UnfitError("holds something other than plain dense tensors and values")


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested dictionaries, lists and tuples; each container is visited once."""
    found: list[Tensor] = []
    seen: set[int] = set()
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, Tensor):
            found.append(part)
        elif isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            rest += dict.values(part) if isinstance(part, dict) else part
    return found


def _check_tensors(tensors: list[Tensor], file_bytes: int) -> None:
    """Check the layout and the total size of the declared tensors.

    Raises:
        _UnfitError: A tensor is not dense, or their total size exceeds that of the file.
    """
    declared = 0
    for tensor in tensors:
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.is_neg() or tensor.is_conj():
            raise _UnfitError("holds a tensor that is not plain and dense")
        reach = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        if tensor.numel() > max(reach, 0):
            raise _UnfitError(f"declares a tensor of shape {tuple(tensor.shape)} over {reach:,} numbers")
        declared += tensor.numel() * tensor.element_size()
    if declared > file_bytes:
        raise _UnfitError(f"declares {declared:,} bytes of tensors, but has {file_bytes:,} bytes")
