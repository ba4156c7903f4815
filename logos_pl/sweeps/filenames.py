"""Name endings of a sweep's files; each name begins with `output-<model>`."""

from logos_pl.sweeps.pictures import PICTURES

TABLE_ENDINGS = ("-records*.csv", "-pure-next-token*.csv", "-decomposition.csv")
"""CSV tables of records."""

GROWING_ENDINGS = (*TABLE_ENDINGS, "-page.html")
"""Files that grow with the prompts; named `.partial` until complete."""

WHOLE_ENDINGS = (".json", "-residuals-*.safetensors", *(f"-{picture}.png" for picture in PICTURES))
"""Files written at the end in one step."""

CROSS_REPORT = "evaluation-cross-models.md"
"""Comparison of several models."""
