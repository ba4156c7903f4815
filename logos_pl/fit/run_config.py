"""Saves the configuration of a fit in the folder of its checkpoints."""

from itertools import count
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from logos_pl.errors import RunError
from logos_pl.io.files import make_folders, replace_file
from logos_pl.io.parsing import MAX_TEXT_BYTES, read_bytes


class RunConfig(SaveConfigCallback):
    """Writes `config.yaml` to the run's folder; a resumed run adds `config-2.yaml` and so on.

    Lightning's callback writes to the logger's folder, or without a logger to the working directory.

    Args:
        parser: Parser that dumps the configuration.
        config: Parsed configuration.
        folder: Folder of the run.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, folder: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder = folder

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration unless it equals the last one.

        Raises:
            InputError: An existing configuration is not a regular file.
            RunError: The file cannot be written.
        """
        text = self.parser.dump(self.config, skip_none=False)
        folder = self.folder
        try:
            make_folders(folder)
            path, last = _next_free(folder)
            if last is None or read_bytes(last, MAX_TEXT_BYTES) != text.encode():
                replace_file(path, text.encode())
        except OSError as error:
            raise RunError(
                f"The configuration could not be written to {folder.name}: {error.strerror}; fix the disk, or choose "
                "another folder with --trainer.default_root_dir."
            ) from error


def _next_free(folder: Path) -> tuple[Path, Path | None]:
    """Next free name of a configuration, and the last one in use."""
    last = None
    for k in count(1):
        path = folder / ("config.yaml" if k == 1 else f"config-{k}.yaml")
        if not path.exists():
            return path, last
        last = path
    raise AssertionError("the names never end")
