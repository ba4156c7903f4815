"""What `--trainer.devices` and `--trainer.num_nodes` mean."""

from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.cli.device_options import MOST_DEVICES, check_processes, device_indices, num_nodes_of, world_size_of
from logos_pl.errors import InputError


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [("auto", None), (2, [0, 1]), ("3", [0, 1, 2]), ("0,2", [0, 2]), ("[1, 3]", [1, 3]), ([4], [4]), ("1,", [1])],
)
def test_devices_are_a_number_or_a_list(devices: Any, wanted: list[int] | None) -> None:
    assert device_indices(SimpleNamespace(devices=devices)) == wanted
    trainer = SimpleNamespace(devices=devices, num_nodes=3)
    assert world_size_of(trainer) == 3 * (1 if wanted is None else len(wanted))


@pytest.mark.parametrize("devices", [0, -1, "x", "", ",", "1,x", [], MOST_DEVICES + 1, "1.5", None])
def test_what_is_neither_is_refused(devices: Any) -> None:
    with pytest.raises(InputError, match=r"--trainer\.devices must be a positive number or device indices"):
        device_indices(SimpleNamespace(devices=devices))


def test_a_command_without_the_option_runs_on_one_machine() -> None:
    assert num_nodes_of(SimpleNamespace(devices=1)) == 1
    assert num_nodes_of(SimpleNamespace(num_nodes="2")) == 2


def test_a_cpu_is_not_given_processes_by_the_hundred() -> None:
    check_processes(8, processors=2)
    with pytest.raises(
        InputError, match=r"starts 1,000 processes, but this machine has 2 processors: give at most 8\."
    ):
        check_processes(1000, processors=2)
