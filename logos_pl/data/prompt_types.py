"""A prompt and the tokens of its answer."""

from typing import NamedTuple

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Who may say a message; a chat template may know fewer."""


class Message(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: One of `ROLES`.
        content: What is said.
    """

    role: str
    content: str


class Prompt(NamedTuple):
    """What the model is to continue: a text, a conversation, or token ids.

    Attributes:
        prompt_id: Id, unique together with the variant, such as `pos` and `ctl` for the probe and its control.
        variant: `orig` or `no_filler`.
        text: The prompt; of a conversation or of token ids, the same as text, once it is tokenised.
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
            messages of a conversation, without what the template writes around them.
        role: Who says the message; None for the others.
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
