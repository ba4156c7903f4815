"""Whose job it is to write and to speak, whoever has started the processes."""

import pytest

from logos_pl.cli.processes import (
    check_launcher,
    is_first_process,
    nodes_awaited,
    refuse_nodes_without_address,
    refuse_other_count,
)
from logos_pl.errors import InputError

NAMES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT",
    "JSM_NAMESPACE_SIZE", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_NAME",
    "SLURM_STEP_NUM_TASKS",
)  # fmt: skip
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}


def started_with(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        (TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        (TORCHRUN | {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0"}, False),
        (TORCHRUN | {"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        (SLURM | {"SLURM_PROCID": "0"}, True),
        (SLURM | {"SLURM_PROCID": "3"}, False),
        (SLURM | TORCHRUN | {"SLURM_PROCID": "1", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        (SLURM | {"SLURM_PROCID": "0", "SLURM_JOB_NAME": "interactive", "LOCAL_RANK": "1"}, False),
    ],
)
def test_the_first_process_of_the_first_node_is_told_apart(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_with(monkeypatch, environment)
    assert is_first_process() == first


@pytest.mark.parametrize(("environment", "launcher"), [(TORCHRUN, "torchrun"), (SLURM, "srun")])
def test_another_number_of_processes_than_was_started_is_refused(
    environment: dict[str, str], launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_with(monkeypatch, environment)
    refuse_other_count(4)
    with pytest.raises(InputError, match=rf"^{launcher} has started 4 process\(es\), but .* is 1: give the devices"):
        refuse_other_count(1)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK must be a number (got 'x')"),
        ({"NODE_RANK": ""}, "NODE_RANK must be a number (got '')"),
        ({"RANK": "-1"}, "RANK must be a number (got '-1')"),
        ({"SLURM_PROCID": "9" * 5000}, "SLURM_PROCID must be a number"),
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "0"}, "TORCHELASTIC_RUN_ID is set, but LOCAL_RANK is not"),
        ({"SLURM_NTASKS": "1"}, "SLURM_NTASKS is set, but SLURM_PROCID is not"),
    ],
)
def test_variables_that_number_no_process_are_named(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning reads the ranks as it is imported: there would be no sentence, but a traceback."""
    started_with(monkeypatch, environment)
    with pytest.raises(InputError) as refusal:
        check_launcher()
    assert str(refusal.value).startswith(f"The environment variable {said}")
    assert is_first_process()


def test_processes_that_lightning_starts_itself_need_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    started_with(monkeypatch, {"SLURM_NTASKS": "4"})  # a batch script that calls no srun
    refuse_other_count(1)
    started_with(monkeypatch, {})
    refuse_other_count(2)


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({}, "MASTER_ADDR"),
        ({"MASTER_ADDR": "10.0.0.1"}, "MASTER_PORT"),
        ({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}, "NODE_RANK"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}, "MASTER_ADDR"),
    ],
)
def test_nodes_that_could_never_meet_are_refused(
    environment: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_with(monkeypatch, environment)
    with pytest.raises(InputError, match=rf"num_nodes is 3, but the environment variable {missing} is not set: start"):
        refuse_nodes_without_address(3)
    refuse_nodes_without_address(1)


@pytest.mark.parametrize(
    "environment",
    [
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "GROUP_RANK": "1"},
        TORCHRUN,
        SLURM,
        {"JSM_NAMESPACE_SIZE": "4"},
    ],
)
def test_nodes_that_can_meet_are_awaited_by_name(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    started_with(monkeypatch, environment)
    refuse_nodes_without_address(3)
    at = " to meet at 10.0.0.1" if "MASTER_ADDR" in environment else ""
    assert nodes_awaited(3) == f"waiting for the processes of 3 nodes{at}"
    assert nodes_awaited(1) is None


def test_whole_variables_of_a_launcher_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in (
        {},
        {"LOCAL_RANK": "1"},
        TORCHRUN | {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0", "MASTER_PORT": "29500"},
        SLURM | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"},
        {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"},
    ):
        started_with(monkeypatch, environment)
        check_launcher()
