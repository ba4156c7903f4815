"""Text to token ids: with the tokenizer's special tokens, none of them doubled, and only ids that the model has."""

import warnings
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import InputError


class TextRefusedError(InputError):
    """A text that cannot become tokens of the model.

    Attributes:
        problem: What is wrong with it, to follow its name in a sentence.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"The text {problem}")
        self.problem = problem

    def of_row(self, shard_name: str, row: int) -> InputError:
        """The same about a row of a dataset."""
        return InputError(f"Row {row} of shard {shard_name} {self.problem}")


class Tokenizer:
    """Text to token ids by a Hugging Face tokenizer, with its own policy for special tokens.

    A rendered chat template begins with the special tokens that the tokenizer puts before every text, such as BOS.
    They are then not put there a second time: no model was trained on two.

    Args:
        tokenizer: The model's tokenizer.
        vocab_size: Ids that the model has, 0 to one less; None leaves them unchecked.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self._added = tuple(tokenizer("", verbose=False)["input_ids"])  # before and after any text

    def __call__(self, text: str) -> Sequence[int]:
        """The token ids of one document; it may be longer than the model's context, since packing cuts it.

        Raises:
            TextRefusedError: The tokenizer cannot read it, or the model lacks one of its tokens.
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
        """The tokenizer's own tokens that were left out, as the text begins with them, and the text's ids without them.

        Raises:
            TextRefusedError: As for a call.
        """
        ids = self._ids(text, special=True)
        for count in range(len(self._added), 0, -1):
            if ids[:count] == list(self._added[:count]) == ids[count : 2 * count]:
                return ids[:count], ids[count:]
        return (), ids

    def plain(self, text: str) -> tuple[int, ...]:
        """The ids of the text alone, without the tokenizer's own special tokens.

        Raises:
            TextRefusedError: As for a call.
        """
        return tuple(self._ids(text, special=False))

    def names(self, ids: Sequence[int]) -> str:
        """Tokens as they are written."""
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
