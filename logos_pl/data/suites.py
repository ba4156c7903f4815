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

Every field is taken as text: `answer: 4` and `answer: no` need no quotes. A field with value `null` counts as missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from logos_pl.data.prompt_types import Prompt
from logos_pl.data.yaml_items import YamlItems, is_null, line_of

PROBE = Path(__file__).parent / "suites" / "probe.yaml"
"""The capital-city probe with its variants. Source: docs/method.md §4."""

FACTS = Path(__file__).parent / "suites" / "facts.yaml"
"""Default suite of the gates. Source: docs/method.md §4, §6."""

FACT_FIELDS = ("id", "prompt", "answer", "relation", "fact", "no_filler", "control")
CONTROL_FIELDS = ("id", "prompt", "answer", "fact")


class Control(NamedTuple):
    """The same question about another subject, whose answer is compared with that of the fact.

    Attributes:
        prompt_id: Id, unique in the file.
        text: The prompt.
        answer: The expected continuation.
        label: Such as `France → Paris`; may be empty.
    """

    prompt_id: str
    text: str
    answer: str
    label: str = ""


class Fact(NamedTuple):
    """One item of a file of prompts.

    Attributes:
        fact_id: Id, unique in the file.
        text: The prompt.
        answer: The expected continuation, or None.
        relation: Such as `capital`; may be empty.
        label: Such as `Germany → Berlin`; may be empty.
        no_filler: The prompt without its stylistic filler, or None.
        control: The same question about another subject, or None.
        line: Line in the file, from 1.
    """

    fact_id: str
    text: str
    answer: str | None
    relation: str
    label: str
    no_filler: str | None
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
        prompt = Prompt(fact.fact_id, "orig", fact.text, fact.answer, None, fact.label, fact.relation)
        prompts.append(prompt)
        if fact.no_filler is not None:
            prompts.append(prompt._replace(variant="no_filler", text=fact.no_filler))
        if fact.control is not None:
            id_, text, answer, label = fact.control
            prompts.append(Prompt(id_, "orig", text, answer, fact.answer, label, fact.relation))
    return prompts


class _Reader(YamlItems):
    """Reads one file of facts."""

    def facts(self) -> list[Fact]:
        return [self._fact(item, f"p{number}") for number, item in enumerate(self.items(), start=1)]

    def _fact(self, node: yaml.Node, default_id: str) -> Fact:
        fields: dict[str, yaml.Node] = {"prompt": node}  # the short form: an item that is only a prompt
        if is_null(node) or not isinstance(node, yaml.ScalarNode):
            fields = self.fields(node, FACT_FIELDS)
        text = self.required(node, fields, "prompt")
        self.refuse_second_prompt(node, text)
        fact_id = self.id(node, fields, default_id)
        answer, no_filler = self.optional(fields, "answer"), self.optional(fields, "no_filler")
        if no_filler is not None and no_filler.strip() == text.strip():
            raise self.error(fields["no_filler"], "`no_filler` is the prompt itself; leave the filler out or drop it")
        control = self._control(fields["control"], fact_id, answer) if "control" in fields else None
        relation, label = self.optional(fields, "relation") or "", self.optional(fields, "fact") or ""
        return Fact(fact_id, text, answer, relation, label, no_filler, control, line_of(node))

    def _control(self, node: yaml.Node, fact_id: str, contrast: str | None) -> Control:
        fields = self.fields(node, CONTROL_FIELDS)
        text, answer = self.required(node, fields, "prompt"), self.required(node, fields, "answer")
        if contrast is None:
            raise self.error(node, "a control is set against the fact's own `answer`; give the fact one")
        if answer.strip() == contrast.strip():
            raise self.error(node, "the control has the fact's own answer; ask for another one")
        return Control(self.id(node, fields, f"{fact_id}-ctl"), text, answer, self.optional(fields, "fact") or "")
