"""Draw the KL against depth that a fit's checkpoint recorded: the figure of the README.

python scripts/draw_kl_against_depth.py lightning_logs/demo/version_0/best.ckpt docs/demo_kl_against_depth.png
"""

import sys

import torch

from logos_pl.fit.depth_figure import kl_against_depth


def main(checkpoint: str, picture: str) -> None:
    """Read the validation in `checkpoint` and write `picture`."""
    recorded = torch.load(checkpoint, weights_only=True, map_location="cpu")["lens_validation"]
    readings = {lens: {key: torch.tensor(values) for key, values in read.items()} for lens, read in recorded.items()}
    kl_against_depth(readings).savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
