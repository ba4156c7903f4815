"""The page of commands against what the parsers themselves accept."""

import re

import pytest

from logos_pl.cli.commands import COMMANDS, OWN_PARSERS
from logos_pl.cli.run import KINDS
from scripts.site_pages.command_line import command_line_page


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """The page by command."""
    _, *parts = re.split(r"^## logos-pl ", command_line_page(), flags=re.MULTILINE)
    return {part.splitlines()[0]: part for part in parts}


def test_every_command_has_a_section_with_its_summary(sections: dict[str, str]) -> None:
    assert list(sections) == list(COMMANDS)
    for name, summary in COMMANDS.items():
        assert f"{name}\n\n{summary}\n" in sections[name]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OWN_PARSERS])
def test_every_option_of_a_command_is_listed_and_no_other(name: str, sections: dict[str, str]) -> None:
    listed = set(re.findall(r"^\| (?:`-\w`, )?`--([\w.]+)`", sections[name], flags=re.MULTILINE))
    assert listed == KINDS[name].accepts() | {"config", "print_config"}


def test_types_defaults_and_required_options_are_told(sections: dict[str, str]) -> None:
    rows = {line.split("`")[1]: line for line in sections["fit"].splitlines() if line.startswith("| `--")}
    assert rows["--model.model_id"].endswith(" | required |")
    assert rows["--model.dtype"].startswith("| `--model.dtype` *auto, float32, bfloat16, float16* | ")
    assert rows["--data.seq_len"].endswith(" | `512` |")
    assert "*list(int), str, int*" in rows["--trainer.devices"]


def test_the_commands_of_the_hub_have_sections_of_their_own(sections: dict[str, str]) -> None:
    assert re.findall(r"^### hub (\w+)$", sections["hub"], flags=re.MULTILINE) == [
        "push",
        "pull",
        "index",
        "verify",
        "list",
    ]
    assert "`--dry_run`" in sections["hub"].partition("### hub pull")[0]
    assert "| `text` |" in sections["read"]
