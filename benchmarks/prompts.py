"""Inputs of the sweep benchmark: prompts of random tokens, and untrained lenses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.prompts import TOKENS_PER_BATCH, PromptBatch, TokenizedPrompt, batches
from logos_pl.errors import InputError
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.lens import TuningSettings
from logos_pl.sweeps.reader import PromptReader

ANSWER_TOKENS = 2
# Size of the entries of V and c next to the identity, whose entries are 1.
TRANSLATION = 0.02


@dataclass(frozen=True)
class PromptSetting:
    """Numbers and lengths of the prompts.

    Args:
        counts: numbers of prompts to compare times at.
        memory_counts: numbers of prompts to compare peak memory at.
        min_tokens: tokens of the shortest prompt.
        max_tokens: tokens of the longest.
    """

    counts: list[int] = field(default_factory=lambda: [1, 64])
    memory_counts: list[int] = field(default_factory=lambda: [8, 64, 256, 512])
    min_tokens: int = 16
    max_tokens: int = 30

    def check(self, context_length: int | None) -> None:
        """Check the settings.

        Raises:
            InputError: no prompts, no tokens, or more than the model's context.
        """
        if min(*self.counts, *self.memory_counts, 1) < 1 or not 1 <= self.min_tokens <= self.max_tokens:
            raise InputError(
                "--prompts: give numbers of prompts and tokens from 1 on, and no minimum above the maximum."
            )
        longest = self.max_tokens + ANSWER_TOKENS - 1
        if context_length is not None and longest > context_length:
            raise InputError(
                f"--prompts.max_tokens {self.max_tokens} is beyond the context of {context_length} tokens with an "
                f"answer of {ANSWER_TOKENS}: choose at most {context_length - ANSWER_TOKENS + 1}."
            )


def make_batches(setting: PromptSetting, count: int, vocab_size: int) -> list[PromptBatch]:
    """Batches as in a sweep, of ``count`` prompts with an answer each; a smaller count gives the first prompts."""
    generator = torch.Generator().manual_seed(316)

    def draw(size: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, vocab_size, (size,), generator=generator).tolist())

    tokenized = []
    for number in range(count):
        length = int(torch.randint(setting.min_tokens, setting.max_tokens + 1, (), generator=generator))
        ids, answer = draw(length), draw(ANSWER_TOKENS)
        prompt = Prompt(f"p{number}", "orig", "", fact=f"fact {number}")
        answer_tokens = AnswerTokens("resolved", "with_space", answer, tuple(map(token_string, answer)))
        tokenized.append(
            TokenizedPrompt(prompt, ids, tuple(map(token_string, ids)), answer_tokens, AnswerTokens("none"))
        )
    return batches(tokenized, TOKENS_PER_BATCH)


def token_string(token_id: int) -> str:
    """Stand-in for a tokenizer, which a random model does not have."""
    return f" t{token_id}"


def make_reader(lm: FrozenLM, model: TuningSettings) -> PromptReader:
    """Reader with the norm lens and a tuned lens with random translators."""
    head = Head(lm.anatomy, decoding_norm=model.decoding_norm)
    translators = Translators(lm.num_blocks - 1, lm.d_model, resolve_rank(model.rank, lm.d_model))
    generator = torch.Generator().manual_seed(316)
    with torch.no_grad():
        for moved in (translators.V, translators.c):
            moved.copy_(TRANSLATION * torch.randn(moved.shape, generator=generator))
    lenses: dict[str, Lens] = {"norm": NormLens(head), "tuned": TunedLens(translators).bind(head)}
    return PromptReader(lm, lenses, model.block_bytes)


def tokens_in(made: Sequence[PromptBatch]) -> int:
    """Number of tokens that the model reads, without padding, with answers."""
    return sum(len(prompt.input_ids) for batch in made for prompt in batch.prompts)
