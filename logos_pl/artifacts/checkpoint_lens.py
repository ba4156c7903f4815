"""The lenses that a checkpoint of a fit holds: the running averages, in the plain basis, as a fit exports them."""

from typing import Any

from logos_pl.functional.training_basis import TrainingBasis
from logos_pl.lenses.translator import Translators


def basis_of(checkpoint: dict[str, Any]) -> TrainingBasis | None:
    """The basis that a checkpoint's U and V are written in; None: the plain one."""
    recorded = checkpoint["lens_basis"]
    return None if recorded is None else TrainingBasis(**recorded)


def tuned_of(checkpoint: dict[str, Any]) -> Translators:
    """The tuned lens of a checkpoint."""
    translators = _average(checkpoint, "translators")
    translators.basis = basis_of(checkpoint)
    return translators.in_plain_basis()


def bias_only_in(checkpoint: dict[str, Any]) -> Translators | None:
    """The bias-only lens of a checkpoint; None where none was fitted."""
    return _average(checkpoint, "bias_only") if checkpoint["lens_identity"]["bias_only"] else None


def _average(checkpoint: dict[str, Any], name: str) -> Translators:
    prefix = f"averages.{name}."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    translators = Translators(*state["U"].shape)
    translators.load_state_dict(state)
    return translators
