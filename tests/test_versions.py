"""The ranges of `pyproject.toml` are those that `dev.py versions` proves, and the documentation says so."""

import re
import tomllib
from pathlib import Path

import pytest

from scripts.versions import CARRIED, CORE, LISTS, TOOLS, as_key, normalised, pinned, requirements

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "installation.md").read_text(encoding="utf-8")
BOUNDS = {bound.name: bound for bound in requirements()}
OLDEST, NEWEST, SET_UP = (pinned(PROJECT / f"requirements{which}.lock") for which in ("-oldest", "-newest", ""))


def by_row(text: str) -> dict[str, list[str]]:
    """Cells of tables of a page by the first one, without marks of code."""
    rows = (line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|"))
    return {cells[0].strip().strip("`"): [cell.strip().strip("`") for cell in cells[1:]] for cells in rows}


def test_the_oldest_list_has_every_lower_bound() -> None:
    assert {name: OLDEST.get(name) for name in BOUNDS} == {name: bound.oldest for name, bound in BOUNDS.items()}


@pytest.mark.parametrize("name", BOUNDS)
def test_an_upper_bound_is_the_next_after_the_newest_that_was_tried(name: str) -> None:
    below, newest = BOUNDS[name].below, as_key(NEWEST[name])
    assert newest >= as_key(BOUNDS[name].oldest)
    if below is not None:
        digits = as_key(below)
        tried = max(newest, as_key(BY_HAND.get(name, "0")))
        assert (*tried[: len(digits) - 1], tried[len(digits) - 1] + 1) == digits


BY_HAND = {match[1]: match[2] for match in re.finditer(r"versions newest --(torch) ([\d.]+)", PAGE)}
"""Newest versions that the page says were tried beside the list, by package."""


def test_what_set_up_installs_is_between_the_two_lists() -> None:
    outside = {
        name: SET_UP[name]
        for name in BOUNDS
        if not as_key(OLDEST[name]) <= as_key(SET_UP[name]) <= as_key(NEWEST[name])
    }
    assert outside == {}


def test_the_lists_have_what_the_core_needs_and_nothing_of_one_platform() -> None:
    for pins in (OLDEST, NEWEST):
        assert {normalised(tool) for tool in TOOLS} - set(pins) == set()
        assert [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))] == []


def test_the_core_is_files_of_the_suite_of_every_folder_of_the_package() -> None:
    assert [name for name in (*CORE, *CARRIED) if not (PROJECT / name).exists()] == []
    tested = {name.split("/")[1] for name in CORE}
    folders = {path.parent.name for path in (PROJECT / "logos_pl").glob("*/__init__.py")}
    assert folders - tested == {"demo"}  # which commands and tests read all along


def test_the_page_lists_the_versions() -> None:
    rows = by_row(PAGE)
    for name in BOUNDS:
        assert rows[name][:3] == [OLDEST[name], SET_UP[name], NEWEST[name]], name


def test_pythons_are_claimed_only_where_the_page_names_the_command_that_ran_on_them() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = [
        line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r"Python :: 3\.\d+$", line) is not None
    ]
    assert project["requires-python"] == f">={claimed[0]}"
    rows = by_row(PAGE)
    for version in claimed:
        assert "dev.py versions" in rows[f"Python {version}"][0]


def test_continuous_integration_runs_both_lists() -> None:
    ran = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    assert [name for name in LISTS if f"dev.py versions {name}" not in ran] == []


def test_versions_are_ordered_by_their_numbers() -> None:
    assert as_key("2.13.0+cpu") == as_key("2.13.0") < as_key("2.14")
    assert as_key("0.3.9") < as_key("0.3.11")
    assert normalised("Huggingface_Hub") == "huggingface-hub"
