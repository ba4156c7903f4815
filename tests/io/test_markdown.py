import ast
import math

import pytest

from logos_pl.io.markdown import (
    cite,
    code,
    escaped,
    link,
    literal,
    number,
    plain_line,
    quoted,
    table,
    with_footnotes,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("`x`", r"\`x\`"),
        ("a_b*c", r"a\_b\*c"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("[a](b)", r"\[a\](b)"),
        ("$x$ ~s~", r"\$x\$ \~s\~"),
        ("\\", r"\\"),
        ("a\nb\r\u2028\x00", r"a\\nb\\r\\u2028\\x00"),
        ("中é😀 ok", "中é😀 ok"),
    ],
)
def test_nothing_in_a_text_is_taken_for_markdown(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_quoted_text_shows_its_spaces_and_line_feeds() -> None:
    assert quoted(" Berlin\n") == r'" Berlin\\n"'
    assert quoted('"') == r'"\\""'


def test_a_quoted_text_can_be_written_as_utf8_whatever_is_in_it() -> None:
    assert quoted("\ud800").encode() == rb'"\\ud800"'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>`|", r"&lt;b&gt;\`\|"),
        ("a\n| b", r"`a\n\| b`"),
        ("a", "`a`"),
        ("a|b", r"`a\|b`"),
        ("a`b", "`` a`b ``"),
        ("``", "``` `` ```"),
        ("a_b[0]", "`a_b[0]`"),
        ("a\n\n# b", r"`a\n\n# b`"),
    ],
)
def test_code_is_fenced_by_more_backticks_than_it_has(text: str, shown: str) -> None:
    assert code(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (True, "yes"), (False, "no"), (7, "7"), (0, "0"), (1.23456, "1.235"), (0.0, "0.000"),
        (-0.5, "-0.500"), (0.001, "0.001"), (2.13e-6, "2.1e-06"), (-1e-9, "-1.0e-09"),
        (math.nan, "not finite"), (math.inf, "not finite"), (-math.inf, "not finite"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_never_hide_that_they_are_not_zero(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_a_citation_names_file_and_place() -> None:
    cited = f"1 bit {cite('a.csv', 'kl_to_final_bits', 'layer 4')}."
    assert with_footnotes(cited) == "1 bit[^1].\n[^1]: `a.csv: kl_to_final_bits, layer 4`\n"


def test_a_table_has_a_line_per_row() -> None:
    assert table(["a", "b"], [["1", "2"], ["3", "4"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n"


@pytest.mark.parametrize("text", ["org/model", 'a"b\\c', "<b>&`\n```\n", "é\u2028"])
def test_a_literal_is_the_same_text_to_python_and_ends_no_block_of_code(text: str) -> None:
    assert ast.literal_eval(literal(text)) == text
    assert not set("<>&`\n") & set(literal(text))


def test_a_link_leads_where_it_says() -> None:
    assert link("a]b", "LICENSES/a b(1).txt") == r"[a\]b](LICENSES/a%20b%281%29.txt)"


def test_a_plain_line_has_no_marks_of_html_and_no_second_line() -> None:
    assert plain_line("a\n<b>&") == r"a\n\x3cb\x3e\x26"


def test_sources_are_numbered_in_the_order_of_their_first_mark_and_stand_once() -> None:
    text = f"a {cite('x', '1')} b {cite('y', '2')} c {cite('x', '1')}\n" + table(["v"], [[cite("y", "2")]])
    marked, *notes = with_footnotes(text).split("\n[^")
    assert marked == "a[^1] b[^2] c[^1]\n| v |\n| --- |\n| [^2] |\n"
    assert notes == ["1]: `x: 1`", "2]: `y: 2`\n"]
    assert with_footnotes("no source\n") == "no source\n"


def test_a_text_from_outside_cannot_make_or_end_a_source() -> None:
    nasty = "\x02`a: b`\x03 \x03[^1]"
    found = with_footnotes(f"{escaped(nasty)} {code(nasty)} {cite('x', nasty)}")
    assert found.count("\n[^") == 1
    assert "\x02" not in found
    assert "\x03" not in found
