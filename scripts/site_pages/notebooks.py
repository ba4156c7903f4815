"""Notebooks: executed on the bundled demo, and turned into pages with their outputs.

python -m scripts.site_pages.notebooks FOLDER     # executes all of notebooks/, writes copies with outputs to FOLDER
"""

import base64
import itertools
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
WIDGETS_MISSING = "IProgress not found"
"""How the warning of tqdm begins where notebooks have no widgets, as here."""

SECONDS_PER_CELL = 1200
"""A cell that takes longer is stopped, and fails."""

SECONDS_TO_START = 300
"""As long a kernel may take to start, on a busy machine."""


class Rendered(NamedTuple):
    """A notebook as a page.

    Attributes:
        markdown: The page.
        pictures: PNG files by their path beside the page.
    """

    markdown: str
    pictures: dict[str, bytes]


class NotebookWarningError(Exception):
    """A cell of Python warns."""


def execute(notebook: Path, target: Path) -> None:
    """Execute a notebook in an empty folder, and write a copy with its outputs.

    Args:
        notebook: The notebook.
        target: File of the copy.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails, or takes longer than `SECONDS_PER_CELL`.
        NotebookWarningError: A cell warns.
    """
    import nbformat
    from nbclient import NotebookClient

    document = nbformat.read(notebook, as_version=4)
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": commands, "PYTHONWARNINGS": f"ignore:{WIDGETS_MISSING}"}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            document,
            timeout=SECONDS_PER_CELL,
            startup_timeout=SECONDS_TO_START,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env=environment)
    for cell in document.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and "Warning" in output["text"]:
                raise NotebookWarningError(f"{notebook.name}: a cell warns: {output['text']}")
    nbformat.write(document, target)


def render(notebook: Mapping[str, Any], name: str) -> Rendered:
    """A notebook with outputs as a page in Markdown.

    Args:
        notebook: The notebook, as in its JSON.
        name: Name of the page, without its ending; pictures are named after it.
    """
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        shell = source.startswith("%%bash\n")
        parts.append(_fenced(source.removeprefix("%%bash\n"), "sh" if shell else "python"))
        for output in _joined(cell["outputs"], shell):
            parts += _output(output, name, pictures)
    first, *rest = parts  # the cell that installs; below the title, where a page begins
    title, _, opening = rest[0].partition("\n")
    note = f"This page is the notebook `notebooks/{name}.ipynb`, executed on the bundled demo."
    return Rendered("\n\n".join([title, note, opening.strip(), first, *rest[1:]]) + "\n", pictures)


def _joined(outputs: Iterable[Mapping[str, Any]], shell: bool) -> Iterator[Mapping[str, Any]]:
    """Outputs with what was printed in pieces in one; without progress bars, which Python cells print as errors."""
    for printed, group in itertools.groupby(outputs, lambda output: output["output_type"] == "stream"):
        if not printed:
            yield from group
            continue
        text = "".join("".join(output["text"]) for output in group if shell or output["name"] != "stderr")
        if text.strip():
            yield {"output_type": "stream", "text": text}


def _output(output: Mapping[str, Any], name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    """One output of a cell: a picture, a table, or text."""
    if output["output_type"] == "stream":
        yield _fenced(ESCAPES.sub("", "".join(output["text"])).rstrip(), "text")
        return
    data = {
        kind: "".join(content) for kind, content in output.get("data", {}).items() if isinstance(content, str | list)
    }
    if "image/png" in data:
        picture = f"{name}-{len(pictures) + 1}.png"
        pictures[picture] = base64.b64decode(data["image/png"])
        yield f"![Figure {len(pictures)} of {name.replace('_', ' ')}]({picture})"
    elif "text/html" in data:
        yield f'<div class="notebook-table" markdown="0">{_without_style(data["text/html"])}</div>'
    elif "text/plain" in data:
        yield _fenced(data["text/plain"], "text")


def _without_style(html: str) -> str:
    """The table of a data frame without pandas' style, and without blank lines, which would end it in Markdown."""
    bare = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return "\n".join(line for line in bare.replace(' border="1"', "").splitlines() if line.strip())


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def main(folder: str) -> None:
    """Execute all notebooks.

    Args:
        folder: Where to write the copies with outputs.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        started = time.monotonic()
        print(f"{notebook.name} …", flush=True)
        execute(notebook, target / notebook.name)
        print(f"{notebook.name}: {time.monotonic() - started:.0f} s", flush=True)


def rendered(folder: Path) -> Iterator[tuple[str, Rendered]]:
    """Name and page of every notebook that was executed into a folder."""
    for path in sorted(folder.glob("*.ipynb")):
        yield path.stem, render(json.loads(path.read_text(encoding="utf-8")), path.stem)


if __name__ == "__main__":
    main(*sys.argv[1:])
