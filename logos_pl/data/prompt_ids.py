"""The token ids of a prompt in each of its forms: a text, a conversation, token ids."""

from collections.abc import Sequence
from typing import NamedTuple

from logos_pl.data.chat_template import places_in, render_chat
from logos_pl.data.prompt_types import Place, Prompt
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from logos_pl.errors import InputError


class PromptIds(NamedTuple):
    """A prompt as the model reads it.

    Attributes:
        text: The prompt as text: as given, as rendered by the chat template, or decoded.
        ids: The token ids.
        added: Special tokens that were added in front of the text.
        left_out: Special tokens that were not added, as the text already begins with them.
        places: Named parts of the prompt.
    """

    text: str
    ids: tuple[int, ...]
    added: tuple[int, ...]
    left_out: tuple[int, ...]
    places: tuple[Place, ...]


def prompt_ids(encode: Tokenizer, prompt: Prompt) -> PromptIds:
    """Token ids of a prompt. A conversation gets the special tokens of its template, token ids get none.

    Raises:
        TextRefusedError: The prompt cannot be tokenised, or ends in a special token that the tokenizer adds.
        InputError: The text is empty or not valid, or a message is not.
    """
    if prompt.token_ids:
        ids = tuple(encode.checked(prompt.token_ids))
        return PromptIds(encode.decoded(ids), ids, (), (), _only_ends(ids))
    if prompt.messages:
        text = render_chat(encode.tokenizer, prompt.messages)
        _refuse_half_pairs(text, f"prompt {prompt.prompt_id!r}")
        ids = encode.plain(text)
        if not ids:
            raise TextRefusedError("has no tokens: its chat template renders it as an empty text.")
        return PromptIds(text, ids, (), (), places_in(encode, prompt.messages, text, ids))
    refuse_no_text(prompt.text, f"prompt {prompt.prompt_id!r}")
    left_out, ids = with_special_tokens(encode, prompt.text)
    num_added = len(ids) - len(encode.plain(prompt.text))
    return PromptIds(prompt.text, ids, ids[:num_added], tuple(left_out), _only_ends(ids))


def _only_ends(ids: Sequence[int]) -> tuple[Place, ...]:
    """Places of a prompt without turns: the model continues after the last token."""
    last = len(ids) - 1
    return Place("reply", None, last, last), Place("last", None, last, last)


def with_special_tokens(encode: Tokenizer, text: str) -> tuple[Sequence[int], tuple[int, ...]]:
    """Special tokens that were not added, as the text begins with them, and the token ids.

    Raises:
        TextRefusedError: The text has no token, or the tokenizer ends every text with a special token.
    """
    left_out, ids = encode.once(text)
    plain = encode.plain(text)
    if not plain:
        raise TextRefusedError("has no tokens: give a text that the model's tokenizer can read.")
    # After an end-of-text token, the model would predict the beginning of another text; dropping the token would
    # deviate from the tokenizer's policy.
    if tuple(ids[-len(plain) :]) != plain:
        raise TextRefusedError(
            f"cannot be continued: the tokenizer ends every text with the special token {encode.names(ids[-1:])!r}; "
            "remove it from `post_processor` in the tokenizer.json of a local copy of the model."
        )
    return left_out, tuple(ids)


def refuse_no_text(text: str, name: str) -> None:
    """Check that a text can be encoded and is not empty.

    Raises:
        InputError: It is empty, or holds half of a surrogate pair.
    """
    if not text.strip():
        raise InputError(f"{name} is empty: give at least one character other than white space.")
    _refuse_half_pairs(text, name)


def _refuse_half_pairs(text: str, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} is not valid text: character {error.start + 1} is half of a surrogate pair "
            f"({text[error.start]!a}); remove it."
        ) from error
