"""Pages made from files of the repository that stand outside of `docs/`: README, changelog, citation and others."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from scripts.site_pages.links import relink

PROJECT = Path(__file__).parents[2]

PAGES: Mapping[str, str] = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "logos_pl/demo/README.md": "demo.md",
    "CITATION.cff": "citation.md",
    **{
        f"notebooks/{path.name}": f"notebooks/{path.stem}.md"
        for path in sorted((PROJECT / "notebooks").glob("*.ipynb"))
    },
}
"""Page on the site by file of the repository."""

FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def repository_pages() -> Iterator[tuple[str, str]]:
    """Path and Markdown of every page that is a Markdown file of the repository, and of the citation."""
    for source, page in PAGES.items():
        if source.endswith(".md"):
            text = FRONT_MATTER.sub("", (PROJECT / source).read_text(encoding="utf-8"))
            yield page, relink(text, source, page, PAGES)
    yield PAGES["CITATION.cff"], citation_page((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))


def citation_page(citation: str) -> str:
    """The page on how to cite, from `CITATION.cff`: BibTeX of the software, and the works it builds on.

    Args:
        citation: Contents of the file.
    """
    given = yaml.safe_load(citation)
    authors = " and ".join(f"{{{author['name']}}}" for author in given["authors"])
    lines = [
        "# Citation",
        "",
        given["message"],
        "",
        "```bibtex",
        "@software{logos_pl,",
        f"  title = {{{given['title']}}},",
        f"  author = {{{authors}}},",
        f"  version = {{{given['version']}}},",
        f"  license = {{{given['license']}}},",
        "}",
        "```",
        "",
        "The methods:",
        "",
    ]
    for work in given["references"]:
        names = [
            author.get("name") or f"{author['given-names']} {author['family-names']}" for author in work["authors"]
        ]
        where = work.get("url") or work["identifiers"][0]["value"]
        lines.append(f"* {', '.join(names)}: *{work['title']}*, {work['year']}. {_address(where)}")
    lines += ["", "[Glossary](glossary.md) and [method](method.md) name the source of every term and formula."]
    return "\n".join(lines) + "\n"


def _address(where: str) -> str:
    if where.startswith("arXiv:"):
        return f"[{where}](https://arxiv.org/abs/{where.removeprefix('arXiv:')})"
    return f"<{where}>"
