"""Lanes: a fixed number of disjoint streams through the dataset, independent of the number of processes.

If shards were divided among processes, the order of training would depend on their number. Instead the dataset is
divided into `lanes` (8 by default), and sequence g of the run is number g // lanes of lane g % lanes. Processes and
workers share the lanes: with 1, 2 or 4 processes, every optimiser step sees the same sequences.

The position in a lane is a `LaneCursor` of plain values. It is passed along with each batch, so that text read ahead by
a worker does not count as consumed.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from logos_pl.data.held_out import Tokenize, in_part, side, text_digest
from logos_pl.data.shards import Row, Shard, Stride, read_rows
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from logos_pl.functional.packing import pack

FIRST_LINK = "0" * 64


class LaneCursor(NamedTuple):
    """Position in a lane: the next token is number `token_offset` of the first train document at or after `row`.

    Attributes:
        pass_index: Number of completed passes over the lane's part of the dataset.
        shard: Name of the shard; empty before the first.
        row: Row in the shard, counting all rows, including held-out and empty ones.
        token_offset: Tokens already emitted of the document in that row; 0 at its start.
        documents: Documents started; each counts once, however often the text is trained on.
        tokens: Tokens emitted, counted in the same way.
        sequences: Sequences emitted, in all passes of training.
        chain: Running hex digest of the documents started: SHA-256 of previous chain, shard, row and SHA-256 of the
            text.
        text_pass: Number of passes over the lane's part of the dataset that the text has completed; like `pass_index`,
            but not reset when the text is trained on again.
    """

    pass_index: int = 0
    shard: str = ""
    row: int = 0
    token_offset: int = 0
    documents: int = 0
    tokens: int = 0
    sequences: int = 0
    chain: str = FIRST_LINK
    text_pass: int = 0


START = LaneCursor()


class Part(NamedTuple):
    """One shard, or a stride of its rows, that belongs to a lane."""

    shard: Shard
    stride: Stride


Read = Callable[[Part, str, int, int], Iterator[Row]]
"""Returns rows, given part, text column, pass and first row."""


def read_alone(part: Part, text_column: str, pass_index: int, start: int) -> Iterator[Row]:
    """Yield the rows of a part, read independently of other lanes.

    Raises:
        LogosError: As `read_rows`.
    """
    return read_rows(part.shard, text_column, start, part.stride)


class DocumentPlace(NamedTuple):
    """A document and its location."""

    pass_index: int
    shard: str
    row: int
    digest: bytes


class TrainText(NamedTuple):
    """Settings shared by all lanes: tokenisation and held-out split.

    Attributes:
        tokenize: Converts text to token ids, with the tokenizer's special tokens.
        text_column: Column with the text.
        held_out_frac: Fraction of documents on each of the two held-out sides.
        seq_len: Tokens per sequence.
        lane_length: Sequences of each lane that make up the text of a fit, which is trained on in several passes; None:
            the lane does not end.
        part: Number of the part of the documents that is trained on, from 1, and number of parts.
    """

    tokenize: Tokenize
    text_column: str
    held_out_frac: float
    seq_len: int
    lane_length: int | None = None
    part: tuple[int, int] = (1, 1)

    def training_pass(self, cursor: "LaneCursor") -> tuple[int, "LaneCursor"]:
        """The pass that the next sequence belongs to, from 0, and where it begins in the text."""
        if self.lane_length is None:
            return 0, cursor
        index, done = divmod(cursor.sequences, self.lane_length)
        return index, START if done == 0 else cursor


def lane_parts(shards: Sequence[Shard], lane: int, lanes: int) -> tuple[Part, ...]:
    """Parts of the dataset that belong to a lane; the lanes partition the dataset.

    With at least as many shards as lanes, a lane has every `lanes`-th shard. Otherwise the lanes of a shard take its
    rows in turn.
    """
    if len(shards) >= lanes:
        return tuple(Part(shard, Stride()) for shard in shards[lane::lanes])
    shard = lane % len(shards)
    sharers = len(range(shard, lanes, len(shards)))
    return (Part(shards[shard], Stride(lane // len(shards), sharers)),)


def chain_on(chain: str, place: DocumentPlace) -> str:
    """Running digest after one more document."""
    return hashlib.sha256(f"{chain}\n{place.shard}\n{place.row}\n{place.digest.hex()}".encode()).hexdigest()


def content_hash(cursors: dict[int, LaneCursor]) -> str:
    """SHA-256 over the chains of all lanes, as 64 hex digits; identifies the consumed text and its order."""
    return hashlib.sha256("\n".join(cursors[lane].chain for lane in sorted(cursors)).encode()).hexdigest()


def lane_documents(
    parts: Sequence[Part], text: TrainText, cursor: LaneCursor, read: Read
) -> Iterator[tuple[DocumentPlace, Sequence[int]]]:
    """Yield the train documents of a lane as (place, token ids) from the cursor on, in endless passes.

    Raises:
        InputError: A whole pass has no train document, or the shard of the cursor is not in the lane.
        RunError: A shard cannot be read.
    """
    names = [part.shard.name for part in parts]
    if cursor.shard not in ("", *names):
        raise InputError(
            f"The checkpoint continues in shard {cursor.shard}, which is missing or was moved; resume with the same "
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
        if side(digest, text.held_out_frac) != "train" or not in_part(digest, text.part):
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
    """Yield endless sequences of `seq_len` tokens of a lane, each with the cursor after it.

    Args:
        parts: Parts of the dataset that belong to the lane.
        text: Tokenisation and held-out split.
        cursor: Start position.
        read: Reads the rows of a part; by default independently of other lanes.

    Raises:
        InputError: There is no train document, or the cursor is from another dataset.
        RunError: A shard cannot be read.
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
            text_pass=packed.last.pass_index,
        )
        yield packed.tokens, cursor


