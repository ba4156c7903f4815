"""Reads and checks imported Jacobian lenses, in one file of ``torch.save``.

Two layouts, each a dictionary: ``J`` {block: [d, d]} with ``source_layers``, ``d_model``, ``n_prompts`` and a
``provenance`` (R-lens pairs) or ``metadata`` (TransformerLens); or ``parameters.jacobians`` with a ``config`` (J++
lenses, whose clusters and weights are summed to one map per block). A file of the first layout may
have a ``config.yaml`` next to it (Neuronpedia). The map of 0-based block ℓ takes its output, row ℓ + 1 here, to the
output of the target block, in front of the final norm.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import torch
from torch import Tensor

from logos_pl.artifacts.base_model import refuse_other_name, shown_model
from logos_pl.artifacts.jacobian_record import JacobianRecord, recorded_in
from logos_pl.artifacts.torch_files import load_torch_file
from logos_pl.errors import InputError
from logos_pl.io.parsing import MIB, open_regular, read_text, too_large
from logos_pl.io.yaml_parsing import parse_yaml
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lm.frozen import FrozenLM

CONFIG_YAML = "config.yaml"
REMEDY = "fetch the lens again, from a source you trust"
_WANTED = "a Jacobian lens"
_STORED = (torch.float32, torch.float16, torch.bfloat16)
_ROOM_BYTES = 16 * MIB
"""Allowed bytes in the file apart from the maps."""


class JacobianFiles(NamedTuple):
    """The files of a lens, on this machine.

    Attributes:
        params: The maps.
        config: Neuronpedia's configuration next to it; None if there is none.
        name: What the file is called in messages.
    """

    params: Path
    config: Path | None
    name: str


class JacobianOrigin(NamedTuple):
    """Origin of a Jacobian lens, as far as its files record it.

    Attributes:
        base_model: The model it was fitted on: Hub id or folder name; None if not recorded.
        base_model_revision: Its branch, tag or commit, or None.
        dtype: Number format the maps are stored in.
        estimator: How the maps were estimated, in the words of the file; None if not recorded.
        num_prompts: Number of prompts of the fit; None if not recorded.
        rows: The rows that have a map.
        params_sha256: Hash of the file.
    """

    base_model: str | None
    base_model_revision: str | None
    dtype: str
    estimator: str | None
    num_prompts: int | None
    rows: list[int]
    params_sha256: str


def jacobian_files(path: Path, name: str | None = None) -> JacobianFiles:
    """A file of maps with the configuration next to it, if there is one."""
    config = path.parent / CONFIG_YAML
    return JacobianFiles(path, config if config.is_file() else None, os.path.relpath(path) if name is None else name)


def check_outline(files: JacobianFiles) -> None:
    """Check what can be checked without the model: that it is such a dictionary and holds only numbers.

    Raises:
        InputError: It is not.
    """
    with _opened(files) as file:
        maps_in(load_torch_file(file, files.name, _WANTED, REMEDY, outline=True), files.name)


def load_jacobian_format(files: JacobianFiles, lm: FrozenLM, head: Head) -> tuple[JacobianLens, JacobianOrigin]:
    """Read a Jacobian lens and check it against the model.

    Returns:
        The lens and its origin.

    Raises:
        InputError: The file is broken, incomplete or too large, or for another model or target row.
    """
    with _opened(files) as file:
        most = 8 * (lm.num_blocks + 1) * lm.d_model**2 + _ROOM_BYTES
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise InputError(too_large(files.name, size, most))
        outline = load_torch_file(file, files.name, _WANTED, REMEDY, outline=True)
        record = recorded_in(outline, _config(files), files.name)
        blocks = maps_in(outline, files.name)
        check_record(record, blocks, lm, files.name)
        maps = maps_in(load_torch_file(file, files.name, _WANTED, REMEDY), files.name)
        digest = _sha256(file)
    _check_numbers(maps, files.name)
    rows = _rows(maps, record, lm, files.name)
    lens = JacobianLens(head, rows)
    dtype = str(next(iter(rows.values())).dtype).removeprefix("torch.")
    model = None if record.model is None else shown_model(record.model)
    origin = JacobianOrigin(model, record.revision, dtype, record.estimator, record.num_prompts, list(rows), digest)
    return lens, origin


@contextmanager
def _opened(files: JacobianFiles) -> Iterator[BinaryIO]:
    try:
        with open_regular(files.params, files.name) as file:
            yield file
    except OSError as error:
        raise InputError(f"{files.name} cannot be read ({error.strerror}): {REMEDY}.") from error


def _sha256(file: BinaryIO) -> str:
    """Hash of a whole file, read piece by piece."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(MIB):
        digest.update(piece)
    return digest.hexdigest()


def _config(files: JacobianFiles) -> Mapping[str, Any]:
    """Neuronpedia's configuration; empty if there is none."""
    if files.config is None:
        return {}
    shown = os.path.relpath(files.config)
    content = parse_yaml(read_text(files.config), shown)
    return content if isinstance(content, dict) else {}


