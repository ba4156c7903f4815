"""Tuned lenses on disk: weights, provenance with its hash, card and, after `test`, the verdict."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from logos_pl.artifacts.bias_only import bias_only_files, bias_only_of, bias_only_record
from logos_pl.artifacts.card import model_card
from logos_pl.artifacts.checks import check_model, is_repeated, read_verified, refuse_other_owner
from logos_pl.artifacts.filenames import ARTIFACT_FILES, BIAS_ONLY_FILE, CARD_FILE, WEIGHTS_FILE
from logos_pl.artifacts.fingerprint import check_fingerprint
from logos_pl.artifacts.gates_file import check_verdict
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.sealed import read_sealed, sealed
from logos_pl.artifacts.store import check_destination, check_writable, read_steadily, replace_and_keep
from logos_pl.artifacts.transfer import Transfer, is_other_model, measure_transfer, refuse_shape
from logos_pl.artifacts.weights import check_weights, decode, encode, translators_of, weights_of
from logos_pl.errors import InputError
from logos_pl.io.parsing import MIB
from logos_pl.lenses.head import Head
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM


class Saved(NamedTuple):
    """A saved lens.

    Attributes:
        provenance: As written.
        earlier: Path of the replaced artifact, which is kept; None if there was none, or it was the same lens.
    """

    provenance: Provenance
    earlier: Path | None


class FittedLenses(NamedTuple):
    """The lenses of an artifact, with their provenance; the bias-only lens is None if none was fitted.

    `transfer` records how far the model is from the lens's own, if another model was accepted.
    """

    tuned: TunedLens
    bias_only: TunedLens | None
    provenance: Provenance
    transfer: Transfer | None = None


def save_tuned_lens(
    folder: str | os.PathLike[str],
    translators: Translators,
    provenance: Provenance,
    bias_only: Translators | None = None,
) -> Saved:
    """Write a tuned lens with provenance and model card atomically; an earlier one is kept under a dated name.

    Args:
        folder: Destination, usually ``checkpoints/tuned_lenses/<clean_model_name>``.
        translators: The trained part, in the plain basis.
        provenance: Its provenance. The record of the bias-only lens and the hashes of the files are filled in; a
            verdict is removed.
        bias_only: The bias-only lens, if one was fitted.

    Raises:
        InputError: The weights are not finite or do not match the recorded capacity, the provenance cannot be written,
            or the folder holds something else.
        RunError: The folder cannot be written, e.g. on a full disk; an earlier lens is kept.
    """
    check_tuned_lens_folder(folder)
    weights = weights_of(translators)
    check_weights(weights, provenance.capacity)
    data = encode(weights)
    provenance = dataclasses.replace(
        provenance,
        bias_only=bias_only_record(bias_only),
        kpis=None,  # a verdict holds only for the weights that were evaluated
        acceptance=None,
    )
    files: dict[str, bytes | memoryview] = {
        WEIGHTS_FILE: data,
        **bias_only_files(bias_only, provenance),
        CARD_FILE: model_card(provenance, len(data)).encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    text = dataclasses.replace(provenance, sha256=hashes).to_json()
    written = Provenance.from_json(text)  # fails here rather than when read back
    earlier = replace_and_keep(
        Path(folder), files | sealed(text), lambda there: is_repeated(there, written, read_provenance)
    )
    return Saved(written, earlier)


def check_tuned_lens_folder(folder: str | os.PathLike[str]) -> None:
    """Check that ``save_tuned_lens`` would accept a folder; to be called before a long run.

    Raises:
        InputError: It is a file, or holds files that are not part of a lens.
    """
    check_destination(Path(folder), ARTIFACT_FILES)


def check_destination_of(folder: str | os.PathLike[str], model_id: str, model_commit: str) -> None:
    """Check, before a long run, that its lens can and may be written to a folder.

    Args:
        folder: Destination of the lens.
        model_id: Model of the run.
        model_commit: Its commit, which distinguishes local folders of the same name.

    Raises:
        InputError: The folder holds something else, or the lens of another model.
        RunError: It cannot be written to.
    """
    check_tuned_lens_folder(folder)
    check_writable(Path(folder).parent)
    try:
        there = read_steadily(Path(folder), read_provenance)
    except InputError:  # nothing there, or no readable lens; saving will keep it
        return
    refuse_other_owner(there, model_id, model_commit, Path(folder), "lens", "--export.folder")


def load_tuned_lens(path: str | os.PathLike[str], lm: FrozenLM | None = None) -> tuple[TunedLens, Provenance]:
    """Load a tuned lens and check it against its provenance and the model.

    Args:
        path: Its folder.
        lm: The model; None returns a lens without a head, not checked against a model.

    Returns:
        The lens, bound to the model's head if there is a model, and its provenance.

    Raises:
        InputError: A file is missing or altered, the weights do not match the provenance, or the model is not the one
            the lens was trained on; the message says what differs.
    """
    lenses = load_lenses(path, lm)
    return lenses.tuned, lenses.provenance


def load_bias_only(path: str | os.PathLike[str], lm: FrozenLM | None = None) -> TunedLens | None:
    """Load the bias-only lens that was fitted with a tuned lens; None if there is none.

    The artifact is checked as in ``load_tuned_lens``; ``load_lenses`` loads both lenses with one check.

    Args:
        path: The artifact's folder.
        lm: The model; None returns a lens without a head, not checked against a model.

    Raises:
        InputError: As ``load_tuned_lens``.
    """
    return load_lenses(path, lm).bias_only


def load_lenses(
    path: str | os.PathLike[str], lm: FrozenLM | None = None, head: Head | None = None, transfer: bool = False
) -> FittedLenses:
    """Load a tuned lens and its bias-only lens, checked as in ``load_tuned_lens``; both share one head.

    Args:
        path: The artifact's folder.
        lm: The model; None returns lenses without a head, not checked against a model.
        head: Head of the model whose unembedding is shared; None creates one.
        transfer: Accept another model of the same shape, and measure how far it is from the lens's own model.

    Raises:
        InputError: As ``load_tuned_lens``.
    """

    def read(folder: Path) -> tuple[Provenance, dict[str, bytes]]:
        provenance = read_provenance(folder)
        if lm is not None and not transfer:
            check_model(provenance, lm)
        return provenance, verified_files(folder, provenance)

    provenance, files = read_steadily(Path(path), read)
    weights = decode(files[WEIGHTS_FILE])
    check_weights(weights, provenance.capacity)
    lens, bias_only = TunedLens(translators_of(weights)), bias_only_of(files, provenance)
    found: Transfer | None = None
    if lm is not None:
        moved = is_other_model(provenance, lm)
        if moved:
            part = lens.translators
            refuse_shape((part.num_rows + 2, lm.num_blocks + 1), (part.d_model, lm.d_model), "tuned lens")
        norm = provenance.decoding_norm
        head = Head(lm.anatomy, decoding_norm=norm) if head is None else head.decoding_with(norm)
        lens.bind(head)
        if bias_only is not None:
            bias_only.bind(head)
        if moved:
            found = measure_transfer(provenance, lm, head)
        else:
            check_fingerprint(provenance.fingerprint, lm, head)
    return FittedLenses(lens, bias_only, provenance, found)


def read_provenance(folder: Path) -> Provenance:
    """Read the provenance in a folder.

    Raises:
        InputError: There is none, it was altered, or it has another format.
    """
    return Provenance.from_json(read_sealed(folder))


def verified_files(folder: Path, provenance: Provenance) -> dict[str, bytes]:
    """Contents of the files, read once, so that the verified bytes are the ones used; checks the verdict, too.

    Raises:
        InputError: A file is missing or altered, or the verdict in the provenance differs from ``gates.json``.
    """
    needed = {WEIGHTS_FILE} if provenance.bias_only is None else {WEIGHTS_FILE, provenance.bias_only.file}
    files = read_verified(folder, provenance.sha256, needed, ARTIFACT_FILES, _limits(provenance))
    check_verdict(provenance, files)
    return files


def _limits(provenance: Provenance) -> dict[str, int]:
    """Maximum size in bytes of the files of tensors, from the recorded numbers of parameters."""
    capacity, bias_only = provenance.capacity, provenance.bias_only
    numbers = {
        WEIGHTS_FILE: capacity.parameters,
        BIAS_ONLY_FILE: 0 if bias_only is None else bias_only.parameters,
    }
    return {name: MIB + 4 * count for name, count in numbers.items()}
