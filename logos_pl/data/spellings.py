"""First tokens of a word inside a text: with a leading space and without."""

from collections.abc import Iterable
from typing import Literal

from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer

Pieces = Literal["all", "if_needed", "none"]

_BEFORE = {" ": ("a", '"', "."), "": ("\n", '"', "(")}
"""Texts that a word is tokenised after, by what separates it from them; the first that works is taken."""


class FirstTokens:
    """First tokens of words, for one tokenizer.

    A word is tokenised after a short text, since many tokenizers put a space before the first word of a text. A token
    that is white space alone is left out: it begins any other word as well, and would be a hit for any lens. So is an
    unknown token.

    Args:
        encode: The model's tokenizer.
    """

    def __init__(self, encode: Tokenizer) -> None:
        self._encode = encode
        self._strings = TokenStrings(encode.tokenizer)

    def __call__(self, spellings: Iterable[str], pieces: Pieces = "all") -> tuple[int, ...]:
        """Ids of the first tokens of some spellings, each once.

        Args:
            spellings: Words.
            pieces: Whether a first token that is only a piece of the word counts: `all`, always; `if_needed`, where no
                form of the word is a single token; `none`, never.
        """
        found: dict[int, None] = {}
        for spelling in spellings:
            forms: list[tuple[int, ...]] = [ids for gap in _BEFORE if (ids := self._ids(gap, spelling.strip()))]
            whole: list[tuple[int, ...]] = [ids for ids in forms if len(ids) == 1]
            if pieces == "none" or (pieces == "if_needed" and any(self.counts(ids[0]) for ids in whole)):
                forms = whole
            found |= {ids[0]: None for ids in forms if self.counts(ids[0])}
        return tuple(found)

    def counts(self, token_id: int) -> bool:
        """Whether a token says something about the word: neither white space alone nor unknown."""
        unknown = self._encode.tokenizer.unk_token_id
        return token_id != unknown and bool(self._strings(token_id).strip(" \t\r\n\u2581"))

    def _ids(self, gap: str, word: str) -> tuple[int, ...]:
        """Tokens of a word after a gap; empty if it cannot be told apart from what is before it."""
        for before in _BEFORE[gap]:
            try:
                head, whole = self._encode.plain(before), self._encode.plain(f"{before}{gap}{word}")
            except TextRefusedError:
                continue
            if head and self._encode.tokenizer.unk_token_id not in head and whole[: len(head)] == head:
                return whole[len(head) :]
        return ()
