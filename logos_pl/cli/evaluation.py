"""What `validate`, `test` and `predict` have in common: the lenses that they read."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from logos_pl.cli.command import Command, Option
from logos_pl.cli.lens_requests import lens_requests, refuse_unread_sources
from logos_pl.cli.run_folder import find_checkpoint
from logos_pl.errors import InputError
from logos_pl.lm.sources import filed_under
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.same_run import SameRun

CHECKPOINT = Option(str | None, None, "checkpoint whose lens is read: `last`, `best` or a path")


class Evaluation(Command):
    """A command that reads lenses which were fitted before."""

    checkpoint: Path | None = None

    def check_lens(self) -> None:
        """Look at what the options name, and find the checkpoint.

        Raises:
            InputError: Two lenses are named, or there is no such checkpoint.
        """
        lens, given = self.settings["lens"], self.config.ckpt_path
        refuse_unread_sources(self.name, getattr(lens, "sources", None))
        if lens.source is None and lens.revision is not None:
            raise InputError("--lens.revision is of a repository on the Hub: name that with --lens.source.")
        if lens.source is not None and given is not None:
            raise InputError("--lens.source and --ckpt_path both name a lens: give one of them.")
        if given is not None:
            self.checkpoint = find_checkpoint(self.root, self.plan.known.clean_name, given)
            self.config.ckpt_path = str(self.checkpoint)

    def lens_callbacks(self) -> list[Callback]:
        """What puts the lenses in place."""
        requests = lens_requests(
            self.name,
            self.config,
            model_id=filed_under(self.plan.model.model_id),
            clean_model_name=self.plan.known.clean_name,
            typed=self.other,
        )
        return [SameRun(), LensLoader(requests)]

    @staticmethod
    def bar(given: Mapping[str, Any]) -> bool:
        """Whether Lightning shows a bar: on a terminal, unless the user says no."""
        return given["enable_progress_bar"] is not False and sys.stdout.isatty()
