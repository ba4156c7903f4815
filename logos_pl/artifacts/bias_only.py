"""``bias_only.pt``: the bias-only lens that was fitted together with a tuned lens."""

from collections.abc import Mapping

from logos_pl.artifacts.filenames import BIAS_ONLY_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.provenance_schema import BiasOnly, Capacity
from logos_pl.artifacts.weights import (
    capacity_of,
    check_weights,
    decode,
    encode,
    temperature_of,
    translators_of,
    weights_of,
)
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens


def bias_only_record(bias_only: Translators | None) -> BiasOnly | None:
    """Provenance record of the lens; None if none was fitted."""
    if bias_only is None:
        return None
    tau = temperature_of(bias_only, enabled=True).tau
    return BiasOnly(file=BIAS_ONLY_FILE, parameters=capacity_of(bias_only).parameters, tau=tau)


def bias_only_files(bias_only: Translators | None, provenance: Provenance) -> dict[str, bytes | memoryview]:
    """File of the lens by name; empty if none was fitted.

    Raises:
        InputError: It is not finite, not of rank 0, or has other rows than the tuned lens.
    """
    if bias_only is None:
        return {}
    weights = weights_of(bias_only)
    check_weights(weights, _capacity(provenance), "bias-only lens")
    return {BIAS_ONLY_FILE: encode(weights)}


def bias_only_of(files: Mapping[str, bytes], provenance: Provenance) -> TunedLens | None:
    """Load the lens from an artifact's verified files, without a head; None if none was fitted.

    Raises:
        InputError: The weights do not match the provenance.
    """
    if provenance.bias_only is None:
        return None
    name = provenance.bias_only.file
    weights = decode(files[name], name)
    check_weights(weights, _capacity(provenance), "bias-only lens")
    return TunedLens(translators_of(weights))


def _capacity(provenance: Provenance) -> Capacity:
    assert provenance.bias_only is not None
    return Capacity(rank_k=0, rows=provenance.capacity.rows, parameters=provenance.bias_only.parameters)
