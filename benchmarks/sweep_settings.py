"""The command line of the sweep's benchmark: the model of a configuration, and what to measure on it."""

from typing import Any, NamedTuple

from jsonargparse import ArgumentParser

from benchmarks.architectures import SMALL
from benchmarks.prompts import PromptSetting
from benchmarks.settings import RunSettings, add_run_arguments, measured
from logos_pl.modules.tuning import LensTuning


class SweepSettings(NamedTuple):
    """What the command line asks for.

    Attributes:
        run: How it is measured.
        model: Arguments of `LensTuning`.
        prompts: What the sweep is measured on.
        vocab_size: Vocabulary of a model of random weights; None: its own.
    """

    run: RunSettings
    model: dict[str, Any]
    prompts: PromptSetting
    vocab_size: int | None


def parse(arguments: list[str] | None) -> SweepSettings:
    """The settings.

    Raises:
        InputError: They make no sense.
    """
    given = _parser().parse_args(arguments)
    prompts = PromptSetting(**given.prompts.as_dict())
    return SweepSettings(measured(given), given.model.as_dict(), prompts, given.vocab_size)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks.sweep",
        description="Time of a sweep against the model's forward pass with bare products with the unembedding, of its "
        f"records and files, and its peak memory. Without a model: the demo; `{SMALL}` is a random Llama made in "
        "memory.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--vocab_size", type=int | None, default=None, help="vocabulary of a model of random weights; else its own"
    )
    parser.add_class_arguments(LensTuning, "model", skip={"layers_per_step"})
    parser.add_class_arguments(PromptSetting, "prompts")
    for section in ("data", "trainer", "export", "sweep", "early_stopping"):
        parser.add_argument(f"--{section}", type=dict | None, default=None, help="of a fit or a sweep; not used here")
    parser.set_defaults({"model.model_id": "demo"})
    return parser
