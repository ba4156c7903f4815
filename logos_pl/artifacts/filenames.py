"""Names of an artifact's files."""

WEIGHTS_FILE = "weights.pt"
BIAS_ONLY_FILE = "bias_only.pt"
PROVENANCE_FILE = "provenance.json"
DIGEST_FILE = "provenance.json.sha256"
"""File with the hash of the provenance, which has the hashes of the other files; in the format of `sha256sum`."""
CARD_FILE = "README.md"
NOTICE_FILE = "NOTICE"
DEPTH_FIGURE_FILE = "kl-at-depths.png"
"""Figure of a published lens without a verdict."""
GATE_ROWS_FIGURE_FILE = "gates-rows.png"
GATES_FILE = "gates.json"
UNSPOKEN_FILES = ("gates-intermediates.csv", "gates-intermediates.png")
"""Files written by `test` about unspoken intermediates, unless these are off."""
GATE_FILES = (
    GATES_FILE,
    "gates-prompts.csv",
    "gates-rows.csv",
    GATE_ROWS_FIGURE_FILE,
    "gates-gains.png",
    *UNSPOKEN_FILES,
)
"""Files written by `test` to the lens's folder."""

ARTIFACT_FILES = frozenset(
    {
        WEIGHTS_FILE,
        BIAS_ONLY_FILE,
        CARD_FILE,
        PROVENANCE_FILE,
        DIGEST_FILE,
        NOTICE_FILE,
        DEPTH_FIGURE_FILE,
        *GATE_FILES,
    }
)
"""Files allowed in a tuned lens's folder; a folder with others is never replaced."""
UNHASHED_FILES = frozenset({PROVENANCE_FILE, DIGEST_FILE})
"""Files without a hash in the provenance: the provenance and its hash."""
