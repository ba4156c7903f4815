"""Files of ``torch.save``, checked before anything in them is built: what they declare must be what they hold.

``torch.load(weights_only=True)`` runs no code, but makes whatever is declared: sparse, quantised and nested tensors,
views of terabytes over a few bytes, allocations of any size. Here a file holds plain values and plain dense tensors, no
larger than itself.
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
"""torch.save writes zip files; its older formats have loaders of their own, which nothing here needs."""
MAX_ENTRIES = 10_000
MAX_PICKLE_BYTES = 2**24
"""Of the part that names and places tensors; the largest of ours has some ten kilobytes."""

# What the format's end says of the directory: its bytes and their place, in the plain form and in the one of zip64.
_END, _END_64, _LOCATOR_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_MAX_DIRECTORY_BYTES = 2**22

_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {f"torch {kind}Storage" for kind in _STORAGES}
"""The only globals that the pickle of plain dense tensors, dictionaries, lists and numbers needs."""
_OPERATIONS = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "EMPTY_DICT",
    "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
}  # fmt: skip

# What torch's restricted unpickler and its reader of zip files raise on bytes that were made to break them.
_BROKEN = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    OverflowError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


class _UnfitError(Exception):
    """What is wrong with a file; its name and the remedy are added where it is caught."""


def load_torch_file(file: BinaryIO, name: str, wanted: str, remedy: str, outline: bool = False) -> Any:
    """What ``torch.save`` wrote: plain values and dense tensors; nothing in it is ever executed.

    Args:
        file: The file, open for reading and seeking.
        name: Name in messages.
        wanted: What it has to be, in words.
        remedy: What to do about one that is not.
        outline: Leave the numbers out: every tensor on the ``meta`` device, with shape and kind alone; else on the CPU.

    Raises:
        InputError: It is not such a file, is incomplete, or holds or declares anything else.
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
    """Entries, sizes and names before anything is unpacked, and the checksum of each part if asked for.

    Raises:
        _UnfitError: Saying what does not fit.
    """
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise _UnfitError("is not a file of torch.save")
    _check_directory_size(file)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise _UnfitError(f"has {len(entries):,} parts, where at most {MAX_ENTRIES:,} are read")
        names = {entry.filename for entry in entries}
        if len(names) < len(entries) or min(entry.header_offset for entry in entries) != 0:
            raise _UnfitError("has two parts of one name, or something before the first")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise _UnfitError(f"has the compressed or encrypted part {entry.filename!r}")
            if entry.file_size != entry.compress_size or entry.file_size > _size(file):
                raise _UnfitError(f"has the part {entry.filename!r}, which declares another size than it has")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise _UnfitError("names its tensors twice, not at all, or at too great a length")
        _check_pickle(archive.read(pickles[0]))
        if with_contents and (altered := archive.testzip()) is not None:
            raise _UnfitError(f"was altered in the part {altered!r}, whose checksum differs")


def _check_directory_size(file: BinaryIO) -> None:
    """The directory's size as the end of the file says, before it is read: its entries would all be held at once.

    Raises:
        _UnfitError: It is larger than a directory of that many entries.
    """
    size = _size(file)
    tail = _read_at(file, size - min(size, _END.size + 2**16), size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise _UnfitError("is not whole")
    end, (*_, directory, _place, comment) = size - len(tail) + at, _END.unpack_from(tail, at)
    if end + _END.size + comment != size:
        raise _UnfitError("is not whole, or has something after its end")
    if end >= _LOCATOR_64.size:
        signature, _, place, _ = _LOCATOR_64.unpack(_read_at(file, end - _LOCATOR_64.size, end))
        if signature == b"PK\x06\x07":
            if place + _END_64.size != end - _LOCATOR_64.size:
                raise _UnfitError("has its directory in another place than it says")
            plain = 0 if directory == 0xFFFFFFFF else directory  # that stands for: see the one of zip64
            directory = max(plain, _END_64.unpack(_read_at(file, place, place + _END_64.size))[8])
    if directory > _MAX_DIRECTORY_BYTES:
        raise _UnfitError(f"has a directory of {directory:,} bytes, where at most {_MAX_DIRECTORY_BYTES:,} are read")


def _read_at(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _check_pickle(data: bytes) -> None:
    """The operations one by one, none of them carried out: those that make plain values and dense tensors, no others.

    Raises:
        _UnfitError: Naming the first other one.
        ValueError: It is cut off, or no pickle.
    """
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "GLOBAL" and argument not in _NAMES:
            what = str(argument).replace(" ", ".")[:80]
            raise _UnfitError(f"holds a {what}, where only plain dense tensors and values are read")
        if operation.name not in _OPERATIONS:
            raise _UnfitError("holds something else than plain dense tensors and values")


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested dictionaries, lists and tuples; each container is looked into once."""
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
    """Layout and size of what is declared.

    Raises:
        _UnfitError: A tensor is not dense, or all of them are larger than the file.
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
        raise _UnfitError(f"declares {declared:,} bytes of tensors and has {file_bytes:,}")
