"""Kinds of lens: one file each, registered in the order in which they are shown.

The mathematics of a kind is in `lenses/`. All else is its entry here: name, colour, how it is found and loaded, which
commands read it, what the document of a sweep says of it. docs/extending.md shows how to add one.
"""

from logos_pl.kinds import norm, tempered, tuned, bias_only, prism, imported  # noqa: F401, I001  the order is that of display
