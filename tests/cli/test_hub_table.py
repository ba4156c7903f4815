"""The table of an index; its widths are tested with those of all tables."""

from logos_pl.cli.hub_table import index_table
from logos_pl.hub.index import Entry, Index, Licence
from tests.printed import printed

ENTRY = Entry("path", "v2026.11.25", "sha256:" + "c0ffee" * 6, None, 1_234_567, True, Licence(None, None, []), {})


def test_every_lens_has_a_line_with_its_version_size_and_verdict() -> None:
    index = Index("v2026.11.25").with_entry("tuned_lenses", "org/tiny", ENTRY).with_entry("prisms", "org/tiny", ENTRY)
    assert printed(index_table(index))[1:] == [
        ["org/tiny", "tuned", "lens", "v2026.11.25", "1.2", "MB", "passed", "c0ffeec0ffee"],
        ["org/tiny", "Prism", "v2026.11.25", "1.2", "MB", "–", "c0ffeec0ffee"],
    ]
    stacked = printed(index_table(index, stacked=True))
    assert stacked[2:4] == [
        ["org/tiny", "v2026.11.25", "1.2", "MB"],
        ["tuned", "lens", "c0ffeec0ffee", "passed"],
    ]
