"""Conversations rendered by a model's chat template."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from logos_pl.errors import InputError, first_sentence

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer comes with a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], model_id: str) -> str:
    """Return a conversation as the text that the model continues with its reply, special tokens written out.

    Args:
        tokenizer: The model's tokenizer.
        messages: The turns; the last is the user's.
        model_id: The model, for messages.

    Raises:
        InputError: There is no template, or it cannot render these turns.
    """
    if not has_template(tokenizer):
        raise InputError(f"{model_id} has no chat template: read it without, or take an instruction-tuned model.")
    turns = [message._asdict() for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:  # a template is foreign code
        raise InputError(
            f"The chat template of {model_id} cannot render this conversation: {first_sentence(error)}"
        ) from error
    return str(text)
