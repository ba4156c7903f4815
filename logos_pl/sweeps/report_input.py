"""Input of a report: contents of the sweep's JSON by prompt."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from logos_pl.artifacts.transfer import Transfer
from logos_pl.io.markdown import cite, escaped
from logos_pl.sweeps.document_summaries import SweptPrompts
from logos_pl.sweeps.report_depth import finite_median

LISTED_PROMPTS = 12
"""Most prompts listed in a table; medians and counts are over all prompts."""


REPORTED_MILESTONES = (
    "L_copy", "L_semantic", "first_rank_le_10", "first_rank_le_5", "first_rank_le_1", "first_kl_below_1.0",
    "first_kl_below_0.5", "first_cos_ge_0.2", "first_cos_ge_0.4", "first_cos_ge_0.6",
)  # fmt: skip
"""Milestones shown in a report, by JSON key."""


class ReportInput(NamedTuple):
    """Input of a report.

    Attributes:
        model_id: Hub id or folder name, with the revision that the user named with it.
        clean_model_name: Its last part, as in file names.
        num_blocks: Number n of transformer blocks.
        swept: Per-prompt sections of the sweep's JSON.
        files: File names by kind: `json`, and by lens `pure-next-token`, `pure-next-token-tuned`, ….
        preferred_lens: Preferred lens, as in the JSON.
        pictures: File names of the plots.
        transfers: Lenses that were fitted on another model, by name.
    """

    model_id: str
    clean_model_name: str
    num_blocks: int
    swept: SweptPrompts
    files: dict[str, str]
    preferred_lens: str = "norm"
    pictures: Sequence[str] = ()
    transfers: Mapping[str, Transfer] = {}

    def cite(self, *place: str) -> str:
        """Reference to a place in the JSON."""
        return cite(self.files["json"], *place)

    def listed(self, section: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yield name, diagnostics under a key, and their place in the JSON, for the first prompts."""
        for i, diagnostic in enumerate(self.swept.diagnostics[:LISTED_PROMPTS]):
            yield name_of(diagnostic), diagnostic[section], f"diagnostics[{i}].{section}"

    def milestones(self, lens: str) -> list[dict[str, Any]]:
        """Milestones of a lens for every prompt with that lens."""
        every = (diagnostic["milestones"] for diagnostic in self.swept.diagnostics)
        return [of[lens] for of in every if lens in of]


def name_of(prompt: dict[str, Any]) -> str:
    """Name of a prompt in a report: id and variant."""
    return f"{escaped(prompt['prompt_id'])} ({escaped(prompt['prompt_variant'])})"


def median_of(values: Sequence[float | None]) -> str:
    """Median of the finite values, with their number."""
    value, count = finite_median(values)
    return "– (0)" if value is None else f"{value:g} ({count})"
