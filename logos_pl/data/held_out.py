"""Held-out documents, chosen by a hash of their text, and the packed sequences for evaluation.

Duplicates of a text are always on the same side, in any shard, row, pass or process, so no evaluation text is trained
on.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from lightning.pytorch.utilities import rank_zero_only

from logos_pl.data.shards import Shard, read_rows
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from logos_pl.functional.packing import pack
from logos_pl.io.progress import Progress

Side = Literal["train", "val", "test"]
Tokenize = Callable[[str], Sequence[int]]

MAX_SCANNED_DOCUMENTS = 1_000_000  # some minutes of reading; with 2% held out, 20,000 held-out documents


def text_digest(text: str) -> bytes:
    """SHA-256 of the document's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


def side(digest: bytes, held_out_frac: float) -> Side:
    """Side of a document: `val` and `test` each get `held_out_frac` of the documents, `train` the rest.

    Args:
        digest: SHA-256 of the document; its first 53 bits give a number in [0, 1), exact in a float.
        held_out_frac: Fraction of documents for each of `val` and `test`.
    """
    u = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    if u < held_out_frac:
        return "val"
    return "test" if u < 2 * held_out_frac else "train"


def in_part(digest: bytes, part: tuple[int, int]) -> bool:
    """Whether a document belongs to a part of the text; the parts are disjoint and independent of the sides.

    Args:
        digest: SHA-256 of the document; its second 8 bytes decide.
        part: Number of the part, from 1, and number of parts.
    """
    number, parts = part
    return int.from_bytes(digest[8:16], "big") % parts == number - 1


class HeldOutDocument(NamedTuple):
    """A document, its side and its location."""

    side: Side
    text: str
    shard: str
    row: int


def documents_of(
    sides: set[Side], shards: Sequence[Shard], text_column: str, held_out_frac: float
) -> Iterator[HeldOutDocument | None]:
    """Yield the documents of `sides`, shard after shard, and None for every other row."""
    for shard in shards:
        for row, text in read_rows(shard, text_column):
            if text is None or not text.strip():
                yield None
                continue
            found = side(text_digest(text), held_out_frac)
            yield HeldOutDocument(found, text, shard.name, row) if found in sides else None


class HeldOutPacker:
    """Packs the first `wanted` sequences of one side from documents added one by one."""

    def __init__(self, wanted: int, seq_len: int, tokenize: Tokenize) -> None:
        self.wanted = wanted
        self.seq_len = seq_len
        self.tokenize = tokenize
        self.documents: list[tuple[None, Sequence[int]]] = []
        self.num_tokens = 0

    @property
    def complete(self) -> bool:
        """Whether there are enough tokens for all sequences."""
        return self.num_tokens >= self.wanted * self.seq_len

    @property
    def found(self) -> int:
        """Number of full sequences so far, at most `wanted`."""
        return min(self.wanted, self.num_tokens // self.seq_len)

    def add(self, text: str) -> None:
        """Add a document, if more tokens are needed."""
        if not self.complete:
            ids = self.tokenize(text)
            self.documents.append((None, ids))
            self.num_tokens += len(ids)

    def sequences(self) -> list[list[int]]:
        """The packed sequences."""
        return [
            packed.tokens for packed, _ in zip(pack(self.documents, self.seq_len), range(self.wanted), strict=False)
        ]


def held_out_sequences(
    wanted: dict[Side, int],
    shards: Sequence[Shard],
    text_column: str,
    held_out_frac: float,
    seq_len: int,
    tokenize: Tokenize,
    max_documents: int = MAX_SCANNED_DOCUMENTS,
) -> dict[Side, list[list[int]]]:
    """Return the first packed sequences of each held-out side; other documents are hashed but not tokenised.

    Args:
        wanted: Number of sequences by side.
        shards: All shards in order, so that every process gets the same sequences.
        text_column: Column with the text.
        held_out_frac: Fraction of documents on each held-out side.
        seq_len: Tokens per sequence.
        tokenize: Converts text to token ids.
        max_documents: Largest number of rows to scan.

    Raises:
        InputError: The dataset, or its first `max_documents` rows, have too little held-out text, or a document cannot
            be tokenised.
    """
    packers = {which: HeldOutPacker(count, seq_len, tokenize) for which, count in wanted.items()}
    scanned = 0
    with Progress(
        "held-out text", sum(wanted.values()), "sequences", shown=getattr(rank_zero_only, "rank", 0) == 0
    ) as progress:
        for document in documents_of(set(wanted), shards, text_column, held_out_frac):
            if scanned == max_documents or all(packer.complete for packer in packers.values()):
                break
            scanned += 1
            if document is not None:
                try:
                    packers[document.side].add(document.text)
                except TextRefusedError as error:
                    raise error.of_row(document.shard, document.row) from error
            found = sum(min(packer.found, packer.wanted) for packer in packers.values())
            progress.advance(found - progress.done, f"of {scanned:,} documents")
    if scanned == 0 and not all(packer.complete for packer in packers.values()):
        raise InputError(
            f"There is no row in {', '.join(shard.name for shard in shards[:3])}; give a dataset with text."
        )
    if not all(packer.complete for packer in packers.values()):
        sizes = " or ".join(f"--data.{which}_seqs" for which, packer in packers.items() if not packer.complete)
        raise InputError(
            f"Not enough held-out text: {_counts(packers, scanned)}; lower {sizes}, or raise --data.held_out_frac."
        )
    return {which: packer.sequences() for which, packer in packers.items()}


def _counts(packers: dict[Side, HeldOutPacker], scanned: int) -> str:
    found = ", ".join(f"{packer.found} of {packer.wanted} {which} sequences" for which, packer in packers.items())
    return f"found {found} in {scanned:,} documents"
