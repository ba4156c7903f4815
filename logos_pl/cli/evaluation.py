"""Base class of the commands that load fitted lenses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from logos_pl.artifacts.imported_lens import sources_by_name
from logos_pl.cli.command import Command, Option
from logos_pl.cli.lens_requests import lens_requests, refuse_unread_sources
from logos_pl.cli.plan import plan_text
from logos_pl.cli.run_folder import find_checkpoint
from logos_pl.errors import InputError
from logos_pl.kinds.imported import register_named, unregister_named
from logos_pl.kinds.registry import LensKind
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.reading_progress import ReadingProgress
from logos_pl.modules.same_run import SameRun
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import TextSettings

CHECKPOINT = Option(str | None, None, "checkpoint to take the lens from: `last`, `best` or a path")


class Evaluation(Command):
    """A command that evaluates fitted lenses."""

    checkpoint: Path | None = None
    named: Sequence[LensKind] = ()
    model: ModelSettings
    text: TextSettings

    def check_lens(self) -> None:
        """Check the lens options and find the checkpoint.

        Raises:
            InputError: Two lenses are given, a name cannot be used, or the checkpoint does not exist.
        """
        lens, given = self.settings["lens"], self.config.ckpt_path
        self.named = register_named(sources_by_name(lens.imported))
        refuse_unread_sources(self.name, lens.sources)
        if lens.source is None and lens.revision is not None:
            raise InputError("--lens.revision needs a repository on the Hub: give it with --lens.source.")
        if lens.transfer and lens.source is None and self.name != "compare":
            raise InputError("--lens.transfer reads the lens of another model: give it with --lens.source.")
        if lens.source is not None and given is not None:
            raise InputError("--lens.source and --ckpt_path cannot be combined: give one of them.")
        if given is not None:
            self.checkpoint = find_checkpoint(self.root, self.plan.known.clean_name, given)
            self.config.ckpt_path = str(self.checkpoint)

    def release(self, failed: bool) -> None:
        """Unregister the names of the imported lenses."""
        unregister_named(self.named)
        self.named = []

    def prepare_text(self) -> None:
        """Plan a run on held-out text, and check the lens that the options name.

        Raises:
            InputError: The options are inconsistent, or the lens does not exist.
        """
        self.plan, self.model, self.text = plan_text(
            self.settings["model"], self.settings["data"], self.config.schedule, self.config.trainer
        )
        self.check_lens()

    def lens_callbacks(self) -> list[Callback]:
        """Callbacks that load the lenses."""
        requests = lens_requests(
            self.name,
            self.config,
            model_id=self.plan.model.recorded_id,
            clean_model_name=self.plan.known.clean_name,
            typed=self.other,
        )
        return [SameRun(), LensLoader(requests, self.root / "transfers")]

    @staticmethod
    def progress(given: Mapping[str, Any]) -> list[Callback]:
        """The progress callback, unless the user disables it."""
        return [] if given["enable_progress_bar"] is False else [ReadingProgress()]
