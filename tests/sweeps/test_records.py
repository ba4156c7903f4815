import ast
from pathlib import Path

from logos_pl.data import prompt_types
from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps import records
from logos_pl.sweeps.records import COPY_THRESHOLDS, SOFT_WINDOWS


def test_the_first_token_of_a_resolved_answer_decides_even_where_it_is_token_zero() -> None:
    assert AnswerTokens("resolved", "no_space", (0, 5), ("a", "b")).first_id == 0


def test_an_answer_that_is_unresolved_or_absent_has_no_deciding_token() -> None:
    assert AnswerTokens("unresolved").first_id is None
    assert AnswerTokens("none").first_id is None


def test_windows_and_thresholds_are_the_specified_ones() -> None:
    assert SOFT_WINDOWS == (1, 2, 3)
    assert COPY_THRESHOLDS == (0.70, 0.80, 0.90, 0.95)


def test_the_schema_needs_only_the_standard_library() -> None:
    imported = {}
    for module in (records, prompt_types):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        imported[module] = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    assert imported == {records: {"typing", prompt_types.__name__}, prompt_types: {"typing"}}
