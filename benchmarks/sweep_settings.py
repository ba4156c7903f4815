"""The command line of the sweep's benchmark: the model of a configuration, and what to measure on it."""

import time
from typing import Any, NamedTuple

from jsonargparse import ActionConfigFile, ArgumentParser

from benchmarks.prompts import PromptSetting
from benchmarks.settings import SMALL
from benchmarks.timing import Clock
from logos_pl.errors import InputError
from logos_pl.modules.tuning import LensTuning


class SweepSettings(NamedTuple):
    """What the command line asks for.

    Attributes:
        model: Arguments of `LensTuning`.
        prompts: What the sweep is measured on.
        random_weights: Whether the model's weights are drawn, not read.
        device: A device's name, or `auto`.
        repeats: Rounds of every measurement.
        cpu_time: Whether the clock is the process's own CPU time.
        json: Where the figures are written, too.
    """

    model: dict[str, Any]
    prompts: PromptSetting
    random_weights: bool
    device: str
    repeats: int
    cpu_time: bool
    json: str | None

    @property
    def clock(self) -> Clock:
        """What is read before and after."""
        return time.process_time if self.cpu_time else time.perf_counter


def parse(arguments: list[str] | None) -> SweepSettings:
    """The settings.

    Raises:
        InputError: They make no sense.
    """
    given = _parser().parse_args(arguments)
    if given.repeats < 1:
        raise InputError(f"--repeats is {given.repeats}: give 1 or more.")
    prompts = PromptSetting(**given.prompts.as_dict())
    return SweepSettings(
        given.model.as_dict(), prompts, given.random_weights, given.device, given.repeats, given.cpu_time, given.json
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks.sweep",
        description="Time of a sweep against the model's forward pass with bare products with the unembedding, of its "
        "records and files, and its peak memory. Without a model: the demo; random Llamas made in memory are "
        f"{' and '.join(f'`{name}`' for name in SMALL)}.",
    )
    parser.add_argument("--config", action=ActionConfigFile, help="configuration of a fit, such as configs/gpt2.yaml")
    parser.add_argument("--random_weights", action="store_true", help="draw the weights; only config.json is read")
    parser.add_argument("--device", default="auto", help="`auto`, `cpu`, `cuda`, `mps`")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of every measurement")
    parser.add_argument(
        "--cpu_time", action="store_true", help="count the process's own CPU time: on a busy machine, with one thread"
    )
    parser.add_argument("--json", type=str | None, default=None, help="file to write the figures to")
    parser.add_class_arguments(LensTuning, "model", skip={"layers_per_step"})
    parser.add_class_arguments(PromptSetting, "prompts")
    for section in ("data", "trainer", "export", "sweep", "early_stopping"):
        parser.add_argument(f"--{section}", type=dict | None, default=None, help="of a fit or a sweep; not used here")
    parser.set_defaults({"model.model_id": "demo"})
    return parser
