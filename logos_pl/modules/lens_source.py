"""Whose lenses an evaluation reads: the one that was fitted here or a published one, and one that others trained."""

from pathlib import Path

from logos_pl.hub.source import lens_folder


class LensSource:
    """The `lens` options.

    Args:
        source: lens to evaluate, only ever read: its folder, a folder in the layout of the Hub, or a repository on the
            Hub; left out: the one under --export.folder.
        revision: release, branch or commit of a repository on the Hub.
        imported: a lens trained with the `tuned-lens` package, to be swept and judged beside ours: its folder, or the
            repo id of a Space that holds such lenses by model, AlignmentResearch/tuned-lens.
    """

    def __init__(self, source: str | None = None, revision: str | None = None, imported: str | None = None) -> None:
        self.source = source
        self.revision = revision
        self.imported = imported

    @property
    def name(self) -> str | None:
        """What was given, in words; None where nothing was."""
        return self.source if self.revision is None else f"{self.source} at {self.revision}"

    def folder(self, model_id: str) -> Path:
        """The lens's folder; one of the Hub is fetched and verified.

        Raises:
            InputError: There is no such lens, or it is not what was published.
            RunError: The disk or the Hub fails.
        """
        assert self.source is not None
        return lens_folder(self.source, model_id, self.revision)
