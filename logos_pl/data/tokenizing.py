"""Tokenises text with the tokenizer's special tokens, without duplicates, and checks the ids against the model."""

import warnings
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import InputError


class TextRefusedError(InputError):
    """A text cannot be tokenised for the model.

    Attributes:
        problem: Predicate of the error sentence, whose subject is the text.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"The text {problem}")
        self.problem = problem

    def of_row(self, shard_name: str, row: int) -> InputError:
        """The same error for a row of a dataset."""
        return InputError(f"Row {row} of shard {shard_name} {self.problem}")


class Tokenizer:
    """Converts text to token ids with a Hugging Face tokenizer and its policy for special tokens.

    A rendered chat template already begins with the special tokens that the tokenizer adds, such as BOS. They are then
    not added again, as no model was trained on two.

    Args:
        tokenizer: The model's tokenizer.
        vocab_size: Number of token ids of the model; None: unchecked.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self._added = tuple(tokenizer("", verbose=False)["input_ids"])  # before and after any text

    def __call__(self, text: str) -> Sequence[int]:
        """Return the token ids of a document, which may exceed the model's context, as packing splits it.

        Raises:
            TextRefusedError: The tokenizer cannot encode it, or the model lacks one of its tokens.
        """
        dropped, ids = self.once(text)
        if dropped:
            warnings.warn(
                f"Texts bring their own BOS ({self.names(dropped)}), which the tokenizer adds to every text: it is not "
                "added there, so that the model reads it once.",
                stacklevel=2,
            )
        return ids

    def once(self, text: str) -> tuple[Sequence[int], Sequence[int]]:
        """Return the special tokens that were not added, as the text begins with them, and the token ids.

        Raises:
            TextRefusedError: As for a call.
        """
        ids = self._ids(text, special=True)
        for count in range(len(self._added), 0, -1):
            if ids[:count] == list(self._added[:count]) == ids[count : 2 * count]:
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

    def _ids(self, text: str, special: bool) -> list[int]:
        try:
            ids: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        except Exception as error:
            if type(error) is not Exception:  # the tokenizers library raises Exception itself
                raise
            raise TextRefusedError(
                f"holds what the model's tokenizer has no token for ({error}): leave it out, or take a model that "
                "reads any text."
            ) from error
        if self.vocab_size is not None and ids and max(ids) >= self.vocab_size:
            worst = next(id_ for id_ in ids if id_ >= self.vocab_size)
            raise TextRefusedError(
                f"holds the token {self.names([worst])!r} with the id {worst}, and the model has only the ids 0 to "
                f"{self.vocab_size - 1}: take the tokenizer that belongs to the model, or leave the token out."
            )
        return ids
