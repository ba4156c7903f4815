"""End of a comparison: prints the table and writes table, document and plot to a new folder."""

import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.compare.figures import largest, measure_pair
from logos_pl.compare.module import CompareModule
from logos_pl.compare.report import QUANTITIES, pair_csv, pair_figure, pair_table, texts, to_plain
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError, RunError
from logos_pl.io.files import make_folders, replace_file
from logos_pl.io.fitting import print_in_parts
from logos_pl.io.terminal import say

FILES = ("compare.json", "compare.csv", "compare.png")


def new_folder(root: Path, model_name: str, out_dir: str | None) -> Path:
    """Create the folder of a comparison; earlier results are never overwritten.

    Args:
        root: Root folder of the logs.
        model_name: Clean name of the model.
        out_dir: Folder given by the user; None: a new one in `comparisons`.

    Raises:
        InputError: The given folder holds a comparison, or a file is in its place.
        RunError: The folder cannot be created.
    """
    now = datetime.now(UTC)
    name = f"{model_name}-{now:%Y%m%d-%H%M%S}"
    folder = root / "comparisons" / name if out_dir is None else Path(out_dir)
    refuse_results(folder)
    try:
        make_folders(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise _in_the_way(folder) from error
    except OSError as error:
        raise RunError(f"Cannot write to {os.path.relpath(folder)}: {error.strerror or error}; fix it.") from error
    return folder


def refuse_results(folder: Path) -> None:
    """Check that a comparison can be written to a folder: before anything is read, and again at the end.

    Raises:
        InputError: It holds one, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise _in_the_way(folder)
    there = [file for file in FILES if os.path.lexists(folder / file)]
    if there:
        raise InputError(f"{os.path.relpath(folder)} holds {there[0]} already: choose another --compare.out_dir.")


def _in_the_way(folder: Path) -> InputError:
    return InputError(
        f"A file is in the way of the folder {os.path.relpath(folder)}: choose another --compare.out_dir."
    )


class CompareWriter(Callback):
    """Prints and writes a comparison.

    Args:
        root: Root folder of the logs.
        out_dir: Folder given by the user.
    """

    def __init__(self, root: Path, out_dir: str | None) -> None:
        self.root, self.out_dir = root, out_dir

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, print and write.

        Raises:
            InputError: A lens gave values that are not finite, or the folder cannot be used.
            RunError: The folder cannot be written.
        """
        assert isinstance(pl_module, CompareModule)
        data: ValidationText = trainer.datamodule  # type: ignore[attr-defined]
        figures, origins, lm = measure_pair(pl_module.samples()), pl_module.pair_origins, pl_module.frozen
        say(
            f"\n{lm.clean_model_name}: A = {origins['a'].label}, B = {origins['b'].label}; means over "
            f"{figures.num_positions:,} positions of {figures.num_sequences} sequences of held-out text, with 95% "
            "intervals over sequences"
        )
        print_in_parts(lambda quantities: pair_table(figures, quantities), QUANTITIES)
        sentence = texts(origins)
        if sentence is not None:
            say(sentence)
        row, most = largest(figures)
        say(f"they differ most at row {row}: {most.kl_ab_bits.estimate:.3f} and {most.kl_ba_bits.estimate:.3f} bits")
        about: dict[str, Any] = {
            "model": {"model_id": lm.model_id, "model_commit": lm.model_commit},
            "text": data.same_in_all(),
        }
        document = to_plain(figures, origins, about)
        content = io.BytesIO()
        pair_figure(figures, origins, lm.clean_model_name).savefig(
            content, format="png", dpi=130, metadata={"Software": None}
        )
        folder = new_folder(self.root, lm.clean_model_name, self.out_dir)
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        for name, data_bytes in zip(
            FILES, (text.encode(), pair_csv(figures).encode(), content.getvalue()), strict=True
        ):
            replace_file(folder / name, data_bytes)
        say(f"comparison: {os.path.relpath(folder)}/compare.json, with compare.csv and compare.png")
