from pathlib import Path

import pytest
import torch

from logos_pl.artifacts.jacobian import save_jacobian
from logos_pl.cli.export import main
from logos_pl.lm.frozen import FrozenLM
from tests.artifacts.jacobians import jacobian_provenance, make_jacobians


@pytest.fixture
def lens(tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Jacobian lens of a local model."""
    monkeypatch.chdir(tmp_path)
    save_jacobian("lens", make_jacobians(), jacobian_provenance(FrozenLM.load(str(tiny["model"]), dtype="float32")))
    return Path("lens")


def test_a_file_is_written_and_what_it_holds_is_said(lens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lens", "new/out.pt", "--to", "transformer_lens"]) == 0
    said = capsys.readouterr().out
    assert "transformer_lens: new/out.pt (rows 1 to 3 as blocks 0 to 2; the format has no place for row 0)\n" in said
    assert sorted(path.name for path in Path("new").iterdir()) == ["out.pt"]
    maps = torch.load("new/out.pt", weights_only=True)["J"]
    assert torch.equal(maps[0], make_jacobians()[1])


def test_a_folder_is_written_with_the_model_it_was_fitted_on(
    lens: Path, tiny: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lens", "out", "--to", "tuned_lens", "--model", str(tiny["model"])]) == 0
    assert "tuned_lens: out (rows 0 to 3, as W = J − 1 in float32)\n" in capsys.readouterr().out
    assert sorted(path.name for path in Path("out").iterdir()) == ["config.json", "params.pt"]


@pytest.mark.parametrize(("args", "message"), [
    (["lens", "there", "--to", "tuned_lens"], "there already exists: give another name, or remove it."),
    (["lens", "out", "--to", "tuned_lens"], "tiny-llama is a local model: give its folder as --model."),
    (["none", "out", "--to", "transformer_lens"], "There is no artifact at none"),
    (["tuned", "out", "--to", "tuned_lens"], "tuned holds a tuned lens, whose maps and temperatures apply after the"),
    (["prism", "out", "--to", "transformer_lens"], "prism holds a Prism lens, whose map applies after the final norm"),
    (["lens", "out", "--to", "nnsight"], "nnsight"),
    (["lens", "out"], "--to"),
])  # fmt: skip
def test_what_cannot_be_exported_is_refused_in_a_sentence(
    args: list[str], message: str, lens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, file in (("tuned", "weights.pt"), ("prism", "rotation.pt"), ("there", "x")):
        Path(folder).mkdir()
        (Path(folder) / file).write_bytes(b"")
    assert main(args) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_a_lens_of_another_model_is_refused(
    lens: Path, tiny: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lens", "out", "--to", "tuned_lens", "--model", "demo"]) == 2
    assert "The Jacobian lens was trained for tiny-llama, not for demo" in capsys.readouterr().err
    assert not Path("out").exists()
