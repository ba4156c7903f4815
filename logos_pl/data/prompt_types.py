"""What is asked of a model: a prompt, and its answer in tokens."""

from typing import NamedTuple


class Prompt(NamedTuple):
    """One text a model is to continue.

    Attributes:
        prompt_id: What identifies it together with the variant, such as `pos` and `ctl` for the probe and its control.
        variant: `orig` or `no_filler`.
        text: The prompt.
        answer: What the model ought to say next, or None.
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
    """Where an answer stands in the vocabulary. Source: docs/method.md §4.

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
