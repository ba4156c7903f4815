"""Lanes: a fixed number of disjoint streams through the dataset, whatever the number of processes that read them.

If shards were dealt out to processes, the order of training would depend on how many there are. So the dataset is
dealt out to `lanes` (8 by default) instead, and sequence g of the run is the (g // lanes)-th of lane g %
lanes. Processes and their workers only share the lanes between them: with 1, 2 or 4 processes every optimiser step sees
the same sequences.

A lane's place is a `LaneCursor` of a few plain values. It travels with each batch, so what a worker has read ahead
never counts as consumed.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from logos_pl.data.held_out import Tokenize, side, text_digest
from logos_pl.data.shards import Row, Shard, Stride, read_rows
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from logos_pl.functional.packing import pack

FIRST_LINK = "0" * 64


class LaneCursor(NamedTuple):
    """Where a lane is: the next token to emit is number `token_offset` of the first train document at or after `row`.

    Attributes:
        pass_index: Full passes over the lane's part of the dataset that came before this one.
        shard: Name of the shard; empty before the first.
        row: Row in it, counting every row, also those held out or empty.
        token_offset: Tokens already emitted of the document in that row; 0 at its start.
        documents: Documents started, over all passes.
        tokens: Tokens emitted.
        sequences: Sequences emitted.
        chain: Running digest (hex) over the documents started: SHA-256 of the chain before, the shard, the row, the
            text's SHA-256.
    """

    pass_index: int = 0
    shard: str = ""
    row: int = 0
    token_offset: int = 0
    documents: int = 0
    tokens: int = 0
    sequences: int = 0
    chain: str = FIRST_LINK


START = LaneCursor()


class Part(NamedTuple):
    """One shard, or a stride of its rows, that belongs to a lane."""

    shard: Shard
    stride: Stride


Read = Callable[[Part, str, int, int], Iterator[Row]]
"""From a part, the column with the text, the pass and the first row: the rows."""


def read_alone(part: Part, text_column: str, pass_index: int, start: int) -> Iterator[Row]:
    """A part's rows, read without sharing the shard with other lanes.

    Raises:
        LogosError: As `read_rows`.
    """
    return read_rows(part.shard, text_column, start, part.stride)


class DocumentPlace(NamedTuple):
    """Where a document was found, and what it says."""

    pass_index: int
    shard: str
    row: int
    digest: bytes


class TrainText(NamedTuple):
    """What all lanes share: how text becomes tokens, and which of it may be trained on.

    Attributes:
        tokenize: Text to token ids, with the tokenizer's own special tokens.
        text_column: Column with the text.
        held_out_frac: Share of the documents held out on each of the two held-out sides.
        seq_len: Tokens per sequence.
    """

    tokenize: Tokenize
    text_column: str
    held_out_frac: float
    seq_len: int


def lane_parts(shards: Sequence[Shard], lane: int, lanes: int) -> tuple[Part, ...]:
    """The part of the dataset that belongs to one lane: disjoint from the others', and together they are all of it.

    With at least as many shards as lanes, a lane has every `lanes`-th shard. Otherwise the lanes on one shard take
    turns at its rows.
    """
    if len(shards) >= lanes:
        return tuple(Part(shard, Stride()) for shard in shards[lane::lanes])
    shard = lane % len(shards)
    sharers = len(range(shard, lanes, len(shards)))
    return (Part(shards[shard], Stride(lane // len(shards), sharers)),)


def chain_on(chain: str, place: DocumentPlace) -> str:
    """The running digest after one more document."""
    return hashlib.sha256(f"{chain}\n{place.shard}\n{place.row}\n{place.digest.hex()}".encode()).hexdigest()


def content_hash(cursors: dict[int, LaneCursor]) -> str:
    """SHA-256 over all lanes' chains in lane order: what was consumed, and in which order, in 64 hex digits."""
    return hashlib.sha256("\n".join(cursors[lane].chain for lane in sorted(cursors)).encode()).hexdigest()


