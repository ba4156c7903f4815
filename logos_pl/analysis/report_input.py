"""What a report is made of, and what the sweep's JSON says of it, prompt by prompt."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from logos_pl.analysis.markdown import cite, escaped
from logos_pl.analysis.milestones import milestones
from logos_pl.analysis.output_prompt import RawLens, diagnosis
from logos_pl.analysis.output_summaries import PromptSummary, prompt_summary
from logos_pl.analysis.report_depth import finite_median
from logos_pl.records import PromptRecords

LISTED = 12
"""Prompts that stand in the tables; of more, what holds over all of them is added."""


REACHED = (
    "L_copy", "L_semantic", "first_rank_le_10", "first_rank_le_5", "first_rank_le_1", "first_kl_below_1.0",
    "first_kl_below_0.5", "first_cos_ge_0.2", "first_cos_ge_0.4", "first_cos_ge_0.6",
)  # fmt: skip
"""Milestones in a report, by their keys in the JSON."""


class ReportInput(NamedTuple):
    """What a report is made of.

    Attributes:
        model_id: Hub id or folder name.
        clean_model_name: The id's last part, as in the file names.
        num_blocks: Transformer blocks, n.
        records: What was read, in the order in which it was asked; positions are not looked at.
        files: File names by kind: `json`, and by lens `pure-next-token`, `pure-next-token-tuned`, ….
        raw_lens: The rows over which the JSON sets norm lens and raw lens side by side.
        preferred_lens: The lens to go by, as the JSON has it.
    """

    model_id: str
    clean_model_name: str
    num_blocks: int
    records: Sequence[PromptRecords]
    files: dict[str, str]
    raw_lens: RawLens = "sample"
    preferred_lens: str = "norm"


class Evaluation(NamedTuple):
    """A sweep and what its JSON says of each prompt, in its order."""

    facts: ReportInput
    diagnostics: list[dict[str, Any]]
    summaries: list[PromptSummary]

    def cite(self, *place: str) -> str:
        """Where in the JSON a number stands."""
        return cite(self.facts.files["json"], *place)

    def listed(self, section: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Of the first prompts: name, what the JSON says under a key of its diagnostics, and where."""
        for i, diagnostic in enumerate(self.diagnostics[:LISTED]):
            yield name_of(diagnostic), diagnostic[section], f"diagnostics[{i}].{section}"


def evaluate(facts: ReportInput) -> Evaluation:
    """The verdicts on every prompt, the same as in the JSON."""
    reached = [{lens: milestones(rows) for lens, rows in record.next_token.items()} for record in facts.records]
    both = list(zip(facts.records, reached, strict=True))
    return Evaluation(
        facts, [diagnosis(*pair, facts.raw_lens) for pair in both], [prompt_summary(*pair) for pair in both]
    )


def name_of(prompt: dict[str, Any]) -> str:
    """A prompt's id and variant, as a report shows them."""
    return f"{escaped(prompt['prompt_id'])} ({escaped(prompt['prompt_variant'])})"


def median_of(values: Sequence[float | None]) -> str:
    """The median of the finite values and how many they are."""
    value, count = finite_median(values)
    return "– (0)" if value is None else f"{value:g} ({count})"
