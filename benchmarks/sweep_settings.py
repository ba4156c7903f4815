"""Command line of the sweep benchmark: the model of a configuration, and what to measure."""

from dataclasses import fields
from typing import NamedTuple

from jsonargparse import ArgumentParser

from benchmarks.architectures import SMALL
from benchmarks.prompts import PromptSetting
from benchmarks.settings import RunSettings, add_run_arguments, measured
from logos_pl.settings.lens import LensSettings, OptimSettings, TuningSettings


class SweepSettings(NamedTuple):
    """Parsed command line.

    Attributes:
        run: How to measure.
        model: The frozen model, and the rank of the lens.
        prompts: Numbers and lengths of the prompts.
        vocab_size: Vocabulary size of a random model; None: its own.
    """

    run: RunSettings
    model: TuningSettings
    prompts: PromptSetting
    vocab_size: int | None


def parse(arguments: list[str] | None) -> SweepSettings:
    """The settings.

    Raises:
        InputError: They are inconsistent.
    """
    given = _parser().parse_args(arguments)
    return SweepSettings(
        measured(given), TuningSettings(**given.model), PromptSetting(**given.prompts), given.vocab_size
    )


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
    of_training = {part.name for kind in (LensSettings, OptimSettings) for part in fields(kind)} - {"rank"}
    parser.add_class_arguments(TuningSettings, "model", instantiate=False, skip=of_training)
    parser.add_class_arguments(PromptSetting, "prompts", instantiate=False)
    parser.set_defaults({"model.model_id": "demo"})
    return parser
