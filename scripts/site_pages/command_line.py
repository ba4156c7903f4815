"""The page of all commands and options, from their parsers."""

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from logos_pl.cli.commands import COMMANDS, OWN_PARSERS, usage
from logos_pl.cli.hub import hub_parser
from logos_pl.cli.run import KINDS, LogosCLI

TYPE_AND_DEFAULT = re.compile(r"\s*\((?:required, )?type: (?P<type>.*?)(?:, default: (?P<default>.*))?\)\s*$", re.S)
"""What jsonargparse appends to the help of an option."""


class _BuiltError(Exception):
    """Carries a parser out of LightningCLI before it parses."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


class _ParserOnly(LogosCLI):
    """LogosCLI up to its parser."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Stop here.

        Raises:
            _BuiltError: Always.
        """
        raise _BuiltError(parser)


def command_line_page() -> str:
    """The page in Markdown: a section per command, a table per group of options."""
    lines = ["# Command line", "", "From the parsers of the commands.", "", "```text", usage(), "```"]
    for name, summary in COMMANDS.items():
        lines += ["", f"## logos-pl {name}", "", summary]
        for title, parser in _parsers(name):
            if title:
                lines += ["", f"### {title}"]
            for group in parser._action_groups:
                lines += _group(parser, group)
    return "\n".join(lines) + "\n"


def _group(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> list[str]:
    """The table of a group of options below its title; without the column of defaults where help texts tell them."""
    rows = [row for action in group._group_actions for row in _row(parser, action)]
    if not rows:
        return []
    heading = [] if group.title in ("options", "positional arguments", None) else ["", f"**{group.title}**"]
    if not any(row[2] for row in rows):
        rows = [row[:2] for row in rows]
    titles = ("option", "what", "default")[: len(rows[0])]
    table = [titles, ("---",) * len(titles), *rows]
    return [*heading, "", *(f"| {' | '.join(row)} |" for row in table)]


def _parsers(name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Parsers of a command, each with its title; that of a single one is empty."""
    if name == "hub":
        for action in hub_parser()._actions:
            if isinstance(action.choices, dict):
                yield from ((f"hub {command}", parser) for command, parser in action.choices.items())
    elif name in OWN_PARSERS:
        yield "", import_module(f"logos_pl.cli.{name}").command_parser()
    else:
        try:
            _ParserOnly(KINDS[name], [])
        except _BuiltError as built:
            yield "", built.parser


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[tuple[str, ...]]:
    """The cells of an option: name and type, meaning, default; none for `--help` and for what only prints help."""
    if action.dest == "help" or action.dest.endswith(".help") or action.help in (None, argparse.SUPPRESS):
        return
    said = parser._get_formatter()._expand_help(action)
    found = TYPE_AND_DEFAULT.search(said)
    default = "" if found is None or found["default"] is None else f"`{found['default']}`"
    what = said if found is None else said[: found.start()]
    names = [name for name in action.option_strings if not name.endswith("+")] or [action.dest]
    kind = "" if found is None or found["type"] in ("str", "bool") else f" *{_plain(_type(found['type']))}*"
    if action.required and found is not None:
        default = "required"
    yield f"{', '.join(f'`{name}`' for name in names)}{kind}", _plain(what), default


def _type(given: str) -> str:
    """A type as people write it: `Union[list[int], Literal['auto']]` becomes `list(int), auto`."""
    flat, before = given, ""
    while flat != before:
        before = flat
        flat = re.sub(r"\b(list|dict)\[([^\[\]]*)\]", r"\1(\2)", flat)
        flat = re.sub(r"\b(?:Union|Literal|Optional)\[([^\[\]]*)\]", r"\1", flat)
    return re.sub(r"\s*\|\s*", ", ", flat.replace("'", ""))


def _plain(text: str) -> str:
    """Text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
