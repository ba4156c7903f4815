import dataclasses
import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts import load_tuned_lens, tuned_lens
from logos_pl.artifacts.tuned_lens import load_bias_only, load_lenses, save_tuned_lens
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.artifacts.lenses import contents, make_provenance, make_translators, reseal, write_sealed


@pytest.fixture
def with_bias_only(tmp_path: Path, lm: FrozenLM) -> Path:
    translators = make_translators()
    save_tuned_lens(tmp_path / "both", translators, make_provenance(lm, translators), make_translators(rank=0))
    return tmp_path / "both"


def test_the_loaded_bias_only_decodes_every_row_to_the_same_bits_and_the_lens_is_as_without_it(
    with_bias_only: Path, artifact: Path, lm: FrozenLM
) -> None:
    bias_only = load_bias_only(with_bias_only, lm)
    assert bias_only is not None
    rows = range(5)
    h = residuals(lm, torch.arange(12)[None], None, rows)[:, 0]
    saved = TunedLens(make_translators(rank=0), Head(lm.anatomy))
    with torch.no_grad():
        assert torch.equal(bias_only.logits(h, rows), saved.logits(h, rows))
        assert not torch.equal(bias_only.logits(h, rows), load_tuned_lens(with_bias_only, lm)[0].logits(h, rows))
    assert (with_bias_only / "weights.pt").read_bytes() == (artifact / "weights.pt").read_bytes()


def test_both_lenses_come_from_one_reading_with_one_head(
    with_bias_only: Path, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    monkeypatch.setattr(tuned_lens, "check_fingerprint", lambda *given: checked.append(given))
    tuned, bias_only, provenance, transfer = load_lenses(with_bias_only, lm)
    assert bias_only is not None
    assert transfer is None
    assert bias_only.head is tuned.head
    assert (tuned.translators.rank, bias_only.translators.rank) == (4, 0)
    assert provenance == load_tuned_lens(with_bias_only, lm)[1]
    assert len(checked) == 2, "once in each of the two calls"


def test_an_artifact_without_a_bias_only_has_none(artifact: Path, lm: FrozenLM) -> None:
    assert load_bias_only(artifact, lm) is None
    assert load_bias_only(artifact) is None
    assert load_tuned_lens(artifact)[1].bias_only is None


def test_the_bias_only_is_recorded_with_its_hash_and_on_the_card(with_bias_only: Path) -> None:
    files = contents(with_bias_only)
    assert files.keys() == {"weights.pt", "bias_only.pt", "provenance.json", "provenance.json.sha256", "README.md"}
    del files["provenance.json.sha256"]
    plain = json.loads(files.pop("provenance.json"))
    assert plain["sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    log_tau = make_translators(rank=0).log_tau.tolist()
    assert plain["bias_only"] == {
        "file": "bias_only.pt",
        "parameters": 3 * (16 + 1),
        "tau": pytest.approx([math.log1p(math.exp(z)) + 1e-3 for z in log_tau], rel=1e-6),
    }
    assert "| Bias-only lens | `bias_only.pt`, 51 parameters |" in files["README.md"].decode()


def test_a_lens_without_a_bias_only_replaces_one_with_it(with_bias_only: Path, lm: FrozenLM) -> None:
    translators = make_translators()
    recorded = load_tuned_lens(with_bias_only)[1]
    save_tuned_lens(with_bias_only, translators, dataclasses.replace(recorded, sha256={}))
    assert "bias_only.pt" not in contents(with_bias_only)
    assert load_bias_only(with_bias_only, lm) is None


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("load", [load_tuned_lens, load_bias_only])
def test_one_changed_byte_of_the_bias_only_is_refused(with_bias_only: Path, load: Any, where: float) -> None:
    data = bytearray((with_bias_only / "bias_only.pt").read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    (with_bias_only / "bias_only.pt").write_bytes(data)
    with pytest.raises(InputError, match=r"bias_only\.pt was altered"):
        load(with_bias_only)


def test_a_missing_bias_only_is_refused_by_its_name(with_bias_only: Path) -> None:
    (with_bias_only / "bias_only.pt").unlink()
    with pytest.raises(InputError, match=r"bias_only\.pt cannot be read"):
        load_bias_only(with_bias_only)


def test_a_bias_only_without_a_recorded_hash_is_refused(with_bias_only: Path) -> None:
    plain = json.loads((with_bias_only / "provenance.json").read_text())
    del plain["sha256"]["bias_only.pt"]
    write_sealed(with_bias_only, plain)
    with pytest.raises(InputError, match=r"no hash of bias_only\.pt"):
        load_bias_only(with_bias_only)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"parameters": 50}, "bias-only lens has 51 parameters, but its provenance records 50"),
        ({"file": "weights.pt"}, "bias-only lens: file cannot be weights.pt"),
        ({"file": "../both/bias_only.pt"}, "bias-only lens: file cannot be ../both/bias_only.pt"),
    ],
)
def test_a_bias_only_that_is_not_as_recorded_is_refused(
    with_bias_only: Path, record: dict[str, Any], message: str
) -> None:
    plain = json.loads((with_bias_only / "provenance.json").read_text())
    reseal(with_bias_only, bias_only=plain["bias_only"] | record)
    with pytest.raises(InputError, match=message):
        load_bias_only(with_bias_only)


@pytest.mark.parametrize(
    ("rows", "rank", "message"), [(3, 2, r"U has shape \(3, 16, 2\)"), (2, 0, r"U has shape \(2, 16, 0\)")]
)
def test_a_bias_only_of_another_capacity_is_never_written(tmp_path: Path, rows: int, rank: int, message: str) -> None:
    with pytest.raises(InputError, match=f"The bias-only lens's tensor {message}"):
        save_tuned_lens(tmp_path / "tiny", make_translators(), make_provenance(), make_translators(rows, rank=rank))
    assert list(tmp_path.iterdir()) == []


def test_a_bias_only_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    bias_only = make_translators(rank=0)
    with torch.no_grad():
        bias_only.c[1, 1] = float("nan")
    with pytest.raises(InputError, match="The bias-only lens's tensor c holds 1 numbers"):
        save_tuned_lens(tmp_path / "tiny", make_translators(), make_provenance(), bias_only)
    assert list(tmp_path.iterdir()) == []


def test_code_in_the_bias_only_is_refused(with_bias_only: Path) -> None:
    buffer = io.BytesIO()
    torch.save(make_translators(rank=0), buffer)
    (with_bias_only / "bias_only.pt").write_bytes(buffer.getvalue())
    reseal(with_bias_only)
    with pytest.raises(InputError, match=r"bias_only\.pt is not a state dict"):
        load_tuned_lens(with_bias_only)
