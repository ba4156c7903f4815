"""A fit begins where least squares on its opening text puts it, and records from what; a resumed one does not again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from logos_pl.data.training_text import TrainingText
from logos_pl.fit import start
from logos_pl.fit.closed_form import OpeningText, closed_form_start
from logos_pl.fit.start import LensStart, rows_at_once
from logos_pl.lenses.head import Head
from logos_pl.lenses.translator import Translators
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings
from tests.tiny import fit_arguments

GIB = 2**30
ONE_STEP = {"data.tokens": 8 * 32, "model.lr": 1e-12}


def fit(tiny: dict[str, Path], folder: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    assert main(["fit", *fit_arguments(**tiny, logs=folder, **options)]) == 0
    lens = folder / "lenses" / "tiny-llama"
    return lens, json.loads((lens / "provenance.json").read_text())


def test_the_exported_start_is_that_of_the_first_sequences(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lens, provenance = fit(tiny, tmp_path, **ONE_STEP)
    said = capsys.readouterr().out
    assert "closed-form start from 96 positions of the first 256 tokens, in " in said
    step_0, step_1 = (line for line in said.splitlines() if "held-out KL in bits, norm → tuned" in line)
    assert (step_0[:6], step_1[:6]) == ("step 0", "step 1")
    assert step_0[6:] == step_1[6:], "a step without learning rate changes nothing"

    lm = FrozenLM.load(str(tiny["model"]))
    settings = TrainingTextSettings(
        dataset=str(tiny["corpus"]), seq_len=32, effective_batch_seqs=8, micro_batch_seqs=4, positions_per_seq=4,
        held_out_frac=0.1, val_seqs=8, lanes=4, num_workers=0,
    )  # fmt: skip
    data = TrainingText(resolve_text(settings, "full", lm.vocab_size), str(tiny["model"]))
    data.setup("fit")
    text = [OpeningText(batch.input_ids, [n >= 4 for n in numbers]) for batch, numbers in data.opening(8)]
    start = closed_form_start(lm, Head(lm.anatomy), lambda: text, 4, num_set_aside=4)
    for file, wanted, rank in (("weights.pt", start.tuned, 4), ("bias_only.pt", start.bias_only, 0)):
        translators = Translators(3, lm.d_model, rank)
        translators.start_at(wanted)
        found = torch.load(lens / file, weights_only=True)
        for name in ("c", "log_tau"):
            torch.testing.assert_close(found[name], translators.state_dict()[name], rtol=1e-5, atol=1e-6)
        # Balanced in the basis that they are trained in, U and V are other factors of the same maps.
        torch.testing.assert_close(
            found["U"] @ found["V"].mT, wanted.U.float() @ wanted.V.float().mT, rtol=1e-4, atol=1e-5
        )
    assert provenance["init"] == {
        "kind": "closed_form", "sequences": 8, "tokens": 256, "positions": 96, "shrinkage": start.shrinkage,
    }  # fmt: skip
    assert provenance["budget"]["tokens"] == 256, "what is trained on is counted for itself"


def test_a_process_claims_its_share_of_the_host_and_looks_at_its_own_device_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {"cpu": 64 * GIB, "cuda:1": 2 * GIB}
    monkeypatch.setattr(start, "free_memory", lambda device: free[str(device)])
    cpu, card = torch.device("cpu"), torch.device("cuda:1")
    matrix = 1024 * 1024

    assert rows_at_once(1024, cpu, 1) == 64 * GIB // 2 // (2 * matrix * 20)
    assert rows_at_once(1024, cpu, 4) == 16 * GIB // 2 // (2 * matrix * 20)
    assert rows_at_once(1024, card, 1) == 2 * GIB // 2 // (2 * matrix * 4)
    assert rows_at_once(1 << 20, card, 8) == 1


def test_every_process_takes_as_many_rows_at_once_as_the_poorest_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {"max": 9, "min": 4}
    reduce = SimpleNamespace(root_device="cpu", reduce=lambda rows, reduce_op: torch.tensor(own[reduce_op]))
    monkeypatch.setattr(start, "rows_at_once", lambda d_model, device, processes: processes)
    trainer: Any = SimpleNamespace(num_devices=7, strategy=reduce)
    module: Any = SimpleNamespace(frozen=SimpleNamespace(d_model=16), device=torch.device("cpu"))
    unused: Any = None
    assert LensStart(unused, unused)._rows_per_pass(trainer, module) == 4


def test_a_random_start_is_the_draw_and_reads_nothing(tiny: dict[str, Path], tmp_path: Path) -> None:
    lens, provenance = fit(tiny, tmp_path, **ONE_STEP, **{"model.init": "random"})
    wanted = Translators(3, 16, 4).state_dict()
    for name, tensor in torch.load(lens / "weights.pt", weights_only=True).items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-5, atol=1e-6)
    assert provenance["init"]["kind"] == "random"
    assert provenance["init"]["positions"] == 0


def test_the_spec_schedule_starts_at_random_and_is_recorded(tiny: dict[str, Path], tmp_path: Path) -> None:
    one_step = ONE_STEP | {"data.tokens": 8 * 64, "data.seq_len": 64}  # long enough for 16 late positions
    options = [option for option in fit_arguments(**tiny, logs=tmp_path, **one_step) if "positions" not in option]
    assert main(["fit", *options, "--schedule=spec"]) == 0
    provenance = json.loads((tmp_path / "lenses" / "tiny-llama" / "provenance.json").read_text())
    assert (provenance["schedule"], provenance["init"]["kind"]) == ("spec", "random")
    assert provenance["budget"]["position_range"] == [0.6, 0.95]


def test_training_that_never_beats_the_start_leaves_the_start_as_the_best(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    ruined = {"model.lr": 1, "data.validate_every_steps": 1, "data.tokens": 3 * 8 * 32}
    lens, provenance = fit(tiny, tmp_path / "ruined", **ruined)
    assert (provenance["optim"]["exported_step"], provenance["optim"]["steps_done"]) == (0, 3)
    start, _ = fit(tiny, tmp_path / "start", **ruined | {"model.lr": 1e-12})
    for name, tensor in torch.load(lens / "weights.pt", weights_only=True).items():
        torch.testing.assert_close(tensor, torch.load(start / "weights.pt", weights_only=True)[name])
