"""Tokens as readable text, with the space they begin with."""

from transformers import PreTrainedTokenizerBase

NO_TOKEN = "<no token>"
"""What stands for an id of the model's vocabulary that its tokenizer does not know: padding of the embedding."""


class TokenStrings:
    """The text of a token as it stands in a sentence, by id; every id is decoded once.

    Decoders that stem from SentencePiece drop the space a text begins with, so that ``decode([id])`` shows `▁Berlin`
    and `Berlin` alike. Each token is therefore decoded after an anchor, and the anchor is cut off again. Special and
    added tokens are shown as they are written; bytes that are no character of their own as U+FFFD.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Make the anchor.

        Args:
            tokenizer: The model's tokenizer.
        """
        self._tokenizer = tokenizer
        self._anchor = _anchor(tokenizer)
        self._anchor_text = self._decode(self._anchor)
        self._known = {id_: token.content for id_, token in tokenizer.added_tokens_decoder.items()}

    def __call__(self, token_id: int) -> str:
        """The token's text."""
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
    """The tokens of a letter; none where the vocabulary has none for it."""
    try:
        return list(tokenizer("a", add_special_tokens=False)["input_ids"])
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises Exception itself
            raise
        return []
