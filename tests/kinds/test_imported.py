import json
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.kinds.imported import IMPORTED, find
from logos_pl.kinds.request import LensRequest
from logos_pl.lenses.head import Head
from tests.artifacts.lenses import make_lm
from tests.tiny import make_imported_lens


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
