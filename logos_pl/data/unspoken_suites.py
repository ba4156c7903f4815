"""Finds a suite of unspoken intermediates by its name or path."""

from pathlib import Path

from logos_pl.data.lens_eval import read_lens_eval
from logos_pl.data.unspoken import UNSPOKEN, UNSPOKEN_DEMO, UnspokenSuite, read_yaml_suite

BUNDLED = {"unspoken": UNSPOKEN, "demo": UNSPOKEN_DEMO}


def read_unspoken_suite(given: str) -> UnspokenSuite:
    """Read a bundled suite, a YAML file, or a file or folder of lens-eval.

    Args:
        given: Name of a bundled suite, or a path; JSON files and folders are read as lens-eval.

    Raises:
        InputError: It cannot be read or is invalid.
    """
    path = BUNDLED.get(given, Path(given))
    return read_lens_eval(path) if path.is_dir() or path.suffix == ".json" else read_yaml_suite(path)
