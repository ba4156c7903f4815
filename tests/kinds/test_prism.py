from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.prism import save_prism
from logos_pl.errors import InputError
from logos_pl.kinds.prism import PRISM, describe, find, prism_verdict
from logos_pl.kinds.request import LensRequest
from logos_pl.lenses.head import Head
from tests.artifacts.lenses import make_lm
from tests.artifacts.prisms import make_map, prism_provenance


def request(**changes: Any) -> LensRequest:
    given = {"model_id": "org/tiny", "clean_model_name": "tiny", "fit_command": "logos-pl prism"} | changes
    return LensRequest(**given)


def test_a_prism_that_was_fitted_here_is_announced_and_shares_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lm = make_lm()
    save_prism("prisms/tiny", make_map(), prism_provenance(lm))
    found = find(request(folder=Path("prisms/tiny")))
    assert (found.there, found.sentence) == (True, "with the prism of prisms/tiny")
    head = Head(lm.anatomy)
    loaded = found.load(lm, head)
    assert loaded.lenses["prism"].head is head
    assert loaded.held_out_frac == 0.02
    recorded = describe(loaded.origin)
    assert recorded is not None
    assert (recorded.whiten, recorded.rows, recorded.rank, recorded.positions) == ("full", [1, 2], 16, 131_500)
    with pytest.raises(InputError, match="fitted with decoding_norm final, but the run uses next"):
        found.load(lm, Head(lm.anatomy, decoding_norm="next"))


def test_without_a_prism_nothing_is_said_unless_one_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find(request(folder=Path("prisms/tiny")))
    assert (found.there, found.sentence) == (False, None)
    with pytest.raises(InputError, match="There is no prism at prisms/tiny: fit one with `logos-pl prism`"):
        find(request(folder=Path("prisms/tiny"), use="require"))


@pytest.mark.parametrize(("gains", "verdict"), [
    ([0.0, 0.05, 0.1], "neutral"), ([0.11, 0.0, -0.1], "helpful"), ([2.0, 0.3, -0.11], "regressive"),
    ([None, None, 0.2], "helpful"), ([None, None, None], None), ([], None),
])  # fmt: skip
def test_a_prism_is_evaluated_by_its_gain_at_each_depth(gains: list[float | None], verdict: str | None) -> None:
    summaries = {"delta_kl": [{"median_delta_kl_bits": gain} for gain in gains]}
    assert prism_verdict(summaries) == verdict
    assert PRISM.section.conclude(summaries) == {"verdict": verdict, "verdict_threshold_bits": 0.1}
