"""Tokens as readable text, including a leading space."""

from transformers import PreTrainedTokenizerBase

NO_TOKEN = "<no token>"
"""String for an id without a token in the tokenizer, as in a padded embedding."""


class TokenStrings:
    """Text of a token inside a sentence, by id; cached.

    SentencePiece decoders drop a leading space, so ``decode([id])`` returns the same for `▁Berlin` and `Berlin`. Each
    token is therefore decoded after an anchor token, which is then removed. Special and added tokens are shown as
    written, bytes that are not a complete character as U+FFFD.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Determine the anchor.

        Args:
            tokenizer: The model's tokenizer.
        """
        self._tokenizer = tokenizer
        self._anchor = _anchor(tokenizer)
        self._anchor_text = self._decode(self._anchor)
        self._known = {id_: token.content for id_, token in tokenizer.added_tokens_decoder.items()}

    def __call__(self, token_id: int) -> str:
        """Return the text of a token."""
        if token_id not in self._known:
            self._known[token_id] = self._text(token_id)
        return self._known[token_id]

    def _text(self, token_id: int) -> str:
        if not 0 <= token_id < len(self._tokenizer) or self._tokenizer.convert_ids_to_tokens(token_id) is None:
            return NO_TOKEN
        whole = self._decode([*self._anchor, token_id])
        if whole.startswith(self._anchor_text):
            return whole[len(self._anchor_text) :]
        return self._decode([token_id])

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _anchor(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of a letter; empty if the vocabulary has none."""
    try:
        return list(tokenizer("a", add_special_tokens=False)["input_ids"])
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises Exception itself
            raise
        return []
