"""The notebooks as they are in git, and as pages."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from scripts.site_pages.notebooks import NOTEBOOKS, render

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


@EACH
def test_outputs_are_not_in_git(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


@EACH
def test_the_first_cell_installs_and_does_nothing_where_the_package_is_there(path: Path) -> None:
    first = cells(path)[0]
    assert first["cell_type"] == "code"
    lines = "".join(first["source"]).splitlines()
    assert lines[-1].strip() == "%pip install --quiet logos-pl"
    exec("\n".join([*lines[:-1], "    raise AssertionError('it would install')"]))


@EACH
def test_a_title_comes_second_and_only_the_first_cell_installs(path: Path) -> None:
    _, second, *rest = cells(path)
    assert second["cell_type"] == "markdown"
    assert "".join(second["source"]).startswith("# ")
    assert [cell["id"] for cell in rest if "pip install" in "".join(cell["source"])] == []


@EACH
def test_a_cell_of_several_commands_stops_at_the_first_that_fails(path: Path) -> None:
    for cell in cells(path):
        magic, *lines = "".join(cell["source"]).splitlines()
        if magic == "%%bash":
            assert len(lines) == 1 or lines[0] == "set -e", cell["id"]


PICTURE = b"\x89PNG\r\n"


def notebook(*outputs: dict[str, Any], source: str = "work()") -> dict[str, Any]:
    code = {"cell_type": "code", "source": [source], "outputs": list(outputs)}
    return {
        "cells": [
            {"cell_type": "code", "source": ["install"], "outputs": []},
            {"cell_type": "markdown", "source": ["# Title\n", "\n", "Opening."]},
            code,
        ]
    }


def test_a_page_begins_with_the_title_and_shows_text_tables_and_pictures() -> None:
    page = render(
        notebook(
            {"output_type": "stream", "name": "stdout", "text": ["\x1b[1mbold\x1b[0m\n", "li"]},
            {"output_type": "stream", "name": "stderr", "text": "a bar: 50%\r"},
            {"output_type": "stream", "name": "stdout", "text": ["ne\n"]},
            {
                "output_type": "display_data",
                "data": {"image/png": base64.b64encode(PICTURE).decode(), "text/plain": "F"},
            },
            {
                "output_type": "execute_result",
                "data": {
                    "text/html": '<style>x {}</style>\n\n<table border="1"><tr><td>1</td></tr></table>',
                    "text/plain": "1",
                },
            },
            {"output_type": "execute_result", "data": {"text/plain": ["[1, 2]"]}},
        ),
        "name",
    )
    assert page.markdown.startswith("# Title\n\nThis page is the notebook `notebooks/name.ipynb`")
    assert page.markdown.index("Opening.") < page.markdown.index("```python\ninstall\n```")
    assert "```text\nbold\nline\n```" in page.markdown
    assert "](name-1.png)" in page.markdown
    assert page.pictures == {"name-1.png": PICTURE}
    assert '<div class="notebook-table" markdown="0"><table><tr><td>1</td></tr></table></div>' in page.markdown
    assert page.markdown.endswith("```text\n[1, 2]\n```\n")


def test_a_cell_of_shell_is_shown_as_shell() -> None:
    assert "```sh\nlogos-pl --version\n```" in render(notebook(source="%%bash\nlogos-pl --version"), "name").markdown
