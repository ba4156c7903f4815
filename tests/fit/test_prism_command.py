"""A prism fitted by the command line, and what a user finds afterwards."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from logos_pl.api import sweep
from logos_pl.artifacts.prism import load_prism
from logos_pl.cli.entry import main
from logos_pl.data.packed_text import in_order
from logos_pl.data.training_text import TrainingText
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.lm.tokenizer import load_tokenizer
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings
from logos_pl.sweeps.schema_file import output_schema
from tests.tiny import accepted, fit_arguments, make_corpus, make_model

POSITIONS = 1_000


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {"model": make_model(folder / "tiny-llama"), "corpus": make_corpus(folder / "corpus", documents=400)}


def prism_arguments(tiny: dict[str, Path], logs: Path, **options: Any) -> list[str]:
    own = {"prism.folder": logs / "prisms", "prism.positions": POSITIONS}
    return accepted("prism", fit_arguments(**tiny, logs=logs, **(own | options)))


@pytest.fixture(scope="module")
def fitted(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("fitted")
    assert main(prism_arguments(tiny, logs)) == 0
    return logs / "prisms" / "tiny-llama"


def test_the_map_is_the_textbooks_on_every_position_that_was_read(fitted: Path, tiny: dict[str, Path]) -> None:
    lm = FrozenLM.load(str(tiny["model"]), dtype="float32")
    lens, provenance = load_prism(fitted, lm)
    head, rows = Head(lm.anatomy), [*provenance.rows, 4]
    settings = TrainingTextSettings(
        dataset=str(tiny["corpus"]), seq_len=32, held_out_frac=0.1, lanes=4, num_workers=0, effective_batch_seqs=8,
        micro_batch_seqs=4, positions_per_seq=4, val_seqs=8, tokens=10**5,
    )  # fmt: skip
    data = TrainingText(resolve_text(settings, "full", lm.vocab_size), str(tiny["model"]))
    data.setup("fit")
    sequences: list[torch.Tensor] = []
    batches = iter(in_order(data._stream().chunks(0), 1, 4))
    while len(sequences) * 24 < provenance.positions:  # positions 8 to 31 of 32, which the schedule draws from
        sequences.extend(next(batches).input_ids)
    positions = torch.arange(8, 32).expand(len(sequences), -1)
    x = head.normalise(residuals(lm, torch.stack(sequences), positions, rows).flatten(1, 2), rows).double()
    x, y = x[:-1], x[-1]

    assert provenance.positions == y.shape[0] >= POSITIONS
    assert provenance.budget.tokens == len(sequences) * 32
    pooled = x.flatten(0, 1)
    roots = []
    for samples in (pooled, y):
        covariance = torch.cov(samples.T, correction=0)
        if provenance.whiten == "diagonal":
            covariance = covariance.diagonal().diag()
        covariance = 0.999 * covariance + 1e-3 * covariance.trace() / 16 * torch.eye(16, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(covariance)
        roots.append(vectors @ values.sqrt().diag() @ vectors.T)
    z = (pooled - pooled.mean(0)) @ torch.linalg.inv(roots[0])
    t = ((y - y.mean(0)) @ torch.linalg.inv(roots[1])).repeat(len(rows) - 1, 1)
    left, _, right = torch.linalg.svd(z.T @ t)
    matrix = torch.linalg.inv(roots[0]) @ left @ right @ roots[1]
    found, bias = lens.prism.affine()
    torch.testing.assert_close(found.double(), matrix, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(bias.double(), y.mean(0) - pooled.mean(0) @ matrix, rtol=1e-3, atol=1e-3)


def test_the_candidate_with_the_least_held_out_divergence_is_taken_and_all_are_on_record(fitted: Path) -> None:
    recorded = json.loads((fitted / "provenance.json").read_text())
    tried = {(c["whiten"], tuple(c["depths"])): c for c in recorded["candidates"]}

    assert len(tried) == 8
    best = min(tried.values(), key=lambda c: c["mean_kl_from_final_bits"])
    assert (recorded["whiten"], recorded["depths"], recorded["rows"]) == (best["whiten"], best["depths"], best["rows"])
    for percentile, at in recorded["val_kl_bits"].items():
        assert at["prism"]["kl_from_final_bits"] == best["kl_from_final_bits"][percentile]
    assert recorded["rank"] == 16
    assert recorded["world_size"] == 1


def test_the_command_prints_the_candidates_and_every_row(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(prism_arguments(tiny, tmp_path, **{"prism.whiten": "full", "prism.rank": 5})) == 0
    said = capsys.readouterr().out
    assert "diagonal" not in said
    assert said.count("full ") == 4
    assert [line.split()[0] for line in said.split("row  depth")[1].splitlines()[1:6]] == ["0", "1", "2", "3", "4"]
    assert "prism: prisms/tiny-llama" in said
    assert [path.name for path in tmp_path.iterdir()] == ["prisms"]
    rotation = torch.load(tmp_path / "prisms" / "tiny-llama" / "rotation.pt", weights_only=True)["rotation"]
    assert torch.linalg.matrix_rank(rotation, rtol=1e-4) == 5


@pytest.mark.parametrize(("options", "message"), [
    ({"prism.positions": 16}, "--prism.positions 16 is too few for tiny-llama, whose width is 16"),
    ({"prism.positions": 0}, "--prism.positions must be at least 1"),
    ({"prism.positions": 12_000}, "distinct positions, but --prism.positions is 12,000"),
    ({"prism.rank": 17}, "Rank 17 does not fit a model of width 16"),
    ({"prism.rank": 0}, "--prism.rank 0 would give the same output at every row"),
    ({"prism.shrinkage": 1}, "--prism.shrinkage must be at least 0 and below 1 (got 1.0)"),
])  # fmt: skip
def test_what_gives_no_prism_is_refused_in_a_sentence(
    options: dict[str, Any], message: str, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(prism_arguments(tiny, tmp_path, **options)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("*.pt"))


def test_a_model_whose_norm_silences_a_direction_needs_shrinkage(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = FrozenLM.load(str(tiny["model"]), dtype="float32")
    with torch.no_grad():
        lm.model.model.norm.weight[3] = 0.0
    lm.model.save_pretrained(tmp_path / "silent")
    load_tokenizer(str(tiny["model"])).save_pretrained(tmp_path / "silent")
    silent = tiny | {"model": tmp_path / "silent"}

    assert main(prism_arguments(silent, tmp_path, **{"prism.shrinkage": 0})) == 2
    assert "rank-deficient: 1 of 16 directions have no variance" in capsys.readouterr().err
    assert main(prism_arguments(silent, tmp_path)) == 0


def sweep_arguments(tiny: dict[str, Path], fitted: Path, logs: Path, **options: Any) -> list[str]:
    own = {"prism.folder": fitted.parent, "data.prompt": "sun moon river", "data.answer": "stone"}
    return accepted("predict", fit_arguments(**tiny, logs=logs, **(own | options)))


def test_a_sweep_reads_the_prism_beside_the_others_and_sums_it_up(
    fitted: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(sweep_arguments(tiny, fitted, tmp_path, **{"sweep.prism": "require"})) == 0
    assert "with the prism of " in capsys.readouterr().out
    folder = tmp_path / "lightning_logs" / "sweeps" / "run-latest"
    for kind in ("records", "pure-next-token"):
        norm, prism = ((folder / f"output-tiny-llama-{kind}{end}.csv").read_text() for end in ("", "-prism"))
        assert norm.splitlines()[0] == prism.splitlines()[0]
        assert len(norm.splitlines()) == len(prism.splitlines())

    document = json.loads((folder / "output-tiny-llama.json").read_text())
    jsonschema.validate(document, output_schema())
    assert document["run"]["lenses"] == ["norm", "prism"]
    summary, recorded = document["prism_summary"], json.loads((fitted / "provenance.json").read_text())
    assert summary["provenance"]["rotation_sha256"] == recorded["sha256"]["rotation.pt"]
    lm = FrozenLM.load(str(tiny["model"]), dtype="float32")
    rows = sweep(lm, [("sun moon river", "stone")], {"prism": load_prism(fitted, lm)[0]}).prompts[0].next_token
    for at in summary["summaries"]["delta_kl"]:
        gain = rows["norm"][at["row"]].kl_to_final_bits - rows["prism"][at["row"]].kl_to_final_bits
        assert at["median_delta_kl_bits"] == pytest.approx(gain, abs=1e-6)
    report = (folder / "evaluation-tiny-llama.md").read_text()
    assert "### What does the prism gain over the norm lens?" in report
    assert "output-tiny-llama-pure-next-token-prism.csv" in report
    assert '"prism"' in (folder / "output-tiny-llama-page.html").read_text()


def test_a_sweep_leaves_the_prism_where_it_is_told_to(fitted: Path, tiny: dict[str, Path], tmp_path: Path) -> None:
    assert main(sweep_arguments(tiny, fitted, tmp_path, **{"sweep.prism": "off"})) == 0
    document = json.loads((tmp_path / "lightning_logs/sweeps/run-latest/output-tiny-llama.json").read_text())
    assert (document["run"]["lenses"], document["prism_summary"]) == (["norm"], None)


def test_a_prism_that_is_required_and_missing_or_of_another_norm_or_model_is_refused(
    fitted: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {"sweep.prism": "require", "prism.folder": tmp_path / "none"}
    other = tiny | {"model": make_model(tmp_path / "tiny-llama", seed=1)}
    capsys.readouterr()
    for model, options, message in (
        (tiny, missing, "There is no prism at "),
        (tiny, {"model.decoding_norm": "next"}, "fitted with decoding_norm final, but the run uses next"),
        (other, {}, "The prism was trained for tiny-llama at commit sha256:"),
    ):
        assert main(sweep_arguments(model, fitted, tmp_path, **options)) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert "fit one with `logos-pl prism" not in said
    assert not (tmp_path / "lightning_logs").exists()


def test_a_validation_prints_norm_tuned_and_prism_side_by_side(
    fitted: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"prism.folder": fitted.parent, "data.tokens": 4 * 8 * 32}
    assert main(accepted("fit", fit_arguments(**tiny, logs=tmp_path, **options))) == 0
    capsys.readouterr()
    assert main(accepted("validate", fit_arguments(**tiny, logs=tmp_path, **options))) == 0
    lines = capsys.readouterr().out.split("held-out validation text")[1].splitlines()
    heading = next(line for line in lines if "depth" in line)
    assert heading.split() == ["row", "depth", *("norm", "tuned", "prism") * 3]
    assert max(map(len, lines[1:])) <= 80
    recorded = json.loads((fitted / "provenance.json").read_text())["val_kl_bits"]
    middle = next(line.split() for line in lines if " 50% " in line)
    assert float(middle[4]) == pytest.approx(recorded["50"]["prism"]["kl_from_final_bits"], abs=6e-4)
