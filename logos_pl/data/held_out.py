"""Which documents are held out, decided by a hash of their text, and the held-out sequences that are measured on.

A text that occurs twice in a dataset is on the same side both times, in whatever shard, row, pass or process, so that
nothing that is measured on was ever trained on.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from lightning.pytorch.utilities import rank_zero_only

from logos_pl.data.shards import Shard, read_rows
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from logos_pl.functional.packing import pack
from logos_pl.io.terminal import say

Side = Literal["train", "val", "test"]
Tokenize = Callable[[str], Sequence[int]]

MAX_SCANNED_DOCUMENTS = 1_000_000  # some minutes of reading; with 2% held out, 20,000 held-out documents
PROGRESS_AFTER_S = 3.0


def text_digest(text: str) -> bytes:
    """SHA-256 of the document's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


def side(digest: bytes, held_out_frac: float) -> Side:
    """The side of a document: `val` and `test` each get `held_out_frac` of the documents, `train` the rest.

    Args:
        digest: The document's SHA-256; its first 53 bits are read as a number u in [0, 1), exact in a float.
        held_out_frac: Share of the documents held out for each of the two.
    """
    u = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    if u < held_out_frac:
        return "val"
    return "test" if u < 2 * held_out_frac else "train"


class HeldOutDocument(NamedTuple):
    """A document, its side, and where it was found."""

    side: Side
    text: str
    shard: str
    row: int


def documents_of(
    sides: set[Side], shards: Sequence[Shard], text_column: str, held_out_frac: float
) -> Iterator[HeldOutDocument | None]:
    """Yields the documents on `sides`, shard after shard, and None for each other row."""
    for shard in shards:
        for row, text in read_rows(shard, text_column):
            if text is None or not text.strip():
                yield None
                continue
            found = side(text_digest(text), held_out_frac)
            yield HeldOutDocument(found, text, shard.name, row) if found in sides else None


class HeldOutPacker:
    """Collects the first `wanted` packed sequences of one side's documents, fed to it one by one."""

    def __init__(self, wanted: int, seq_len: int, tokenize: Tokenize) -> None:
        self.wanted = wanted
        self.seq_len = seq_len
        self.tokenize = tokenize
        self.documents: list[tuple[None, Sequence[int]]] = []
        self.num_tokens = 0

    @property
    def complete(self) -> bool:
        """Whether there are enough tokens for all wanted sequences."""
        return self.num_tokens >= self.wanted * self.seq_len

    @property
    def found(self) -> int:
        """Full sequences so far, at most `wanted`."""
        return min(self.wanted, self.num_tokens // self.seq_len)

    def add(self, text: str) -> None:
        """Takes one more document, if more are needed."""
        if not self.complete:
            ids = self.tokenize(text)
            self.documents.append((None, ids))
            self.num_tokens += len(ids)

    def sequences(self) -> list[list[int]]:
        """The wanted sequences, packed left to right."""
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
    """The first packed sequences of each held-out side; every other document is only hashed, never tokenised.

    Args:
        wanted: How many sequences of which sides.
        shards: Every shard of the dataset, in order: the answer is the same for every process.
        text_column: Column with the text.
        held_out_frac: Share of the documents on each held-out side.
        seq_len: Tokens per sequence.
        tokenize: Text to token ids.
        max_documents: Rows that are looked at before giving up.

    Raises:
        InputError: If the dataset, or its first `max_documents` rows, do not hold enough held-out text, or a document
            cannot become tokens of the model.
    """
    packers = {which: HeldOutPacker(count, seq_len, tokenize) for which, count in wanted.items()}
    scanned, next_report = 0, time.monotonic() + PROGRESS_AFTER_S
    for document in documents_of(set(wanted), shards, text_column, held_out_frac):
        if scanned == max_documents or all(packer.complete for packer in packers.values()):
            break
        scanned += 1
        if document is not None:
            try:
                packers[document.side].add(document.text)
            except TextRefusedError as error:
                raise error.of_row(document.shard, document.row) from error
        if time.monotonic() > next_report:
            next_report = time.monotonic() + PROGRESS_AFTER_S
            rank_zero_only(say)(f"Looking for held-out text: {_counts(packers, scanned)}")
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
