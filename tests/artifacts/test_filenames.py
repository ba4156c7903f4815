from pathlib import Path

from logos_pl.artifacts.filenames import (
    ARTIFACT_FILES,
    DEPTH_FIGURE_FILE,
    GATE_FILES,
    NOTICE_FILE,
    UNHASHED_FILES,
)
from logos_pl.artifacts.gates import record_gates
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.hub.layout import refuse_unsafe_name
from tests.artifacts.lenses import contents, make_lm, make_provenance, make_translators
from tests.artifacts.verdicts import gate_files


def test_a_folder_may_hold_what_a_fit_a_test_and_publishing_leave_and_nothing_else(tmp_path: Path) -> None:
    translators = make_translators()
    provenance = make_provenance(make_lm(), translators)
    saved = save_tuned_lens(tmp_path / "tiny", translators, provenance, make_translators(rank=0))
    record_gates(tmp_path / "tiny", saved.provenance, gate_files())
    assert contents(tmp_path / "tiny").keys() | {NOTICE_FILE, DEPTH_FIGURE_FILE} == ARTIFACT_FILES


def test_what_has_no_hash_in_a_provenance_is_the_provenance_and_its_own_hash() -> None:
    assert {"provenance.json", "provenance.json.sha256"} == UNHASHED_FILES < ARTIFACT_FILES


def test_every_file_has_a_name_of_its_own_that_may_be_published() -> None:
    assert len(set(GATE_FILES)) == len(GATE_FILES)
    assert len({name.casefold() for name in ARTIFACT_FILES}) == len(ARTIFACT_FILES)  # on disks that know no case
    for name in ARTIFACT_FILES:
        refuse_unsafe_name(name, "the artifact")
