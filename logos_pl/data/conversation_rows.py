"""Conversations as rows of a dataset: checked, kept as one text of a fixed form, and rendered by the chat template.

A row is an array of messages, each with a `role` and a `content`; other keys are ignored. The fixed form is JSON
without spaces: the held-out split depends on it, and so neither on the file's format nor on the model's template.
"""

import json
from collections.abc import Sequence
from typing import Any

from logos_pl.data.chat_template import render_chat
from logos_pl.data.prompt_types import ROLES, Message
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.io.terminal import shortened

KINDS = {
    bool: "true or false", int: "a number", float: "a number", list: "an array", tuple: "an array", dict: "an object",
    str: "text", type(None): "null", bytes: "bytes",
}  # fmt: skip


class NotMessagesError(ValueError):
    """A value is not a conversation; the message says why, as a sentence without its full stop."""


def messages_of(value: Any) -> tuple[Message, ...]:
    """The messages of a list of mappings with `role` and `content`, checked.

    Raises:
        NotMessagesError: It is something else, a role is unknown, or all messages are empty.
    """
    if not isinstance(value, list | tuple):
        raise NotMessagesError(f"it is {_kind(value)}, not an array of messages")
    messages = tuple(_message(number, item) for number, item in enumerate(value, start=1))
    if not any(message.content.strip() for message in messages):
        raise NotMessagesError("all messages are empty")
    return messages


def _message(number: int, item: Any) -> Message:
    if isinstance(item, Message):
        item = item._asdict()
    if not isinstance(item, dict):
        raise NotMessagesError(f"message {number} is {_kind(item)}, not an object with `role` and `content`")
    for key in ("role", "content"):
        if item.get(key) is None:
            raise NotMessagesError(f"message {number} has no `{key}`")
        if not isinstance(item[key], str):
            raise NotMessagesError(f"`{key}` of message {number} is {_kind(item[key])}, not text")
    if item["role"] not in ROLES:
        raise NotMessagesError(
            f"message {number} has the role {shortened(repr(item['role']), 40)}; roles are {', '.join(ROLES)}"
        )
    return Message(item["role"], item["content"])


def _kind(value: Any) -> str:
    return KINDS.get(type(value), type(value).__name__)


def document_of(value: Any) -> str | None:
    """The fixed form of a row's conversation; None if the row has none.

    Raises:
        NotMessagesError: The row holds something else.
    """
    if value is None or value == []:
        return None
    messages = [message._asdict() for message in messages_of(value)]
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"))


class ConversationTokenizer:
    """Converts the fixed form of a conversation to token ids: rendered by the chat template, nothing added.

    Args:
        encode: The model's tokenizer, which has a chat template.
    """

    def __init__(self, encode: Tokenizer) -> None:
        self.encode = encode

    def __call__(self, document: str) -> Sequence[int]:
        """Return the token ids of a conversation.

        Raises:
            TextRefusedError: The template cannot render it, or the model lacks one of its tokens.
        """
        messages = tuple(Message(**message) for message in json.loads(document))
        ids = self.encode.plain(render_chat(self.encode.tokenizer, messages, to_continue=False))
        self.encode.remark_on("Conversations", ids)
        return ids
