"""The files that a sweep writes, by the endings of their names; each begins with `output-<model>`."""

from logos_pl.sweeps.pictures import PICTURES

TABLE_ENDINGS = ("-records*.csv", "-pure-next-token*.csv", "-decomposition.csv")
"""Tables of records."""

GROWING_ENDINGS = (*TABLE_ENDINGS, "-page.html")
"""Files that grow with the prompts; until they are whole, `.partial` follows."""

WHOLE_ENDINGS = (".json", "-residuals-*.safetensors", *(f"-{picture}.png" for picture in PICTURES))
"""Files that are written in one step."""

CROSS_REPORT = "evaluation-cross-models.md"
"""The comparison of several models."""
