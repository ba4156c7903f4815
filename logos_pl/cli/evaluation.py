"""What `validate`, `test` and `predict` have in common: the lenses that they read."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from logos_pl.cli.command import Command, Option
from logos_pl.cli.run_folder import find_checkpoint
from logos_pl.errors import InputError
from logos_pl.hub.source import lens_folder
from logos_pl.lm.sources import filed_under
from logos_pl.modules.lens_import import LensImport
from logos_pl.modules.prism_import import PrismImport
from logos_pl.modules.same_run import SameRun

CHECKPOINT = Option(str | None, None, "checkpoint whose lens is read: `last`, `best` or a path")


class Evaluation(Command):
    """A command that reads lenses which were fitted before."""

    checkpoint: Path | None = None
    folder: Path | None = None  # of the lens; None where a checkpoint was given

    def find_lens(self) -> None:
        """Find the tuned lens: a checkpoint's, one that is named, or the one that was fitted here.

        Raises:
            InputError: Two lenses are named, or there is nothing under that name.
        """
        lens, given = self.settings["lens"], self.config.ckpt_path
        if lens.source is None and lens.revision is not None:
            raise InputError("--lens.revision is of a repository on the Hub: name that with --lens.source.")
        if lens.source is not None and given is not None:
            raise InputError("--lens.source and --ckpt_path both name a lens: give one of them.")
        name = self.plan.known.clean_name
        if given is not None:
            self.checkpoint = find_checkpoint(self.root, name, given)
        elif lens.source is not None:
            self.folder = lens_folder(lens.source, filed_under(self.plan.model.model_id), lens.revision)
        else:
            self.folder = self.settings["export"].of(name)

    def lens_callbacks(self, required: bool, prism: str) -> list[Callback]:
        """What puts the lenses in place.

        Args:
            required: Refuse to go on without a tuned lens.
            prism: `auto`, `require` or `off`.
        """
        name = self.settings["lens"].name
        callbacks: list[Callback] = [
            SameRun(),
            LensImport(self.folder, self.other("fit"), required, name, self.checkpoint),
        ]
        if prism != "off":
            folder = Path(self.settings["prism"].folder) / self.plan.known.clean_name
            callbacks.append(PrismImport(folder, self.other("prism"), required=prism == "require"))
        return callbacks

    @staticmethod
    def bar(given: Mapping[str, Any]) -> bool:
        """Whether Lightning shows a bar: on a terminal, unless the user says no."""
        return given["enable_progress_bar"] is not False and sys.stdout.isatty()
