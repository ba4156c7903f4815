"""Reads and checks YAML files of prompts and facts; errors name the line.

A file is YAML with one key, `facts`, a list. An item is a prompt, or a mapping of these fields:

    facts:
    - Once upon a time, there was
    - id: pos                       # optional; p1, p2, … in the order of the list where there is none
      prompt: The capital of Germany is called simply
      answer: Berlin                # optional, like all that follows
      relation: capital
      fact: Germany → Berlin        # a label for tables and pictures
      no_filler: The capital of Germany is called
      control: {id: ctl, prompt: The capital of France is called simply, answer: Paris, fact: France → Paris}
    - messages:                     # a conversation, for the model's chat template
      - {role: system, content: Answer in one word.}
      - {role: user, content: What is the capital of Germany?}
      answer: Berlin
    - token_ids: [1, 450, 7483]     # token ids, read as they are

Instead of `prompt`, an item or a control has `messages` or `token_ids`; a `no_filler` has the same form as its item.
Every field is taken as text: `answer: 4` and `answer: no` need no quotes. A field with value `null` counts as missing.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from logos_pl.data.prompt_types import ROLES, Message, Prompt
from logos_pl.data.yaml_items import YamlItems, is_null, line_of
from logos_pl.io.terminal import shortened

PROBE = Path(__file__).parent / "suites" / "probe.yaml"
"""The capital-city probe with its variants. Source: docs/method.md §4."""

FACTS = Path(__file__).parent / "suites" / "facts.yaml"
"""Default suite of the gates. Source: docs/method.md §4, §6."""

FORMS = ("prompt", "messages", "token_ids")
"""Forms of a prompt; an item has exactly one of these fields."""

FACT_FIELDS = ("id", *FORMS, "answer", "relation", "fact", "no_filler", "control")
CONTROL_FIELDS = ("id", *FORMS, "answer", "fact")

_TOKEN_ID = re.compile("[0-9]{1,9}")


class PromptContent(NamedTuple):
    """A prompt in one of its forms; the other two are empty.

    Attributes:
        text: A text.
        messages: A conversation.
        token_ids: Token ids.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    token_ids: tuple[int, ...] = ()


class Control(NamedTuple):
    """The same question about another subject, whose answer is compared with that of the fact.

    Attributes:
        prompt_id: Id, unique in the file.
        content: The prompt.
        answer: The expected continuation.
        label: Such as `France → Paris`; may be empty.
    """

    prompt_id: str
    content: PromptContent
    answer: str
    label: str = ""


class Fact(NamedTuple):
    """One item of a file of prompts.

    Attributes:
        fact_id: Id, unique in the file.
        content: The prompt.
        answer: The expected continuation, or None.
        relation: Such as `capital`; may be empty.
        label: Such as `Germany → Berlin`; may be empty.
        no_filler: The prompt without its stylistic filler, or None.
        control: The same question about another subject, or None.
        line: Line in the file, from 1.
    """

    fact_id: str
    content: PromptContent
    answer: str | None
    relation: str
    label: str
    no_filler: PromptContent | None
    control: Control | None
    line: int


def read_suite(path: str | Path) -> list[Fact]:
    """Read the facts of a file in order; ids and prompts must be unique.

    Args:
        path: YAML file in the format of the module docstring.

    Raises:
        InputError: The file cannot be read, is not YAML or is invalid; the message names the line.
    """
    return _Reader(Path(path), "facts", "prompts").facts()


def prompts_of(facts: Sequence[Fact]) -> list[Prompt]:
    """Prompts of the facts, each followed by its variant without filler and its control, if any."""
    prompts: list[Prompt] = []
    for fact in facts:
        prompt = Prompt(fact.fact_id, "orig", "", fact.answer, None, fact.label, fact.relation)
        prompts.append(prompt._replace(**fact.content._asdict()))
        if fact.no_filler is not None:
            prompts.append(prompt._replace(variant="no_filler", **fact.no_filler._asdict()))
        if fact.control is not None:
            id_, content, answer, label = fact.control
            control = Prompt(id_, "orig", "", answer, fact.answer, label, fact.relation)
            prompts.append(control._replace(**content._asdict()))
    return prompts


