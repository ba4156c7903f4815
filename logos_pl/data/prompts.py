"""Tokenised prompts and answers, and their batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from logos_pl.data.padding import grouped, padded
from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from logos_pl.errors import InputError
from logos_pl.lm.residuals import Residuals

TOKENS_PER_BATCH = 2048
"""Most tokens in a forward pass of a sweep, padding included."""

MAX_PROMPTS_PER_BATCH = 64
"""Most prompts in a batch, as some checks hold several full distributions per prompt."""


class TokenizedPrompt(NamedTuple):
    """A tokenised prompt.

    Attributes:
        prompt: The prompt.
        ids: Token ids of the prompt with the tokenizer's special tokens before it.
        tokens: The tokens as strings.
        answer_tokens: Tokens of the answer.
        contrast: Tokens of the contrast.
        left_out: Special tokens that were not added, as the prompt already begins with them.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    answer_tokens: AnswerTokens
    contrast: AnswerTokens
    left_out: tuple[str, ...] = ()

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
        residuals: What the model gives on them, where a streamed model has read ahead.
    """

    prompts: tuple[TokenizedPrompt, ...]
    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    residuals: Residuals | None = None


def tokenize_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, context_length: int | None, vocab_size: int | None = None
) -> TokenizedPrompt:
    """Tokenise a prompt with its answer and contrast.

    Args:
        tokenizer: The model's tokenizer.
        prompt: The prompt.
        context_length: Maximum number of tokens; None if unlimited.
        vocab_size: Number of token ids of the model; None: unchecked.

    Raises:
        InputError: Prompt, answer or contrast is empty or not valid text, exceeds the context, cannot be tokenised,
            ends in a special token, or has a token that the model lacks.
    """
    name = f"prompt {prompt.prompt_id!r}"
    _refuse_no_text(prompt.text, name)
    encode = Tokenizer(tokenizer, vocab_size)
    strings = TokenStrings(tokenizer)
    with _speaking_of(name):
        left_out, ids = with_special_tokens(encode, prompt.text)
    answer_tokens = _answer_tokens(encode, prompt.text, prompt.answer, f"the answer of {name}")
    contrast = _answer_tokens(encode, prompt.text, prompt.contrast, f"the contrast of {name}")
    tokenized = TokenizedPrompt(
        prompt, ids, tuple(map(strings, ids)), answer_tokens, contrast, left_out=tuple(map(strings, left_out))
    )
    if context_length is not None and len(tokenized.input_ids) > context_length:
        raise InputError(
            f"{name} has {len(tokenized.input_ids)} tokens, its answer's included, and the model takes "
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
            f"{_named(doubled, 'brings its', 'bring their')} own BOS ({''.join(doubled[0].left_out)}), which the "
            "tokenizer adds to every text: it is not added there, so that the model reads it once."
        )
    if merged:
        found.append(
            f"{_named(merged, 'ends', 'end')} in white space that merges with the answer, which is not looked for: "
            "leave the white space out."
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
        tokens_per_batch: Most tokens per batch, padding included; a longer prompt gets its own batch.
    """
    groups = grouped([len(prompt.input_ids) for prompt in prompts], tokens_per_batch, MAX_PROMPTS_PER_BATCH)
    return [_padded(prompts[group]) for group in groups]


class PromptBatches:
    """A process's share of the prompts in batches: every `world_size`-th prompt, without duplicates.

    Args:
        prompts: All prompts.
        tokens_per_batch: Most tokens per batch.
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
    _refuse_no_text(answer, name)
    with _speaking_of(name):
        return _align(encode, prompt, answer)


@contextmanager
def _speaking_of(name: str) -> Iterator[None]:
    """Context that adds the name of a text to errors about it."""
    try:
        yield
    except TextRefusedError as error:
        raise InputError(f"{name} {error.problem}") from error


def with_special_tokens(encode: Tokenizer, text: str) -> tuple[Sequence[int], tuple[int, ...]]:
    """Special tokens that were not added, as the text begins with them, and the token ids.

    Raises:
        TextRefusedError: The text has no token, or the tokenizer ends every text with a special token.
    """
    left_out, ids = encode.once(text)
    plain = encode.plain(text)
    if not plain:
        raise TextRefusedError("has no token: give a text the model's tokenizer can read.")
    # After an end-of-text token, the model would predict the beginning of another text; dropping the token would
    # deviate from the tokenizer's policy.
    if tuple(ids[-len(plain) :]) != plain:
        raise TextRefusedError(
            f"cannot be continued: the tokenizer ends every text with the special token {encode.names(ids[-1:])!r}; "
            "take it out of `post_processor` in the tokenizer.json of a local copy of the model."
        )
    return left_out, tuple(ids)


def _refuse_no_text(text: str, name: str) -> None:
    if not text.strip():
        raise InputError(f"{name} is empty: give a text of at least one character that is not white space.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} is not valid text: character {error.start + 1} is half of a surrogate pair "
            f"({text[error.start]!a}); remove it."
        ) from error
