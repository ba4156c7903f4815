"""Suites of unspoken intermediates: what a model must think of on the way to an answer, and neither reads nor says.

A file is YAML with one key, `items`, a list of mappings of these fields:

    items:
    - id: eiffel                    # optional; i1, i2, … in the order of the list where there is none
      set: two-hop                  # optional: sets are reported one by one; default: the name of the file
      prompt: The capital of the country where the Eiffel Tower stands is
      intermediates: [France]       # each a word, or a list of its spellings: [[five, "5"], addition]
      target: Paris                 # optional: the answer, or a list of its spellings
      read_after: Tower stands      # optional: the lens is read at the last token of this text, where it occurs last;
                                    # default: at the last token of the prompt
      single_token: yes             # optional: a spelling counts only where it is one token, as for numbers

Every field is taken as text. Files of the lens-eval collection are read by `lens_eval`.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import yaml

from logos_pl.data.yaml_items import YamlItems, line_of
from logos_pl.io.parsing import read_bytes
from logos_pl.io.yaml_parsing import MAX_YAML_BYTES

UNSPOKEN = Path(__file__).parent / "suites" / "unspoken.yaml"
"""Bundled suite of two-hop facts and arithmetic."""

UNSPOKEN_DEMO = Path(__file__).parent / "suites" / "unspoken_demo.yaml"
"""Bundled suite for the demo model."""

ITEM_FIELDS = ("id", "set", "prompt", "intermediates", "target", "read_after", "single_token")

MAX_ITEMS = 10_000
MAX_INTERMEDIATES = 16
MAX_SPELLINGS = 32
MAX_SPELLING_CHARS = 100

Spellings = tuple[str, ...]


class UnspokenItem(NamedTuple):
    """A prompt with its unspoken intermediates.

    Attributes:
        item_id: Id, unique in its set.
        set_name: Set that the item is reported in.
        prompt: The prompt.
        intermediates: Each with its spellings, of which the likeliest counts.
        target: The answer with its spellings; empty if there is none.
        read_after: The lens is read at the last token of this text; None: at the last token of the prompt.
        single_token: Whether a spelling counts only if it is a single token.
    """

    item_id: str
    set_name: str
    prompt: str
    intermediates: tuple[Spellings, ...]
    target: Spellings = ()
    read_after: str | None = None
    single_token: bool = False


class UnspokenSuite(NamedTuple):
    """The items of a suite and the files they are from.

    Attributes:
        items: In order.
        name: File or folder name.
        sha256: Hash of the file, or of the files of a folder in order.
    """

    items: tuple[UnspokenItem, ...]
    name: str
    sha256: str


def read_yaml_suite(path: Path) -> UnspokenSuite:
    """Read a YAML file in the format of the module docstring.

    Raises:
        InputError: The file cannot be read, is not YAML or is invalid; the message names the line.
    """
    items = _Reader(path, "items", "prompts with intermediates").unspoken()
    return UnspokenSuite(tuple(items), path.name, hashlib.sha256(read_bytes(path, MAX_YAML_BYTES)).hexdigest())


def problem_of(item: UnspokenItem) -> str | None:
    """What is wrong with an item of any kind of file; None if nothing is."""
    words = [("intermediate", spelling) for of_one in item.intermediates for spelling in of_one]
    words += [("target", spelling) for spelling in item.target]
    if len(item.intermediates) > MAX_INTERMEDIATES:
        return f"it has {len(item.intermediates)} intermediates; give at most {MAX_INTERMEDIATES}"
    if max(map(len, (*item.intermediates, item.target))) > MAX_SPELLINGS:
        return f"a word has more than {MAX_SPELLINGS} spellings; give fewer"
    if any(len(spelling) > MAX_SPELLING_CHARS for _, spelling in words):
        return f"a spelling has more than {MAX_SPELLING_CHARS} characters; give single words"
    seen = [" ".join(spelling.split()) for of_one in item.intermediates for spelling in of_one]
    twice = next((spelling for number, spelling in enumerate(seen) if spelling in seen[:number]), None)
    if twice is not None:
        return f"the intermediate {twice!r} is given twice; keep one"
    if item.read_after is not None and item.read_after not in item.prompt:
        return f"the prompt does not contain the text of `read_after`, {item.read_after[:60]!r}"
    return None


class _Reader(YamlItems):
    """Reads one file of items."""

    def unspoken(self) -> list[UnspokenItem]:
        nodes = self.items()
        if len(nodes) > MAX_ITEMS:
            raise self.error(nodes[MAX_ITEMS], f"there are more than {MAX_ITEMS:,} items; split the file")
        return [self._item(node, f"i{number}") for number, node in enumerate(nodes, start=1)]

    def _item(self, node: yaml.Node, default_id: str) -> UnspokenItem:
        fields = self.fields(node, ITEM_FIELDS)
        prompt = self.required(node, fields, "prompt")
        self.refuse_second_prompt(node, prompt)
        item = UnspokenItem(
            item_id=self.id(node, fields, default_id),
            set_name=self.optional(fields, "set") or self.path.stem,
            prompt=prompt,
            intermediates=self._intermediates(node, fields),
            target=self._spellings(fields["target"], "target") if "target" in fields else (),
            read_after=self._raw(fields, "read_after"),
            single_token=self._yes(fields, "single_token"),
        )
        problem = problem_of(item)
        if problem is not None:
            raise self.error(line_of(node), problem)
        return item

    def _intermediates(self, node: yaml.Node, fields: dict[str, yaml.Node]) -> tuple[Spellings, ...]:
        given = fields.get("intermediates")
        if given is None:
            raise self.error(node, "the field `intermediates` is missing; add it")
        if not isinstance(given, yaml.SequenceNode) or not given.value:
            raise self.error(given, "`intermediates` is not a list; write [France], or [[five, '5']] with spellings")
        return tuple(self._spellings(part, "intermediates") for part in given.value)

    def _spellings(self, node: yaml.Node, name: str) -> Spellings:
        if not isinstance(node, yaml.SequenceNode):
            return (self.text(node, name),)
        if not node.value:
            raise self.error(node, f"`{name}` has an empty list of spellings; give one")
        return tuple(self.text(part, name) for part in node.value)

    def _raw(self, fields: dict[str, yaml.Node], name: str) -> str | None:
        """Text of a field that may be white space, such as a line feed."""
        node = fields.get(name)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self.error(node, f"`{name}` is not text; put it in quotes")
        return str(node.value)

    def _yes(self, fields: dict[str, yaml.Node], name: str) -> bool:
        value = self.optional(fields, name)
        if value not in (None, "yes", "no", "true", "false"):
            raise self.error(fields[name], f"`{name}` must be yes or no")
        return value in ("yes", "true")
