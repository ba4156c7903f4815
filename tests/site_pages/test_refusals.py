"""The page of messages against the source, which it is collected from without running it."""

import io
import tokenize
from pathlib import Path

from logos_pl.errors import InputError
from scripts.site_pages.refusals import AREAS, PACKAGE, collect, refusals_page, split_remedy

ERRORS = {"InputError", "RunError", "GatesNotPassedError", "InterruptedRunError"}
ERRORS |= {"TextRefusedError", "BoundsError", "HubUnreachableError"}


def constructed(path: Path) -> int:
    """How often a file constructs an error for the user, counted by its tokens."""
    tokens = list(tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline))
    pairs = zip(tokens, tokens[1:], [tokens[0], *tokens], strict=False)
    return sum(
        one.type == tokenize.NAME and one.string in ERRORS and two.string == "(" and before.string != "class"
        for one, two, before in pairs
    )


def test_every_error_that_the_source_constructs_is_on_the_page() -> None:
    found, passed_on = collect()
    assert {place.file for place in passed_on} == {"kinds/tuned.py"}, "its sentence is another's, which is on the page"
    total = sum(constructed(path) for path in PACKAGE.rglob("*.py"))
    assert total > 400
    assert len(found) + len(passed_on) >= total
    page = refusals_page()
    assert page.count("\n| ") - len(AREAS) == len(set(found)), "one row for each, beside the headings of the tables"


def test_every_area_of_the_package_has_a_title_and_no_title_is_without_messages() -> None:
    found, _ = collect()
    assert {refusal.area for refusal in found} == set(AREAS)


def test_what_is_filled_in_stands_in_angle_brackets(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("class LocalError(InputError): ...\n")
    (tmp_path / "module.py").write_text(
        "def sentence(name):\n    return f'{name} is too large: shorten it.'\n\n"
        "def work(lm, path):\n"
        "    raise LocalError(f'{lm.num_blocks} blocks in {os.path.relpath(path)}: give {2 * 3}.') from None\n"
        "    raise RunError(sentence(path))\n"
        "    raise InputError('A.' if path else 'B.')\n"
        "    raise ValueError('not for the user')\n"
        "    raise InputError(lm.message)\n"
    )
    found, passed_on = collect(tmp_path)
    assert [(refusal.message, refusal.status) for refusal in found] == [
        ("<num blocks> blocks in <path>: give <…>.", "2"),
        ("<name> is too large: shorten it.", "1"),
        ("A.", "2"),
        ("B.", "2"),
    ]
    assert [(place.file, place.line) for place in passed_on] == [("module.py", 9)]


def test_the_remedy_is_what_follows_the_last_colon_or_semicolon_outside_of_brackets() -> None:
    assert split_remedy("No row (got: 9): choose 0 to 8.") == ("No row (got: 9): ", "choose 0 to 8.")
    assert split_remedy("It vanished (a: b); put it back.") == ("It vanished (a: b); ", "put it back.")
    assert split_remedy("<option> must be positive (got: <value>).") == (
        "<option> must be positive (got: <value>).",
        "",
    )


def test_a_message_of_a_real_refusal_is_on_the_page() -> None:
    error = InputError("The command is missing: see `logos-pl --help`.")
    assert f"{str(error).partition(': ')[0]}: **see \\`logos-pl --help\\`.**" in refusals_page()
