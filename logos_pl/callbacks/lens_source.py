"""Which lenses an evaluation reads beside those that were fitted here."""


class LensSource:
    """Where lenses come from.

    Args:
        imported: a lens trained with the `tuned-lens` package, to be swept and judged beside ours: its folder, or the
            repo id of a Space that holds such lenses by model, AlignmentResearch/tuned-lens.
    """

    def __init__(self, imported: str | None = None) -> None:
        self.imported = imported
