"""Items of a suite of unspoken intermediates as tokens: where they are read, and which tokens are ranked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.padding import grouped, padded
from logos_pl.data.prompt_ids import with_special_tokens
from logos_pl.data.prompts import TOKENS_PER_BATCH
from logos_pl.data.spellings import FirstTokens, Pieces
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from logos_pl.data.unspoken import UnspokenItem
from logos_pl.lm.residuals import Residuals

MAX_ITEMS_PER_BATCH = 32

Reason = Literal["not_tokenised", "too_long", "place_merges", "no_spelling", "shared_first_token"]

REASONS: dict[Reason, str] = {
    "not_tokenised": "the tokenizer cannot read the prompt",
    "too_long": "the prompt is longer than the model's context",
    "place_merges": "the place to read is inside a token",
    "no_spelling": "a word has no spelling that counts: its first token is white space, or it is several tokens",
    "shared_first_token": "an intermediate and the answer begin with the same token",
}
"""Why an item cannot be scored, in words."""


class TokenizedItem(NamedTuple):
    """An item with its tokens.

    Attributes:
        item: The item.
        ids: Tokens of the prompt, up to where the answer would begin.
        place: Index of the token at which the intermediates are read.
        intermediates: First tokens that count, of each intermediate.
        target: First tokens of the answer that count; empty if there is none.
    """

    item: UnspokenItem
    ids: tuple[int, ...]
    place: int
    intermediates: tuple[tuple[int, ...], ...]
    target: tuple[int, ...]

    @property
    def end(self) -> int:
        """Index of the token after which the answer would come."""
        return len(self.ids) - 1


class TokenizedSuite(NamedTuple):
    """The items of a suite that can be scored with a tokenizer, and those that cannot.

    Attributes:
        items: Items that can be scored.
        unscored: The others, with the reason.
    """

    items: list[TokenizedItem]
    unscored: list[tuple[UnspokenItem, Reason]]

    def counts(self) -> dict[Reason, int]:
        """Number of items that cannot be scored, by reason."""
        counted = Counter(reason for _, reason in self.unscored)
        return {reason: counted[reason] for reason in get_args(Reason) if counted[reason]}


class UnspokenBatch(NamedTuple):
    """Items of one forward pass.

    Attributes:
        numbers: Their numbers in the suite.
        input_ids: Their tokens, padded on the right with 0.
        attention_mask: 1 for tokens, 0 for padding.
        positions: Place and end of each; a single column where all items are read at their end.
        residuals: The model's residual stream, if a streamed model has read ahead.
    """

    numbers: tuple[int, ...]
    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    positions: Int[Tensor, "batch places"]
    residuals: Residuals | None = None


def tokenize_suite(items: Sequence[UnspokenItem], model: ModelTokenizer) -> TokenizedSuite:
    """Tokenise items; those that cannot be scored are returned with the reason."""
    encode = model.encoder()
    first_tokens = FirstTokens(encode)
    scored, unscored = [], []
    for item in items:
        found = _tokenized(item, encode, first_tokens, model.context_length)
        if isinstance(found, TokenizedItem):
            scored.append(found)
        else:
            unscored.append((item, found))
    return TokenizedSuite(scored, unscored)


def _tokenized(
    item: UnspokenItem, encode: Tokenizer, first_tokens: FirstTokens, context_length: int | None
) -> TokenizedItem | Reason:
    pieces: Pieces = "none" if item.single_token else "if_needed"
    intermediates = tuple(first_tokens(spellings, pieces) for spellings in item.intermediates)
    target = first_tokens(item.target)
    if not all(intermediates) or (item.target and not target):
        return "no_spelling"
    if any(set(of_one) & set(target) for of_one in intermediates):
        return "shared_first_token"
    try:
        ids = _prompt_ids(item, encode, first_tokens)
        place = _place(item, ids, encode)
    except TextRefusedError:
        return "not_tokenised"
    if place is None:
        return "place_merges"
    if context_length is not None and len(ids) > context_length:
        return "too_long"
    return TokenizedItem(item, ids, place, intermediates, target)


def _prompt_ids(item: UnspokenItem, encode: Tokenizer, first_tokens: FirstTokens) -> tuple[int, ...]:
    """Tokens of the prompt up to where the answer would begin.

    White space at its end is dropped if it would become part of the answer's first token, as in ` Paris`: models are
    hardly ever trained on such an answer after white space as a token of its own.
    """
    ids = with_special_tokens(encode, item.prompt)[1]
    bare = item.prompt.rstrip()
    if bare == item.prompt or item.read_after is not None:
        return ids
    before, whole = encode.plain(bare), encode.plain(item.prompt + (item.target[0] if item.target else "the"))
    merged = whole[: len(before)] == before and first_tokens.counts(whole[len(before)])
    return with_special_tokens(encode, bare)[1] if merged else ids


def _place(item: UnspokenItem, ids: tuple[int, ...], encode: Tokenizer) -> int | None:
    """Index of the token at which the intermediates are read; None if the place is inside a token."""
    if item.read_after is None:
        return len(ids) - 1
    read = item.prompt[: item.prompt.rindex(item.read_after) + len(item.read_after)]
    before = with_special_tokens(encode, read)[1]
    return len(before) - 1 if ids[: len(before)] == before else None


class UnspokenBatches:
    """A process's share of the items in batches: every `world_size`-th item, without duplicates.

    Args:
        items: All items.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(self, items: Sequence[TokenizedItem], rank: int = 0, world_size: int = 1) -> None:
        mine = list(range(len(items)))[rank::world_size]
        groups = grouped([len(items[number].ids) for number in mine], TOKENS_PER_BATCH, MAX_ITEMS_PER_BATCH)
        self.batches = [_batch(mine[group], [items[number] for number in mine[group]]) for group in groups]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[UnspokenBatch]:
        return iter(self.batches)


def _batch(numbers: Sequence[int], items: Sequence[TokenizedItem]) -> UnspokenBatch:
    input_ids, mask = padded([item.ids for item in items])
    places = [[item.place, item.end] for item in items]
    positions = torch.tensor([[end] for _, end in places] if all(a == b for a, b in places) else places)
    return UnspokenBatch(tuple(numbers), input_ids, mask, positions)
