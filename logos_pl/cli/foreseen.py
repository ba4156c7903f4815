"""What may go wrong through no fault of the program."""

from lightning.fabric.utilities.exceptions import MisconfigurationException

from logos_pl.errors import LogosError

FORESEEN = (LogosError, MisconfigurationException, OSError, UnicodeDecodeError, RuntimeError, MemoryError)
"""Kinds of exceptions; `error_messages.describe` tells those of them that are no fault of the program."""
