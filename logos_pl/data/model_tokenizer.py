"""The model's tokenizer with the limits of the model: number of token ids and context length."""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import TokenizedPrompt, remarks, tokenize_prompt
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.lm.config import context_length, read_config, vocabulary_size
from logos_pl.lm.sources import locate
from logos_pl.lm.tokenizer import load_tokenizer


class ModelTokenizer(NamedTuple):
    """A model's tokenizer.

    Attributes:
        model_id: The model.
        tokenizer: Its tokenizer.
        num_ids: Number of token ids of the model.
        context_length: Maximum number of tokens; None if unlimited.
    """

    model_id: str
    tokenizer: PreTrainedTokenizerBase
    num_ids: int
    context_length: int | None

    @classmethod
    def load(cls, model_id: str, revision: str | None = None) -> "ModelTokenizer":
        """Load tokenizer and configuration; once per run, as the Hub may be unreachable later.

        Raises:
            InputError: The model or its tokenizer cannot be read.
        """
        config = read_config(locate(model_id, revision))
        return cls(model_id, load_tokenizer(model_id, revision), vocabulary_size(config), context_length(config))

    def encoder(self) -> Tokenizer:
        """Tokenizer that checks token ids."""
        return Tokenizer(self.tokenizer, self.num_ids)

    def tokenize(self, prompts: Iterable[Prompt], speaks: bool = True) -> list[TokenizedPrompt]:
        """Tokenise prompts.

        Args:
            prompts: Prompts with answers and contrasts.
            speaks: Print remarks on unexpected tokenisation.

        Raises:
            InputError: A prompt or its answer is empty, or a prompt is too long.
        """
        tokenized = [tokenize_prompt(self.tokenizer, prompt, self.context_length, self.num_ids) for prompt in prompts]
        for remark in remarks(tokenized) if speaks else ():
            warnings.warn(f"{self.model_id}: {remark}", stacklevel=2)
        return tokenized
