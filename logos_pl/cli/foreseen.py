"""Exceptions that may have causes outside the program."""

from lightning.fabric.utilities.exceptions import MisconfigurationException

from logos_pl.errors import LogosError

FORESEEN = (LogosError, MisconfigurationException, OSError, UnicodeDecodeError, RuntimeError, MemoryError)
"""Exception classes; `error_messages.describe` decides which instances are not bugs."""
