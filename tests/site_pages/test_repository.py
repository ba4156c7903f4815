"""Pages of files outside of docs/, and the site's configuration."""

import re

import pytest
import yaml

from scripts.site_pages.repository import PAGES, PROJECT, citation_page, repository_pages


def test_every_page_has_a_title_and_no_front_matter() -> None:
    pages = dict(repository_pages())
    assert set(pages) == {page for source, page in PAGES.items() if not source.startswith("notebooks/")}
    for path, text in pages.items():
        assert text.startswith("# "), path


def test_the_citation_is_that_of_the_file() -> None:
    text = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    page, given = citation_page(text), yaml.safe_load(text)
    assert f"title = {{{given['title']}}}" in page
    assert f"version = {{{given['version']}}}" in page
    for work in given["references"]:
        assert f"*{work['title']}*, {work['year']}" in page
    assert "Nora Belrose, Igor Ostrovsky" in page


def test_a_citation_without_authors_is_not_made_up() -> None:
    with pytest.raises(KeyError, match="authors"):
        citation_page("{title: T, message: M, version: 1, license: MIT, references: []}")


def test_every_notebook_is_in_the_navigation_of_the_site_and_in_the_readme() -> None:
    navigation = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    notebooks = {source: page for source, page in PAGES.items() if source.startswith("notebooks/")}
    assert len(notebooks) == 5
    for source, page in notebooks.items():
        assert f": {page}\n" in navigation
        assert f"]({source})" in readme


def test_nothing_in_the_configuration_of_the_site_is_fetched_from_elsewhere() -> None:
    configuration = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"https?://|//cdn", configuration) is None
    assert "font: false" in configuration
