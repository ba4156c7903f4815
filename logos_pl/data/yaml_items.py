"""YAML files that are a list of items with text fields: reading and checking, with the line in every message."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from logos_pl.errors import InputError
from logos_pl.io.parsing import read_text
from logos_pl.io.terminal import shortened
from logos_pl.io.yaml_parsing import MAX_YAML_BYTES, compose_yaml

READ_AS_MISSING = frozenset({"NA", "NULL", "NaN", "None", "nan", "null"})
"""Strings that pandas reads from a CSV as missing values."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")


class YamlItems:
    """Reads one file and checks that ids and prompts are unique.

    Args:
        path: The file.
        key: The key under which the list is.
        what: What the items are, in the plural.
    """

    def __init__(self, path: Path, key: str, what: str) -> None:
        self.path, self.key, self.what = path, key, what
        self._lines_of_ids: dict[str, int] = {}
        self._lines_of_prompts: dict[str, int] = {}

    def items(self) -> list[yaml.Node]:
        """The items of the list.

        Raises:
            InputError: The file cannot be read, is not YAML or holds no such list.
        """
        root = self._root()
        if not isinstance(root, yaml.MappingNode):
            raise self.error(root, f"there is no `{self.key}:`; begin the file with that key and put a list under it")
        items = self.fields(root, (self.key,)).get(self.key)
        if not isinstance(items, yaml.SequenceNode) or not items.value:
            raise self.error(
                items or root, f"`{self.key}` is not a list of {self.what}; put one after a dash on each line"
            )
        return list(items.value)

    def fields(self, node: yaml.Node, allowed: Sequence[str]) -> dict[str, yaml.Node]:
        """Given fields by name, without those that are null.

        Raises:
            InputError: It is not a mapping, or has a field that is not allowed.
        """
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected the fields {_listed(allowed)}, each with its text")
        given: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if name not in allowed:
                raise self.error(key, f"there is no field `{name}`; {_advice(name, allowed)}")
            given[name] = value
        return {name: value for name, value in given.items() if not is_null(value)}

    def required(self, node: yaml.Node, fields: dict[str, yaml.Node], name: str) -> str:
        """Text of a field.

        Raises:
            InputError: It is missing or not text.
        """
        text = self.optional(fields, name)
        if text is None:
            raise self.error(node, f"the field `{name}` is missing; add it")
        return text

    def optional(self, fields: dict[str, yaml.Node], name: str) -> str | None:
        """Text of a field as written, so that `no` and 4 are strings; None if it is missing.

        Raises:
            InputError: It is not text, or empty.
        """
        node = fields.get(name)
        return None if node is None else self.text(node, name)

    def text(self, node: yaml.Node, name: str) -> str:
        """Text of a node.

        Raises:
            InputError: It is not text, null or empty.
        """
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, f"`{name}` is not text; put it in quotes")
        if is_null(node):  # in a list, whose items cannot be left out
            raise self.error(node, f"`{name}` holds null; put the word in quotes, or give a text")
        if not node.value.strip():
            raise self.error(node, f"`{name}` is empty; give a text or leave the field out")
        return str(node.value)

    def id(self, node: yaml.Node, fields: dict[str, yaml.Node], default: str) -> str:
        """The item's id.

        Raises:
            InputError: It cannot be one, or another item has it.
        """
        found = self.optional(fields, "id") or default
        if not _ID.fullmatch(found) or found in READ_AS_MISSING:
            raise self.error(
                fields.get("id", node),
                f"`id` cannot be {shortened(found, 100)!r}; begin with a letter, go on with letters, digits, `.`, "
                "`_` or `-`, 100 characters at most, and avoid names that pandas reads as missing values "
                f"({', '.join(sorted(READ_AS_MISSING))})",
            )
        self._refuse_second(node, found, self._lines_of_ids, "the id")
        return found

    def refuse_second_prompt(self, node: yaml.Node, text: str) -> None:
        """Check that no other item has the prompt.

        Raises:
            InputError: One has.
        """
        self._refuse_second(node, text.strip(), self._lines_of_prompts, "the prompt")

    def error(self, place: yaml.Node | int, problem: str) -> InputError:
        """An error about a node or a line."""
        line = place if isinstance(place, int) else line_of(place)
        return InputError(f"{self.path}, line {line}: {problem}{'' if problem.endswith('?') else '.'}")

    def _refuse_second(self, node: yaml.Node, text: str, lines: dict[str, int], what: str) -> None:
        if text in lines:
            raise self.error(node, f"{what} {text!r} is already on line {lines[text]}; keep one")
        lines[text] = line_of(node)

    def _root(self) -> yaml.Node:
        name = str(self.path)
        try:
            root = compose_yaml(read_text(self.path, MAX_YAML_BYTES, name), name)
        except OSError as error:
            raise InputError(f"{name} cannot be read ({error.strerror}): give a YAML file of {self.what}.") from error
        if root is None:
            raise self.error(1, f"the file is empty; put a list under `{self.key}:`")
        return root


def line_of(node: yaml.Node) -> int:
    """Line of a node, from 1."""
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    """Whether a value is null, which counts as missing."""
    return bool(node.tag == "tag:yaml.org,2002:null")


def _advice(name: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.7)
    if close:
        return f"did you mean `{close[0]}`?"
    # An unquoted prompt such as `Question: who is` is parsed as a mapping.
    return f"there are {_listed(allowed)}, and a text with a colon needs quotes"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
