"""The provenance of a Jacobian lens: contents of its ``provenance.json``, and the card made from it."""

from dataclasses import dataclass, field

from logos_pl.artifacts import json_codec
from logos_pl.artifacts.card import front_matter, side_by_side
from logos_pl.artifacts.card_model import quick_start, weights_line
from logos_pl.artifacts.filenames import PROVENANCE_FILE
from logos_pl.artifacts.provenance import refuse, refuse_nonsense
from logos_pl.artifacts.provenance_schema import (
    Budget,
    Dataset,
    Environment,
    Fingerprint,
    MeanDivergence,
    Precision,
)
from logos_pl.io.markdown import code, escaped, literal, table

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class JacobianKl:
    """Norm lens and Jacobian lens at one depth percentile."""

    row: int
    norm: MeanDivergence
    jacobian: MeanDivergence


@dataclass(frozen=True)
class JacobianProvenance:
    """Contents of a Jacobian lens's ``provenance.json``; groups as for a tuned lens.

    Attributes:
        seed: Seed of the output dimensions that each sequence was given.
        sequences: Packed sequences read, counted.
        sequences_asked: Sequences requested; completing the last batch gives a few more.
        probes: Output dimensions measured on each sequence; the width for all.
        skip_first: Number of positions left out at the beginning of each sequence; the last is left out, too.
        fewest_sequences: Smallest number of sequences that any output dimension was measured on.
        relative_errors: Standard error of J by row 0 … n − 1, as a share of its Frobenius norm.
        val_kl_bits: By depth percentile (``"25"``, …), on held-out text.
        sha256: Hashes of the other files; filled in on saving.
    """

    model_id: str
    clean_model_name: str
    model_commit: str
    tokenizer_commit: str
    project_version: str
    git_sha: str | None
    seed: int
    dataset: Dataset
    budget: Budget
    sequences: int
    sequences_asked: int
    probes: int
    skip_first: int
    fewest_sequences: int
    relative_errors: list[float]
    precision: Precision
    environment: Environment
    val_kl_bits: dict[str, JacobianKl]
    fingerprint: Fingerprint
    sha256: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """As JSON.

        Raises:
            InputError: A number that is not finite, or a path that holds only on this machine; both named.
        """
        return json_codec.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "JacobianProvenance":
        """From JSON.

        Raises:
            InputError: Not JSON, another schema, or a field unknown, missing, of another type or beyond its range;
                named.
        """
        provenance = json_codec.from_versioned(cls, text, PROVENANCE_FILE, SCHEMA_VERSION)
        num_blocks = len(provenance.fingerprint.residual_norms) - 1
        refuse_nonsense(provenance, {at.row for at in provenance.val_kl_bits.values()}, num_blocks - 1)
        errors = provenance.relative_errors
        if len(errors) != num_blocks or min(errors) < 0:
            refuse("relative_errors", errors[:8])
        for name in ("sequences", "probes", "fewest_sequences"):
            if getattr(provenance, name) < 1:
                refuse(name, getattr(provenance, name))
        if not 0 <= provenance.skip_first < provenance.budget.seq_len - 1:
            refuse("skip_first", provenance.skip_first)
        return provenance


def jacobian_card(p: JacobianProvenance) -> str:
    """Return the model card as Markdown; all its numbers are from the provenance."""
    rows = [
        [f"{percentile}%", str(at.row), *side_by_side(at.norm, at.jacobian), f"{p.relative_errors[at.row]:.1%}"]
        for percentile, at in p.val_kl_bits.items()
    ]
    header = ["Depth", "Row", "KL(row‖final), norm", "Jacobian", "KL(final‖row), norm", "Jacobian"]
    header += ["Same top token, norm", "Jacobian", "Error of J"]
    folder = literal(f"checkpoints/jacobians/{p.clean_model_name}")
    return "\n".join(
        [
            front_matter(p, ["jacobian-lens", "logit-lens", "interpretability"]),
            f"# Jacobian lens for {escaped(p.model_id)}\n",
            "A Jacobian lens maps a row of a language model's residual stream to the last row by the mean of the "
            "Jacobians ∂h_n/∂h_row over text, in front of the model's own final norm and unembedding "
            "([Gurnee et al., 2026](https://transformer-circuits.pub/2026/workspace)).\n",
            "## Held-out divergence from the model's final distribution\n",
            table(header, rows) + "\nMean over held-out positions, in bits; `norm` is the head without the lens. Error "
            "of J: standard error, as a share of its Frobenius norm.\n",
            "## How it was fitted\n",
            f"- Text: {code(p.dataset.repo_id)}, split {escaped(p.dataset.split)}; {p.sequences:,} sequences of "
            f"{p.budget.seq_len} tokens from {p.dataset.documents:,} documents; the first {p.skip_first} positions "
            "and the last of each are left out.\n"
            f"- Model {code(p.model_id)} at {code(p.model_commit)}.\n"
            f"{weights_line(p)}"
            f"- {p.probes:,} output dimensions were measured on each sequence, and every one on at least "
            f"{p.fewest_sequences:,} of them.\n"
            f"- Rows 0 to {len(p.relative_errors) - 1}; seed {p.seed}.\n",
            "## Quick start\n",
            quick_start(p, "load_jacobian", f"{folder}, lm", max(1, len(p.relative_errors) // 2)),
        ]
    )
