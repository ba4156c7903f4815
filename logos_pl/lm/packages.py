"""Packages that are needed for some models only."""

from importlib.util import find_spec

from logos_pl.errors import InputError


def require_packages(what: str, packages: tuple[str, ...]) -> None:
    """Check that optional packages are installed.

    Args:
        what: What needs them, as the beginning of a sentence.
        packages: Names for pip; the module has the same name, with underscores.

    Raises:
        InputError: Some are missing; the message has the command that installs them.
    """
    missing = [name for name in packages if find_spec(name.replace("-", "_")) is None]
    if missing:
        noun, are = ("package", "is") if len(missing) == 1 else ("packages", "are")
        *first, last = missing
        listed = f"{', '.join(first)} and {last}" if first else last
        raise InputError(
            f"{what} needs the {noun} {listed}, which {are} not installed: `pip install {' '.join(missing)}`."
        )
