"""Tensors that stay in their safetensors files until they are asked for: what blocks are read from.

They are read into memory of their own and not mapped. Mapped pages would count as resident memory of the process, and
a disk that vanishes under a mapping ends the process by a signal, without a word.
"""

import functools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from logos_pl.errors import InputError, RunError
from logos_pl.io.parsing import open_regular

STORED_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Number formats of safetensors that weights without quantisation come in."""

PART_BYTES = 2**24
"""A tensor is read in parts of this size, several at a time: a single thread copies no more than a few GB/s from the
page cache, and a fast disk gives its rate only where several reads wait for it."""

READERS = ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1), thread_name_prefix="stored-tensors")


class StoredTensor:
    """A tensor in a file; ``stored[...]`` reads it, each time anew.

    Args:
        path: The file.
        shown: What the file is called in messages.
        dtype: Number format in the file.
        shape: Shape of the tensor.
        offset: Its first byte in the file.
        pinned: Whether it is read into page-locked memory, from which a copy to CUDA runs beside the arithmetic.
        state: State of the file when its header was read; another one later is refused.
    """

    def __init__(
        self,
        path: Path,
        shown: str,
        dtype: torch.dtype,
        shape: Sequence[int],
        offset: int,
        pinned: bool,
        state: "FileState",
    ) -> None:
        self.path = path
        self.shown = shown
        self.state = state
        self.dtype = dtype
        self.shape = torch.Size(shape)
        self.offset = offset
        self.pinned = pinned

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.shape.numel() * self.dtype.itemsize

    def __getitem__(self, index: object) -> Tensor:
        """The whole tensor, as transformers asks for it.

        Raises:
            TypeError: A part is asked for.
            RunError: The file has gone, has been cut off or changed, or the disk fails.
        """
        if index is not Ellipsis:
            raise TypeError(f"a stored tensor is read as a whole: [...], not [{index!r}].")
        content = torch.empty(self.nbytes, dtype=torch.uint8, pin_memory=self.pinned)
        self._read(content.numpy().data, self.offset)
        return content.view(self.dtype).view(self.shape)

    def rows(self, start: int, count: int) -> Tensor:
        """Some rows of the first dimension, and nothing else, read from the file.

        Raises:
            RunError: As for the whole tensor.
        """
        shape = torch.Size([count, *self.shape[1:]])
        row_bytes = self.shape[1:].numel() * self.dtype.itemsize
        content = torch.empty(count * row_bytes, dtype=torch.uint8)
        self._read(content.numpy().data, self.offset + start * row_bytes)
        return content.view(self.dtype).view(shape)

    def _read(self, room: memoryview, offset: int) -> None:
        starts = range(0, len(room), PART_BYTES)
        try:
            with open_regular(self.path, self.shown) as file:
                fill = functools.partial(_fill, file.fileno(), room, offset)
                done = sum(map(fill, starts) if len(starts) < 2 else READERS.map(fill, starts))
                now = file_state(file)
        except OSError as error:
            raise RunError(
                f"{self.shown} cannot be read any more ({error.strerror}), and a model that is not in memory needs it: "
                "bring the disk back, and resume or start again."
            ) from error
        if done < len(room):
            raise RunError(
                f"{self.shown} has been cut off while it was in use (it ends within a tensor): fetch it again, and "
                "resume or start again."
            )
        if now != self.state:
            raise RunError(
                f"{self.shown} has been changed while it was in use, and a model of two files' weights is none: put "
                "the earlier file back and resume, or start again."
            )


def _fill(descriptor: int, room: memoryview, offset: int, start: int) -> int:
    """Reads a part of a tensor to its place; returns the bytes that the file had of it."""
    part, done = room[start : start + PART_BYTES], 0
    while done < len(part):
        count = os.preadv(descriptor, [part[done:]], offset + start + done)
        if count == 0:
            break
        done += count
    return done


class FileState(NamedTuple):
    """What differs once a file has been written to or replaced."""

    inode: int
    size: int
    modified_ns: int


def file_state(file: BinaryIO) -> FileState:
    """State of an open file.

    Raises:
        OSError: The disk fails.
    """
    found = os.fstat(file.fileno())
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns)


def stored_tensors(folder: Path, files: Sequence[str], name: str, pinned: bool) -> dict[str, StoredTensor]:
    """The tensors of safetensors files by name; the headers have been checked by ``measure_weights``.

    Args:
        folder: The model's folder.
        files: Names of the files in it.
        name: What the model is called in messages.
        pinned: Whether tensors are read into page-locked memory.

    Raises:
        InputError: A file is in another format, or a tensor in a number format that is not read.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        if not file.endswith(".safetensors"):
            raise InputError(
                f"{name} has its weights in {file}, and a model is streamed or sharded from safetensors only: convert "
                "them, for instance with transformers' save_pretrained, or give --model.placement resident."
            )
        path, shown = folder / file, f"{file} of {name}"
        with open_regular(path, shown) as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
            state = file_state(opened)
        for key, part in header.items():
            if key == "__metadata__":
                continue
            if part["dtype"] not in STORED_DTYPES:
                raise InputError(
                    f"{shown} holds {key} in the number format {part['dtype']}, which is neither streamed nor "
                    "sharded: take weights without quantisation, or give --model.placement resident."
                )
            start = 8 + length + part["data_offsets"][0]
            found[key] = StoredTensor(path, shown, STORED_DTYPES[part["dtype"]], part["shape"], start, pinned, state)
    return found
