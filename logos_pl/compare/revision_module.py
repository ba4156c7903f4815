"""LightningModule of `logos-pl compare LENS --models …`: one lens on held-out text and on facts."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.compare.module import CompareModule
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompts import PromptBatch, PromptBatches
from logos_pl.errors import InputError
from logos_pl.functional.first_rows import first_rows
from logos_pl.functional.readings import RowReadings
from logos_pl.functional.settling import settling_rows
from logos_pl.lenses.decoding import final_top1, lens_readings
from logos_pl.lm.residuals import Request, read_in_groups
from logos_pl.settings.model import ModelSettings

SETTLED = "top1_settled"
"""The first row from which the lens's top-1 token is the model's own at every row up to the last."""

RANKS = {"first_rank_le_1": 1, "first_rank_le_5": 5, "first_rank_le_10": 10}
BELOW_BITS = {"first_kl_below_1.0": 1.0, "first_kl_below_0.5": 0.5}
MILESTONES = (*RANKS, *BELOW_BITS)
"""Milestones of a sweep that are read here, by their keys in its JSON."""


class RevisionSamples(NamedTuple):
    """Readings of a lens at all sampled positions of held-out text, and after each fact.

    Attributes:
        rows: Rows that the lens reads.
        sequences: Packed sequence of each position.
        kl_from_final_bits: KL(P_final ‖ P_row).
        kl_to_final_bits: KL(P_row ‖ P_final).
        top1_agree: 1 where both put the same token first, else 0.
        entropy_bits: Entropy of the model's final distribution.
        text: Row of each milestone, for the token that the model itself puts first; −1 where it is never reached.
        answers: The same for the answers of the facts with a resolved answer.
        answer_ranks: Rank of these answers in the model's final distribution.
    """

    rows: tuple[int, ...]
    sequences: Int[Tensor, " pos"]
    kl_from_final_bits: Float[Tensor, "rows pos"]
    kl_to_final_bits: Float[Tensor, "rows pos"]
    top1_agree: Float[Tensor, "rows pos"]
    entropy_bits: Float[Tensor, " pos"]
    text: dict[str, Int[Tensor, " pos"]]
    answers: dict[str, Int[Tensor, " facts"]]
    answer_ranks: Int[Tensor, " facts"]


class RevisionModule(CompareModule):
    """Reads one lens, side `a`, on held-out text, and at the end on facts."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self._text: list[tuple[Tensor, ...]] = []
        self._reached: list[dict[str, Tensor]] = []
        self._answers: list[dict[str, Tensor]] = []
        self._ranks: list[Tensor] = []

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Read the lens at every sampled position, with the model's own top-1 token as the target."""
        h, lens = self.given("val", batch).rows.flatten(1, 2), self.pair["a"]
        top1 = final_top1(lens.head, h, block_bytes=self.settings.block_bytes)
        found = self._read(h, top1)
        top1 = top1.cpu()
        agree = (found.top_ids[..., 0] == top1).float()
        self._text.append((found.kl_from_final_bits, found.kl_to_final_bits, agree, found.entropy_bits[-1:]))
        settled = torch.tensor([*lens.rows, -1])[settling_rows(found.top_ids[..., 0], top1)]
        self._reached.append(reached_rows(found, lens.rows) | {SETTLED: settled})
        self._sequences.append(torch.tensor(batch.indices).repeat_interleave(batch.positions.shape[1]))

    def on_validation_epoch_end(self) -> None:
        """Read the facts."""
        facts = [fact for fact in self.trainer.datamodule.facts if fact.answer_tokens.status == "resolved"]  # type: ignore[attr-defined]
        for batch, found in read_in_groups(self.frozen, PromptBatches(facts), self._of_facts):
            h = found.rows.flatten(1, 2)
            ids = torch.tensor([fact.answer_tokens.ids[0] for fact in batch.prompts])
            read = self._read(h, ids)
            self._answers.append(reached_rows(read, self.pair["a"].rows))
            self._ranks.append(read.target_rank[-1])

    def _of_facts(self, batch: PromptBatch) -> Request:
        ends = torch.tensor([[len(prompt.ids) - 1] for prompt in batch.prompts])
        return Request(batch.input_ids, ends, self.rows, batch.attention_mask)

    def _read(self, h: Tensor, ids: Tensor) -> RowReadings:
        none = torch.full_like(ids, -1)
        found = lens_readings(self.pair["a"], h, ids, none, top_k=1, block_bytes=self.settings.block_bytes)
        bad = [row for row, line in zip(self.pair["a"].rows, found.finite, strict=True) if not bool(line.all())]
        if bad:
            raise InputError(f"The lens gives values that are not finite at row(s) {bad}: compare another.")
        return found

    def revision_samples(self) -> RevisionSamples:
        """All readings."""
        kl_from, kl_to, agree, entropy = (torch.cat(parts, dim=1) for parts in zip(*self._text, strict=True))
        return RevisionSamples(
            rows=tuple(self.pair["a"].rows),
            sequences=torch.cat(self._sequences),
            kl_from_final_bits=kl_from,
            kl_to_final_bits=kl_to,
            top1_agree=agree,
            entropy_bits=entropy[0],
            text={name: torch.cat([of[name] for of in self._reached]) for name in (SETTLED, *MILESTONES)},
            answers={name: torch.cat([of[name] for of in self._answers]) for name in MILESTONES if self._answers},
            answer_ranks=torch.cat(self._ranks) if self._ranks else torch.empty(0, dtype=torch.int64),
        )


def reached_rows(found: RowReadings, rows: tuple[int, ...]) -> dict[str, Int[Tensor, " pos"]]:
    """Row of each milestone at every position, as a sweep defines them; −1 where it is never reached."""
    ranks = {name: first_rows((found.target_rank > 0) & (found.target_rank <= k), rows) for name, k in RANKS.items()}
    return ranks | {name: first_rows(found.kl_to_final_bits < bits, rows) for name, bits in BELOW_BITS.items()}
