"""The page of all messages that end a command, collected from the source without running it."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "logos_pl"

BASE = "LogosError"
EXIT_STATUS = {"InputError": "2", "RunError": "1", "GatesNotPassedError": "3", "InterruptedRunError": "128 + n"}
"""Exit status by class, and by those that derive from it."""

AREAS = {
    "__main__.py": "Before anything is loaded",
    "cli": "Commands and options",
    "settings": "Settings",
    "bounds.py": "Limits of numbers",
    "lm": "Models",
    "data": "Text and prompts",
    "artifacts": "Files of lenses and checkpoints",
    "lenses": "Lenses",
    "kinds": "Kinds of lens",
    "modules": "Loading and running",
    "agreement.py": "Several processes",
    "errors.py": "Resuming",
    "fit": "Training",
    "gates": "Gates",
    "sweeps": "Sweeps",
    "compare": "Comparisons",
    "hub": "Hub",
    "api.py": "Python API",
    "io": "Files and output",
    "functional": "Computations",
}
"""Title by folder or file of the package, in the order of the page."""


class Refusal(NamedTuple):
    """A message in the source.

    Attributes:
        message: The message; what is filled in stands in angle brackets.
        status: Exit status.
        area: First part of the module's path in the package.
    """

    message: str
    status: str
    area: str


class PassedOn(NamedTuple):
    """A place that raises an error with a message made elsewhere."""

    file: str
    line: int


def collect(package: Path = PACKAGE) -> tuple[list[Refusal], list[PassedOn]]:
    """Messages of all errors for the user that a package constructs, and the places whose message is made elsewhere.

    Args:
        package: Folder of the package.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    status, texts = _statuses(trees.values()), _returned_texts(trees.values())
    found: list[Refusal] = []
    passed_on: list[PassedOn] = []
    for path, tree in trees.items():
        inside = path.relative_to(package)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in status:
                continue
            messages = list(_messages(node.args[0], texts)) if node.args else []
            found += [Refusal(message, status[node.func.id], inside.parts[0]) for message in messages]
            if not messages:
                passed_on.append(PassedOn(inside.as_posix(), node.lineno))
    return found, passed_on


def refusals_page() -> str:
    """The page in Markdown, a table per area; remedies are in bold."""
    found, _ = collect()
    lines = [
        "# Messages and remedies",
        "",
        f"All {len(found)} messages with which a command ends early, collected from the code: what is wrong, and "
        "**what to do about it**. What is filled in stands in angle brackets. Exit status 2 is bad input, 1 a failure "
        "with good input, 3 a lens that fails a gate, 128 + n a run that signal n stopped.",
    ]
    for area, title in AREAS.items():
        lines += ["", f"## {title}", "", "| message | status |", "|---|---|"]
        of_area = dict.fromkeys(refusal for refusal in found if refusal.area == area)
        lines += [_row(refusal) for refusal in of_area]
    return "\n".join(lines) + "\n"


def _row(refusal: Refusal) -> str:
    what, remedy = split_remedy(refusal.message)
    return f"| {_cell(what)}{remedy and f'**{_cell(remedy)}**'} | {refusal.status} |"


def split_remedy(message: str) -> tuple[str, str]:
    """A message up to its last colon or semicolon outside of brackets, and what follows: the remedy, or nothing."""
    depth = 0
    for index in range(len(message) - 2, 0, -1):
        depth += {">": 1, ")": 1, "<": -1, "(": -1}.get(message[index], 0)
        if depth == 0 and message[index : index + 2] in (": ", "; "):
            return message[: index + 2], message[index + 2 :]
    return message, ""


def _cell(text: str) -> str:
    for sign in "\\`*_[]|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _statuses(trees: Iterable[ast.Module]) -> Mapping[str, str]:
    """Exit status of every class that derives from `LogosError`, by name."""
    bases = {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    status = dict(EXIT_STATUS)
    while more := {
        name: status[base] for name, of in bases.items() if name not in status for base in of if base in status
    }:
        status |= more
    return status


def _returned_texts(trees: Iterable[ast.Module]) -> Mapping[str, list[ast.expr]]:
    """Texts that functions return, by name of the function."""
    return {
        node.name: [
            part.value
            for part in ast.walk(node)
            if isinstance(part, ast.Return) and isinstance(part.value, ast.JoinedStr | ast.Constant)
        ]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def _messages(node: ast.expr, texts: Mapping[str, list[ast.expr]]) -> Iterator[str]:
    """Messages that an argument can stand for; none if they cannot be told."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(_piece(value) for value in values)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _messages(value, texts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _messages(body, texts)
            yield from _messages(orelse, texts)
        case ast.Call(func=ast.Name(id=name)):
            for returned in texts.get(name, []):
                yield from _messages(returned, texts)


def _piece(value: ast.expr) -> str:
    match value:
        case ast.Constant(value=text):
            return str(text)
        case ast.FormattedValue(value=expression):
            return f"<{_name(expression)}>"
    return "<…>"


def _name(expression: ast.expr) -> str:
    """What is filled in: the last name of the expression, in words."""
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").replace("_", " ")
        case ast.Call(args=[first, *_], func=ast.Name()):
            return _name(first)
        case ast.Call(func=ast.Attribute(attr="relpath" | "fspath" | "join" | "basename"), args=[first, *_]):
            return _name(first)
        case ast.Call(func=ast.Attribute(value=value)) | ast.Subscript(value=value):
            return _name(value)
    return "…"