def trained_sequences(
    parts: Sequence[Part], text: TrainText, cursor: LaneCursor, read_in_pass: Callable[[int], Read]
) -> Iterator[tuple[list[int], LaneCursor]]:
    """Yield the sequences of a lane as they are trained on: from its start again after each `text.lane_length`.

    Only the first pass counts as text; the later ones read the same.

    Args:
        parts: Parts of the dataset that belong to the lane.
        text: Tokenisation, held-out split and length of the lane.
        cursor: Start position.
        read_in_pass: Returns the function that reads rows in a given training pass.

    Raises:
        InputError: There is no train document, or the cursor is from another dataset.
        RunError: A shard cannot be read.
    """
    while True:
        index, begin = text.training_pass(cursor)
        rest = None if text.lane_length is None else text.lane_length * (index + 1) - cursor.sequences
        for ids, place in islice(lane_sequences(parts, text, begin, read_in_pass(index)), rest):
            counted = place if index == 0 else cursor
            cursor = place._replace(
                documents=counted.documents,
                tokens=counted.tokens,
                sequences=cursor.sequences + 1,
                chain=counted.chain,
                text_pass=counted.text_pass,
            )
            yield ids, cursor


def _from_the_same_document(
    documents: Iterator[tuple[DocumentPlace, Sequence[int]]], cursor: LaneCursor
) -> Iterator[tuple[DocumentPlace, Sequence[int]]]:
    """Yield the documents, after checking that the partly emitted document is at the cursor."""
    for index, (place, ids) in enumerate(documents):
        same = (place.pass_index, place.shard, place.row) == (cursor.pass_index, cursor.shard, cursor.row)
        if index == 0 and cursor.token_offset > 0 and not (same and cursor.token_offset < len(ids)):
            raise InputError(
                f"Row {cursor.row} of shard {cursor.shard} is not the document the checkpoint stopped in; "
                "resume with the same dataset and tokenizer."
            )
        yield place, ids
