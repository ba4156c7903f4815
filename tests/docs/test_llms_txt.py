"""`llms.txt`, in the format of llmstxt.org: a title, a quoted summary, notes, and sections that list files."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "llms.txt").read_text(encoding="utf-8")
LINK = re.compile(r"- \[[^\]]+\]\(([^)]+)\): \S.*")


def test_it_has_a_title_and_a_summary_first_and_nothing_but_links_under_its_headings() -> None:
    notes, *sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    title, empty, summary, *_ = notes.splitlines()
    assert title == "# logos-pl"
    assert empty == ""
    assert summary.startswith("> ")
    assert sections[-1].startswith("Optional\n")
    for section in sections:
        name, *lines = [line for line in section.splitlines() if line]
        assert lines, name
        assert [line for line in lines if LINK.fullmatch(line) is None] == []


def test_it_lists_every_page_of_the_documentation_and_no_file_that_is_not_there() -> None:
    listed = {PROJECT / target for target in re.findall(r"\]\(([^)]+)\)", TEXT)}
    assert [target for target in listed if not target.exists()] == []
    assert set((PROJECT / "docs").rglob("*.md")) - listed == set()
