"""Links of files of the repository as links between pages of the site, and what is checked and mended in pages."""

import posixpath
import re
from collections.abc import Mapping

LINK = re.compile(r"(\]\()(?!https?://|mailto:|#)([^)\s#]+)((?:#[^)\s]*)?\))")
"""A Markdown link or image to a file: opening, target, anchor and closing bracket."""

FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
)
CELL = re.compile(r"<td>.*?</td>", re.DOTALL)


class NoPageError(ValueError):
    """A link leads to a file that has no page on the site."""


def relink(text: str, source: str, page: str, pages: Mapping[str, str]) -> str:
    """Markdown of a file of the repository with its links leading to pages of the site; code blocks stay.

    Args:
        text: Contents of the file.
        source: Path of the file in the repository.
        page: Path of its page on the site.
        pages: Path on the site by path in the repository; files in ``docs/`` keep their path below it.

    Raises:
        NoPageError: A link leads to a file that is not on the site.
    """

    def there(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        if target in pages:
            place = pages[target]
        elif target.startswith("docs/"):
            place = target.removeprefix("docs/")
        else:
            raise NoPageError(f"{source} links to {target}, which has no page on the site: add one, or name it as code")
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(page) or '.')}{match[3]}"

    return "".join(part if part.startswith("```") else LINK.sub(there, part) for part in FENCE.split(text))


def loaded_from_elsewhere(html: str) -> str | None:
    """The first element that a browser would fetch from elsewhere to show a page; None if there is none."""
    found = LOADED.search(html)
    return None if found is None else found[0]


def plain_pipes(html: str) -> str:
    """A page with `|` in code in tables as it is: Markdown has to have it escaped, and leaves the backslash there."""
    return CELL.sub(lambda match: match[0].replace("\\|", "|"), html)
