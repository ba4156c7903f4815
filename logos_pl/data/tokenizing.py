"""Tokenises text with the tokenizer's special tokens, without duplicates, and checks the ids against the model."""

import re
import warnings
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import InputError
from logos_pl.settings.text import SpecialTokens


class TextRefusedError(InputError):
    """A text cannot be tokenised for the model.

    Attributes:
        problem: Predicate of the error sentence, whose subject is the text.
    """

    def __init__(self, problem: str, what: str = "The text") -> None:
        super().__init__(f"{what} {problem}")
        self.problem = problem

    def of_row(self, shard_name: str, row: int) -> InputError:
        """The same error for a row of a dataset."""
        return InputError(f"Row {row} of shard {shard_name} {self.problem}")


class Tokenizer:
    """Converts text to token ids with a Hugging Face tokenizer and its policy for special tokens.

    A text that already begins with the special tokens that the tokenizer adds, such as BOS, does not get them again, as
    no model was trained on two.

    Args:
        tokenizer: The model's tokenizer.
        vocab_size: Number of token ids of the model; None: unchecked.
        special_tokens: Whether the tokenizer's special tokens are added.

    Attributes:
        added: Special tokens that are added around every text that does not already have them.
        begin: Those that the tokenizer itself puts in front of every text, whatever `special_tokens` is.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocab_size: int | None = None,
        special_tokens: SpecialTokens = "auto",
    ) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.special_tokens = special_tokens
        around = tuple(tokenizer("", verbose=False)["input_ids"])  # before and after any text
        self.added: tuple[int, ...] = around if special_tokens == "auto" else ()
        self.begin = around[: _num_before(tokenizer, len(around))]
        self._asks_for_bos = _asks_for_bos(tokenizer)

    def __call__(self, text: str) -> Sequence[int]:
        """Return the token ids of a document, which may exceed the model's context, as packing splits it.

        Raises:
            TextRefusedError: The tokenizer cannot encode it, or the model lacks one of its tokens.
        """
        dropped, ids = self.once(text)
        if dropped:
            warnings.warn(
                f"Texts begin with the BOS ({self.names(dropped)}) that the tokenizer adds to every text: it is not "
                "added again.",
                stacklevel=2,
            )
        self.remark_on("Texts", ids)
        return ids

    def remark_on(self, what: str, ids: Sequence[int]) -> None:
        """Warn where the BOS of a document is unusual; each kind is shown once.

        Args:
            what: What the documents are, in the plural.
            ids: The document's token ids.
        """
        if ids and (oddity := self.oddity(ids)) is not None:
            warnings.warn(f"{what} are {oddity}.", stacklevel=3)

    def once(self, text: str) -> tuple[Sequence[int], Sequence[int]]:
        """Return the special tokens that were not added, as the text begins with them, and the token ids.

        Raises:
            TextRefusedError: As for a call.
        """
        ids = self._ids(text, special=self.special_tokens == "auto")
        for count in range(len(self.added), 0, -1):
            if ids[:count] == list(self.added[:count]) == ids[count : 2 * count]:
                return ids[:count], ids[count:]
        return (), ids

    def plain(self, text: str) -> tuple[int, ...]:
        """Return the token ids without special tokens.

        Raises:
            TextRefusedError: As for a call.
        """
        return tuple(self._ids(text, special=False))

    def names(self, ids: Sequence[int]) -> str:
        """Tokens as strings."""
        strings = TokenStrings(self.tokenizer)
        return "".join(map(strings, ids))

    def decoded(self, ids: Sequence[int]) -> str:
        """Tokens as one text, special tokens written out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def oddity(self, ids: Sequence[int]) -> str | None:
        """What is unusual about the BOS of a text with these ids, as a predicate for a message; None if nothing is."""
        bos = self.tokenizer.bos_token_id
        if bos is not None and list(ids[:2]) == [bos, bos]:
            return f"read with two BOS ({self.names(ids[:2])}), which no model was trained on: remove one"
        if self.begin:
            if tuple(ids[: len(self.begin)]) == self.begin:
                return None
            why = " (special_tokens none)" if self.special_tokens == "none" else ""
            return f"read without the BOS ({self.names(self.begin)}) that the tokenizer adds to every text{why}"
        if self._asks_for_bos is None or ids[0] == bos:
            return None
        return f"read without a BOS ({self.tokenizer.bos_token}): the tokenizer adds none, though {self._asks_for_bos}"

    def checked(self, ids: Sequence[int]) -> Sequence[int]:
        """Return token ids after checking that the model has them.

        Raises:
            TextRefusedError: It lacks one.
        """
        if self.vocab_size is not None and ids and max(ids) >= self.vocab_size:
            worst = next(id_ for id_ in ids if id_ >= self.vocab_size)
            raise TextRefusedError(
                f"holds the token {self.names([worst])!r} with the id {worst}, but the model has only the ids 0 to "
                f"{self.vocab_size - 1}: use the tokenizer that belongs to the model, or remove the token."
            )
        return ids

    def _ids(self, text: str, special: bool) -> list[int]:
        ids = _encoded(self.tokenizer, text, special)
        self.checked(ids)
        return ids


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
    """Token ids of a text.

    Raises:
        TextRefusedError: The tokenizer cannot encode it.
    """
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises Exception itself
            raise
        raise TextRefusedError(
            f"holds text that the model's tokenizer has no token for ({error}): remove it, or use a model that reads "
            "any text."
        ) from error
    return ids


def _num_before(tokenizer: PreTrainedTokenizerBase, num_around: int) -> int:
    """How many of the special tokens that a tokenizer puts around a text come before it."""
    try:
        plain, whole = (_encoded(tokenizer, "a", special) for special in (False, True))
    except TextRefusedError:
        return num_around
    places = range(num_around + 1) if plain else ()
    return next((at for at in places if whole[at : at + len(plain)] == plain), num_around)


def _asks_for_bos(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Evidence that the model was trained with a BOS, whatever its tokenizer adds, in words; None without any."""
    template = getattr(tokenizer, "chat_template", None)
    if tokenizer.bos_token is None:
        return None
    if tokenizer.init_kwargs.get("add_bos_token") is True:
        return "its settings ask for one"
    if isinstance(template, str) and re.search(r"\bbos_token\b", template):
        return "the model's chat template begins with one"
    return None
