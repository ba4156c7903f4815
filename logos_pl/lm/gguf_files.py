"""GGUF files: found in a folder, checked, and read for what transformers does not report.

transformers reads configuration, tokenizer and weights of a GGUF file with the package gguf. Weights are de-quantised
once, so that the model is an ordinary one: transformers would otherwise fetch compute kernels from the Hub.
"""

import contextlib
import functools
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedConfig

from logos_pl.errors import InputError
from logos_pl.io.parsing import open_regular
from logos_pl.lm.config_values import MAX_LAYERS
from logos_pl.lm.foreign import blaming
from logos_pl.lm.model_files import refuse_pointer
from logos_pl.lm.packages import require_packages
from logos_pl.lm.quiet import quiet

PACKAGES = ("gguf", "accelerate")
MAGIC = b"GGUF"
_BLOCK = re.compile(r"blk\.(\d+)\.")
PLAIN = {"ALL_F32": "F32", "MOSTLY_F16": "F16", "MOSTLY_BF16": "BF16"}
"""Formats of a GGUF file without quantisation."""


class GgufHeader(NamedTuple):
    """Contents of a GGUF file's header.

    Attributes:
        format: Name of its format, such as ``GGUF Q4_1``.
        numbers: Numbers in all its tensors.
        blocks: Number of blocks that it has tensors for.
        plain: Whether its numbers are not quantised.
    """

    format: str
    numbers: int
    blocks: int
    plain: bool


def read_gguf_config(path: Path, name: str) -> dict[str, Any]:
    """The configuration that transformers makes from a GGUF file's metadata.

    Raises:
        InputError: The file is damaged or not a GGUF file, its architecture is unknown, or a package is missing.
    """
    _check(path, name)
    return dict(_config_of(path, name, _state(path)))


def read_gguf_header(path: Path, name: str) -> GgufHeader:
    """Format and size of a GGUF file.

    Raises:
        InputError: As for ``read_gguf_config``.
    """
    _check(path, name)
    return _header_of(path, name, _state(path))


def check_tensors(path: Path, name: str, num_blocks: int) -> int:
    """Count the numbers of a GGUF file's tensors, after checking that it has no more blocks than its metadata states.

    Raises:
        InputError: It has more, which transformers would ignore. Otherwise as for ``read_gguf_config``.
    """
    header = read_gguf_header(path, name)
    if header.blocks > num_blocks:
        raise InputError(
            f"{path.name} of {name} has tensors of {header.blocks} blocks, but its metadata describes {num_blocks}; "
            "fetch it again."
        )
    return header.numbers


@contextlib.contextmanager
def reading_gguf(path: Path, name: str) -> Iterator[None]:
    """Silence progress bars, and turn any exception on the file into one sentence.

    Raises:
        InputError: The file cannot be read.
        RunError: There is too little memory, or the disk fails.
    """
    # The progress bar of the conversion does not belong to transformers.
    with (
        quiet(),
        contextlib.redirect_stderr(io.StringIO()),
        blaming(f"{path.name} of {name} cannot be read as a GGUF file", "fetch it again, or use another file", name),
    ):
        yield


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _config_of(path: Path, name: str, state: tuple[int, int]) -> Mapping[str, Any]:
    """Parsed once per run: it takes seconds, as the metadata holds the vocabulary."""
    _header_of(path, name, state)
    with reading_gguf(path, name):
        raw, _ = PreTrainedConfig.get_config_dict(path.parent, gguf_file=path.name, local_files_only=True)
    return raw


@functools.lru_cache(maxsize=4)
def _header_of(path: Path, name: str, state: tuple[int, int]) -> GgufHeader:
    with reading_gguf(path, name):
        from gguf import GGUFReader, LlamaFileType

        reader = GGUFReader(path)
        numbers = sum(int(tensor.n_elements) for tensor in reader.tensors)
        found = (_BLOCK.match(tensor.name) for tensor in reader.tensors if "nextn" not in tensor.name)
        blocks = 1 + max((int(match[1]) for match in found if match is not None), default=-1)
        values = {key: _scalar(field) for key, field in reader.fields.items()}
        stored = values.get("general.file_type")
        known = {int(kind): kind.name for kind in LlamaFileType}
        words = known.get(int(stored), f"type {stored}") if isinstance(stored, int) else "of unstated type"
    _refuse_parts(path, name, values)
    return GgufHeader(f"GGUF {PLAIN.get(words, words.removeprefix('MOSTLY_'))}", numbers, blocks, words in PLAIN)


def _scalar(field: Any) -> object:
    """The value of a field that holds a single number; None for others."""
    part = field.parts[field.data[0]] if len(field.data) == 1 else None
    return part.tolist()[0] if part is not None and part.size == 1 else None


def _refuse_parts(path: Path, name: str, values: Mapping[str, object]) -> None:
    """Refuse one of several files of a model, and more blocks than any model has."""
    parts = values.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise InputError(
            f"{path.name} of {name} is one of {parts} parts of a model, but only a single file can be read: "
            "merge them, for instance with llama.cpp's `llama-gguf-split --merge`."
        )
    for key, value in values.items():
        if key.endswith(".block_count") and isinstance(value, int) and not 0 < value <= MAX_LAYERS:
            raise InputError(
                f"{path.name} of {name} has {value:,} for {key}, but no model has more than {MAX_LAYERS:,}; fetch it "
                "again."
            )


def _check(path: Path, name: str) -> None:
    require_packages(f"reading {path.name} of {name}", PACKAGES)
    refuse_pointer(path, name)
    with open_regular(path, f"{path.name} of {name}") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{path.name} of {name} is not a GGUF file; fetch it again, or use another file.")
