"""Kinds of lens: one file each, registered in the order of display.

The mathematics of a kind is in `lenses/`. Its entry here has everything else: name, colour, finding and loading, the
commands that use it, and its section in the document of a sweep. docs/extending.md shows how to add one.
"""

from importlib import import_module
from pkgutil import iter_modules

DISPLAYED = ("norm", "tempered", "tuned", "bias_only", "prism", "jacobian", "imported")
"""Modules in the order of display; other kinds follow."""


def import_kinds() -> None:
    """Import every module of this package, which registers its kind of lens."""
    for name in (*DISPLAYED, *(module.name for module in iter_modules(__path__))):
        import_module(f"{__name__}.{name}")


import_kinds()