class _Reader(YamlItems):
    """Reads one file of facts."""

    def facts(self) -> list[Fact]:
        return [self._fact(item, f"p{number}") for number, item in enumerate(self.items(), start=1)]

    def _fact(self, node: yaml.Node, default_id: str) -> Fact:
        fields: dict[str, yaml.Node] = {"prompt": node}  # the short form: an item that is only a prompt
        if is_null(node) or not isinstance(node, yaml.ScalarNode):
            fields = self.fields(node, FACT_FIELDS)
        form = self._form(node, fields)
        content = self._content(form, fields[form])
        self.refuse_second_prompt(node, content.text or repr(content.messages or list(content.token_ids)))
        fact_id = self.id(node, fields, default_id)
        answer, no_filler = self.optional(fields, "answer"), None
        if "no_filler" in fields:
            no_filler = self._content(form, fields["no_filler"], "no_filler")
            if no_filler == content or (form == "prompt" and no_filler.text.strip() == content.text.strip()):
                raise self.error(
                    fields["no_filler"], "`no_filler` equals the prompt; remove the filler from it, or drop the field"
                )
        control = self._control(fields["control"], fact_id, answer) if "control" in fields else None
        relation, label = self.optional(fields, "relation") or "", self.optional(fields, "fact") or ""
        return Fact(fact_id, content, answer, relation, label, no_filler, control, line_of(node))

    def _control(self, node: yaml.Node, fact_id: str, contrast: str | None) -> Control:
        fields = self.fields(node, CONTROL_FIELDS)
        form = self._form(node, fields)
        content, answer = self._content(form, fields[form]), self.required(node, fields, "answer")
        if contrast is None:
            raise self.error(node, "a control is compared with the `answer` of its fact; give the fact one")
        if answer.strip() == contrast.strip():
            raise self.error(node, "the control has the same answer as its fact; give it another")
        return Control(self.id(node, fields, f"{fact_id}-ctl"), content, answer, self.optional(fields, "fact") or "")

    def _form(self, node: yaml.Node, fields: dict[str, yaml.Node]) -> str:
        """The field that holds the prompt."""
        given = [form for form in FORMS if form in fields]
        if not given:
            raise self.error(node, "the field `prompt` is missing; add it, or `messages` or `token_ids`")
        if len(given) > 1:
            raise self.error(fields[given[1]], f"there is already a `{given[0]}`; give either that or `{given[1]}`")
        return given[0]

    def _content(self, form: str, node: yaml.Node, name: str | None = None) -> PromptContent:
        name = form if name is None else name
        if form == "prompt":
            return PromptContent(self.text(node, name))
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            what = "messages, each with `role` and `content`" if form == "messages" else "token ids, such as [1, 2, 3]"
            raise self.error(node, f"`{name}` is not a list of {what}")
        if form == "token_ids":
            return PromptContent(token_ids=tuple(self._token_id(item, name) for item in node.value))
        messages = tuple(map(self._message, node.value))
        if not any(message.content.strip() for message in messages):
            raise self.error(node, f"all messages of `{name}` are empty; give one a `content`")
        return PromptContent(messages=messages)

    def _token_id(self, node: yaml.Node, name: str) -> int:
        if not isinstance(node, yaml.ScalarNode) or not _TOKEN_ID.fullmatch(node.value):
            raise self.error(node, f"`{name}` holds something other than token ids; give numbers from 0")
        return int(node.value)

    def _message(self, node: yaml.Node) -> Message:
        fields = self.fields(node, ("role", "content"))
        role = self.required(node, fields, "role")
        if role not in ROLES:
            raise self.error(fields["role"], f"there is no role `{shortened(role, 40)}`; choose {', '.join(ROLES)}")
        if "content" not in fields:
            raise self.error(node, "the field `content` is missing; add it")
        content = fields["content"]
        if not isinstance(content, yaml.ScalarNode):
            raise self.error(content, "`content` is not text; put it in quotes")
        return Message(role, str(content.value))  # may be empty: an empty system message drops the template's own
