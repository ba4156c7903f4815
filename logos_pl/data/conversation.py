"""A conversation as tokens: rendered by the model's chat template, or plain text that the model continues."""

import warnings
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from logos_pl.data.chat_template import has_template, render_chat
from logos_pl.data.prompt_types import Message
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.errors import InputError


class Conversation:
    """Turns of a user and a model.

    Without a chat template there are no turns: the user's text and the model's continuation follow each other.

    Args:
        tokenizer: The model's tokenizer.
        model_id: The model, for messages.
        vocab_size: Number of token ids of the model.
        context_length: Maximum number of tokens that the model reads; None: no limit.
        system: System message with which every conversation begins; None: the template's own, if it has one.

    Raises:
        InputError: A system message is given, and there is no chat template.

    Attributes:
        has_template: Whether turns are rendered by a template.
        messages: The turns.
        ids: Tokens of the conversation so far, as the model has read them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model_id: str,
        vocab_size: int,
        context_length: int | None,
        system: str | None = None,
    ) -> None:
        self.tokenizer, self.model_id, self.context_length = tokenizer, model_id, context_length
        self.has_template = has_template(tokenizer)
        if system is not None and not self.has_template:
            raise InputError(f"{model_id} has no chat template, and so no place for a system message: leave it out.")
        self._opening = [] if system is None else [Message("system", system)]
        self.messages: list[Message] = [*self._opening]
        self.ids: tuple[int, ...] = ()
        self._encode = Tokenizer(tokenizer, vocab_size)

    def ask(self, text: str) -> None:
        """Add what the user says; `ids` then end where the reply begins.

        Raises:
            InputError: The tokenizer or the template cannot read it, or the context is full; nothing is added.
        """
        messages = [*self.messages, Message("user", text)]
        if self.has_template:
            ids = self._encode.plain(render_chat(self.tokenizer, messages))
        elif self.ids:
            ids = self.ids + self._encode.plain(text)
        else:
            ids = tuple(self._encode.once(text)[1])
        if not ids:
            raise InputError("The text has no tokens: give a longer one.")
        if self.context_length is not None and len(ids) >= self.context_length:
            raise InputError(
                f"The conversation would have {len(ids)} tokens, but {self.model_id} reads at most "
                f"{self.context_length}, including the reply: start another with /new, or write less."
            )
        if not self.ids and (oddity := self._encode.oddity(ids)) is not None:
            warnings.warn(f"{self.model_id}: the conversation is {oddity}.", stacklevel=2)
        self.messages, self.ids = messages, ids

    @property
    def room(self) -> int | None:
        """Number of tokens left for the reply; None: no limit."""
        return None if self.context_length is None else self.context_length - len(self.ids)

    def answer(self, ids: Sequence[int]) -> None:
        """Add the model's reply, or the part of it that was generated."""
        self.messages.append(Message("assistant", self.text(ids)))
        self.ids += tuple(ids)

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def clear(self) -> None:
        """Start a new conversation."""
        self.messages, self.ids = [*self._opening], ()