def lane_documents(
    parts: Sequence[Part], text: TrainText, cursor: LaneCursor, read: Read
) -> Iterator[tuple[DocumentPlace, Sequence[int]]]:
    """Yields a lane's train documents as (place, token ids), from the cursor on, pass after pass without end.

    Raises:
        InputError: If a whole pass has no document to train on, or the lane does not have the cursor's shard.
        RunError: If a shard cannot be read.
    """
    names = [part.shard.name for part in parts]
    if cursor.shard not in ("", *names):
        raise InputError(
            f"The checkpoint goes on in shard {cursor.shard}, which is missing or was moved; resume with the same "
            "dataset."
        )
    pass_index, row = cursor.pass_index, cursor.row
    first = names.index(cursor.shard) if cursor.shard else 0
    while True:
        whole_pass, found = first == 0 and row == 0, False
        for part in parts[first:]:
            for document in _train_documents(part, text, pass_index, read(part, text.text_column, pass_index, row)):
                found = True
                yield document
            row = 0
        if whole_pass and not found:
            raise InputError(
                f"There is no document to train on in {', '.join(names[:3])}{', …' if len(names) > 3 else ''}; "
                "lower --data.lanes or --data.held_out_frac, or give more text."
            )
        pass_index, first = pass_index + 1, 0


def _train_documents(
    part: Part, text: TrainText, pass_index: int, rows: Iterator[Row]
) -> Iterator[tuple[DocumentPlace, Sequence[int]]]:
    for row, document in rows:
        if document is None or not document.strip():
            continue
        digest = text_digest(document)
        if side(digest, text.held_out_frac) != "train":
            continue
        try:
            ids = text.tokenize(document)
        except TextRefusedError as error:
            raise error.of_row(part.shard.name, row) from error
        if len(ids) > 0:
            yield DocumentPlace(pass_index, part.shard.name, row, digest), ids


def lane_sequences(
    parts: Sequence[Part], text: TrainText, cursor: LaneCursor = START, read: Read = read_alone
) -> Iterator[tuple[list[int], LaneCursor]]:
    """Yields a lane's sequences of `seq_len` tokens, each with the cursor after it, without end.

    Args:
        parts: The lane's part of the dataset.
        text: How text becomes tokens.
        cursor: Where the lane is.
        read: What gives the rows of a part; by default the lane reads its shards by itself.

    Raises:
        InputError: If there is nothing to train on, or the dataset is not the one the cursor comes from.
        RunError: If a shard cannot be read.
    """
    documents = _from_the_same_document(lane_documents(parts, text, cursor, read), cursor)
    for packed in pack(documents, text.seq_len, cursor.token_offset):
        chain = cursor.chain
        for place in packed.started:
            chain = chain_on(chain, place)
        cursor = LaneCursor(
            pass_index=packed.last.pass_index,
            shard=packed.last.shard,
            row=packed.last.row + packed.last_ended,
            token_offset=0 if packed.last_ended else packed.next_offset,
            documents=cursor.documents + len(packed.started),
            tokens=cursor.tokens + len(packed.tokens),
            sequences=cursor.sequences + 1,
            chain=chain,
        )
        yield packed.tokens, cursor


def _from_the_same_document(
    documents: Iterator[tuple[DocumentPlace, Sequence[int]]], cursor: LaneCursor
) -> Iterator[tuple[DocumentPlace, Sequence[int]]]:
    """The documents, after checking that a document half emitted is still where the cursor says."""
    for index, (place, ids) in enumerate(documents):
        same = (place.pass_index, place.shard, place.row) == (cursor.pass_index, cursor.shard, cursor.row)
        if index == 0 and cursor.token_offset > 0 and not (same and cursor.token_offset < len(ids)):
            raise InputError(
                f"Row {cursor.row} of shard {cursor.shard} is not the document the checkpoint stopped in; "
                "resume with the same dataset and tokenizer."
            )
        yield place, ids
