"""Packs documents into sequences of one length, left to right, without losing tokens.

Padding would waste forward passes and change the statistics the lenses learn from; cutting documents at the end of a
pack would throw tokens away. So a document that does not fit continues in the next pack. Every pack records where it
ends, which is all that a resumed run needs to continue with the very next token.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")


class Pack(NamedTuple, Generic[Key]):
    """One full sequence, and where in the documents it ends.

    Attributes:
        tokens: Exactly `seq_len` token ids.
        started: Keys of the documents whose first token is in this pack, in order.
        last: Key of the document of the last token.
        next_offset: Index, in that document, of the token that comes next.
        last_ended: Whether that document has no further token, so that the next one comes from another document.
    """

    tokens: list[int]
    started: tuple[Key, ...]
    last: Key
    next_offset: int
    last_ended: bool


def pack(documents: Iterable[tuple[Key, Sequence[int]]], seq_len: int, skip_tokens: int = 0) -> Iterator[Pack[Key]]:
    """Yield full packs of the documents' tokens in order; tokens after the last full pack are not yielded.

    Args:
        documents: Pairs of a key, which comes back in the packs, and the document's token ids.
        seq_len: Tokens per pack.
        skip_tokens: Tokens of the first document that an earlier pack has already taken.

    Raises:
        ValueError: If `seq_len` is below 1 or `skip_tokens` is negative.
    """
    if seq_len < 1 or skip_tokens < 0:
        raise ValueError(f"seq_len must be at least 1 and skip_tokens at least 0, not {seq_len} and {skip_tokens}")
    tokens: list[int] = []
    started: list[Key] = []
    for key, ids in documents:
        offset, skip_tokens = skip_tokens, 0
        while offset < len(ids):
            if offset == 0:
                started.append(key)
            taken = ids[offset : offset + seq_len - len(tokens)]
            tokens.extend(taken)
            offset += len(taken)
            if len(tokens) == seq_len:
                yield Pack(tokens, tuple(started), key, offset, offset == len(ids))
                tokens, started = [], []
