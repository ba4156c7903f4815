"""Where a tuned lens comes from: everything ``provenance.json`` holds, as one tree of dataclasses.

Counts are counted by whoever trained the lens; nothing here derives one from a setting.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from logos_pl.artifacts import plain
from logos_pl.artifacts.groups import (
    Batching,
    Budget,
    Capacity,
    Companion,
    Dataset,
    Environment,
    Fingerprint,
    Init,
    Optim,
    PercentileKl,
    Precision,
    Preconditioner,
    Regularizers,
    Temperature,
)
from logos_pl.artifacts.names import PROVENANCE_FILE

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Provenance:
    """Everything ``provenance.json`` holds.

    Attributes:
        model_id: Hub id, folder name, or ``demo``.
        clean_model_name: The id's last part.
        model_commit: Commit on the Hub, or ``sha256:…`` over a folder's files.
        tokenizer_commit: The same for the tokenizer.
        project_version: Version of logos-pl.
        git_sha: Commit of the checkout it ran from, or None.
        seed: Seed of initialisation and sampling.
        decoding_norm: Norm in front of the unembedding.
        schedule: Name of the schedule that settled what was left to it.
        layers_per_step: Rows trained in each step, counted.
        init: How the translators started.
        preconditioner: The basis that U and V were trained in; None: the plain one.
        val_kl_bits: By depth percentile (``"25"``, …), for the exported weights.
        companion: The lens of bias and temperature alone beside it; None where none was fitted. Filled on saving.
        kpis: Figures of the gates; None until they were measured.
        acceptance: Verdicts of the gates; None until they were measured.
        sha256: Hash of every file beside this one; filled on saving.
    """

    model_id: str
    clean_model_name: str
    model_commit: str
    tokenizer_commit: str
    project_version: str
    git_sha: str | None
    seed: int
    decoding_norm: Literal["final", "next"]
    dataset: Dataset
    budget: Budget
    batching: Batching
    capacity: Capacity
    optim: Optim
    schedule: str
    layers_per_step: int
    temperature: Temperature
    regularizers: Regularizers
    preconditioner: Preconditioner | None
    init: Init
    precision: Precision
    environment: Environment
    val_kl_bits: dict[str, PercentileKl]
    fingerprint: Fingerprint
    companion: Companion | None = None
    kpis: dict[str, Any] | None = None
    acceptance: dict[str, Any] | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """As JSON.

        Raises:
            InputError: A number that is not finite, or a path that holds only on this machine; both named.
        """
        return plain.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "Provenance":
        """From JSON.

        Raises:
            InputError: Not JSON, another schema, or a field unknown, missing or of another type; named.
        """
        return plain.from_versioned(cls, text, PROVENANCE_FILE, SCHEMA_VERSION)
