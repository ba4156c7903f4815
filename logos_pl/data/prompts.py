"""Tokenised prompts and answers, and their batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from logos_pl.data.padding import grouped, padded
from logos_pl.data.prompt_ids import prompt_ids, refuse_no_text
from logos_pl.data.prompt_types import AnswerTokens, Place, Prompt
from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from logos_pl.errors import InputError
from logos_pl.lm.residuals import Residuals
from logos_pl.settings.text import SpecialTokens

TOKENS_PER_BATCH = 2048
"""Maximum number of tokens in a forward pass of a sweep, padding included."""

MAX_PROMPTS_PER_BATCH = 64
"""Maximum number of prompts in a batch, as some checks hold several full distributions per prompt."""


class TokenizedPrompt(NamedTuple):
    """A tokenised prompt.

    Attributes:
        prompt: The prompt.
        ids: Token ids of the prompt with the tokenizer's special tokens before it.
        tokens: The tokens as strings.
        answer_tokens: Tokens of the answer.
        contrast: Tokens of the contrast.
        left_out: Special tokens that were not added, as the prompt already begins with them.
        added: Special tokens that were added in front.
        places: Named parts of the prompt.
        oddity: What is unusual about its BOS, as a predicate; None if nothing is.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    answer_tokens: AnswerTokens
    contrast: AnswerTokens
    left_out: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    oddity: str | None = None

    @property
    def input_ids(self) -> tuple[int, ...]:
        """Input of the model: the prompt and all tokens of the answer except the last."""
        return self.ids + self.answer_tokens.ids[:-1]


class PromptBatch(NamedTuple):
    """Prompts of one forward pass.

    Attributes:
        prompts: The prompts, in order.
        input_ids: Their `input_ids`, padded on the right with 0.
        attention_mask: 1 for tokens, 0 for padding.
        residuals: The model's residual stream, if a streamed model has read ahead.
    """

    prompts: tuple[TokenizedPrompt, ...]
    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    residuals: Residuals | None = None


def tokenize_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    context_length: int | None,
    vocab_size: int | None = None,
    special_tokens: SpecialTokens = "auto",
) -> TokenizedPrompt:
    """Tokenise a prompt with its answer and contrast.

    Args:
        tokenizer: The model's tokenizer.
        prompt: The prompt.
        context_length: Maximum number of tokens; None if unlimited.
        vocab_size: Number of token ids of the model; None: unchecked.
        special_tokens: Whether a text gets the tokenizer's special tokens.

    Raises:
        InputError: Prompt, answer or contrast is empty or not valid text, exceeds the context, cannot be tokenised,
            ends in a special token, or has a token that the model lacks; or there is no chat template for it.
    """
    name = f"prompt {prompt.prompt_id!r}"
    encode = Tokenizer(tokenizer, vocab_size, special_tokens)
    strings = TokenStrings(tokenizer)
    with _speaking_of(name):
        text, ids, added, left_out, places = prompt_ids(encode, prompt)
    tokenized = TokenizedPrompt(
        prompt._replace(text=text),
        ids,
        tuple(map(strings, ids)),
        _answer_tokens(encode, text, prompt.answer, f"the answer of {name}"),
        _answer_tokens(encode, text, prompt.contrast, f"the contrast of {name}"),
        left_out=tuple(map(strings, left_out)),
        added=tuple(map(strings, added)),
        places=places,
        oddity=encode.oddity(ids),
    )
    if context_length is not None and len(tokenized.input_ids) > context_length:
        raise InputError(
            f"{name} has {len(tokenized.input_ids)} tokens, including its answer, but the model takes at most "
            f"{context_length}: shorten it."
        )
    return tokenized


def remarks(prompts: Sequence[TokenizedPrompt]) -> list[str]:
    """Remarks on unexpected tokenisation, one sentence for each kind."""
    doubled = [prompt for prompt in prompts if prompt.left_out]
    merged = [
        prompt
        for prompt in prompts
        if prompt.answer_tokens.status == "unresolved" and prompt.prompt.text[-1:].isspace()
    ]
    found = []
    if doubled:
        found.append(
            f"{_named(doubled, 'begins', 'begin')} with the BOS ({''.join(doubled[0].left_out)}) that the tokenizer "
            "adds to every text: it is not added again."
        )
    for oddity in dict.fromkeys(prompt.oddity for prompt in prompts if prompt.oddity is not None):
        odd = [prompt for prompt in prompts if prompt.oddity == oddity]
        found.append(f"{_named(odd, 'is', 'are')} {oddity}.")
    if merged:
        found.append(
            f"{_named(merged, 'ends', 'end')} in white space that merges with the answer, so no answer is read: remove "
            "the white space."
        )
    return found


