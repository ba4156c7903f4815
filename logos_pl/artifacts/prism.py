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
from logos_pl.artifacts.transfer import Transfer, is_other_model, measure_transfer
from logos_pl.artifacts.weights import Weights, decode, encode
from logos_pl.errors import InputError
from logos_pl.io.parsing import MIB
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.prism import PrismLens, PrismMap
from logos_pl.lm.frozen import FrozenLM

WHITEN_FILE, ROTATION_FILE = "whiten.pt", "rotation.pt"
FILES = {WHITEN_FILE: ("mean", "whiten"), ROTATION_FILE: ("rotation", "unwhiten_final", "mean_final")}
"""Tensors of the map in each file."""
PRISM_FILES = frozenset({*FILES, CARD_FILE, PROVENANCE_FILE, DIGEST_FILE, NOTICE_FILE})
"""Files allowed in the folder of a Prism lens; a folder with others is never replaced."""
_LIMITS = dict.fromkeys(FILES, 8 * 1024 * MIB)  # at width 32,768 the largest file has 4 GiB


class SavedPrism(NamedTuple):
    """A saved Prism lens.

    Attributes:
        provenance: As written.
        earlier: Path of the replaced artifact, which is kept; None if there was none, or it was the same lens.
    """

    provenance: PrismProvenance
    earlier: Path | None


def save_prism(folder: str | os.PathLike[str], prism: PrismMap, provenance: PrismProvenance) -> SavedPrism:
    """Write a Prism lens with provenance and model card atomically; an earlier one is kept under a dated name.

    Args:
        folder: Destination, usually ``checkpoints/prisms/<clean_model_name>``.
        prism: The map.
        provenance: Its provenance without the hashes of the files, which are filled in.

    Raises:
        InputError: The map is not finite, the provenance cannot be written, or the folder holds something else.
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
    """Check, before a run, that its Prism lens can and may be written to a folder.

    Raises:
        InputError: The folder holds something else, or the Prism lens of another model.
        RunError: It cannot be written to.
    """
    check_destination(Path(folder), PRISM_FILES)
    check_writable(Path(folder).parent)
    try:
        there = read_steadily(Path(folder), read_prism_provenance)
    except InputError:  # nothing there, or no readable Prism lens; saving will keep it
        return
    refuse_other_owner(there, model_id, model_commit, Path(folder), "prism", "--prism.folder")


def read_prism_provenance(folder: Path) -> PrismProvenance:
    """Read the provenance in a folder.

    Raises:
        InputError: There is none, it was altered, or it has another format.
    """
    return PrismProvenance.from_json(read_sealed(folder))


def prism_files(folder: Path, provenance: PrismProvenance) -> dict[str, bytes]:
    """Contents of the files, read once, so that the verified bytes are the ones used.

    Raises:
        InputError: A file is missing or altered.
    """
    return read_verified(folder, provenance.sha256, FILES.keys(), PRISM_FILES, _LIMITS)


def load_prism(
    path: str | os.PathLike[str],
    lm: FrozenLM | None = None,
    decoding_norm: DecodingNorm | None = None,
    head: Head | None = None,
    transfers: list[Transfer] | None = None,
) -> tuple[PrismLens, PrismProvenance]:
    """Load a Prism lens and check it against its provenance and the model.

    Args:
        path: Its folder.
        lm: The model; None returns a lens without a head, not checked against a model.
        decoding_norm: Norm used for decoding; None: the one the Prism lens was fitted with.
        head: Head of the model whose unembedding is shared; None creates one.
        transfers: Accept another model of the same shape, and append its distance from the lens's own; None: refuse it.

    Returns:
        The lens, bound to the model's head if there is a model, and its provenance.

    Raises:
        InputError: A file is missing or altered, the map does not match the provenance, or the model or decoding norm
            is not the one it was fitted for; the message says what differs.
    """

    def read(folder: Path) -> tuple[PrismProvenance, dict[str, bytes]]:
        provenance = read_prism_provenance(folder)
        return provenance, prism_files(folder, provenance)

    provenance, files = read_steadily(Path(path), read)
    if decoding_norm is not None and decoding_norm != provenance.decoding_norm:
        raise InputError(
            f"The prism was fitted with decoding_norm {provenance.decoding_norm}, but the run uses "
            f"{decoding_norm}: give --model.decoding_norm {provenance.decoding_norm}, fit the prism again, or leave "
            "it out (--sweep.prism off)."
        )
    moved = transfers is not None and lm is not None and is_other_model(provenance, lm)
    if lm is not None and not moved:
        check_model(provenance, lm, "prism")
    lens = PrismLens(_map_of(files, provenance))
    if lm is not None:
        norm = provenance.decoding_norm
        head = Head(lm.anatomy, decoding_norm=norm) if head is None else head.decoding_with(norm)
        lens.bind(head)
        if transfers is not None and moved:
            transfers.append(measure_transfer(provenance, lm, head))
        else:
            check_fingerprint(provenance.fingerprint, lm, head)
    return lens, provenance


def _map_of(files: dict[str, bytes], provenance: PrismProvenance) -> PrismMap:
    parts: Weights = {}
    for name, held in FILES.items():
        read = decode(files[name], name)
        if set(read) != set(held):
            raise InputError(f"{name} holds {sorted(read)}, but must hold {sorted(held)}: fetch it again.")
        parts |= read
    _check_parts(parts, provenance.whiten)
    return PrismMap(**parts)


def _check_parts(parts: Weights, kind: str) -> None:
    """Check that the tensors of a map have matching widths and are finite and fp32.

    Raises:
        InputError: One does not; the message says what it is and must be.
    """
    width = parts["mean"].numel()
    symmetric = (width, width) if kind == "full" else (width,)
    wanted = {"mean": (width,), "whiten": symmetric, "rotation": (width, width)}
    wanted |= {"unwhiten_final": symmetric, "mean_final": (width,)}
    for name, shape in wanted.items():
        part = parts[name]
        if tuple(part.shape) != shape or part.dtype != torch.float32 or not bool(part.isfinite().all()):
            raise InputError(
                f"The prism's {name} is {part.dtype} of shape {tuple(part.shape)}, but must be finite float32 of "
                f"shape {shape}: fetch it again, or fit it anew."
            )
