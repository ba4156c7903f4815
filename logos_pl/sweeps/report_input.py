"""The input of a report: what the sweep's JSON says, prompt by prompt."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from logos_pl.io.markdown import cite, escaped
from logos_pl.sweeps.document_summaries import SweptPrompts
from logos_pl.sweeps.report_depth import finite_median

LISTED_PROMPTS = 12
"""Most prompts in a table: the first of them; medians and counts are over all."""


REPORTED_MILESTONES = (
    "L_copy", "L_semantic", "first_rank_le_10", "first_rank_le_5", "first_rank_le_1", "first_kl_below_1.0",
    "first_kl_below_0.5", "first_cos_ge_0.2", "first_cos_ge_0.4", "first_cos_ge_0.6",
)  # fmt: skip
"""Milestones in a report, by their keys in the JSON."""


class ReportInput(NamedTuple):
    """The input of a report.

    Attributes:
        model_id: Hub id or folder name.
        clean_model_name: The id's last part, as in the file names.
        num_blocks: Transformer blocks, n.
        swept: What the sweep's JSON says of every prompt.
        files: File names by kind: `json`, and by lens `pure-next-token`, `pure-next-token-tuned`, ….
        preferred_lens: The lens to go by, as the JSON has it.
    """

    model_id: str
    clean_model_name: str
    num_blocks: int
    swept: SweptPrompts
    files: dict[str, str]
    preferred_lens: str = "norm"

    def cite(self, *place: str) -> str:
        """Where in the JSON a number stands."""
        return cite(self.files["json"], *place)

    def listed(self, section: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Of the first prompts: name, what the JSON says under a key of its diagnostics, and where."""
        for i, diagnostic in enumerate(self.swept.diagnostics[:LISTED_PROMPTS]):
            yield name_of(diagnostic), diagnostic[section], f"diagnostics[{i}].{section}"

    def milestones(self, lens: str) -> list[dict[str, Any]]:
        """Every prompt's milestones under a lens, of those that it has read."""
        every = (diagnostic["milestones"] for diagnostic in self.swept.diagnostics)
        return [of[lens] for of in every if lens in of]


def name_of(prompt: dict[str, Any]) -> str:
    """A prompt's id and variant, as a report shows them."""
    return f"{escaped(prompt['prompt_id'])} ({escaped(prompt['prompt_variant'])})"


def median_of(values: Sequence[float | None]) -> str:
    """The median of the finite values and how many they are."""
    value, count = finite_median(values)
    return "– (0)" if value is None else f"{value:g} ({count})"
