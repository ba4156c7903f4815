"""Hooks of MkDocs: adds the pages that are made from the code, and refuses what would be loaded from elsewhere."""

from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts.site_pages.command_line import command_line_page
from scripts.site_pages.file_formats import file_formats_page
from scripts.site_pages.links import NoPageError, loaded_from_elsewhere, plain_pipes, relink
from scripts.site_pages.notebooks import NOTEBOOKS, rendered
from scripts.site_pages.refusals import refusals_page
from scripts.site_pages.repository import PAGES, PROJECT, repository_pages

EXECUTED = PROJECT / "build" / "notebooks"
"""Where `dev.py docs` has executed the notebooks."""

log = get_plugin_logger("site_pages")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages.

    Raises:
        PluginError: The notebooks have not been executed, or a link leads to a file without a page.
    """
    missing = {path.name for path in NOTEBOOKS.glob("*.ipynb")} - {path.name for path in EXECUTED.glob("*.ipynb")}
    if missing:
        raise PluginError(f"{', '.join(sorted(missing))}: run `python -m scripts.site_pages.notebooks build/notebooks`")
    try:
        for path, content in _generated():
            files.append(File.generated(config, path, content=content))
    except NoPageError as error:
        raise PluginError(str(error)) from error
    return files


def _generated() -> Iterator[tuple[str, str | bytes]]:
    yield from repository_pages()
    yield "reference/command_line.md", command_line_page()
    yield "reference/files.md", file_formats_page()
    yield "reference/messages.md", refusals_page()
    for name, page in rendered(EXECUTED):
        source = f"notebooks/{name}.ipynb"
        yield PAGES[source], relink(page.markdown, source, PAGES[source], {**PAGES, **_pictures(page.pictures)})
        yield from ((f"notebooks/{picture}", content) for picture, content in page.pictures.items())


def _pictures(names: dict[str, bytes]) -> dict[str, str]:
    return {f"notebooks/{name}": f"notebooks/{name}" for name in names}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of a page in `docs/` to other files of the repository into links to their pages.

    Raises:
        PluginError: A link leads to a file without a page.
    """
    if page.file.generated_by is not None:
        return markdown
    try:
        return relink(markdown, f"docs/{page.file.src_uri}", page.file.src_uri, PAGES)
    except NoPageError as error:
        raise PluginError(str(error)) from error


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show a `|` in code in a table as it is: Markdown has to have it escaped, and leaves the backslash there."""
    return plain_pipes(html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn, which fails a strict build, of anything that a browser would load from elsewhere."""
    if (loaded := loaded_from_elsewhere(output)) is not None:
        log.warning(f"{page.file.src_uri} loads something from elsewhere: {loaded}")
    return output