def _named(prompts: Sequence[TokenizedPrompt], one: str, several: str) -> str:
    """List the ids of the first prompts and the number of the others, with the matching verb."""
    names = list(dict.fromkeys(repr(prompt.prompt.prompt_id) for prompt in prompts))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"prompt {names[0]} {one}" if len(names) == 1 else f"prompts {', '.join(names[:3])}{more} {several}"


def _align(encode: Tokenizer, prompt: str, answer: str) -> AnswerTokens:
    """Tokens of the answer after the prompt, joined with a space or, failing that, without.

    Source: docs/method.md §4.

    A form is valid if its tokens begin with those of the prompt; none is if characters of both merge into one token. A
    form with unknown tokens is invalid, as its metrics would be those of any unknown word. After white space, such as
    the line feed at the end of a chat template's header, only the form without a space is tried; after a special token
    it is tried first.

    Args:
        encode: The model's tokenizer, used without its special tokens.
        prompt: A text.
        answer: Expected continuation; surrounding white space is dropped.

    Raises:
        TextRefusedError: The tokenizer cannot read one of them.
    """
    before = encode.plain(prompt)
    unknown = encode.tokenizer.unk_token_id
    for form, joined in _forms(encode, prompt, before, answer.strip()):
        whole = encode.plain(joined)
        ids = whole[len(before) :]
        if ids and whole[: len(before)] == before and unknown not in ids:
            strings = TokenStrings(encode.tokenizer)
            return AnswerTokens("resolved", form, ids, tuple(map(strings, ids)))
    return AnswerTokens("unresolved")


def _forms(encode: Tokenizer, prompt: str, before: tuple[int, ...], answer: str) -> list[tuple[str, str]]:
    """Forms of joining prompt and answer, the likelier first."""
    with_space, no_space = ("with_space", f"{prompt} {answer}"), ("no_space", f"{prompt}{answer}")
    if prompt[-1:].isspace():
        return [no_space]
    if before and before[-1] in encode.tokenizer.all_special_ids:
        return [no_space, with_space]
    return [with_space, no_space]


def batches(prompts: Sequence[TokenizedPrompt], tokens_per_batch: int) -> list[PromptBatch]:
    """Split prompts into batches, in order.

    Args:
        prompts: The prompts.
        tokens_per_batch: Maximum number of tokens per batch, padding included; a longer prompt gets its own batch.
    """
    groups = grouped([len(prompt.input_ids) for prompt in prompts], tokens_per_batch, MAX_PROMPTS_PER_BATCH)
    return [_padded(prompts[group]) for group in groups]


class PromptBatches:
    """A process's share of the prompts in batches: every `world_size`-th prompt, without duplicates.

    Args:
        prompts: All prompts.
        tokens_per_batch: Maximum number of tokens per batch.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        prompts: Sequence[TokenizedPrompt],
        tokens_per_batch: int = TOKENS_PER_BATCH,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batches = batches(prompts[rank::world_size], tokens_per_batch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PromptBatch]:
        return iter(self.batches)


def _padded(group: Sequence[TokenizedPrompt]) -> PromptBatch:
    ids, mask = padded([prompt.input_ids for prompt in group])
    return PromptBatch(tuple(group), ids, mask)


def _answer_tokens(encode: Tokenizer, prompt: str, answer: str | None, name: str) -> AnswerTokens:
    if answer is None:
        return AnswerTokens("none")
    refuse_no_text(answer, name)
    with _speaking_of(name):
        return _align(encode, prompt, answer)


@contextmanager
def _speaking_of(name: str) -> Iterator[None]:
    """Context that adds the name of a text to errors about it."""
    try:
        yield
    except TextRefusedError as error:
        raise InputError(f"{name} {error.problem}") from error
