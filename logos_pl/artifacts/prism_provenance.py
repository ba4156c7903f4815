"""The provenance of a Prism lens: contents of its ``provenance.json``, and the card made from it."""

from dataclasses import dataclass, field
from typing import Literal

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
class PrismKl:
    """Norm lens and Prism lens at one depth percentile."""

    row: int
    norm: MeanDivergence
    prism: MeanDivergence


@dataclass(frozen=True)
class PrismCandidate:
    """One set of Prism hyperparameters that was tried.

    Attributes:
        whiten: Kind of whitening, `diagonal` or `full`.
        depths: Pooled depths, in percent; 0 is the embedding row.
        rows: The rows at these depths.
        kl_from_final_bits: KL(P_final ‖ P_row) on held-out text, by depth percentile (``"25"``, …).
        mean_kl_from_final_bits: Mean over the percentiles; the candidate with the lowest is chosen.
    """

    whiten: str
    depths: list[int]
    rows: list[int]
    kl_from_final_bits: dict[str, float]
    mean_kl_from_final_bits: float


@dataclass(frozen=True)
class PrismProvenance:
    """Contents of a Prism lens's ``provenance.json``; groups as for a tuned lens.

    Attributes:
        positions: Distinct text positions used to estimate the moments, counted.
        positions_asked: Positions requested; completing the last batch gives a few more.
        world_size: Processes that read them.
        whiten: Kind of whitening, the same for the rows and for x_n.
        depths: Pooled depths, in percent; 0 is the embedding row.
        rows: The rows at these depths.
        shrinkage: Weight of the identity in both covariances.
        rank: Number of directions of the rotation that are kept; the width for an orthogonal one.
        candidates: Hyperparameters tried; the ones with the lowest mean divergence were chosen.
        val_kl_bits: By depth percentile (``"25"``, …), on the held-out text that selected the candidate.
        sha256: Hashes of the other files; filled in on saving.
    """

    model_id: str
    clean_model_name: str
    model_commit: str
    tokenizer_commit: str
    project_version: str
    git_sha: str | None
    decoding_norm: Literal["final", "next"]
    dataset: Dataset
    budget: Budget
    positions: int
    positions_asked: int
    world_size: int
    whiten: Literal["diagonal", "full"]
    depths: list[int]
    rows: list[int]
    shrinkage: float
    rank: int
    candidates: list[PrismCandidate]
    precision: Precision
    environment: Environment
    val_kl_bits: dict[str, PrismKl]
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
    def from_json(cls, text: str) -> "PrismProvenance":
        """From JSON.

        Raises:
            InputError: Not JSON, another schema, or a field unknown, missing, of another type or beyond its range;
                named.
        """
        provenance = json_codec.from_versioned(cls, text, PROVENANCE_FILE, SCHEMA_VERSION)
        last_row = len(provenance.fingerprint.residual_norms) - 2
        refuse_nonsense(provenance, {at.row for at in provenance.val_kl_bits.values()}, last_row)
        if not provenance.rows or not all(0 <= row <= last_row + 1 for row in provenance.rows):
            refuse("rows", provenance.rows)
        return provenance


def prism_card(p: PrismProvenance) -> str:
    """Return the model card as Markdown; all its numbers are from the provenance."""
    rows = [
        [f"{percentile}%", str(at.row), *side_by_side(at.norm, at.prism)] for percentile, at in p.val_kl_bits.items()
    ]
    header = ["Depth", "Row", "KL(row‖final), norm", "prism", "KL(final‖row), norm", "prism"]
    header += ["Same top token, norm", "prism"]
    tried = [
        [escaped(c.whiten), ", ".join(f"{depth}%" for depth in c.depths), f"{c.mean_kl_from_final_bits:.3f}"]
        for c in p.candidates
    ]
    return "\n".join(
        [
            front_matter(p, ["prism-lens", "logit-lens", "interpretability"]),
            f"# Prism lens for {escaped(p.model_id)}\n",
            "A Prism lens decodes every depth of a language model's residual stream with one map: it whitens the "
            "normalised residuals, rotates them onto those of the last row and restores the last row's scale, in "
            "front of the model's own frozen head.\n",
            "## Held-out divergence from the model's final distribution\n",
            table(header, rows) + "\nMean over held-out positions, in bits; `norm` is the head without the lens.\n",
            "## How it was fitted\n",
            f"- Text: {code(p.dataset.repo_id)}, split {escaped(p.dataset.split)}; {p.positions:,} distinct positions "
            f"in {p.dataset.documents:,} documents.\n"
            f"- Model {code(p.model_id)} at {code(p.model_commit)}, decoding norm `{p.decoding_norm}`.\n"
            f"{weights_line(p)}"
            f"- Whitening {p.whiten} with shrinkage {p.shrinkage:g}, rotation of rank {p.rank}; rows "
            f"{', '.join(map(str, p.rows))} pooled.\n",
            "Candidates, with the mean KL(final‖row) over the three depths on the same held-out text:\n",
            table(["Whitening", "Depths pooled", "bits"], tried),
            "## Quick start\n",
            quick_start(p, "load_prism", f"{literal(f'checkpoints/prisms/{p.clean_model_name}')}, lm", p.rows[-1]),
        ]
    )
