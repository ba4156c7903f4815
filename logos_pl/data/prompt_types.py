"""A prompt and the tokens of its answer."""

from typing import NamedTuple

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Roles of messages; a chat template may support fewer."""


class Message(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: One of `ROLES`.
        content: Text of the message.
    """

    role: str
    content: str


class Prompt(NamedTuple):
    """A prompt for the model to continue: a text, a conversation, or token ids.

    Attributes:
        prompt_id: Id, unique together with the variant, such as `pos` and `ctl` for the probe and its control.
        variant: `orig` or `no_filler`.
        text: The prompt as text; for a conversation or token ids, set by tokenisation.
        answer: The expected continuation, or None.
        contrast: For a control, the answer of the original prompt; else None.
        fact: Label, such as `Germany → Berlin`; may be empty.
        relation: Relation of the fact, such as `capital`; may be empty.
        messages: A conversation, which the model's chat template renders; empty for the other forms.
        token_ids: Token ids, read as they are; empty for the other forms.
    """

    prompt_id: str
    variant: str
    text: str
    answer: str | None = None
    contrast: str | None = None
    fact: str = ""
    relation: str = ""
    messages: tuple[Message, ...] = ()
    token_ids: tuple[int, ...] = ()


class Place(NamedTuple):
    """A named part of a prompt.

    Attributes:
        name: `last`, the last token; `reply`, the token after which the model's reply begins; `turn1`, `turn2`, … the
            messages of a conversation, without the text that the template adds around them.
        role: Role of the message; None for `last` and `reply`.
        first: Position of the first token.
        last: Position of the last token.
    """

    name: str
    role: str | None
    first: int
    last: int


class AnswerTokens(NamedTuple):
    """The tokens of an answer after its prompt. Source: docs/method.md §4.

    Attributes:
        status: `resolved`; `unresolved` if it merges with the prompt's last token or the vocabulary cannot spell it;
            `none` without an answer.
        form: Whether prompt and answer are joined `with_space` or with `no_space`; None unless resolved.
        ids: Token ids of the answer; all answer metrics use the first. Empty unless resolved.
        pieces: The tokens as strings.
    """

    status: str
    form: str | None = None
    ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()

    @property
    def first_id(self) -> int | None:
        """Token id that all answer metrics use."""
        return self.ids[0] if self.ids else None
