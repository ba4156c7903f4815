"""Links between files of the repository as links between pages."""

import pytest

from scripts.site_pages.links import NoPageError, relink

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
