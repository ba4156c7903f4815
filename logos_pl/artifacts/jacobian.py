"""Jacobian lenses on disk: ``jacobians.pt``, the provenance with its hash, and ``README.md``."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.artifacts.checks import check_model, is_repeated, read_verified, refuse_other_owner
from logos_pl.artifacts.filenames import CARD_FILE, DIGEST_FILE, NOTICE_FILE, PROVENANCE_FILE
from logos_pl.artifacts.fingerprint import check_fingerprint
from logos_pl.artifacts.jacobian_provenance import JacobianProvenance, jacobian_card
from logos_pl.artifacts.sealed import ANY_SIZE, read_sealed, sealed
from logos_pl.artifacts.store import check_destination, check_writable, read_steadily, replace_and_keep
from logos_pl.artifacts.transfer import Transfer, is_other_model, measure_transfer, refuse_shape
from logos_pl.artifacts.weights import decode, encode
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lm.frozen import FrozenLM

JACOBIANS_FILE, TENSOR = "jacobians.pt", "jacobians"
"""The file and the tensor in it: J of rows 0 … n − 1, output dimension by input dimension."""
JACOBIAN_FILES = frozenset({JACOBIANS_FILE, CARD_FILE, PROVENANCE_FILE, DIGEST_FILE, NOTICE_FILE})
"""Files allowed in the folder of a Jacobian lens; a folder with others is never replaced."""

Jacobians = Float[Tensor, "rows d_model d_model"]


class SavedJacobian(NamedTuple):
    """A saved Jacobian lens.

    Attributes:
        provenance: As written.
        earlier: Path of the replaced artifact, which is kept; None if there was none, or it was the same lens.
    """

    provenance: JacobianProvenance
    earlier: Path | None


def save_jacobian(
    folder: str | os.PathLike[str], jacobians: Jacobians, provenance: JacobianProvenance
) -> SavedJacobian:
    """Write a Jacobian lens with provenance and model card atomically; an earlier one is kept under a dated name.

    Args:
        folder: Destination, usually ``checkpoints/jacobians/<clean_model_name>``.
        jacobians: J of rows 0 … n − 1.
        provenance: Its provenance without the hashes of the files, which are filled in.

    Raises:
        InputError: The maps are not finite, the provenance cannot be written, or the folder holds something else.
        RunError: The folder cannot be written, e.g. on a full disk; an earlier lens is kept.
    """
    check_destination(Path(folder), JACOBIAN_FILES)
    stored = jacobians.detach().cpu().float().contiguous()
    _check_maps(stored, provenance)
    files: dict[str, bytes | memoryview] = {
        JACOBIANS_FILE: encode({TENSOR: stored}),
        CARD_FILE: jacobian_card(provenance).encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    text = dataclasses.replace(provenance, sha256=hashes).to_json()
    written = JacobianProvenance.from_json(text)  # fails here rather than when read back
    earlier = replace_and_keep(
        Path(folder), files | sealed(text), lambda there: is_repeated(there, written, read_jacobian_provenance)
    )
    return SavedJacobian(written, earlier)


def check_jacobian_destination(folder: str | os.PathLike[str], model_id: str, model_commit: str) -> None:
    """Check, before a run, that its Jacobian lens can and may be written to a folder.

    Raises:
        InputError: The folder holds something else, or the Jacobian lens of another model.
        RunError: It cannot be written to.
    """
    check_destination(Path(folder), JACOBIAN_FILES)
    check_writable(Path(folder).parent)
    try:
        there = read_steadily(Path(folder), read_jacobian_provenance)
    except InputError:  # nothing there, or no readable lens; saving will keep it
        return
    refuse_other_owner(there, model_id, model_commit, Path(folder), "Jacobian lens", "--jacobian.folder")


def read_jacobian_provenance(folder: Path) -> JacobianProvenance:
    """Read the provenance in a folder.

    Raises:
        InputError: There is none, it was altered, or it has another format.
    """
    return JacobianProvenance.from_json(read_sealed(folder))


def jacobian_files(folder: Path, provenance: JacobianProvenance) -> dict[str, bytes]:
    """Contents of the files, read once, so that the verified bytes are the ones used.

    Raises:
        InputError: A file is missing or altered.
    """
    return read_verified(folder, provenance.sha256, {JACOBIANS_FILE}, JACOBIAN_FILES, {JACOBIANS_FILE: ANY_SIZE})


def read_jacobian(path: str | os.PathLike[str]) -> tuple[Jacobians, JacobianProvenance]:
    """Read the maps of rows 0 … n − 1 and check them against their provenance; no model is needed.

    Raises:
        InputError: A file is missing or altered, or the maps do not match the provenance.
    """

    def read(folder: Path) -> tuple[JacobianProvenance, dict[str, bytes]]:
        provenance = read_jacobian_provenance(folder)
        return provenance, jacobian_files(folder, provenance)

    provenance, files = read_steadily(Path(path), read)
    found = decode(files[JACOBIANS_FILE], JACOBIANS_FILE)
    if set(found) != {TENSOR}:
        raise InputError(f"{JACOBIANS_FILE} holds {sorted(found)}, but must hold {TENSOR}: fetch it again.")
    _check_maps(found[TENSOR], provenance)
    return found[TENSOR], provenance


def load_jacobian(
    path: str | os.PathLike[str],
    lm: FrozenLM,
    head: Head | None = None,
    transfers: list[Transfer] | None = None,
) -> tuple[JacobianLens, JacobianProvenance]:
    """Load a Jacobian lens and check it against its provenance and the model.

    Args:
        path: Its folder.
        lm: The model.
        head: Head of the model whose unembedding is shared; None creates one.
        transfers: Accept another model of the same shape, and append its distance from the lens's own; None: refuse it.

    Returns:
        The lens, bound to the model's head, and its provenance.

    Raises:
        InputError: A file is missing or altered, the maps do not match the provenance, or the model is not the one they
            were fitted on; the message says what differs.
    """
    jacobians, provenance = read_jacobian(path)
    moved = transfers is not None and is_other_model(provenance, lm)
    if moved:
        shapes = (len(jacobians) + 1, lm.num_blocks + 1), (jacobians.shape[-1], lm.d_model)
        refuse_shape(*shapes, "Jacobian lens")
    else:
        check_model(provenance, lm, "Jacobian lens")
    head = Head(lm.anatomy) if head is None else head.decoding_with("final")
    if transfers is not None and moved:
        transfers.append(measure_transfer(provenance, lm, head))
    else:
        check_fingerprint(provenance.fingerprint, lm, head)
    return JacobianLens(head, dict(enumerate(jacobians))), provenance


def _check_maps(jacobians: Tensor, provenance: JacobianProvenance) -> None:
    """Check that the maps are square, one for each recorded row, finite and fp32.

    Raises:
        InputError: They are not; the message says what they are and must be.
    """
    rows, width = len(provenance.relative_errors), jacobians.shape[-1] if jacobians.ndim else 0
    wanted = (rows, width, width)
    if tuple(jacobians.shape) != wanted or jacobians.dtype != torch.float32 or not bool(jacobians.isfinite().all()):
        raise InputError(
            f"The Jacobian lens's maps are {jacobians.dtype} of shape {tuple(jacobians.shape)}, but must be finite "
            f"float32 of shape {wanted}: fetch them again, or fit anew."
        )
