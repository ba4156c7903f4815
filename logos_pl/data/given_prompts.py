"""Prompts given in Python."""

from collections.abc import Mapping, Sequence
from typing import Any

from logos_pl.data.conversation_rows import NotMessagesError, messages_of
from logos_pl.data.prompt_types import Message, Prompt
from logos_pl.errors import InputError

Asked = str | Sequence[Mapping[str, str] | Message] | Sequence[int]
"""A text, a conversation as a list of messages, or token ids."""


def prompts_in(given: Sequence[Asked | tuple[Asked, str] | Prompt]) -> list[Prompt]:
    """The prompts of a list; those without an id are called `p1`, `p2`, ….

    Raises:
        InputError: One has none of these forms, or two have the same id and variant.
    """
    prompts = [
        item if isinstance(item, Prompt) else _prompt(f"p{number}", item) for number, item in enumerate(given, start=1)
    ]
    names = [(prompt.prompt_id, prompt.variant) for prompt in prompts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two prompts are called {twice[0]} ({twice[1]}): give every prompt its own id.")
    return prompts


def _prompt(prompt_id: str, item: Any) -> Prompt:
    # A pair differs from a conversation of two messages in its types: messages are mappings or `Message`.
    pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], str)
    content, answer = item if pair else (item, None)
    prompt = Prompt(prompt_id, "orig", "", answer)
    if isinstance(content, str):
        return prompt._replace(text=content)
    if isinstance(content, tuple) and len(content) == 2 and isinstance(content[0], str | list):
        raise InputError(f"Prompt {prompt_id} has the answer {content[1]!r}, which is not text: give it as a string.")
    if not isinstance(content, Sequence) or not content:
        raise InputError(f"Prompt {prompt_id} is {content!r}: give a text, a list of messages or a list of token ids.")
    if all(type(id_) is int for id_ in content):
        if min(content) < 0:
            raise InputError(f"Prompt {prompt_id} has the token id {min(content)}: ids begin with 0.")
        return prompt._replace(token_ids=tuple(content))
    try:
        return prompt._replace(messages=messages_of(list(content)))
    except NotMessagesError as error:
        raise InputError(f"Prompt {prompt_id} is not a conversation: {error}.") from error
