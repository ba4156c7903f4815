"""What a package registry shows of the project: the README with links that work there, and its addresses."""

import re
from pathlib import Path

import pytest

from hatch_build import addresses, registry_page

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)]+)\)")
REPOSITORY = "https://forge.example/logos-pl"


@pytest.mark.parametrize("repository", [None, REPOSITORY])
def test_no_link_of_the_readme_leads_to_a_file_that_a_registry_does_not_have(repository: str | None) -> None:
    page = registry_page(README, repository)
    targets = LINK.findall(page)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert "<!--" not in page
    own = [target for target in targets if target.startswith(REPOSITORY)]
    assert bool(own) == (repository is not None)
    files = [target.removeprefix(f"{REPOSITORY}/").partition("#")[0].split("/", 2)[2] for target in own]
    assert [file for file in files if not (Path(__file__).parents[1] / file).exists()] == []


def test_words_and_code_stay_and_pictures_become_their_text() -> None:
    code = "```sh\ncat [a](b)\n```"
    text = f"![A figure](f.png)\n\nSee [`x`](docs/x.md#y) and [the paper](https://a.b/c).\n\n{code}\n"
    assert registry_page(text, None) == (
        f"*Figure in the repository: A figure.*\n\nSee `x` and [the paper](https://a.b/c).\n\n{code}\n"
    )
    assert registry_page(text, "https://h") == (
        f"![A figure](https://h/raw/main/f.png)\n\nSee [`x`](https://h/blob/main/docs/x.md#y) and "
        f"[the paper](https://a.b/c).\n\n{code}\n"
    )
    headings = re.findall(r"^#+ .*$", README, re.MULTILINE)
    assert re.findall(r"^#+ .*$", registry_page(README, None), re.MULTILINE) == headings


def test_the_projects_addresses_are_those_of_the_repository_once_there_is_one() -> None:
    assert list(addresses(None)) == ["Tuned lens (paper)"]
    assert addresses(REPOSITORY)["Issues"] == f"{REPOSITORY}/issues"
    anchors = [target.partition("#")[2] for target in addresses(REPOSITORY).values() if "#" in target]
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert [anchor for anchor in anchors if anchor.capitalize() not in headings] == []
