"""Options of the unspoken intermediates of a test."""

from dataclasses import dataclass

OFF = "off"


@dataclass(frozen=True, kw_only=True)
class IntermediatesSettings:
    """Unspoken intermediates.

    Args:
        suite: what lenses are asked to read of what the model thinks of and does not say: `unspoken` for the bundled
            two-hop facts and arithmetic, `demo` for those that the demo model can do, a YAML file, a file or folder of
            lens-eval, or `off`. See docs/intermediates.md.
    """

    suite: str = "unspoken"
