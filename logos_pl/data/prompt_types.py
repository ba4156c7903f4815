"""A prompt for a model, and the tokens of its answer."""

from typing import NamedTuple


class Prompt(NamedTuple):
    """One text a model is to continue.

    Attributes:
        prompt_id: Its id, unique together with the variant, such as `pos` and `ctl` for the probe and its control.
        variant: `orig` or `no_filler`.
        text: The prompt.
        answer: The expected continuation, or None.
        contrast: On a control prompt, the answer of the prompt it controls; else None.
        fact: A label, such as `Germany → Berlin`; may be empty.
        relation: The relation the fact is an instance of, such as `capital`; may be empty.
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
        status: `resolved`; `unresolved`, where its letters merge with the prompt's last token or the vocabulary cannot
            spell it; `none`, without answer.
        form: `with_space` or `no_space`: how answer and prompt were joined; None unless resolved.
        ids: The answer's tokens after the prompt; the first decides every answer metric. Empty unless resolved.
        pieces: The same as strings.
    """

    status: str
    form: str | None = None
    ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()

    @property
    def first_id(self) -> int | None:
        """The token that decides every answer metric."""
        return self.ids[0] if self.ids else None
