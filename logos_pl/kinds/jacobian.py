"""Jacobian lens: the mean Jacobian of the last row by each row, fitted by `logos-pl jacobian`."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from logos_pl.artifacts.jacobian import JACOBIANS_FILE, load_jacobian
from logos_pl.artifacts.jacobian_provenance import JacobianProvenance
from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.transfer import Transfer
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, LensSection, register
from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest, LoadedLens
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM


@dataclass(frozen=True)
class FittedJacobianOrigin:
    """Origin of a Jacobian lens: the part of its `provenance.json` that is recorded in a sweep.

    Attributes:
        sequences: Number of sequences it was fitted on.
        probes: Output dimensions measured on each of them.
        skip_first: Positions left out at the beginning of each sequence.
        seq_len: Tokens of a sequence.
        relative_errors: Standard error of J by row, as a share of its norm.
        jacobians_sha256: Hash of the maps.
    """

    model_id: str
    model_commit: str
    project_version: str
    git_sha: str | None
    sequences: int
    probes: int
    skip_first: int
    seq_len: int
    relative_errors: list[float]
    jacobians_sha256: str


def find(request: LensRequest) -> FoundLens:
    """Find the Jacobian lens fitted for the model.

    Raises:
        InputError: It is required and missing.
    """
    folder = request.folder if request.source is None else Path(request.source)
    if folder is None:
        return FoundLens(partial(_load, Path()), there=False)
    shown = os.path.relpath(folder)
    try:
        find_folder(folder)
    except InputError as error:
        if request.use == "require":
            raise InputError(f"There is no Jacobian lens at {shown}: fit one with `{request.fit_command}`.") from error
        return FoundLens(partial(_load, folder, transfer=request.transfer), there=False)
    return FoundLens(partial(_load, folder, transfer=request.transfer), sentence=f"with the Jacobian lens of {shown}")


def _load(folder: Path, lm: FrozenLM, head: Head, *, transfer: bool = False) -> LoadedLens:
    moved: list[Transfer] | None = [] if transfer else None
    lens, provenance = load_jacobian(folder, lm, head, moved)
    share = provenance.dataset.held_out_frac
    return LoadedLens(
        {"jacobian": lens}, provenance, share, identity=str(provenance.sha256), transfer=moved[0] if moved else None
    )


def describe(provenance: JacobianProvenance | None) -> FittedJacobianOrigin | None:
    """Extract the part of a provenance that the sweep's document records."""
    if provenance is None:
        return None
    return FittedJacobianOrigin(
        model_id=provenance.model_id,
        model_commit=provenance.model_commit,
        project_version=provenance.project_version,
        git_sha=provenance.git_sha,
        sequences=provenance.sequences,
        probes=provenance.probes,
        skip_first=provenance.skip_first,
        seq_len=provenance.budget.seq_len,
        relative_errors=provenance.relative_errors,
        jacobians_sha256=provenance.sha256[JACOBIANS_FILE],
    )


JACOBIAN = register(
    LensKind(
        name="jacobian",
        label="Jacobian lens",
        colour="tab:brown",
        first_row=0,
        find=find,
        validated=True,
        evaluated=True,
        options=LensOptions(use="sweep.jacobian", folder="jacobian.folder", fit_command="jacobian"),
        section=LensSection(key="jacobian_lens", describe=describe),
        page_colours=("#7a5230", "#d2a679"),
        dash="4 2 1 2",
    )
)
