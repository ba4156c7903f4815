"""Links between files of the repository as links between pages."""

import pytest

from scripts.site_pages.links import NoPageError, loaded_from_elsewhere, plain_pipes, relink

PAGES = {"README.md": "index.md", "notebooks/first.ipynb": "notebooks/first.md"}


@pytest.mark.parametrize(
    ("source", "page", "link", "there"),
    [
        ("README.md", "index.md", "docs/read.md", "read.md"),
        ("README.md", "index.md", "docs/memory.md#a-part", "memory.md#a-part"),
        ("docs/read.md", "read.md", "../README.md", "index.md"),
        ("docs/read.md", "read.md", "sweep.md#the-page", "sweep.md#the-page"),
        ("docs/reference/python.md", "reference/python.md", "../sweep.md", "../sweep.md"),
        ("README.md", "index.md", "notebooks/first.ipynb", "notebooks/first.md"),
        ("notebooks/first.ipynb", "notebooks/first.md", "../README.md", "../index.md"),
    ],
)
def test_a_link_leads_to_the_page_that_the_file_became(source: str, page: str, link: str, there: str) -> None:
    assert relink(f"see [it]({link}), ![it]({link})", source, page, PAGES) == f"see [it]({there}), ![it]({there})"


@pytest.mark.parametrize(
    "text", ["[a](https://arxiv.org/abs/2303.08112)", "[b](#below)", "```python\nx[0](docs/a.md)\n```"]
)
def test_addresses_anchors_and_code_stay(text: str) -> None:
    assert relink(text, "README.md", "index.md", PAGES) == text


def test_a_link_to_a_file_without_a_page_is_refused() -> None:
    with pytest.raises(NoPageError, match=r"README.md links to configs/demo.yaml, which has no page"):
        relink("[demo](configs/demo.yaml)", "README.md", "index.md", PAGES)


@pytest.mark.parametrize(
    "element",
    [
        '<script src="https://unpkg.com/iframe-worker/shim">',
        '<img alt="x" src="//example.org/x.png">',
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css">',
        "<script defer src=http://example.org/x.js>",
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere_is_found(element: str) -> None:
    assert loaded_from_elsewhere(f"<p>text</p>{element}<p>") == element


def test_links_and_files_of_the_site_itself_are_no_such_thing() -> None:
    page = '<a href="https://arxiv.org">paper</a><link href="a/main.css"><img src="a.png"><script src="x.js"></script>'
    assert loaded_from_elsewhere(page) is None


def test_a_pipe_in_code_in_a_table_loses_its_backslash_and_elsewhere_keeps_it() -> None:
    assert (
        plain_pipes("<td><code>a \\| b</code></td><code>a\\|b</code>")
        == "<td><code>a | b</code></td><code>a\\|b</code>"
    )
