"""The command line as its user meets it: what it prints, where it writes, and one clear sentence for every mistake."""

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from tests.tiny import accepted, fit_arguments, make_model

CONFIGS = Path(__file__).parents[2] / "configs"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and the one sentence on standard error."""
    capsys.readouterr()
    status = main(arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("logos-pl: ")
    assert lines[0].endswith((".", "`.", ").", "?")), lines[0]
    return status, lines[0]


def test_a_fit_ends_with_a_table_per_row_and_says_where_everything_is(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = fit_arguments(**tiny, logs=Path())

    assert main(["fit", *arguments]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed if line.strip()[:1].isdigit()] == ["0", "1", "2", "3", "4"]
    assert "lens:        lenses/tiny-llama" in printed
    assert "TensorBoard: tensorboard --logdir lightning_logs/tiny-llama/version_0" in printed
    assert sorted(os.listdir("lenses/tiny-llama")) == [
        "README.md", "bias_only.pt", "provenance.json", "provenance.json.sha256", "weights.pt"
    ]  # fmt: skip
    assert {"best.ckpt", "last.ckpt", "config.yaml"} <= set(os.listdir("lightning_logs/tiny-llama/version_0"))


def test_what_is_recorded_is_what_happened(tiny: dict[str, Path], fitted: Path) -> None:
    provenance = json.loads((fitted / "lenses" / "tiny-llama" / "provenance.json").read_text())

    assert provenance["budget"]["tokens"] == provenance["budget"]["tokens_asked"] == 12 * 8 * 32
    assert provenance["optim"] | {"lr": 0, "betas": 0, "weight_decay": 0, "schedule": 0} == {
        "lr": 0, "betas": 0, "weight_decay": 0, "schedule": 0, "total_steps": 12, "warmup_steps": 2, "steps_done": 12,
        "exported_step": 12, "stopped_early": False,
    }  # fmt: skip
    assert provenance["batching"]["effective_batch_seqs"] == provenance["batching"]["fewest_batch_seqs"] == 8
    assert provenance["batching"]["grad_accum"] == 2
    assert provenance["layers_per_step"] == 3
    assert provenance["capacity"] == {"rank_k": 4, "rows": 3, "parameters": 3 * (2 * 16 * 4 + 16 + 1)}
    assert provenance["dataset"]["documents"] == documents_in_four_lanes(tiny["corpus"], 12 * 8 * 32 // 4)


def documents_in_four_lanes(corpus: Path, tokens_per_lane: int) -> int:
    """Recounted from the files: every other document of a shard belongs to a lane; its first 768 tokens are read."""
    documents = 0
    for shard in sorted(corpus.iterdir()):
        texts = [json.loads(line)["text"] for line in shard.read_text().splitlines()]
        for half in (0, 1):
            left = tokens_per_lane
            for text in texts[half::2]:
                u = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
                if left > 0 and u >= 2 * 0.1:  # a tenth each is held out for validation and test
                    left -= 1 + len(text.split())
                    documents += 1
    return documents


def test_checkpoints_hold_the_translators_and_never_the_model(fitted: Path) -> None:
    (last,) = fitted.rglob("last.ckpt")
    checkpoint = torch.load(last, weights_only=True)

    names = ("U", "V", "c", "log_tau")
    lenses = ("translators", "bias_only", "averages.translators", "averages.bias_only")
    assert set(checkpoint["state_dict"]) == {f"{lens}.{name}" for lens in lenses for name in names}
    numbers = sum(value.numel() for value in checkpoint["state_dict"].values())
    assert {name: part.shape for name, part in checkpoint["lens_basis"].items()} == {
        "left": (16, 16),
        "right": (16, 16),
    }
    assert last.stat().st_size < 2 * 4 * numbers + 38_000  # weights, averages, AdamW's two moments, and small change


def test_the_best_validation_is_exported_and_not_the_last(tiny: dict[str, Path], tmp_path: Path) -> None:
    """A learning rate at which the lens gets worse after the first step, and validations after every step."""
    options = {"model.lr": 0.3, "data.validate_every_steps": 1}
    assert main(["fit", *fit_arguments(**tiny, logs=tmp_path, **options)]) == 0
    best, last = (torch.load(next(tmp_path.rglob(f"{name}.ckpt")), weights_only=True) for name in ("best", "last"))
    weights, bias_only = (
        torch.load(tmp_path / "lenses" / "tiny-llama" / name, weights_only=True)
        for name in ("weights.pt", "bias_only.pt")
    )
    provenance = json.loads((tmp_path / "lenses" / "tiny-llama" / "provenance.json").read_text())

    assert best["global_step"] < last["global_step"]
    assert provenance["optim"]["exported_step"] == best["global_step"]
    assert provenance["optim"]["steps_done"] == last["global_step"]
    basis = {name: best["lens_basis"][part].double() for name, part in (("U", "left"), ("V", "right"))}
    for name, tensor in weights.items():
        trained = best["state_dict"][f"averages.translators.{name}"]
        plain = (basis[name] @ trained.double()).float() if name in basis else trained
        torch.testing.assert_close(tensor, plain, rtol=1e-6, atol=1e-7)
        assert torch.equal(bias_only[name], best["state_dict"][f"averages.bias_only.{name}"])
    assert provenance["preconditioner"] == {"type": "whitened", "path": None, "damping": 0.1}
    assert not torch.equal(weights["c"], last["state_dict"]["averages.translators.c"])
    assert not torch.equal(bias_only["c"], last["state_dict"]["averages.bias_only.c"])
    row = provenance["val_kl_bits"]["50"]["row"]
    recorded = provenance["val_kl_bits"]["50"]["tuned"]["kl_from_final_bits"]
    assert recorded == best["lens_validation"]["tuned"]["kl_from_final_bits"][row]


def test_without_a_bias_only_the_same_lens_is_written_and_can_be_evaluated(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path
) -> None:
    arguments = fit_arguments(**tiny, logs=tmp_path)
    assert main(["fit", *arguments, "--model.bias_only=false"]) == 0
    without, with_one = (folder / "lenses" / "tiny-llama" for folder in (tmp_path, fitted))

    assert sorted(os.listdir(without)) == ["README.md", "provenance.json", "provenance.json.sha256", "weights.pt"]
    assert (without / "weights.pt").read_bytes() == (with_one / "weights.pt").read_bytes()
    assert main(accepted("validate", arguments)) == 0
    assert main(accepted("test", arguments)) == 2, "the gates have nothing to compare it with"


def test_the_last_step_is_validated_whatever_the_interval_and_a_run_without_a_logger_keeps_its_configuration_too(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("mine")
    options = {"data.validate_every_steps": 5, "trainer.logger": "false"}
    assert main(["fit", *fit_arguments(**tiny, logs=Path(), **options)]) == 0
    (best,) = tmp_path.rglob("best.ckpt")

    assert torch.load(best, weights_only=True)["global_step"] == 12
    assert Path("config.yaml").read_text() == "mine"
    assert "validate_every_steps: 5" in (best.parent / "config.yaml").read_text()


def test_a_second_fit_leaves_the_first_ones_logs_alone_and_keeps_its_lens(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    assert main(arguments) == 0
    first, lens = tmp_path / "lightning_logs" / "tiny-llama" / "version_0", tmp_path / "lenses" / "tiny-llama"
    before, lens_before = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, lens))

    capsys.readouterr()
    assert main([*arguments, "--model.lr=0.01"]) == 0

    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert (first.parent / "version_1" / "last.ckpt").is_file()
    (kept,) = lens.parent.glob("tiny-llama.replaced-*")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == lens_before
    assert (lens / "weights.pt").read_bytes() != lens_before["weights.pt"]
    assert f"the earlier lens is kept in {os.path.relpath(kept)}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("subcommand", ["validate", "test"])
def test_a_fitted_lens_is_evaluated_on_text_it_never_saw(
    subcommand: str, tiny: dict[str, Path], fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, status = accepted(subcommand, fit_arguments(**tiny, logs=fitted)), {"validate": 0, "test": 3}[subcommand]
    assert main(arguments) == status
    of_artifact = capsys.readouterr().out
    assert main([*arguments, "--ckpt_path=best"]) == status
    of_checkpoint = capsys.readouterr().out

    tables = [re.findall(r"^ +\d .*", out, flags=re.MULTILINE) for out in (of_artifact, of_checkpoint)]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 5


def test_a_validation_leaves_nothing_where_it_is_called(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = fit_arguments(**tiny, logs=Path("nothing"), **{"export.folder": fitted / "lenses"})

    assert main([part for part in accepted("validate", arguments) if "default_root_dir" not in part]) == 0

    assert list(tmp_path.iterdir()) == []


def test_evaluating_without_a_lens_says_how_to_fit_one(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, sentence = refused(accepted("test", fit_arguments(**tiny, logs=tmp_path)), capsys)

    assert status == 2
    assert "There is no tuned lens at" in sentence
    assert "`logos-pl fit" in sentence


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown model": ({"model.model_id": "./nowhere"}, "nowhere is not a folder"),
    "rank beyond the width": ({"model.rank": 17}, "Rank 17 does not fit a model of width 16"),
    "rank that is no number": (
        {"model.rank": "many"},
        "--model.rank must be a whole number or 'auto' (got many",
    ),
    "context too short": ({"data.seq_len": 65}, "--data.seq_len 65 exceeds the context of"),
    "too few tokens for a step": (
        {"data.tokens": 255},
        "--data.tokens 255 is too few for one step of 8 sequences of 32",
    ),
    "no such data set": ({"data.dataset": "./nowhere"}, "nowhere"),
    "no text column": ({"data.text_column": "body"}, "--data.text_column"),
    "uneven batches": ({"data.micro_batch_seqs": 3}, "make the effective batch a multiple of 3"),
    "lanes that cannot be shared": ({"data.num_workers": 3}, "make --data.lanes a multiple of 3"),
    "nothing to resume": ({"ckpt_path": "last"}, "start without --ckpt_path"),
    "no such checkpoint": ({"ckpt_path": "nowhere.ckpt"}, "--ckpt_path nowhere.ckpt is not a file"),
    "misspelt option": ({"model.rnak": 3}, "There is no option --model.rnak of fit: did you mean --model.rank?"),
    "abbreviated option": ({"trainer.max_step": 3}, "There is no option --trainer.max_step of fit"),
    "no such device": ({"trainer.accelerator": "cuda"}, "there is no device 'cuda' on this machine"),
    "no decoding norm of that name": ({"model.decoding_norm": "first"}, "'final', 'next'"),
    "too few held-out texts": ({"data.val_seqs": 4000}, "--data.val_seqs"),
    "a step limit beside the budget": ({"trainer.max_steps": 3}, "There is no option --trainer.max_steps of fit"),
    "another precision": ({"trainer.precision": "bf16-true"}, "There is no option --trainer.precision of fit"),
    "no validation at all": ({"data.val_seqs": 0}, "--data.val_seqs must be at least 1"),
    "no patience": ({"early_stopping.patience": 0}, "--early_stopping.patience must be at least 1"),
    "learning backwards": ({"model.lr": -1}, "--model.lr must be above 0 (got -1.0)."),
    "a range from back to front": ({"data.position_range": "[0.9,0.5]"}, "--data.position_range is [0.9, 0.5]"),
    "weights for a checkpoint": ({"ckpt_path": Path(__file__)}, "is not a complete checkpoint"),
    "more positions than there are": ({"data.positions_per_seq": 30}, "--data.positions_per_seq is 30"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_one_sentence_and_exit_status_two(
    mistake: str, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, wanted = WRONG[mistake]

    status, sentence = refused(["fit", *fit_arguments(**tiny, logs=tmp_path, **overrides)], capsys)

    assert status == 2
    assert wanted in sentence
    assert not (tmp_path / "lenses" / "tiny-llama").exists()


def test_a_missing_configuration_or_model_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(["fit", "--config", "nowhere.yaml"], capsys)[0] == 2
    status, sentence = refused(["fit"], capsys)
    assert status == 2
    assert "--model.model_id is missing" in sentence
    assert refused([], capsys)[0] == 2


def test_a_checkpoint_of_another_model_or_other_settings_is_refused(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (last,) = fitted.rglob("last.ckpt")
    other = make_model(tmp_path / "other-llama", seed=1)
    more = {"ckpt_path": last}
    for model, options, wanted in (
        (other, {}, "model_id 'tiny-llama' (now 'other-llama')"),
        (tiny["model"], {"model.rank": 5}, "rank 4 (now 5)"),
        (tiny["model"], {"model.lr": 0.01}, "lr 0.001 (now 0.01)"),
        (tiny["model"], {"data.seq_len": 16}, "seq_len 32"),
        (tiny["model"], {"data.tokens": 13 * 8 * 32}, "tokens"),
    ):
        arguments = fit_arguments(model, tiny["corpus"], tmp_path, **options, **more)
        status, sentence = refused(["fit", *arguments], capsys)
        assert status == 2
        assert wanted in sentence


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    writes: list[Path] = []

    def full_after_two(path: Path, data: bytes) -> None:
        writes.append(path)
        if len(writes) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr("logos_pl.fit.checkpoint.replace_file", full_after_two)
        status, sentence = refused(arguments, capsys)
    assert status == 1
    assert "No space left on device" in sentence
    assert "--ckpt_path last" in sentence

    assert main([*arguments, "--ckpt_path=last"]) == 0, "after mending, the run goes on from the step-4 checkpoint"


def test_a_lens_is_not_read_with_another_norm_than_it_was_trained_with(
    tiny: dict[str, Path], fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = fit_arguments(**tiny, logs=fitted, **{"model.decoding_norm": "next"})

    status, sentence = refused(accepted("test", arguments), capsys)

    assert status == 2
    assert "was trained with decoding_norm final" in sentence


def test_another_models_lens_of_the_same_name_is_not_overwritten(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namesake = make_model(tmp_path / "tiny-llama", seed=1)
    lens = fitted / "lenses" / "tiny-llama" / "weights.pt"
    before = lens.read_bytes()
    arguments = fit_arguments(namesake, tiny["corpus"], tmp_path, **{"export.folder": fitted / "lenses"})

    status, sentence = refused(["fit", *arguments], capsys)

    assert status == 2
    assert "holds the lens of tiny-llama at sha256:" in sentence
    assert lens.read_bytes() == before


def test_a_checkpoint_is_evaluated_where_there_is_no_artifact(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (best,) = fitted.rglob("best.ckpt")

    assert main([*accepted("validate", fit_arguments(**tiny, logs=tmp_path)), f"--ckpt_path={best}"]) == 0
    assert "best.ckpt" in capsys.readouterr().out


def test_a_missing_or_altered_best_checkpoint_is_said_before_the_run_goes_on(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    assert main(arguments) == 0
    (best,), (weights,) = tmp_path.rglob("best.ckpt"), tmp_path.rglob("weights.pt")
    lens, data = weights.read_bytes(), bytearray(best.read_bytes())
    data[len(data) // 2] ^= 8
    best.write_bytes(data)
    for more in (["fit", "--ckpt_path=last"], ["validate", "--ckpt_path=best"], ["test", f"--ckpt_path={best}"]):
        status, sentence = refused([*accepted(more[0], arguments[1:]), more[1]], capsys)
        assert status == 2
        assert "best.ckpt was altered" in sentence
    assert weights.read_bytes() == lens

    best.unlink()
    status, sentence = refused([*arguments, "--ckpt_path=last"], capsys)

    assert status == 2
    assert "best.ckpt is missing" in sentence


def test_a_folder_that_holds_something_else_is_not_replaced(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lenses" / "tiny-llama").mkdir(parents=True)
    (tmp_path / "lenses" / "tiny-llama" / "thesis.tex").write_text("years of work")

    status, sentence = refused(["fit", *fit_arguments(**tiny, logs=tmp_path)], capsys)

    assert status == 2
    assert "thesis.tex" in sentence


@pytest.mark.parametrize("way", ["artifact", "checkpoint"])
def test_text_that_was_not_held_out_from_the_fit_judges_no_lens(
    way: str, tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (best,) = fitted.rglob("best.ckpt")
    options = {"data.held_out_frac": 0.2} | ({"ckpt_path": best} if way == "checkpoint" else {})
    for subcommand in ("validate", "test"):
        status, sentence = refused(accepted(subcommand, fit_arguments(**tiny, logs=fitted, **options)), capsys)
        assert status == 2
        assert "give --data.held_out_frac 0.1" in sentence
