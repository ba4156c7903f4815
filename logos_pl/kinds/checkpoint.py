"""A tuned lens in a checkpoint of a fit, read as it would be exported: the averages, in the plain basis."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from logos_pl.artifacts.checkpoint_file import read_checkpoint
from logos_pl.artifacts.provenance_schema import Capacity
from logos_pl.artifacts.weights import check_weights, translators_of
from logos_pl.errors import InputError, state_of_a_checkpoint
from logos_pl.functional.training_basis import TrainingBasis
from logos_pl.lenses.translator import Translators
from logos_pl.lm.sources import clean_name


class CheckpointOrigin(NamedTuple):
    """Where a lens from a checkpoint comes from; there is no provenance before the export.

    Attributes:
        model_id: The model of the fit.
        clean_model_name: The id's last part.
        model_commit: Its commit.
        decoding_norm: Norm in front of the unembedding.
        step: Optimiser step after which the checkpoint was written.
        held_out_frac: Share of the documents that the fit held out.
    """

    model_id: str
    clean_model_name: str
    model_commit: str
    decoding_norm: str
    step: int
    held_out_frac: float


class CheckpointLenses(NamedTuple):
    """The lenses of a checkpoint: the bias-only lens is None where the fit has none."""

    tuned: Translators
    bias_only: Translators | None
    origin: CheckpointOrigin


def read_lenses(path: Path) -> CheckpointLenses:
    """The tuned lens in a checkpoint, its bias-only lens if any, and whose they are; on the CPU.

    Raises:
        InputError: It is no whole checkpoint of a fit, was altered, or holds other lenses than a fit writes.
    """
    checkpoint = read_checkpoint(path)
    with state_of_a_checkpoint("lens"):
        identity = checkpoint["lens_identity"]
        origin = CheckpointOrigin(
            model_id=identity["model_id"],
            clean_model_name=clean_name(identity["model_id"]),
            model_commit=identity["model_commit"],
            decoding_norm=identity["decoding_norm"],
            step=int(checkpoint["global_step"]),
            held_out_frac=float(checkpoint["LensDataModule"]["identity"]["held_out_frac"]),
        )
        tuned = _average(checkpoint, "translators")
        tuned.basis = _basis(checkpoint, tuned.d_model)
        bias_only = _average(checkpoint, "bias_only") if identity["bias_only"] else None
        return CheckpointLenses(tuned.in_plain_basis(), bias_only, origin)


def _average(checkpoint: dict[str, Any], name: str) -> Translators:
    """The running average of the translators or of the bias-only lens."""
    prefix, state = f"averages.{name}.", checkpoint["state_dict"]
    weights: dict[str, Tensor] = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    rows, _, rank = weights["U"].shape
    numbers = sum(tensor.numel() for tensor in weights.values())
    check_weights(weights, Capacity(rank_k=rank, rows=rows, parameters=numbers))
    return translators_of(weights)


def _basis(checkpoint: dict[str, Any], d_model: int) -> TrainingBasis | None:
    """The basis that the checkpoint's U and V are written in; None: the plain one."""
    recorded = checkpoint["lens_basis"]
    if recorded is None:
        return None
    if any(part.shape != (d_model, d_model) for part in recorded.values()):
        raise InputError("The checkpoint's lens_basis does not have the width of its lens: give another checkpoint.")
    return TrainingBasis(**recorded)
