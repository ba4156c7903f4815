"""Kinds of lens: one file each, registered in the order in which they are shown.

The mathematics of a kind is in `lenses/`. All else is its entry here: name, colour, how it is found and loaded, which
commands read it, what the document of a sweep says of it. docs/extending.md shows how to add one.
"""

from importlib import import_module
from pkgutil import iter_modules

DISPLAYED = ("norm", "tempered", "tuned", "bias_only", "prism", "imported")
"""Files in the order in which their lenses are shown; lenses of other files follow."""


def import_kinds() -> None:
    """Import every file of this package, which registers its kind of lens."""
    for name in (*DISPLAYED, *(module.name for module in iter_modules(__path__))):
        import_module(f"{__name__}.{name}")


import_kinds()
