"""The model's tokenizer with the limits of the model: number of token ids and context length."""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from logos_pl.data.chat_template import has_template
from logos_pl.data.conversation_rows import ConversationTokenizer
from logos_pl.data.held_out import Tokenize
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import TokenizedPrompt, remarks, tokenize_prompt
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.errors import InputError
from logos_pl.lm.config import context_length, read_config, vocabulary_size
from logos_pl.lm.sources import locate
from logos_pl.lm.tokenizer import read_tokenizer
from logos_pl.settings.text import DocumentForm, SpecialTokens


class ModelTokenizer(NamedTuple):
    """A model's tokenizer.

    Attributes:
        model_id: The model.
        tokenizer: Its tokenizer.
        num_ids: Number of token ids of the model.
        context_length: Maximum number of tokens; None if unlimited.
        special_tokens: Whether texts get the tokenizer's special tokens.
    """

    model_id: str
    tokenizer: PreTrainedTokenizerBase
    num_ids: int
    context_length: int | None
    special_tokens: SpecialTokens = "auto"

    @classmethod
    def load(
        cls,
        model_id: str,
        revision: str | None = None,
        special_tokens: SpecialTokens = "auto",
        gguf: str | None = None,
    ) -> "ModelTokenizer":
        """Load tokenizer and configuration; once per run, as the Hub may be unreachable later.

        Args:
            model_id: The model.
            revision: Its revision.
            special_tokens: Whether texts get the tokenizer's special tokens.
            gguf: Its GGUF file, if it is read from one.

        Raises:
            InputError: The model or its tokenizer cannot be read.
        """
        source = locate(model_id, revision, gguf)
        config, tokenizer = read_config(source), read_tokenizer(source)
        return cls(model_id, tokenizer, vocabulary_size(config), context_length(config), special_tokens)

    def encoder(self) -> Tokenizer:
        """Tokenizer that checks token ids."""
        return Tokenizer(self.tokenizer, self.num_ids, self.special_tokens)

    def of_documents(self, form: DocumentForm) -> Tokenize:
        """Return the tokenizer of a dataset's documents.

        Raises:
            InputError: They are conversations, and the model has no chat template.
        """
        if form == "text":
            return self.encoder()
        if not has_template(self.tokenizer):
            raise InputError(
                f"--data.format chat: {self.model_id} has no chat template to render conversations with: give text, or "
                "use an instruction-tuned model."
            )
        return ConversationTokenizer(self.encoder())

    def added_tokens(self, form: DocumentForm) -> list[str]:
        """Special tokens that are added to every document that does not already have them."""
        encode = self.encoder()
        return [encode.names([id_]) for id_ in encode.added] if form == "text" else []

    def tokenize(self, prompts: Iterable[Prompt], speaks: bool = True) -> list[TokenizedPrompt]:
        """Tokenise prompts.

        Args:
            prompts: Prompts with answers and contrasts.
            speaks: Print remarks on unexpected tokenisation.

        Raises:
            InputError: A prompt or its answer is empty, or a prompt is too long.
        """
        tokenized = [
            tokenize_prompt(self.tokenizer, prompt, self.context_length, self.num_ids, self.special_tokens)
            for prompt in prompts
        ]
        for remark in remarks(tokenized) if speaks else ():
            warnings.warn(f"{self.model_id}: {remark}", stacklevel=2)
        return tokenized
