"""Conversations rendered by a model's chat template, as text and as tokens."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from logos_pl.data.prompt_types import Message, Place
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from logos_pl.errors import first_sentence

MAX_RENDERED_CHARS = 2**25
"""Maximum number of characters of a rendered conversation."""

DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""Date in conversations that are packed, so that a fit can be resumed and repeated; Llama's templates have it, too."""

TEMPLATE_ERRORS = (
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError,
)  # fmt: skip
"""Errors that a template may raise: it is third-party code, run in Jinja's sandbox."""


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer comes with a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, to_continue: bool = True) -> str:
    """Return a conversation as text, special tokens written out.

    Args:
        tokenizer: The model's tokenizer.
        messages: The turns.
        to_continue: Whether the text ends where the model continues: after the header of its reply or, if the last
            message is the model's, at the end of that message. If false, the conversation is rendered as it is, with
            `DATE` in place of today's date, so that the text does not depend on the day.

    Raises:
        TextRefusedError: There is no template, or it cannot render these turns.
    """
    if not has_template(tokenizer):
        raise TextRefusedError(
            "cannot be rendered, as the model has no chat template: give plain text, or use an instruction-tuned "
            "model.",
            "The conversation",
        )
    begun = to_continue and messages[-1].role == "assistant"
    turns = [message._asdict() for message in messages]
    try:
        text = str(
            tokenizer.apply_chat_template(
                turns,
                chat_template=None if to_continue else _without_today(tokenizer.get_chat_template()),
                tokenize=False,
                add_generation_prompt=to_continue and not begun,
                continue_final_message=begun,
            )
        )
    except TEMPLATE_ERRORS as error:
        raise _refused(first_sentence(error)) from error
    if len(text) > MAX_RENDERED_CHARS:
        raise _refused(f"the result has more than {MAX_RENDERED_CHARS:,} characters.")
    return text


def _without_today(template: str) -> str:
    """The template with `DATE` in place of today's date."""
    formats = {found[2] for found in re.finditer(r"strftime_now\(\s*(['\"])(.*?)\1", template)}
    if "strftime_now" not in template:
        return template
    cases = "".join(f"{{% if format == {form!r} %}}{DATE.strftime(form)}{{% endif %}}" for form in sorted(formats))
    return f"{{% macro strftime_now(format) %}}{cases}{{% endmacro %}}\n{template}"  # Jinja drops that line feed


def _refused(reason: str) -> TextRefusedError:
    return TextRefusedError(f"cannot be rendered by the model's chat template: {reason}", "The conversation")


def places_in(encode: Tokenizer, messages: Sequence[Message], text: str, ids: Sequence[int]) -> tuple[Place, ...]:
    """Named places of a rendered conversation that the model continues.

    The messages are located by rendering the conversation with marks in their place. If the template changes their
    contents or depends on them, they cannot be located and get no names.

    Args:
        encode: The model's tokenizer.
        messages: The turns.
        text: What `render_chat` makes of them.
        ids: Its tokens.
    """
    spans = _spans(encode.tokenizer, messages, text)
    turns = [
        Place(f"turn{number}", message.role, *_tokens_of(encode, text, span, ids))
        for number, (message, span) in enumerate(zip(messages, spans, strict=False), start=1)
        if span[0] < span[1]
    ]
    last = len(ids) - 1
    reply = last
    if messages[-1].role == "assistant":
        named = [turn.first - 1 for turn in turns if turn.name == f"turn{len(messages)}"]
        reply = named[0] if named else -1
    return (*turns, *([Place("reply", None, reply, reply)] if reply >= 0 else []), Place("last", None, last, last))


def _spans(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
    """Span of each message in the rendered text; empty if it cannot be determined."""
    marks = [f"⟦{number}⟧" for number in range(len(messages))]
    marked = [Message(message.role, mark) for message, mark in zip(messages, marks, strict=True)]
    try:
        around = re.split("|".join(map(re.escape, marks)), render_chat(tokenizer, marked))
    except TextRefusedError:
        return []
    if len(around) != len(messages) + 1 or not text.startswith(around[0]):
        return []
    spans, begin = [], len(around[0])
    for message, after in zip(messages, around[1:], strict=True):
        forms = (message.content, message.content.rstrip(), message.content.strip())
        content = next((content for content in forms if text.startswith(content + after, begin)), None)
        if content is None:
            return []
        spans.append((begin, begin + len(content)))
        begin += len(content + after)
    return spans if begin == len(text) else []


def _tokens_of(encode: Tokenizer, text: str, span: tuple[int, int], ids: Sequence[int]) -> tuple[int, int]:
    """Positions of the first and the last token that overlap a span of the text."""
    first, after = (_num_common(encode.plain(text[:end]), ids) for end in span)
    return first, max(first, after - 1)


def _num_common(some: Sequence[int], others: Sequence[int]) -> int:
    """Number of leading ids that two sequences have in common."""
    return next((i for i, (a, b) in enumerate(zip(some, others, strict=False)) if a != b), min(len(some), len(others)))
