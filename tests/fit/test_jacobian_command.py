"""A Jacobian lens fitted by the command line, and what a user finds afterwards."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import Tensor

from logos_pl.api import load_jacobian, sweep
from logos_pl.artifacts.jacobian import read_jacobian
from logos_pl.cli.entry import main
from logos_pl.data.packed_text import in_order
from logos_pl.data.training_text import TrainingText
from logos_pl.fit import jacobian_export
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings
from logos_pl.sweeps.schema_file import output_schema
from tests.tiny import accepted, fit_arguments, own

SEQUENCES, SKIP, WIDTH = 16, 24, 16


def arguments(tiny: dict[str, Path], logs: Path, **options: Any) -> list[str]:
    given = {
        "jacobian.folder": logs / "jacobians",
        "jacobian.sequences": SEQUENCES,
        "jacobian.probes": "all",
        "jacobian.skip_first": SKIP,
    }
    return own("jacobian", fit_arguments(**tiny, logs=logs, **(given | options)))


@pytest.fixture(scope="module")
def fitted(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("fitted")
    assert main(arguments(tiny, logs)) == 0
    return logs / "jacobians" / "tiny-llama"


def text_read(tiny: dict[str, Path]) -> Tensor:
    """The sequences that the fit reads."""
    settings = TrainingTextSettings(
        dataset=str(tiny["corpus"]), seq_len=32, held_out_frac=0.1, lanes=4, num_workers=0, effective_batch_seqs=8,
        micro_batch_seqs=4, positions_per_seq=4, val_seqs=8, tokens=10**5,
    )  # fmt: skip
    data = TrainingText(resolve_text(settings, "full", 23), str(tiny["model"]))
    data.setup("fit")
    batches = iter(in_order(data._stream().chunks(0), 1, 4))
    return torch.cat([next(batches).input_ids for _ in range(SEQUENCES // 4)])


def test_the_maps_are_the_mean_of_torchs_jacobians_over_the_sequences_read(fitted: Path, tiny: dict[str, Path]) -> None:
    """In float64, sequence by sequence, with the model's blocks run one after the other by hand."""
    model = FrozenLM.load(str(tiny["model"]), dtype="float32").model.model.double()
    mask = torch.full((32, 32), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    valid = range(SKIP, 31)
    total = torch.zeros(4, WIDTH, WIDTH, dtype=torch.float64)
    sequences = text_read(tiny)
    for ids in sequences:
        h = model.embed_tokens(ids[None])
        rotary = model.rotary_emb(h, torch.arange(32)[None])
        for row in range(4):

            def summed(h: Tensor, row: int = row, rotary: Any = rotary) -> Tensor:
                for block in model.layers[row:]:
                    h = block(h, attention_mask=mask, position_embeddings=rotary)
                return h[0, valid].sum(0)

            total[row] += torch.autograd.functional.jacobian(summed, h)[:, 0, valid].mean(1)
            h = model.layers[row](h, attention_mask=mask, position_embeddings=rotary).detach()
    wanted, found = total / len(sequences), read_jacobian(fitted)[0].double()
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


def test_what_was_read_is_recorded_with_the_error(fitted: Path) -> None:
    recorded = json.loads((fitted / "provenance.json").read_text())
    assert (recorded["sequences"], recorded["sequences_asked"], recorded["probes"]) == (SEQUENCES, SEQUENCES, WIDTH)
    assert (recorded["skip_first"], recorded["fewest_sequences"]) == (SKIP, SEQUENCES)
    assert recorded["budget"]["tokens"] == SEQUENCES * 32
    assert recorded["budget"]["positions_per_seq"] == 31 - SKIP
    assert len(recorded["relative_errors"]) == 4
    assert all(0 < error < 1 for error in recorded["relative_errors"])
    assert set(recorded["val_kl_bits"]) == {"25", "50", "75"}
    assert sorted(path.name for path in fitted.parent.iterdir()) == ["tiny-llama"], "no checkpoint is left"


def test_some_dimensions_of_each_sequence_estimate_the_same_maps_within_the_stated_error(
    fitted: Path,
    tiny: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments(tiny, tmp_path, **{"jacobian.probes": 4})) == 0
    exact = read_jacobian(fitted)[0]
    found, provenance = read_jacobian(tmp_path / "jacobians" / "tiny-llama")
    assert provenance.fewest_sequences == SEQUENCES * 4 // WIDTH
    for row in range(4):
        off = float((found[row] - exact[row]).norm() / exact[row].norm())
        assert 0.01 < off < 3 * provenance.relative_errors[row]
    said = capsys.readouterr().out
    assert "KL(final‖row)" in said
    assert "every dimension was measured on at least 4 sequences." in said
    assert "jacobian: jacobians/tiny-llama" in said


@pytest.mark.parametrize("stop_after", [1, 7, 41])
def test_a_fit_that_is_stopped_anywhere_goes_on_to_the_same_bits(
    stop_after: int, fitted: Path, tiny: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """4 micro-batches of 16 backward passes; a signal comes during one of them."""
    monkeypatch.chdir(tmp_path)
    done = 0
    after = jacobian_export.JacobianExport._after_probe

    def counted(self: Any, module: Any, data: Any) -> None:
        nonlocal done
        done += 1
        if done == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        after(self, module, data)

    monkeypatch.setattr(jacobian_export.JacobianExport, "_after_probe", counted)
    assert main(arguments(tiny, tmp_path)) == 128 + signal.SIGTERM
    printed = capsys.readouterr()
    assert f"Stopped by SIGTERM after {stop_after} backward passes; the same command resumes" in printed.err
    assert [path.name for path in (tmp_path / "jacobians").iterdir()] == ["tiny-llama.unfinished"]
    monkeypatch.setattr(jacobian_export.JacobianExport, "_after_probe", after)

    assert main(arguments(tiny, tmp_path)) == 0
    assert f"resuming after {stop_after} backward passes" in capsys.readouterr().out
    again = tmp_path / "jacobians" / "tiny-llama"
    assert (again / "jacobians.pt").read_bytes() == (fitted / "jacobians.pt").read_bytes()
    one, two = (json.loads((folder / "provenance.json").read_text()) for folder in (fitted, again))
    assert {name: of for name, of in one.items() if name not in ("sha256", "git_sha")} == {
        name: of for name, of in two.items() if name not in ("sha256", "git_sha")
    }
    assert not (tmp_path / "jacobians" / "tiny-llama.unfinished").exists()


@pytest.mark.parametrize(("options", "message"), [
    ({"jacobian.probes": 17}, "--jacobian.probes 17 is more than the 16 dimensions of tiny-llama"),
    ({"jacobian.probes": 1}, "less than twice, so the error cannot be estimated: give at least 32 sequences"),
    ({"jacobian.sequences": 4_000}, "distinct sequences, but --jacobian.sequences is 4,000: give more text"),
    ({"jacobian.skip_first": 40}, "--jacobian.skip_first 40 leaves no position"),
])  # fmt: skip
def test_what_gives_no_lens_is_refused_in_a_sentence(
    options: dict[str, Any], message: str, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "sequences" in message and "distinct" in message:
        monkeypatch.setattr("logos_pl.fit.jacobian.mean_gradients", lambda lm, ids, dims, skip: iter(()))
    assert main(arguments(tiny, tmp_path, **options)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("*.pt"))


def test_a_sweep_and_a_validation_read_the_lens_beside_the_others(
    fitted: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"jacobian.folder": fitted.parent, "data.prompt": "sun moon river", "data.answer": "stone"}
    required = options | {"sweep.jacobian": "require"}
    assert main(accepted("predict", fit_arguments(**tiny, logs=tmp_path, **required))) == 0
    assert "with the Jacobian lens of " in capsys.readouterr().out
    folder = tmp_path / "lightning_logs" / "sweeps" / "run-latest"
    document = json.loads((folder / "output-tiny-llama.json").read_text())
    jsonschema.validate(document, output_schema())
    assert document["run"]["lenses"] == ["norm", "jacobian"]
    recorded = json.loads((fitted / "provenance.json").read_text())
    assert document["jacobian_lens"]["origin"]["jacobians_sha256"] == recorded["sha256"]["jacobians.pt"]
    lm = FrozenLM.load(str(tiny["model"]), dtype="float32")
    rows = sweep(lm, [("sun moon river", "stone")], {"jacobian": load_jacobian(fitted, lm)[0]}).prompts[0].next_token
    lines = (folder / "output-tiny-llama-pure-next-token-jacobian.csv").read_text().splitlines()
    column = lines[0].split(",").index("kl_to_final_bits")
    assert len(lines) == 1 + 5, "row 0 has a map, too"
    for line, of in zip(lines[1:], rows["jacobian"], strict=True):
        assert float(line.split(",")[column]) == pytest.approx(of.kl_to_final_bits, abs=1e-5)

    off = options | {"sweep.jacobian": "off"}
    assert main(accepted("predict", fit_arguments(**tiny, logs=tmp_path, **off))) == 0
    assert json.loads((folder / "output-tiny-llama.json").read_text())["run"]["lenses"] == ["norm"]
    missing = {"sweep.jacobian": "require", "jacobian.folder": tmp_path / "none", "data.prompt": "sun"}
    assert main(accepted("predict", fit_arguments(**tiny, logs=tmp_path, **missing))) == 2
    assert "There is no Jacobian lens at" in capsys.readouterr().err


@pytest.mark.slow
def test_a_validation_and_a_test_have_a_column_for_it(
    fitted: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"jacobian.folder": fitted.parent, "data.tokens": 4 * 8 * 32}
    assert main(accepted("fit", fit_arguments(**tiny, logs=tmp_path, **options))) == 0
    capsys.readouterr()
    assert main(accepted("validate", fit_arguments(**tiny, logs=tmp_path, **options))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("jacobian" in line for line in lines)
    assert main(accepted("test", fit_arguments(**tiny, logs=tmp_path, **options))) in (0, 3)
    gates = json.loads(next((tmp_path / "lenses").rglob("gates.json")).read_text())
    assert "jacobian" in json.dumps(list(gates))
