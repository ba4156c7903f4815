"""Every command in the pages: run on the demo, or marked with what it needs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from logos_pl.cli.command import check_options
from logos_pl.cli.run import KINDS
from logos_pl.demo import MODEL_DIR

PROJECT = Path(__file__).parents[2]
PAGES = [
    *(PROJECT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md")),
    *sorted((PROJECT / "docs").rglob("*.md")),
]

NEEDS = {
    "the Hub": "models, text or lenses of the Hub",
    "a GPU": "an accelerator",
    "hours": "minutes to hours: a benchmark",
    "reference files": "the models and texts that LOGOS_PL_SHARED names",
    "a package": "a package that is not installed",
    "a server": "a server of the reader's",
    "your lenses": "lenses of the reader's own",
    "set-up": "an environment of its own, which CI sets up",
}
"""Why a block is not run."""

BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>.+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"<!-- needs: .*? -->")

SMALLER = {
    "logos-pl fit ": " --data.tokens 30_000",
    "logos-pl prism ": " --prism.positions 20_000",
    "logos-pl jacobian ": " --jacobian.sequences 16",
}
"""Added to what trains, by its beginning: the pages' own budget is for a lens to keep."""


class Block(NamedTuple):
    """Commands of a page.

    Attributes:
        page: Path in the repository.
        needs: What they need; None: nothing.
        commands: The commands, comments included, lines that go on joined.
    """

    page: str
    needs: str | None
    commands: tuple[str, ...]


def blocks() -> list[Block]:
    """All blocks of shell, and all transcripts, whose commands stand behind `$`."""
    found = []
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            lines = match["text"].replace("\\\n", " ").splitlines()
            if match["language"] != "sh":
                lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            if commands := tuple(line for line in lines if line.strip()):
                found.append(Block(page.relative_to(PROJECT).as_posix(), match["needs"], commands))
    return found


BLOCKS = blocks()
RUN = {
    page: list(
        dict.fromkeys(
            command for block in BLOCKS if block.page == page and block.needs is None for command in block.commands
        )
    )
    for page in dict.fromkeys(block.page for block in BLOCKS if block.needs is None)
}
"""Commands that are run, by page."""


def test_every_mark_says_why_in_known_words_and_stands_above_commands() -> None:
    assert [block for block in BLOCKS if block.needs is not None and block.needs not in NEEDS] == []
    marks = sum(len(MARK.findall(page.read_text(encoding="utf-8"))) for page in PAGES if page.name != "CONTRIBUTING.md")
    assert marks == sum(block.needs is not None for block in BLOCKS)
    assert len(RUN) >= 5


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}: {block.commands[0][:40]}")
def test_a_command_has_only_options_that_there_are(block: Block) -> None:
    for command in block.commands:
        words = shlex.split(command.replace("…", "X"), comments=True)
        if "logos-pl" in words and (name := words[words.index("logos-pl") + 1]) in KINDS:
            check_options(KINDS[name], KINDS, [word for word in words if word.startswith("--")])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout, in which a lens for the demo was fitted and the demo was swept."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "examples", "benchmarks", "scripts", "logos_pl"):
        (folder / name).symlink_to(PROJECT / name)
    shutil.copytree(MODEL_DIR, folder / "my-model")
    for command in (
        "git init -q",
        "git -c user.name=n -c user.email=e commit -q --allow-empty -m 'The capital of'",
        *FIRST,
    ):
        run(command, folder)
    return folder


FIRST = ("logos-pl fit --config configs/demo.yaml", "logos-pl predict --config configs/demo.yaml")
"""What the pages begin with, and other commands build on."""


def bare(command: str) -> str:
    """A command without its comment, and without spaces that align it with others."""
    return " ".join(command.partition(" #")[0].split())


def run(command: str, folder: Path) -> None:
    """Run a command as a shell does, and check its exit status."""
    words = bare(command)
    words += next((smaller for begin, smaller in SMALLER.items() if words.startswith(begin)), "")
    scripts = folder / ".bin"
    if not scripts.is_dir():
        scripts.mkdir()
        for name, first in {"logos-pl": "-m logos_pl", "python": ""}.items():
            (scripts / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {first} "$@"\n')
            (scripts / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", words],
        cwd=folder,
        env=os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    expected = {0, 3} if "exit status 3" in command else {0}
    assert done.returncode in expected, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr


def test_a_command_that_fails_is_noticed_also_within_a_pipe(tmp_path: Path) -> None:
    run("logos-pl --version  # answers at once", tmp_path)
    for failing in ("logos-pl fti", "logos-pl fti | cat", "logos-pl fti  # exit status 3 if"):
        with pytest.raises(AssertionError, match="did you mean fit"):
            run(failing, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page: str, workspace: Path) -> None:
    for command in RUN[page]:
        if page != "README.md" or bare(command) not in FIRST:  # which it begins with, and the workspace, too
            run(command, workspace)
