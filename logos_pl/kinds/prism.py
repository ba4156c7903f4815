"""Prism lens: one whitening and one rotation for all rows, fitted by `logos-pl prism`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from logos_pl.artifacts.prism import ROTATION_FILE, load_prism
from logos_pl.artifacts.prism_provenance import PrismProvenance
from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.transfer import Transfer
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, LensSection, register
from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest, LoadedLens
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM

VERDICT_THRESHOLD_BITS = 0.1
"""Gain or loss in bits that counts as helpful or regressive; the bound of gate D (docs/method.md §6)."""


@dataclass(frozen=True)
class PrismOrigin:
    """Origin of a Prism lens: the part of its `provenance.json` that is recorded in a sweep.

    Attributes:
        whiten: Kind of whitening.
        rows: Pooled rows.
        rank: Number of directions that the rotation keeps.
        positions: Number of distinct positions it was fitted on.
        rotation_sha256: Hash of the rotation.
    """

    model_id: str
    model_commit: str
    project_version: str
    git_sha: str | None
    decoding_norm: str
    whiten: str
    rows: list[int]
    rank: int
    positions: int
    rotation_sha256: str


def find(request: LensRequest) -> FoundLens:
    """Find the Prism lens fitted for the model.

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
            raise InputError(f"There is no prism at {shown}: fit one with `{request.fit_command}`.") from error
        return FoundLens(partial(_load, folder, transfer=request.transfer), there=False)
    return FoundLens(partial(_load, folder, transfer=request.transfer), sentence=f"with the prism of {shown}")


def _load(folder: Path, lm: FrozenLM, head: Head, *, transfer: bool = False) -> LoadedLens:
    moved: list[Transfer] | None = [] if transfer else None
    lens, provenance = load_prism(folder, lm, head.decoding_norm, head, moved)
    share = provenance.dataset.held_out_frac
    return LoadedLens(
        {"prism": lens.bind(head)},
        provenance,
        share,
        identity=str(provenance.sha256),
        transfer=moved[0] if moved else None,
    )


def describe(provenance: PrismProvenance | None) -> PrismOrigin | None:
    """Extract the part of a provenance that the sweep's document records."""
    if provenance is None:
        return None
    return PrismOrigin(
        model_id=provenance.model_id,
        model_commit=provenance.model_commit,
        project_version=provenance.project_version,
        git_sha=provenance.git_sha,
        decoding_norm=provenance.decoding_norm,
        whiten=provenance.whiten,
        rows=provenance.rows,
        rank=provenance.rank,
        positions=provenance.positions,
        rotation_sha256=provenance.sha256[ROTATION_FILE],
    )


def prism_verdict(summaries: Mapping[str, Any]) -> Literal["helpful", "neutral", "regressive"] | None:
    """Verdict on a Prism lens by its median gains in KL(P_row ‖ P_final) at the depth percentiles.

    Args:
        summaries: Median gains from the summaries of a sweep.

    Returns:
        `regressive` if it loses more than `VERDICT_THRESHOLD_BITS` at any percentile; else `helpful` if it gains more
        at any; else `neutral`. None if no percentile has a finite gain.
    """
    gains = [at["median_delta_kl_bits"] for at in summaries["delta_kl"] if at["median_delta_kl_bits"] is not None]
    if not gains:
        return None
    if min(gains) < -VERDICT_THRESHOLD_BITS:
        return "regressive"
    return "helpful" if max(gains) > VERDICT_THRESHOLD_BITS else "neutral"


def _conclude(summaries: Mapping[str, Any]) -> dict[str, Any]:
    return {"verdict": prism_verdict(summaries), "verdict_threshold_bits": VERDICT_THRESHOLD_BITS}


PRISM = register(
    LensKind(
        name="prism",
        label="prism",
        colour="tab:orange",
        first_row=0,
        find=find,
        validated=True,
        options=LensOptions(use="sweep.prism", folder="prism.folder", fit_command="prism"),
        section=LensSection(key="prism_summary", origin_key="provenance", describe=describe, conclude=_conclude),
        page_colours=("#b85a00", "#ffa04a"),
        dash="2 2",
    )
)
