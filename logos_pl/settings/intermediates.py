"""Options for the unspoken intermediates in a test."""

from dataclasses import dataclass

OFF = "off"


@dataclass(frozen=True, kw_only=True)
class IntermediatesSettings:
    """Unspoken intermediates.

    Args:
        suite: prompts whose unspoken intermediates the lenses should read: `unspoken` for the bundled two-hop facts and
            arithmetic, `demo` for those that the demo model can do, a YAML file, a lens-eval file or folder, or `off`.
            See docs/intermediates.md.
    """

    suite: str = "unspoken"
