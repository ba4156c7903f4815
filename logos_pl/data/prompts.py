"""Prompts as the model sees them, and where their answers stand in its vocabulary."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from logos_pl.errors import InputError


class PromptBatch(NamedTuple):
    """One prompt, with the tokenizer's own special tokens.

    Attributes:
        input_ids: Int[1 seq].
        text: The prompt.
        answer_ids: Tokens of the answer after the prompt; empty where none was given. The first decides every metric.
    """

    input_ids: Int[Tensor, "batch seq"]
    text: str
    answer_ids: tuple[int, ...]


def make_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str | None) -> PromptBatch:
    """Tokenise a prompt and align its answer.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Any text.
        answer: What the model ought to say next, or None.

    Raises:
        InputError: The prompt or the answer is empty, or the answer cannot be told apart from the prompt.
    """
    ids = tokenizer(prompt)["input_ids"]
    if not prompt.strip() or not ids:
        raise InputError("--data.prompt is empty: give a text of at least one token.")
    answer_ids = () if answer is None else align_answer(tokenizer, prompt, answer)
    return PromptBatch(torch.tensor([ids], dtype=torch.long), prompt, answer_ids)


def align_answer(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[int, ...]:
    """The answer's tokens after the prompt: with a space in between or, failing that, without. Source: SPEC §4.

    Raises:
        InputError: There is no answer, or its first letters merge with the prompt's last token either way.
    """
    if not answer.strip():
        raise InputError("--data.answer is empty: give what the model ought to say, or null.")
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    for joined in (f"{prompt} {answer.strip()}", f"{prompt}{answer.strip()}"):
        whole = tokenizer(joined, add_special_tokens=False)["input_ids"]
        if len(whole) > len(before) and whole[: len(before)] == before:
            return tuple(whole[len(before) :])
    raise InputError(
        f"--data.answer {answer!r} cannot be told apart from the prompt {prompt!r}: their tokens merge where they "
        "meet; "
        "end the prompt at a word's end."
    )
