from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.jacobian import save_jacobian
from logos_pl.artifacts.jacobian_provenance import JacobianProvenance
from logos_pl.errors import InputError
from logos_pl.kinds.jacobian import JACOBIAN, describe, find
from logos_pl.kinds.request import LensRequest
from logos_pl.lenses.head import Head
from tests.artifacts.jacobians import jacobian_provenance, make_jacobians
from tests.artifacts.lenses import make_lm


def request(**changes: Any) -> LensRequest:
    given = {"model_id": "org/tiny", "clean_model_name": "tiny", "fit_command": "logos-pl jacobian"} | changes
    return LensRequest(**given)


@pytest.mark.parametrize("given", [{"folder": Path("here/tiny")}, {"source": "here/tiny"}])
def test_a_lens_that_was_fitted_here_is_announced_and_described(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lm = make_lm()
    save_jacobian("here/tiny", make_jacobians(), jacobian_provenance(lm))
    found = find(request(**given))
    assert (found.there, found.sentence) == (True, "with the Jacobian lens of here/tiny")
    loaded = found.load(lm, Head(lm.anatomy, decoding_norm="next"))
    assert loaded.lenses["jacobian"].rows == (0, 1, 2, 3, 4)
    assert loaded.held_out_frac == 0.02
    assert isinstance(loaded.origin, JacobianProvenance)
    recorded = describe(loaded.origin)
    assert recorded is not None
    assert (recorded.sequences, recorded.probes, recorded.skip_first, recorded.seq_len) == (1_024, 8, 16, 128)
    assert recorded.jacobians_sha256 == loaded.origin.sha256["jacobians.pt"]


def test_without_a_lens_nothing_is_said_unless_one_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find(request(folder=Path("here/tiny")))
    assert (found.there, found.sentence) == (False, None)
    with pytest.raises(InputError, match="There is no Jacobian lens at here/tiny: fit one with `logos-pl jacobian`"):
        find(request(folder=Path("here/tiny"), use="require"))
    assert not find(request()).there


def test_every_command_that_evaluates_reads_it() -> None:
    assert all(JACOBIAN.is_read_by(command) for command in ("predict", "validate", "test"))
    assert describe(None) is None
