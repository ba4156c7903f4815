"""The house: sizes of files, classes and parameter lists, and a test beside every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "logos_pl"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAX_LINES = 300
MAX_PUBLIC_MEMBERS = 15
MAX_PARAMETERS = 12
MIRRORED_FRAC = 0.95


def test_no_file_is_longer_than_one_reads_at_once() -> None:
    lengths = {_name(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_class_has_more_public_members_than_one_keeps_in_mind() -> None:
    found = {f"{_name(path)}:{node.name}": len(_public(node)) for path in MODULES for node in _classes(path)}
    assert {name: members for name, members in found.items() if members > MAX_PUBLIC_MEMBERS} == {}


def test_no_function_takes_more_parameters_than_one_keeps_apart() -> None:
    found = {
        f"{_name(path)}:{node.name}:{node.lineno}": _parameters(node) for path in MODULES for node in _functions(path)
    }
    assert {name: count for name, count in found.items() if count > MAX_PARAMETERS} == {}


def test_nearly_every_module_has_a_test_of_its_own() -> None:
    tested = [path for path in MODULES if path.name not in ("__init__.py", "__main__.py")]
    missing = [_name(path) for path in tested if not _test_of(path).is_file()]
    assert len(missing) <= (1 - MIRRORED_FRAC) * len(tested), missing


def test_no_modules_import_each_other_in_a_circle_not_even_for_type_checking() -> None:
    graph = grimp.build_graph("logos_pl", exclude_type_checking_imports=False, cache_dir=None)
    left = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while free := {module for module, imported in left.items() if not imported}:
        left = {module: imported - free for module, imported in left.items() if module not in free}
    assert sorted(left) == [], "each of these imports one of the others, or of what imports them"


def _name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def _test_of(path: Path) -> Path:
    inside = path.relative_to(PACKAGE)
    return PROJECT / "tests" / inside.parent / f"test_{inside.name}"


def _classes(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))


def _functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def _public(node: ast.ClassDef) -> set[str]:
    """Methods and properties; fields of typed records are data and not counted."""
    methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    return {name for name in methods if not name.startswith("_")}


def _parameters(node: ast.FunctionDef) -> int:
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])
