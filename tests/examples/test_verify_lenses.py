"""The workflow that users copy: its commands exist, and its steps in their order do what it says."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from logos_pl.cli.hub import hub_parser, main
from tests.hub.publishing import REPO, SMALL, TAG, UPLOADS, checkpoints, hub, made
from tests.hub.stand_in import Hub

__all__ = ["checkpoints", "hub", "made"]

pytestmark = UPLOADS
WORKFLOW = Path(__file__).parents[2] / "examples" / "verify-lenses.yml"
VARIABLES = {'"$LENSES"': REPO, "$LENSES": REPO, "$DECODED": SMALL, '"$GITHUB_REF_NAME"': TAG}


def steps() -> list[dict[str, Any]]:
    read = yaml.safe_load(WORKFLOW.read_text())
    # YAML 1.1 reads the key `on` as True.
    assert read[True]["push"]["tags"] == ["v*"]
    found: list[dict[str, Any]] = read["jobs"]["verify"]["steps"]
    return found


def commands() -> list[list[str]]:
    """The steps that run the command line, with the variables filled in."""
    lines = [step["run"] for step in steps() if step.get("run", "").startswith("logos-pl")]
    for variable, value in VARIABLES.items():
        lines = [line.replace(variable, value) for line in lines]
    return [shlex.split(line)[1:] for line in lines]


def test_every_command_of_the_workflow_parses() -> None:
    parsed = [hub_parser().parse_args(command[1:]).subcommand for command in commands() if command[0] == "hub"]
    assert parsed == ["push", "verify", "verify", "push", "verify"]
    assert len(parsed) == len(commands())


def test_only_a_tag_publishes_and_only_that_step_has_the_token() -> None:
    publishing = [step for step in steps() if "HF_TOKEN" in str(step) or "--tag" in str(step)]
    assert [step["name"] for step in publishing] == ["Publish"]
    assert publishing[0]["if"] == "startsWith(github.ref, 'refs/tags/v')"


def test_the_steps_in_their_order_end_with_a_verified_release(
    hub: Hub, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoints.parent)
    for command in commands():
        if "--decode" not in command:  # needs a trained lens; tests/test_hub_cli.py decodes
            assert main(command[1:]) == 0
    assert hub.repos[f"datasets/{REPO}"].tags.keys() == {TAG}
