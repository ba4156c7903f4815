import json
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.kinds.imported import IMPORTED, find, register_named, unregister_named
from logos_pl.kinds.registry import kind_of, kinds
from logos_pl.kinds.request import LensRequest
from logos_pl.lenses.head import Head
from tests.artifacts.lenses import make_lm
from tests.tiny import make_imported_lens, make_jacobian_lens


def request(source: Path | None) -> LensRequest:
    return LensRequest(model_id="org/tiny", clean_model_name="tiny", source=None if source is None else str(source))


def test_a_lens_of_others_is_read_only_where_one_is_named(tmp_path: Path) -> None:
    assert not find(request(None)).there
    lm = make_lm()
    found = find(request(make_imported_lens(tmp_path / "theirs", scale=0.1, model_id="org/tiny")))
    head = Head(lm.anatomy)
    loaded = found.load(lm, head)
    assert loaded.lenses["imported"].head.unembedding is head.unembedding
    assert loaded.sentence == "imported lens: trained for org/tiny with the tuned-lens package"
    recorded = IMPORTED.section.describe(loaded.origin)
    assert (recorded["base_model"], recorded["params_sha256"]) == ("org/tiny", loaded.identity)
    assert IMPORTED.section.describe(None) is None


def test_a_lens_that_is_missing_or_of_another_type_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        find(request(tmp_path / "nowhere"))
    folder = make_imported_lens(tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"lens_type": "other"}))
    with pytest.raises(InputError, match="lens_type 'other'"):
        find(request(folder))


def test_a_jacobian_lens_is_read_under_its_own_name_with_what_its_file_says(tmp_path: Path) -> None:
    lm, notes = make_lm(), {"target_layer": 3, "model_id": "org/tiny", "method": "jpp"}
    source = make_jacobian_lens(tmp_path / "lens.pt", (0, 1), provenance=notes)
    (kind,) = register_named(["j"])
    try:
        assert kind_of("j") is kind
        assert (kind.label, kind.file_suffix, kind.section.key) == ("imported lens j", "-j", "j_lens")
        assert kind.find is not None
        loaded = kind.find(request(source)).load(lm, Head(lm.anatomy))
        assert not kind.find(request(None)).there
    finally:
        unregister_named([kind])
    assert loaded.lenses["j"].rows == (1, 2, 4)
    assert loaded.sentence == "imported lens j: Jacobian lens (jpp) of org/tiny, rows 1 to 2"
    assert kind.section.describe(loaded.origin)["rows"] == [1, 2]


def test_every_name_has_a_colour_and_none_that_is_refused_leaves_another_behind() -> None:
    named = register_named(["imported", *"abcdefg"])
    try:
        assert [kind.name for kind in named] == [*"abcdefg"]
        assert len({kind.colour for kind in named}) == 5
    finally:
        unregister_named(named)
    for names in (["a", "tuned"], ["a", "A"], ["a", "a"], ["a", "x" * 13]):
        with pytest.raises(InputError, match=r"--lens\.imported: "):
            register_named(names)
        assert kinds()[-1] is IMPORTED


def test_what_is_wrong_with_a_file_of_maps_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is incomplete"):
        find(request(make_jacobian_lens(tmp_path / "lens.pt", (0, 1), source_layers=[0, 1, 2])))
