"""A prompt and the tokens of its answer."""

from typing import NamedTuple


class Prompt(NamedTuple):
    """A text for the model to continue.

    Attributes:
        prompt_id: Id, unique together with the variant, such as `pos` and `ctl` for the probe and its control.
        variant: `orig` or `no_filler`.
        text: The prompt.
        answer: The expected continuation, or None.
        contrast: For a control, the answer of the original prompt; else None.
        fact: Label, such as `Germany → Berlin`; may be empty.
        relation: Relation of the fact, such as `capital`; may be empty.
    """

    prompt_id: str
    variant: str
    text: str
    answer: str | None = None
    contrast: str | None = None
    fact: str = ""
    relation: str = ""


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
