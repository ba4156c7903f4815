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

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from logos_pl.data.prompt_types import Prompt
from logos_pl.errors import InputError
from logos_pl.io.parsing import read_text
from logos_pl.io.terminal import shortened
from logos_pl.io.yaml_parsing import MAX_YAML_BYTES, compose_yaml

PROBE = Path(__file__).parent / "suites" / "probe.yaml"
"""The capital-city probe with its variants. Source: docs/method.md §4."""

FACTS = Path(__file__).parent / "suites" / "facts.yaml"
"""Default suite of the gates. Source: docs/method.md §4, §6."""

FACT_FIELDS = ("id", "prompt", "answer", "relation", "fact", "no_filler", "control")
CONTROL_FIELDS = ("id", "prompt", "answer", "fact")

READ_AS_MISSING = frozenset({"NA", "NULL", "NaN", "None", "nan", "null"})
"""Strings that pandas reads from a CSV as missing values."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")


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
    return _Reader(Path(path)).facts()


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


class _Reader:
    """Reads one file and checks that ids and prompts are unique."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines_of_ids: dict[str, int] = {}
        self._lines_of_prompts: dict[str, int] = {}

    def facts(self) -> list[Fact]:
        root = self._root()
        if not isinstance(root, yaml.MappingNode):
            raise self._error(root, "holds no `facts:`; begin the file with that key and put a list under it")
        items = self._fields(root, ("facts",)).get("facts")
        if not isinstance(items, yaml.SequenceNode) or not items.value:
            raise self._error(items or root, "`facts` is not a list of prompts; put one after a dash on each line")
        return [self._fact(item, f"p{number}") for number, item in enumerate(items.value, start=1)]

    def _fact(self, node: yaml.Node, default_id: str) -> Fact:
        fields: dict[str, yaml.Node] = {"prompt": node}  # the short form: an item that is only a prompt
        if _is_null(node) or not isinstance(node, yaml.ScalarNode):
            fields = self._fields(node, FACT_FIELDS)
        text = self._required(node, fields, "prompt")
        self._refuse_second(node, text.strip(), self._lines_of_prompts, "the prompt")
        fact_id = self._id(node, fields, default_id)
        answer, no_filler = self._optional(fields, "answer"), self._optional(fields, "no_filler")
        if no_filler is not None and no_filler.strip() == text.strip():
            raise self._error(fields["no_filler"], "`no_filler` is the prompt itself; leave the filler out or drop it")
        control = self._control(fields["control"], fact_id, answer) if "control" in fields else None
        relation, label = self._optional(fields, "relation") or "", self._optional(fields, "fact") or ""
        return Fact(fact_id, text, answer, relation, label, no_filler, control, _line(node))

    def _control(self, node: yaml.Node, fact_id: str, contrast: str | None) -> Control:
        fields = self._fields(node, CONTROL_FIELDS)
        text, answer = self._required(node, fields, "prompt"), self._required(node, fields, "answer")
        if contrast is None:
            raise self._error(node, "a control is set against the fact's own `answer`; give the fact one")
        if answer.strip() == contrast.strip():
            raise self._error(node, "the control has the fact's own answer; ask for another one")
        return Control(self._id(node, fields, f"{fact_id}-ctl"), text, answer, self._optional(fields, "fact") or "")

    def _id(self, node: yaml.Node, fields: dict[str, yaml.Node], default: str) -> str:
        prompt_id = self._optional(fields, "id") or default
        if not _ID.fullmatch(prompt_id) or prompt_id in READ_AS_MISSING:
            raise self._error(
                fields.get("id", node),
                f"`id` cannot be {shortened(prompt_id, 100)!r}; begin with a letter, go on with letters, digits, `.`, "
                "`_` or `-`, 100 characters at most, and avoid what reads as a missing value "
                f"({', '.join(sorted(READ_AS_MISSING))})",
            )
        self._refuse_second(node, prompt_id, self._lines_of_ids, "the id")
        return prompt_id

    def _fields(self, node: yaml.Node, allowed: Sequence[str]) -> dict[str, yaml.Node]:
        """Given fields by name."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"expected the fields {_listed(allowed)}, each with its text")
        given: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if name not in allowed:
                raise self._error(key, f"there is no field `{name}`; {_advice(name, allowed)}")
            given[name] = value
        return {name: value for name, value in given.items() if not _is_null(value)}

    def _required(self, node: yaml.Node, fields: dict[str, yaml.Node], name: str) -> str:
        text = self._optional(fields, name)
        if text is None:
            raise self._error(node, f"the field `{name}` is missing; add it")
        return text

    def _optional(self, fields: dict[str, yaml.Node], name: str) -> str | None:
        node = fields.get(name)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"`{name}` is not text; put it in quotes")
        if not node.value.strip():
            raise self._error(node, f"`{name}` is empty; give a text or leave the field out")
        # The text as written: `no` and 4 are strings.
        return str(node.value)

    def _refuse_second(self, node: yaml.Node, text: str, lines: dict[str, int], what: str) -> None:
        if text in lines:
            raise self._error(node, f"{what} {text!r} is already in line {lines[text]}; keep one")
        lines[text] = _line(node)

    def _root(self) -> yaml.Node:
        name = str(self._path)
        try:
            root = compose_yaml(read_text(self._path, MAX_YAML_BYTES, name), name)
        except OSError as error:
            raise InputError(f"{name} cannot be read ({error.strerror}): give a YAML file of prompts.") from error
        if root is None:
            raise self._error(1, "the file is empty; put a list under `facts:`")
        return root

    def _error(self, place: yaml.Node | int, problem: str) -> InputError:
        line = place if isinstance(place, int) else _line(place)
        return InputError(f"{self._path}, line {line}: {problem}{'' if problem.endswith('?') else '.'}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _advice(name: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.7)
    if close:
        return f"did you mean `{close[0]}`?"
    # An unquoted prompt such as `Question: who is` is parsed as a mapping.
    return f"there are {_listed(allowed)}, and a text with a colon needs quotes"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
