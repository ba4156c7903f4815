"""Measures the inputs of the gates on held-out text and on a suite of prompts. Source: docs/method.md §6."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompts import PromptBatch, TokenizedPrompt
from logos_pl.functional.blocks import position_pieces
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.divergence import RowDivergence
from logos_pl.functional.last_row import last_row
from logos_pl.functional.next_token import next_token_nats
from logos_pl.functional.row_index import among_all_rows
from logos_pl.gates.measurements import (
    DECIDES,
    LensMeasurements,
    PromptMeasurements,
    TextMeasurements,
    read_by_test,
    shown_by_row,
)
from logos_pl.gates.token_sums import TokenSums
from logos_pl.lenses.calibration import TemperedLens
from logos_pl.lenses.decoding import lens_divergence, lens_readings
from logos_pl.lenses.norm import Lens
from logos_pl.lenses.skipping import next_token_sums, skip_rows
from logos_pl.lm.anatomy import exact_logits
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, Residuals
from logos_pl.modules.keyed_rows import KeyedRows
from logos_pl.modules.row_means import RowMeans

DIVERGENCES = ("kl_to_final_bits", "kl_from_final_bits")
"""Quantities stored for every sampled position at the depth percentiles."""


class SkipReading(NamedTuple):
    """Perplexity on held-out text when the last m blocks are replaced by the tuned lens.

    Attributes:
        num_tokens: Number of predicted tokens.
        perplexity: By m; m = 0 is the model itself.
        not_applicable: Reason why m blocks cannot be skipped, by m.
    """

    num_tokens: int
    perplexity: dict[int, float]
    not_applicable: dict[int, str]


class GateReadings(NamedTuple):
    """All measurements of a test, merged over processes.

    Attributes:
        rows: By lens and quantity, means over held-out positions for rows 0 … n; NaN at rows that the lens does not
            read.
        next_token_nats: By lens, mean cross-entropy with the true next token for rows 0 … n; NaN likewise.
        prompts: Measurements of each prompt, in the order of the suite.
        text: Measurements at positions of held-out text.
        skips: Result of the skip-layers check.
        norm_inv_tau: 1/τ of the norm lens with one temperature per row, for rows 0 … n.
    """

    rows: dict[str, dict[str, Float[Tensor, " rows"]]]
    next_token_nats: dict[str, Float[Tensor, " rows"]]
    prompts: list[PromptMeasurements]
    text: TextMeasurements
    skips: SkipReading
    norm_inv_tau: list[float]


class GateEvaluator(nn.Module):
    """Evaluates lenses and baselines on text and prompts; holds metrics but no weights.

    Args:
        lm: The frozen model.
        lenses: Lenses by name: the one whose verdict counts, all baselines, and optionally further lenses with gates.
        prompts: The whole suite; each process reads a part of it.
        block_bytes: Upper bound on one block of logits, in bytes.
    """

    def __init__(
        self, lm: FrozenLM, lenses: Mapping[str, Lens], prompts: Sequence[TokenizedPrompt], block_bytes: int
    ) -> None:
        super().__init__()
        self.lenses = {name: lenses[name] for name in read_by_test() if name in lenses}
        tempered = lenses["norm_tau"]
        assert isinstance(tempered, TemperedLens)
        self.norm_inv_tau: list[float] = tempered.inv_tau.tolist()
        self.prompts = list(prompts)
        self.block_bytes = block_bytes
        self.num_rows = lm.num_blocks + 1
        self.depths = list(depth_percentile_rows(lm.num_blocks).values())
        self.skipped = skip_rows(lm.num_blocks)
        self.whole_rows = [lm.num_blocks, *self.skipped.rows.values()]
        tokenizer = lm.tokenizer
        self._special = torch.tensor([] if tokenizer is None else tokenizer.all_special_ids, dtype=torch.int64)
        self._lm = [lm]  # in a list, so that the frozen model is not registered as a submodule
        self._numbers = {_name(prompt): number for number, prompt in enumerate(self.prompts)}
        shown = [name for name in shown_by_row() if name in self.lenses]
        means = {name: RowMeans(len(self.lenses[name].rows), RowDivergence._fields) for name in shown}
        next_token = {name: RowMeans(len(self.lenses[name].rows), ["nats"]) for name in shown}
        # Registered, so that they move with the module.
        self.means = cast(Mapping[str, RowMeans], nn.ModuleDict(means))
        self.next_token = cast(Mapping[str, RowMeans], nn.ModuleDict(next_token))
        self.skips = TokenSums(len(self.whole_rows))
        self.num_pos = 1
        self.samples = KeyedRows(len(self.lenses) * len(DIVERGENCES) * len(self.depths))
        self.answers = KeyedRows(2 + len(self.lenses) * 3 * self.num_rows)

    @property
    def lm(self) -> FrozenLM:
        """The frozen model."""
        return self._lm[0]

    def request(self, batch: TextBatch | PromptBatch) -> Request:
        """What to read from the model on a batch, in one forward pass.

        For text: all rows at the sampled positions, and the rows of the skip-layers check at all positions. For
        prompts: all rows at the last token.
        """
        rows = list(range(self.num_rows))
        if isinstance(batch, TextBatch):
            return Request(batch.input_ids, batch.positions, rows, whole_rows=self.whole_rows)
        ends = torch.tensor([[len(prompt.ids) - 1] for prompt in batch.prompts])
        return Request(batch.input_ids, ends, rows, batch.attention_mask)

    @torch.no_grad()
    def read_text(self, batch: TextBatch, found: Residuals) -> None:
        """Evaluate a batch of text, given the model's residual stream `found`."""
        h = found.rows.flatten(1, 2)
        samples = [self._read_lens(name, lens, h, batch) for name, lens in self.lenses.items()]
        num_pos = self.num_pos = batch.positions.shape[1]
        first = torch.tensor(batch.indices) * num_pos
        self.samples.update((first[:, None] + torch.arange(num_pos)).flatten(), torch.cat(samples).T)
        targets = batch.input_ids[:, 1:].flatten().to(h.device)
        skipped = found.whole[:, :, :-1].flatten(1, 2)
        self.skips.update(
            next_token_sums(self.lenses[DECIDES], skipped, self.whole_rows, targets, block_bytes=self.block_bytes)
        )

    def _read_lens(self, name: str, lens: Lens, h: Tensor, batch: TextBatch) -> Float[Tensor, "figures pos"]:
        """Update the means of a lens; returns both divergences at the depth percentiles, in bits."""
        found = lens_divergence(lens, h, block_bytes=self.block_bytes)
        if name in self.means:
            self.means[name].update(**found._asdict())
            self.next_token[name].update(nats=self._next_token_nats(lens, h, batch))
        depths = [lens.rows.index(row) for row in self.depths]
        return torch.cat([getattr(found, kl)[depths] for kl in DIVERGENCES])

    def _next_token_nats(self, lens: Lens, h: Tensor, batch: TextBatch) -> Float[Tensor, "rows pos"]:
        """Cross-entropy of every row of a lens with the next token, in nats, at positions that have one."""
        at, targets = (tensor.to(h.device) for tensor in _followed(batch, self._special))
        rows = list(lens.rows)
        h, parts = h[:, at], [h.new_empty(len(rows), 0, dtype=torch.float32)]
        h = h if len(rows) == self.num_rows else h[rows]
        for part in position_pieces(h.shape, self.block_bytes):
            x, inv_tau = lens.decode_inputs(h[:, part], rows)
            parts.append(
                next_token_nats(x, inv_tau, targets[part], lens.head.unembedding, block_bytes=self.block_bytes)
            )
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def read_prompts(self, batch: PromptBatch, found: Residuals) -> None:
        """Evaluate every lens at the last token of each prompt, given the model's residual stream `found`."""
        rows = list(range(self.num_rows))
        h = found.rows.flatten(1, 2)
        targets = torch.tensor(
            [-1 if p.answer_tokens.first_id is None else p.answer_tokens.first_id for p in batch.prompts]
        ).to(h.device)
        figures, final_rank = [], torch.zeros(len(batch.prompts))
        for name, lens in self.lenses.items():
            read = lens_readings(lens, h, targets, torch.full_like(targets, -1), top_k=1, block_bytes=self.block_bytes)
            parts = (read.kl_to_final_bits, read.kl_from_final_bits, read.target_rank)
            figures += [among_all_rows(part.float(), lens.rows, self.num_rows) for part in parts]
            if name == "norm":
                final_rank = read.target_rank[-1].float()
        norm = self.lenses["norm"]
        last = last_row(norm.logits(h[-1:], rows[-1:])[0], exact_logits(self.lm.anatomy, h[-1]).float())
        own = torch.stack([final_rank, last.kl_after_temp_bits.float().cpu()])
        keys = torch.tensor([self._numbers[_name(prompt)] for prompt in batch.prompts])
        self.answers.update(keys, torch.cat([own, *figures]).T)

    def compute(self) -> GateReadings:
        """All measurements, merged over processes; every process must call this."""
        found = self.skips.compute()
        perplexity = dict(zip((0, *self.skipped.rows), found.by_row, strict=True))
        return GateReadings(
            rows={name: self._by_row(name, means) for name, means in self.means.items()},
            next_token_nats={name: self._by_row(name, means)["nats"] for name, means in self.next_token.items()},
            prompts=self._prompt_figures(),
            text=self._text_figures(),
            skips=SkipReading(found.num_tokens, perplexity, self.skipped.not_applicable),
            norm_inv_tau=self.norm_inv_tau,
        )

    def _by_row(self, name: str, means: RowMeans) -> dict[str, Float[Tensor, " rows"]]:
        """Means of a lens for rows 0 … n, on the CPU."""
        return {
            key: among_all_rows(value.cpu(), self.lenses[name].rows, self.num_rows, 0 if key == "nonfinite" else nan)
            for key, value in means.compute().items()
        }

    def _prompt_figures(self) -> list[PromptMeasurements]:
        table = self.answers.compute()
        missing = set(range(len(self.prompts))) - set(table.keys.tolist())
        assert not missing, f"prompts {sorted(missing)} were never read"
        return [
            self._figures_of(prompt, row)
            for prompt, row in zip(self.prompts, table.values.double().tolist(), strict=True)
        ]

    def _figures_of(self, prompt: TokenizedPrompt, row: list[float]) -> PromptMeasurements:
        resolved = prompt.answer_tokens.status == "resolved"
        final_rank, after_temp, *rest = row
        n = self.num_rows
        lenses = {}
        for number, (name, lens) in enumerate(self.lenses.items()):
            read = set(lens.rows)
            to_final, from_final, rank = (
                [value if at in read else None for at, value in enumerate(rest[n * part : n * (part + 1)])]
                for part in range(3 * number, 3 * number + 3)
            )
            ranks = [None if r is None else int(r) for r in rank] if resolved else None
            lenses[name] = LensMeasurements(to_final, from_final, ranks)
        status = prompt.answer_tokens.status
        assert status in ("resolved", "unresolved", "none")
        return PromptMeasurements(
            prompt_id=prompt.prompt.prompt_id,
            answer_status=status,  # type: ignore[arg-type]
            final_rank=int(final_rank) if resolved else None,
            last_layer_kl_after_temp_bits=after_temp,
            lenses=lenses,
        )

    def _text_figures(self) -> TextMeasurements:
        table = self.samples.compute()
        num_pos = self.num_pos
        per_lens = table.values.cpu().T.reshape(len(self.lenses), len(DIVERGENCES), len(self.depths), -1)
        kls = [{name: per_lens[i, kl] for i, name in enumerate(self.lenses)} for kl in range(len(DIVERGENCES))]
        return TextMeasurements((table.keys.cpu() // num_pos), *kls)


def _name(prompt: TokenizedPrompt) -> tuple[str, str]:
    return prompt.prompt.prompt_id, prompt.prompt.variant


def _followed(batch: TextBatch, special: Tensor) -> tuple[Tensor, Tensor]:
    """Mask of the flat sampled positions that are followed by a text token in their sequence, and these tokens.

    Special tokens are excluded, as they correspond to no bytes of text.
    """
    last = batch.input_ids.shape[1] - 1
    inside = (batch.positions < last).flatten()
    following = batch.input_ids.gather(1, (batch.positions + 1).clamp(max=last)).flatten()
    at = (inside & ~torch.isin(following, special.to(following.device))).nonzero().flatten()
    return at, following[at]
