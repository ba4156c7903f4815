"""Held-out text and short prompts that lenses of different schedules are judged on alike."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from logos_pl.data.datamodule import LensDataModule
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.positions import FIRST_SETTLED_POSITION, sample_positions
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals

PROMPT_TOKENS = (16, 30)
SEED = -3  # of the positions: no fit and no validation draws with it


class Judge:
    """Held-out text and short prompts, and the mean KL(P_final‖P_row) in bits of a lens at every inner row of them."""

    def __init__(self, lm: FrozenLM, data: LensDataModule) -> None:
        self.lm = lm
        sequences = torch.cat([batch.input_ids for batch in data.test_dataloader()[0]])
        self.reads = {
            "text": [(sequences, self._positions(sequences, FIRST_SETTLED_POSITION / data.seq_len, 1.0))],
            "late text": [(sequences, self._positions(sequences, 0.6, 0.95))],
            "prompts": list(self._prompts(sequences)),
        }

    @torch.no_grad()
    def kl_bits(self, lens: Lens) -> dict[str, list[float]]:
        """By what is read, the mean at rows 1 … n − 1."""
        return {name: self._mean(lens, read) for name, read in self.reads.items()}

    def _mean(self, lens: Lens, read: list[tuple[Tensor, Tensor]]) -> list[float]:
        rows = list(range(1, self.lm.num_blocks + 1))
        total, count = torch.zeros(len(rows) - 1, dtype=torch.float64), 0
        for ids, positions in read:
            for part, at in zip(ids.split(16), positions.split(16), strict=True):
                h = residuals(self.lm, part, at, rows).flatten(1, 2)
                x, inv_tau = lens.decode_inputs(h, rows)
                found = row_divergence(x[:-1], x[-1], inv_tau[:-1], lens.head.unembedding)
                total += found.kl_from_final_bits.double().sum(1)
                count += h.shape[1]
        return (total / count).tolist()

    def _positions(self, sequences: Tensor, low: float, high: float) -> Int[Tensor, "batch pos"]:
        length = sequences.shape[1]
        return torch.stack([sample_positions(SEED, g, length, 16, (low, high)) for g in range(len(sequences))])

    def _prompts(self, sequences: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Openings of documents, 16 to 30 tokens long, BOS included, read at their last token; of one length each."""
        assert self.lm.tokenizer is not None
        starts = (sequences == self.lm.tokenizer.bos_token_id).nonzero().tolist()
        shortest, longest = PROMPT_TOKENS
        for length in range(shortest, longest + 1):
            turn = [at for index, at in enumerate(starts) if index % (longest - shortest + 1) == length - shortest]
            cut = [sequences[g, p : p + length] for g, p in turn if p + length <= sequences.shape[1]]
            whole = [ids for ids in cut if int((ids == ids[0]).sum()) == 1]  # one document alone
            if whole:
                yield torch.stack(whole), torch.full((len(whole), 1), length - 1)
