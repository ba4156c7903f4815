"""Lenses of a checkpoint as a fit exports them: running averages in the plain basis."""

from typing import Any

from torch import Tensor

from logos_pl.artifacts.provenance_schema import Capacity
from logos_pl.artifacts.weights import check_weights, translators_of
from logos_pl.errors import InputError
from logos_pl.functional.training_basis import TrainingBasis
from logos_pl.lenses.translator import Translators


def tuned_in(checkpoint: dict[str, Any]) -> Translators:
    """The tuned lens of a checkpoint.

    Raises:
        InputError: Its tensors are not those of a lens.
    """
    tuned = _average(checkpoint, "translators")
    tuned.basis = basis_of(checkpoint)
    if tuned.basis is not None and any(part.shape != (tuned.d_model, tuned.d_model) for part in tuned.basis):
        raise InputError("The checkpoint's lens_basis does not match the width of its lens: give another checkpoint.")
    return tuned.in_plain_basis()


def bias_only_in(checkpoint: dict[str, Any]) -> Translators | None:
    """The bias-only lens of a checkpoint; None if none was fitted.

    Raises:
        InputError: Its tensors are not those of a lens.
    """
    return _average(checkpoint, "bias_only") if checkpoint["lens_identity"]["bias_only"] else None


def basis_of(checkpoint: dict[str, Any]) -> TrainingBasis | None:
    """Basis of U and V in the checkpoint; None: plain basis."""
    recorded = checkpoint["lens_basis"]
    return None if recorded is None else TrainingBasis(**recorded)


def _average(checkpoint: dict[str, Any], name: str) -> Translators:
    """Running average of the tuned or the bias-only lens."""
    prefix, state = f"averages.{name}.", checkpoint["state_dict"]
    weights: dict[str, Tensor] = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    rows, _, rank = weights["U"].shape
    numbers = sum(tensor.numel() for tensor in weights.values())
    check_weights(weights, Capacity(rank_k=rank, rows=rows, parameters=numbers))
    return translators_of(weights)
