"""Held-out text and short prompts on which lenses of different schedules are compared."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.data.held_out_text import HeldOutText
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.positions import FIRST_SETTLED_POSITION, sample_positions
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.settings.text import TextSettings

PROMPT_TOKENS = (16, 30)
SEED = -3  # for sampling positions; not used by any fit or validation


def unseen_sequences(settings: TextSettings, model_id: str, count: int) -> Int[Tensor, "batch seq"]:
    """The first packed sequences of the test text, which no fit or validation uses.

    Raises:
        InputError: The text or the tokenizer is not available, or there is too little text.
    """
    text = HeldOutText.find(settings, ModelTokenizer.load(model_id), {"test": count})
    return torch.tensor(text.sequences["test"])


class Evaluation:
    """Held-out text and short prompts, read once, and the divergence of a lens on them at every inner row.

    Args:
        lm: The model.
        sequences: Held-out text, packed.
    """

    def __init__(self, lm: FrozenLM, sequences: Int[Tensor, "batch seq"]) -> None:
        self.lm = lm
        self.rows = list(range(1, lm.num_blocks + 1))
        settled = FIRST_SETTLED_POSITION / sequences.shape[1]
        self.residuals = {
            "text": self._read([(sequences, _positions(sequences, settled, 1.0))]),
            "late text": self._read([(sequences, _positions(sequences, 0.6, 0.95))]),
            "prompts": self._read(self._prompts(sequences)),
        }

    @torch.no_grad()
    def kl_bits(self, lens: Lens) -> dict[str, list[float]]:
        """Mean KL(P_final‖P_row) at rows 1 … n − 1, by name of the input."""
        found = {}
        for name, h in self.residuals.items():
            x, inv_tau = lens.decode_inputs(h, self.rows)
            divergence = row_divergence(x[:-1], x[-1], inv_tau[:-1], lens.head.unembedding)
            found[name] = divergence.kl_from_final_bits.double().mean(1).tolist()
        return found

    def _read(self, texts: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, "rows pos d_model"]:
        parts = [
            residuals(self.lm, ids, at, self.rows).flatten(1, 2)
            for sequences, positions in texts
            for ids, at in zip(sequences.split(16), positions.split(16), strict=True)
        ]
        return torch.cat(parts, dim=1)

    def _prompts(self, sequences: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Beginnings of documents, 16 to 30 tokens with BOS, read at their last token; batched by length."""
        assert self.lm.tokenizer is not None
        starts = (sequences == self.lm.tokenizer.bos_token_id).nonzero().tolist()
        shortest, longest = PROMPT_TOKENS
        for turn, length in enumerate(range(shortest, longest + 1)):
            mine = starts[turn :: longest - shortest + 1]
            cut = [sequences[g, p : p + length] for g, p in mine if p + length <= sequences.shape[1]]
            whole = [ids for ids in cut if int((ids == ids[0]).sum()) == 1]  # from a single document
            if whole:
                yield torch.stack(whole), torch.full((len(whole), 1), length - 1)


def _positions(sequences: Tensor, low: float, high: float) -> Int[Tensor, "batch pos"]:
    length = sequences.shape[1]
    return torch.stack([sample_positions(SEED, g, length, 16, (low, high)) for g in range(len(sequences))])
