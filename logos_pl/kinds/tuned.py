"""Tuned lens from a folder, from the Hub, or from a checkpoint."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from logos_pl.artifacts.checkpoint_file import check_checkpoint
from logos_pl.artifacts.checks import check_model
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.errors import InputError
from logos_pl.hub.source import lens_folder
from logos_pl.kinds.checkpoint import CheckpointOrigin, read_lenses
from logos_pl.kinds.registry import LensKind, LensSection, register
from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest, LoadedLens
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM


@dataclass(frozen=True)
class TunedLensOrigin:
    """Origin of a tuned lens: the part of its `provenance.json` that is recorded in a sweep.

    Attributes:
        rank_k: Rank of each translator; 0: bias and temperature only.
        tokens: Number of tokens it was trained on.
        weights_sha256: Hash of its weights.
        all_gates_passed: Whether all gates were passed; None if not evaluated.
    """

    model_id: str
    model_commit: str
    project_version: str
    git_sha: str | None
    decoding_norm: str
    init: str
    seed: int
    rank_k: int
    tokens: int
    steps_done: int
    weights_sha256: str
    all_gates_passed: bool | None


def find(request: LensRequest) -> FoundLens:
    """Find the lens given by the user, or the locally fitted one.

    Raises:
        InputError: A given lens is missing or altered, or a required lens is missing.
        RunError: The disk or the Hub fails.
    """
    source = request.source
    if source is None:
        return _find_fitted(request)
    if Path(source).is_file():
        check_checkpoint(Path(source))
        return FoundLens(partial(_load_checkpoint, Path(source)), title=os.path.relpath(source))
    of_model = None if request.transfer else request.model_id  # a transferred lens: the folder's only one, of any model
    folder = lens_folder(source, of_model, request.revision)
    title = source if request.revision is None else f"{source} at {request.revision}"
    return FoundLens(partial(_load_folder, folder, transfer=request.transfer), title=title)


def _find_fitted(request: LensRequest) -> FoundLens:
    """Find the lens in the export folder of a fit."""
    if request.folder is None:
        return FoundLens(partial(_load_folder, Path()), there=False)
    shown = os.path.relpath(request.folder)
    load = partial(_load_folder, request.folder, transfer=request.transfer)
    try:
        find_folder(request.folder)
    except InputError as error:
        sentence = f"There is no tuned lens at {shown}: fit one with `{request.fit_command}`."
        if request.use == "require":
            raise InputError(sentence) from error
        return FoundLens(load, there=False, sentence=sentence)
    return FoundLens(load, title=shown)


def _load_folder(folder: Path, lm: FrozenLM, head: Head, *, transfer: bool = False) -> LoadedLens:
    tuned, bias_only, provenance, moved = load_lenses(folder, lm, head, transfer)
    _refuse_other_norm(provenance.decoding_norm, head)
    share, identity = provenance.dataset.held_out_frac, str(provenance.sha256)
    return LoadedLens(_bound(tuned, bias_only, head), provenance, share, identity, transfer=moved)


def _load_checkpoint(path: Path, lm: FrozenLM, head: Head) -> LoadedLens:
    tuned, bias_only, origin = read_lenses(path)
    check_model(origin, lm)
    _refuse_other_norm(origin.decoding_norm, head)
    lenses = _bound(TunedLens(tuned), None if bias_only is None else TunedLens(bias_only), head)
    return LoadedLens(lenses, origin, origin.held_out_frac, str(origin))


def _bound(tuned: TunedLens, bias_only: TunedLens | None, head: Head) -> dict[str, Lens]:
    """Lenses by name, bound to one head; a lens of rank 0 is its own bias-only baseline."""
    lenses: dict[str, Lens] = {"tuned": tuned.bind(head)}
    if tuned.translators.rank == 0:
        lenses["bias"] = tuned
    elif bias_only is not None:
        lenses["bias"] = bias_only.bind(head)
    return lenses


def _refuse_other_norm(trained_with: str, head: Head) -> None:
    if trained_with != head.decoding_norm:
        raise InputError(
            f"The lens was trained with decoding_norm {trained_with}, but the run uses {head.decoding_norm}: "
            f"give --model.decoding_norm {trained_with}."
        )


def exported_step(origin: object) -> int:
    """Optimiser step of the lens's weights."""
    assert isinstance(origin, Provenance | CheckpointOrigin)
    return origin.step if isinstance(origin, CheckpointOrigin) else origin.optim.exported_step


def describe(origin: Provenance | CheckpointOrigin | None) -> TunedLensOrigin | None:
    """Extract the part of a provenance that the sweep's document records; None for a checkpoint."""
    if not isinstance(origin, Provenance):
        return None
    return TunedLensOrigin(
        model_id=origin.model_id,
        model_commit=origin.model_commit,
        project_version=origin.project_version,
        git_sha=origin.git_sha,
        decoding_norm=origin.decoding_norm,
        init=origin.init.kind,
        seed=origin.seed,
        rank_k=origin.capacity.rank_k,
        tokens=origin.budget.tokens,
        steps_done=origin.optim.steps_done,
        weights_sha256=origin.sha256["weights.pt"],
        all_gates_passed=None if origin.acceptance is None else origin.acceptance.passed,
    )


def _accepted(recorded: TunedLensOrigin | None) -> bool | None:
    return None if recorded is None else recorded.all_gates_passed


TUNED = register(
    LensKind(
        name="tuned",
        label="tuned lens",
        colour="tab:blue",
        first_row=1,
        find=find,
        validated=True,
        evaluated=True,
        needed_by=frozenset({"validate", "test"}),
        options=LensOptions(
            source=("ckpt_path", "lens.source"),
            revision="lens.revision",
            use="sweep.tuned",
            folder="export.folder",
            fit_command="fit",
        ),
        section=LensSection(key="tuned_lens", origin_key="provenance", describe=describe),
        accepted=_accepted,
        page_colours=("#1f6fd0", "#6cabff"),
        dash="6 2",
    )
)
