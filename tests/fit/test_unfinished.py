"""The sums of an unfinished fit on disk, without whole runs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes, read_unaltered
from logos_pl.errors import InputError, RunError
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.fit.unfinished import restore_unfinished, write_unfinished
from logos_pl.functional.mean_jacobian import add_gradients
from logos_pl.settings.jacobian import JacobianSettings
from logos_pl.settings.model import ModelSettings
from tests.artifacts.lenses import make_lm


class FakeText:
    """A data module at a place in its text."""

    def __init__(self, place: int = 0, lanes: int = 4) -> None:
        self.place, self.lanes = place, lanes

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]

    def identity(self) -> dict[str, Any]:
        return {"dataset": "text", "lanes": self.lanes}


def module(**options: Any) -> JacobianModule:
    lm = make_lm()
    made = JacobianModule(ModelSettings(model_id="org/tiny"), JacobianSettings(**({"probes": 8} | options)), seed=3)
    made.build(lm)
    return made


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, JacobianModule]:
    made = module()
    add_gradients(made.sums, torch.randn(4, 5, 16), torch.tensor([0, 3, 3, 8, 15]))
    made.num_sequences, made.probes_done = 40, 3
    write_unfinished(tmp_path / "tiny.unfinished", made, FakeText(7))
    return tmp_path / "tiny.unfinished", made


def test_sums_counts_and_place_come_back_bit_for_bit(written: tuple[Path, JacobianModule]) -> None:
    path, before = written
    after, text = module(), FakeText()
    restore_unfinished(path, after, text)
    assert all(torch.equal(one, two) for one, two in zip(before.sums, after.sums, strict=True))
    assert (after.num_sequences, after.probes_done, text.place) == (40, 3, 7)


@pytest.mark.parametrize(("options", "lanes", "message"), [
    ({"probes": 4}, 4, "has probes 8, but this run 4"),
    ({"skip_first": 3}, 4, "has skip_first 16, but this run 3"),
    ({"sequences": 99}, 4, "has sequences 512, but this run 99"),
    ({}, 8, "has lanes 4, but this run 8"),
])  # fmt: skip
def test_a_run_with_other_options_does_not_go_on(
    options: dict[str, Any], lanes: int, message: str, written: tuple[Path, JacobianModule]
) -> None:
    other, text = module(**options), FakeText(lanes=lanes)
    with pytest.raises(InputError, match=f"The unfinished fit {message}: give the same options, or rem"):
        restore_unfinished(written[0], other, text)
    assert (other.num_sequences, text.place) == (0, 0)


def test_an_altered_file_is_refused(written: tuple[Path, JacobianModule]) -> None:
    path = written[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tiny\.unfinished was altered.*: remove .*tiny\.unfinished to start again\."):
        restore_unfinished(path, module(), FakeText())


@pytest.mark.parametrize("change", [
    {"sums": {}}, {"probes_done": 8}, {"sequences": -1}, {"text": {}}, {"identity": None}, {"sequences": "many"},
])  # fmt: skip
def test_what_no_run_writes_is_refused(change: dict[str, Any], written: tuple[Path, JacobianModule]) -> None:
    path = written[0]
    path.write_bytes(checkpoint_bytes(read_unaltered(path) | change))
    with pytest.raises(InputError, match="The checkpoint's sums of a Jacobian lens is invalid"):
        restore_unfinished(path, module(), FakeText())


def test_a_disk_that_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("logos_pl.fit.unfinished.replace_file", full)
    with pytest.raises(RunError, match=r"The sums of the fit cannot be written to .* \(No space left on device\)"):
        write_unfinished(tmp_path / "x", module(), FakeText())