def _refuse(name: str, what: str, remedy: str = REMEDY) -> NoReturn:
    raise InputError(f"{name} {what}: {remedy}.")


def maps_in(content: Any, name: str) -> dict[int, Tensor]:
    """The maps in a file, by 0-based block.

    Raises:
        InputError: It is not such a dictionary, is a checkpoint of an unfinished fit, or lacks blocks that it names.
    """
    # By dict's own method, since a pickled OrderedDict may have an attribute of this name.
    whole = dict(dict.items(content)) if isinstance(content, dict) else {}
    if "jacobian_sum" in whole and "J" not in whole:
        _refuse(
            name,
            "is a checkpoint of an unfinished fit, not a lens",
            "give the file that the fit saved at the end",
        )
    parameters = whole.get("parameters")
    found = whole.get("J", dict.get(parameters, "jacobians") if isinstance(parameters, dict) else None)
    if not isinstance(found, dict) or not found:
        _refuse(name, f"is not {_WANTED}, a dictionary with maps under `J` or `parameters.jacobians`")
    maps: dict[int, Tensor] = {}
    for key, matrix in dict.items(found):
        block = _block(key)
        if block is None or block in maps or not isinstance(matrix, Tensor):
            _refuse(
                name,
                f"holds {type(matrix).__name__} at {str(key)[:40]!r} in its maps, which must be one matrix per block",
            )
        maps[block] = matrix
    named = whole.get("source_layers")
    if named is not None:
        listed = [_block(part) for part in named] if isinstance(named, list | tuple) else [None]
        if None in listed or set(listed) != set(maps):
            _refuse(name, "does not hold the maps of exactly the blocks in its source_layers: it is incomplete")
    return dict(sorted(maps.items()))


def _block(key: Any) -> int | None:
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 6:
        return int(key)
    return key if type(key) is int and 0 <= key < 10**5 else None


def check_record(record: JacobianRecord, maps: Mapping[int, Tensor], lm: FrozenLM, name: str) -> None:
    """Refuse a lens for another model, place or target row, by names and shapes only.

    Raises:
        InputError: Naming what differs.
    """
    if record.model is not None:
        refuse_other_name(shown_model(record.model), record.revision, lm)
    width, num_blocks = lm.d_model, lm.num_blocks
    for block, matrix in maps.items():
        if tuple(matrix.shape) != (width, width) or record.d_model not in (None, width):
            shape = " × ".join(map(str, matrix.shape))
            _refuse(
                name,
                f"has a map of {shape} for block {block}, but {lm.model_id} has width {width}",
                "use the lens of this model",
            )
        if block >= num_blocks:
            _refuse(
                name,
                f"has a map for block {block}, but {lm.model_id} has blocks 0 to {num_blocks - 1}",
                "use the lens of this model",
            )
        if matrix.dtype not in _STORED:
            _refuse(name, f"has a map of {matrix.dtype} for block {block}, which must be float32, float16 or bfloat16")
    if record.place is not None:
        _refuse(
            name, f"reads {record.place}, but only the residual stream after a block can be read", "use another lens"
        )
    target = record.target if record.target is None or record.target >= 0 else num_blocks + record.target
    if target not in (None, num_blocks - 1):
        _refuse(
            name,
            f"leads to row {target + 1}, but its maps are read through the head at the last row, {num_blocks}",
            f"use a lens that was fitted with target_layer {num_blocks - 1}",
        )


def _check_numbers(maps: Mapping[int, Tensor], name: str) -> None:
    for block, matrix in maps.items():
        if not bool(matrix.isfinite().all()):
            _refuse(name, f"holds numbers that are NaN or infinite in the map of block {block}")


def _rows(maps: dict[int, Tensor], record: JacobianRecord, lm: FrozenLM, name: str) -> dict[int, Tensor]:
    """The maps by row, without the last row's.

    If the target is not recorded, it can still be inferred when every block before the last has a map: maps lead to
    later blocks, and the map of the target block itself, if present, is the identity.

    Raises:
        InputError: The target is not recorded and may not be the last row, or the last row's map is not the identity.
    """
    last = lm.num_blocks - 1
    if last in maps and not _is_identity(maps[last]):
        _refuse(name, f"has a map for the last block, {last}, which is not the identity", "use a lens to the last row")
    rows = {block + 1: matrix for block, matrix in maps.items() if block != last}
    if not rows:
        _refuse(name, "has no map for a row before the last", "use a lens to the last row")
    if record.target is None and (max(rows) < last or _is_identity(rows[max(rows)])) and last not in maps:
        _refuse(
            name,
            f"does not record to which row its maps lead (target_layer); they end at row {max(rows)}, so it may "
            f"not be the last, {lm.num_blocks}",
            "use a lens whose provenance records it",
        )
    return rows


def _is_identity(matrix: Tensor) -> bool:
    return bool(torch.equal(matrix, torch.eye(len(matrix), dtype=matrix.dtype)))
