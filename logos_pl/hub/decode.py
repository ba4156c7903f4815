"""Checks a published lens on its model: row n is exact, and the lens is closer to the model than the norm lens."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.data.held_out import documents_of
from logos_pl.data.source import resolve
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.errors import InputError
from logos_pl.functional.divergence import NATS_TO_BITS, kl_nats
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lm.anatomy import exact_logits
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.hooks import replacing
from logos_pl.lm.residuals import Request, read_in_groups

NUM_DOCUMENTS = 8
POSITIONS_PER_DOCUMENT = 16
NUM_ROWS = 8
MAX_TOKENS = 256
LEAST_TOKENS = 8
"""Minimum number of tokens in a document; shorter ones have too little context."""


class DecodeCheck(NamedTuple):
    """Result of the check.

    Attributes:
        num_documents: Number of documents.
        num_pairs: Number of random pairs of row and position.
        differing_logits: Number of logits at row n that are not bit-equal to their reference.
        median_gain_bits: Median over the pairs of KL(row‖final) of the norm lens minus that of the lens.
    """

    num_documents: int
    num_pairs: int
    differing_logits: int
    median_gain_bits: float

    @property
    def is_exact(self) -> bool:
        """Whether row n is exact."""
        return self.differing_logits == 0

    @property
    def gains(self) -> bool:
        """Whether the lens is closer to the model than the norm lens, by the median."""
        return self.median_gain_bits > 0


def held_out_documents(dataset: str, held_out_frac: float) -> list[str]:
    """First documents of a dataset that are held out at a given fraction.

    Args:
        dataset: Folder or file of text, ``demo``, or a data set of the Hub.
        held_out_frac: Share of the documents that the lens's fit held out.

    Raises:
        InputError: There is no such data set, or it has no held-out document.
    """
    shards = resolve(dataset).shards
    held_out = (
        found.text for found in documents_of({"val", "test"}, shards, "text", held_out_frac) if found is not None
    )
    documents = list(islice(held_out, 4 * NUM_DOCUMENTS))
    if not documents:
        raise InputError(f"{dataset} has no document that the lens's fit would have held out: give a longer --text.")
    return documents


@torch.no_grad()
def decode_check(lm: FrozenLM, lens: Lens, documents: Iterable[str], seed: int) -> DecodeCheck:
    """Decode random rows at random positions of documents.

    Args:
        lm: The model.
        lens: Its lens, bound to it.
        documents: Texts that the lens was not trained on.
        seed: Seed for sampling rows and positions.

    Raises:
        InputError: The model has no tokenizer, or no document has enough tokens.
    """
    if lm.tokenizer is None:
        raise InputError(f"{lm.model_id} has no tokenizer to read text with: load it with one.")
    generator = torch.Generator().manual_seed(seed)
    longest = min(MAX_TOKENS, lm.context_length or MAX_TOKENS)
    encode = Tokenizer(lm.tokenizer, lm.vocab_size)
    tokenised = (encode(text)[:longest] for text in documents)
    chosen = list(islice((ids for ids in tokenised if len(ids) >= LEAST_TOKENS), NUM_DOCUMENTS))
    if not chosen:
        raise InputError(f"No document has {LEAST_TOKENS} tokens or more: give a longer --text.")
    asked = [_draw(lm, ids, generator) for ids in chosen]
    read = [
        _compare(lm, lens, drawn, found.rows[:, 0])
        for drawn, found in read_in_groups(lm, asked, lambda drawn: Request(drawn.input_ids, None, drawn.rows))
    ]
    gains = torch.cat([gain.flatten() for _, gain in read])
    return DecodeCheck(len(chosen), gains.numel(), sum(differing for differing, _ in read), float(gains.median()))


class _Drawn(NamedTuple):
    """A document, and the rows and positions that are compared."""

    input_ids: Int[Tensor, "1 seq"]
    positions: Int[Tensor, " pos"]
    rows: list[int]
    """Random inner rows in order, then row n."""


def _draw(lm: FrozenLM, ids: Sequence[int], generator: torch.Generator) -> _Drawn:
    # Without the first position, which has no context.
    positions = 1 + torch.randperm(len(ids) - 1, generator=generator)[:POSITIONS_PER_DOCUMENT]
    inner = (1 + torch.randperm(lm.num_blocks - 1, generator=generator)[:NUM_ROWS]).sort().values
    return _Drawn(torch.tensor([ids]), positions, [*inner.tolist(), lm.num_blocks])


def _compare(
    lm: FrozenLM, lens: Lens, drawn: _Drawn, h: Float[Tensor, "rows seq d_model"]
) -> tuple[int, Float[Tensor, "rows pos"]]:
    """Number of differing logits at row n, and gains in bits at random inner rows and positions."""
    rows, positions, n = drawn.rows, drawn.positions, lm.num_blocks
    own = _own_logits(lm, drawn.input_ids, h[-1:])[0]
    norm = NormLens(lens.head)
    differing = int((exact_logits(lm.anatomy, h[-1:]) != own).sum())
    differing += int((lens.logits(h[-1:], [n]) != norm.logits(h[-1:], [n])).sum())
    at = positions.to(h.device)
    log_final = torch.log_softmax(own[at].double().cpu(), dim=-1)
    kl_norm, kl_tuned = (_kl_bits(reader, h[:-1, at], rows[:-1], log_final) for reader in (norm, lens))
    return differing, kl_norm - kl_tuned


def _own_logits(
    lm: FrozenLM, input_ids: Int[Tensor, "1 seq"], last: Float[Tensor, "1 seq d_model"]
) -> Float[Tensor, "1 seq vocab"]:
    """The model's own logits.

    For a streamed model, they are computed from row n by the model's own code: reading all blocks again for each
    document would show nothing new, since the rows are compared with the model's own code at every load.
    """
    if lm.streamed is None:
        return lm.logits(input_ids)
    with lm.streamed.passing_through(), replacing(lm.anatomy.blocks[-1], last):
        return lm.logits(input_ids)


def _kl_bits(
    lens: Lens, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int], log_final: Float[Tensor, "pos vocab"]
) -> Float[Tensor, "rows pos"]:
    """KL(row‖final) in bits and fp64, one row at a time."""
    log_rows = (torch.log_softmax(lens.logits(h[i : i + 1], [row])[0].double().cpu(), -1) for i, row in enumerate(rows))
    return torch.stack([kl_nats(log_row, log_final) for log_row in log_rows]) * NATS_TO_BITS
