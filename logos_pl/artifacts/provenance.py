"""The provenance of a tuned lens: contents of ``provenance.json`` as a tree of dataclasses.

Counts are measured during training; none is derived from a setting here.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Protocol

from logos_pl.artifacts import json_codec
from logos_pl.artifacts.filenames import BIAS_ONLY_FILE, PROVENANCE_FILE
from logos_pl.artifacts.provenance_schema import (
    FINGERPRINT_TOKENS,
    BatchSizes,
    BiasOnly,
    Budget,
    Capacity,
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
from logos_pl.artifacts.verdict import Acceptance, Kpis
from logos_pl.errors import InputError
from logos_pl.lm.sources import clean_name

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Provenance:
    """Contents of ``provenance.json``.

    Attributes:
        model_id: Hub id, folder name, or ``demo``.
        clean_model_name: The id's last part.
        model_commit: Commit on the Hub, or ``sha256:…`` over a folder's files.
        tokenizer_commit: The same for the tokenizer.
        project_version: Version of logos-pl.
        git_sha: Commit of the checkout it ran from, or None.
        seed: Seed of initialisation and sampling.
        decoding_norm: Norm in front of the unembedding.
        schedule: Name of the schedule that resolved the settings left at `auto`.
        layers_per_step: Rows trained in each step, counted.
        init: How the translators were initialised.
        preconditioner: Basis in which U and V were trained; None for the plain basis.
        val_kl_bits: By depth percentile (``"25"``, …), for the exported weights.
        bias_only: The bias-only lens; None if none was fitted. Filled in on saving.
        kpis: Figures of the gates, as in ``gates.json``; None before `test`.
        acceptance: Verdict of the gates, as in ``gates.json``; None before `test`.
        sha256: Hashes of the other files; filled in on saving.
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
    batching: BatchSizes
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
    bias_only: BiasOnly | None = None
    kpis: Kpis | None = None
    acceptance: Acceptance | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """As JSON.

        Raises:
            InputError: A number that is not finite, or a path that holds only on this machine; both named.
        """
        return json_codec.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "Provenance":
        """From JSON.

        Raises:
            InputError: Not JSON, another schema, or a field unknown, missing, of another type or beyond its range;
                named.
        """
        provenance = json_codec.from_versioned(cls, text, PROVENANCE_FILE, SCHEMA_VERSION)
        if not -(2**63) <= provenance.seed < 2**64:
            refuse("seed", provenance.seed)
        if min(provenance.capacity.rows, provenance.capacity.parameters) < 1 or provenance.capacity.rank_k < 0:
            refuse("capacity", provenance.capacity)
        refuse_nonsense(provenance, {at.row for at in provenance.val_kl_bits.values()}, provenance.capacity.rows)
        if provenance.bias_only is not None and provenance.bias_only.file != BIAS_ONLY_FILE:
            refuse("bias-only lens: file", provenance.bias_only.file)
        if provenance.acceptance is not None:
            provenance.acceptance.refuse_nonsense(PROVENANCE_FILE)
        return provenance


class OfModel(Protocol):
    """Provenance of any artifact made for one model."""

    @property
    def model_id(self) -> str:
        """Hub id, folder name, or ``demo``."""

    @property
    def clean_model_name(self) -> str:
        """The id's last part."""

    @property
    def model_commit(self) -> str:
        """Commit on the Hub, or ``sha256:…`` over a folder's files."""


class Described(OfModel, Protocol):
    """Fields common to the provenances of all kinds of lens."""

    @property
    def dataset(self) -> Dataset:
        """The text it was fitted on."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Outputs that identify the model."""

    @property
    def val_kl_bits(self) -> Mapping[str, object]:
        """Figures by depth percentile."""

    @property
    def sha256(self) -> Mapping[str, str]:
        """Hashes of the other files."""


def refuse_nonsense(provenance: Described, rows: Set[int], last_row: int) -> None:
    """Refuse values that have the right type but are impossible, before anything is computed from them.

    Args:
        provenance: Provenance of any kind of lens.
        rows: Rows of its figures.
        last_row: Last row that a lens of this kind translates.

    Raises:
        InputError: Naming the field.
    """
    p, mark = provenance, provenance.fingerprint
    if p.clean_model_name != clean_name(p.model_id) or not p.clean_model_name:
        refuse("clean_model_name", p.clean_model_name)
    if not 0 <= p.dataset.held_out_frac < 0.5:  # it is held out twice, for validation and test
        refuse("dataset: held_out_frac", p.dataset.held_out_frac)
    if not p.val_kl_bits.keys() <= {"25", "50", "75"} or not all(1 <= row <= last_row for row in rows):
        refuse("val_kl_bits", ", ".join([*p.val_kl_bits, *map(str, sorted(rows))]))
    if not 1 <= mark.num_tokens <= FINGERPRINT_TOKENS:
        refuse("fingerprint: num_tokens", mark.num_tokens)
    lengths = {len(norms) for norms in mark.residual_norms}
    if len(mark.residual_norms) < 2 or len(lengths) != 1 or not all(lengths):
        refuse("fingerprint: residual_norms", sorted(lengths))
    if not mark.top_ids or len(mark.top_ids) != len(mark.top_logits):
        refuse("fingerprint: top_ids", mark.top_ids)


def refuse(where: str, value: object) -> NoReturn:
    """Refuse a value that has the right type but is impossible.

    Raises:
        InputError: Always.
    """
    raise InputError(f"{PROVENANCE_FILE}: {where} cannot be {value}: fetch the artifact again, or fit anew.")
