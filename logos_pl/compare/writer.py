"""End of a comparison: prints the table and writes table, document and plot to a new folder."""

import json
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.compare.figures import largest, measure_pair
from logos_pl.compare.module import CompareModule
from logos_pl.compare.report import QUANTITIES, pair_csv, pair_figure, pair_table, texts, to_plain
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.io.fitting import print_in_parts
from logos_pl.io.result_folder import result_folder, write_results
from logos_pl.io.terminal import say
from logos_pl.modules.pictures import png

FILES = ("compare.csv", "compare.png", "compare.json")
OPTION = "--compare.out_dir"


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
        folder = result_folder(self.root / "comparisons", lm.clean_model_name, self.out_dir)
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        picture = png(pair_figure(figures, origins, lm.clean_model_name))
        write_results(
            folder, dict(zip(FILES, (pair_csv(figures).encode(), picture, text.encode()), strict=True)), OPTION
        )
        say(f"comparison: {os.path.relpath(folder)}/compare.json, with compare.csv and compare.png")
