"""Prism lenses on disk: ``whiten.pt``, ``rotation.pt``, the provenance with its hash, and ``README.md``."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import torch

from logos_pl.artifacts.checks import check_model, is_repeated, read_verified, refuse_other_owner
from logos_pl.artifacts.filenames import CARD_FILE, DIGEST_FILE, NOTICE_FILE, PROVENANCE_FILE
from logos_pl.artifacts.fingerprint import check_fingerprint
from logos_pl.artifacts.prism_provenance import PrismProvenance, prism_card
from logos_pl.artifacts.sealed import read_sealed, sealed
from logos_pl.artifacts.store import check_destination, check_writable, read_steadily, replace_and_keep
from logos_pl.artifacts.weights import Weights, decode, encode
from logos_pl.errors import InputError
from logos_pl.io.parsing import MIB
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.prism import PrismLens, PrismMap
from logos_pl.lm.frozen import FrozenLM

WHITEN_FILE, ROTATION_FILE = "whiten.pt", "rotation.pt"
FILES = {WHITEN_FILE: ("mean", "whiten"), ROTATION_FILE: ("rotation", "unwhiten_final", "mean_final")}
"""The parts of the map that each file holds."""
PRISM_FILES = frozenset({*FILES, CARD_FILE, PROVENANCE_FILE, DIGEST_FILE, NOTICE_FILE})
"""All files that a prism's folder may hold; a folder with others is never replaced."""
_LIMITS = dict.fromkeys(FILES, 8 * 1024 * MIB)  # of width 32768, the largest has 4 GiB


class SavedPrism(NamedTuple):
    """A prism that was written.

    Attributes:
        provenance: As written.
        earlier: Where what was in its place is kept; None where nothing was, or nothing but the same prism.
    """

    provenance: PrismProvenance
    earlier: Path | None


def save_prism(folder: str | os.PathLike[str], prism: PrismMap, provenance: PrismProvenance) -> SavedPrism:
    """Write a prism with its provenance and model card, as a whole or not at all; an earlier one is kept, dated.

    Args:
        folder: Where, usually ``checkpoints/prisms/<clean_model_name>``.
        prism: The map.
        provenance: Everything but the hashes of the files, which are filled in.

    Raises:
        InputError: The map is not finite, a provenance cannot be written, or the folder holds something else.
        RunError: The folder cannot be written, e.g. on a full disk; an earlier prism is kept.
    """
    check_destination(Path(folder), PRISM_FILES)
    parts = {name: part.detach().cpu().float().contiguous() for name, part in prism._asdict().items()}
    _check_parts(parts, provenance.whiten)
    files: dict[str, bytes | memoryview] = {
        name: encode({part: parts[part] for part in held}) for name, held in FILES.items()
    }
    files[CARD_FILE] = prism_card(provenance).encode()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    text = dataclasses.replace(provenance, sha256=hashes).to_json()
    written = PrismProvenance.from_json(text)  # fails here rather than when read back
    earlier = replace_and_keep(
        Path(folder), files | sealed(text), lambda there: is_repeated(there, written, read_prism_provenance)
    )
    return SavedPrism(written, earlier)


def check_prism_destination(folder: str | os.PathLike[str], model_id: str, model_commit: str) -> None:
    """Refuse, before a run, a folder where that run's prism could not or must not be written.

    Raises:
        InputError: The folder holds something else, or the prism of another model.
        RunError: It cannot be written to.
    """
    check_destination(Path(folder), PRISM_FILES)
    check_writable(Path(folder).parent)
    try:
        there = read_steadily(Path(folder), read_prism_provenance)
    except InputError:  # nothing there, or no readable prism, which saving will keep
        return
    refuse_other_owner(there, model_id, model_commit, Path(folder), "prism", "--prism.folder")


def read_prism_provenance(folder: Path) -> PrismProvenance:
    """The provenance in a folder.

    Raises:
        InputError: There is none, it was altered, or it is not what this version writes.
    """
    return PrismProvenance.from_json(read_sealed(folder))


def prism_files(folder: Path, provenance: PrismProvenance) -> dict[str, bytes]:
    """The files' contents, read once, so that what was verified is what is used.

    Raises:
        InputError: A file is missing or altered.
    """
    return read_verified(folder, provenance.sha256, FILES.keys(), PRISM_FILES, _LIMITS)


def load_prism(
    path: str | os.PathLike[str],
    lm: FrozenLM | None = None,
    decoding_norm: DecodingNorm | None = None,
    head: Head | None = None,
) -> tuple[PrismLens, PrismProvenance]:
    """Read a prism and check it, against its own records and against the model it is to read.

    Args:
        path: Its folder.
        lm: The model; None gives a lens without a head, to be bound later and unchecked against any model.
        decoding_norm: The norm the caller decodes with; None takes the one the prism was fitted with.
        head: A head of the model whose unembedding is shared; None makes one.

    Returns:
        The lens, bound to the model's head if there is a model, and where it comes from.

    Raises:
        InputError: A file is missing or altered, the map is not what the provenance says, or the model or decoding norm
            is not the one it was fitted for; the message says what differs.
    """

    def read(folder: Path) -> tuple[PrismProvenance, dict[str, bytes]]:
        provenance = read_prism_provenance(folder)
        return provenance, prism_files(folder, provenance)

    provenance, files = read_steadily(Path(path), read)
    if decoding_norm is not None and decoding_norm != provenance.decoding_norm:
        raise InputError(
            f"The prism was fitted with decoding_norm {provenance.decoding_norm}, and the run asks for "
            f"{decoding_norm}: give --model.decoding_norm {provenance.decoding_norm}, fit the prism again, or leave "
            "it (--sweep.prism off)."
        )
    if lm is not None:
        check_model(provenance, lm, "prism")
    lens = PrismLens(_map_of(files, provenance))
    if lm is not None:
        norm = provenance.decoding_norm
        head = Head(lm.anatomy, decoding_norm=norm) if head is None else head.decoding_with(norm)
        lens.bind(head)
        check_fingerprint(provenance.fingerprint, lm, head)
    return lens, provenance


def _map_of(files: dict[str, bytes], provenance: PrismProvenance) -> PrismMap:
    parts: Weights = {}
    for name, held in FILES.items():
        read = decode(files[name], name)
        if set(read) != set(held):
            raise InputError(f"{name} holds {sorted(read)}, and a prism has {sorted(held)} there: fetch it again.")
        parts |= read
    _check_parts(parts, provenance.whiten)
    return PrismMap(**parts)


def _check_parts(parts: Weights, kind: str) -> None:
    """Refuse a map that is not of one width, or not of finite fp32 numbers.

    Raises:
        InputError: Naming the part, what it is and what it should be.
    """
    width = parts["mean"].numel()
    symmetric = (width, width) if kind == "full" else (width,)
    wanted = {"mean": (width,), "whiten": symmetric, "rotation": (width, width)}
    wanted |= {"unwhiten_final": symmetric, "mean_final": (width,)}
    for name, shape in wanted.items():
        part = parts[name]
        if tuple(part.shape) != shape or part.dtype != torch.float32 or not bool(part.isfinite().all()):
            raise InputError(
                f"The prism's {name} is {part.dtype} of shape {tuple(part.shape)}, and has to be finite float32 of "
                f"shape {shape}: fetch it again, or fit it anew."
            )
