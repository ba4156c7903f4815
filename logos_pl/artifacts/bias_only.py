"""``companion.pt``: the lens of bias and temperature alone that was fitted beside a tuned lens."""

from collections.abc import Mapping

from logos_pl.artifacts.filenames import COMPANION_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.provenance_schema import Capacity, Companion
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


def companion_record(companion: Translators | None) -> Companion | None:
    """What the provenance says of it; None where none was fitted."""
    if companion is None:
        return None
    tau = temperature_of(companion, enabled=True).tau
    return Companion(file=COMPANION_FILE, parameters=capacity_of(companion).parameters, tau=tau)


def companion_files(companion: Translators | None, provenance: Provenance) -> dict[str, bytes | memoryview]:
    """Its file by name; none where none was fitted.

    Raises:
        InputError: It is not finite, not of rank 0, or has other rows than the tuned lens.
    """
    if companion is None:
        return {}
    weights = weights_of(companion)
    check_weights(weights, _capacity(provenance), "companion")
    return {COMPANION_FILE: encode(weights)}


def companion_of(files: Mapping[str, bytes], provenance: Provenance) -> TunedLens | None:
    """The lens in an artifact's verified files, without a head; None where none was fitted.

    Raises:
        InputError: The weights are not what the provenance says.
    """
    if provenance.companion is None:
        return None
    name = provenance.companion.file
    weights = decode(files[name], name)
    check_weights(weights, _capacity(provenance), "companion")
    return TunedLens(translators_of(weights))


def _capacity(provenance: Provenance) -> Capacity:
    assert provenance.companion is not None
    return Capacity(rank_k=0, rows=provenance.capacity.rows, parameters=provenance.companion.parameters)
