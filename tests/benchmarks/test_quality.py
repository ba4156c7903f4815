"""What both sides are evaluated by: means that brute force gives too, over documents counted from the text."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import quality
from benchmarks.evaluation import unseen_sequences
from benchmarks.package_recipe import train_package
from benchmarks.quality import HeldOut, documents_of, evaluate, quality_table, read_held_out
from logos_pl.data.training_text import TrainingText
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TextSettings, TrainingTextSettings


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return FrozenLM.load("demo")


@pytest.fixture(scope="module")
def held_out(lm: FrozenLM) -> HeldOut:
    return read_held_out(lm, unseen_sequences(TextSettings(dataset="demo", seq_len=64), "demo", 3))


@pytest.fixture(scope="module")
def data(lm: FrozenLM) -> TrainingText:
    settings = TrainingTextSettings(dataset="demo", seq_len=64, val_seqs=1, effective_batch_seqs=32, micro_batch_seqs=8)
    made = TrainingText(resolve_text(settings, "full", lm.vocab_size), "demo")
    made.setup("fit")
    return made


def test_every_rows_figure_is_the_mean_of_brute_force_and_the_last_is_the_mean_of_the_rows(
    lm: FrozenLM, held_out: HeldOut
) -> None:
    head = Head(lm.anatomy)
    found = evaluate(lm, NormLens(head), held_out)
    log_p = torch.log_softmax(head.logits(head.normalise(held_out.h, range(1, 9))).double(), dim=-1)
    kl = (log_p[-1].exp() * (log_p[-1] - log_p[:-1])).sum(-1).mean(1) / torch.log(torch.tensor(2.0))
    estimates = [estimate for estimate, _, _ in found]
    assert estimates == pytest.approx([*kl.tolist(), float(kl.mean())], abs=1e-4)
    assert all(low < estimate < high for estimate, low, high in found)


def test_a_document_begins_with_its_bos_and_goes_on_in_the_next_sequence(lm: FrozenLM) -> None:
    assert lm.tokenizer is not None
    bos = lm.tokenizer.bos_token_id
    ids = torch.tensor([[bos, 7, 8, bos], [9, 9, bos, 7]])
    assert documents_of(ids, bos).tolist() == [[1, 1, 1, 2], [2, 2, 3, 3]]
    assert documents_of(torch.full((2, 3), bos + 1), bos).tolist() == [[1, 1, 1], [2, 2, 2]], "then by sequence"


def test_the_packages_recipe_counts_its_tokens_and_lowers_the_divergence(
    lm: FrozenLM, data: TrainingText, held_out: HeldOut
) -> None:
    pytest.importorskip("tuned_lens", reason="the tuned-lens package is not installed")
    run = train_package(lm, data, tokens=2 * 32 * 64 + 100)
    assert run.tokens == 2 * 32 * 64
    assert run.parameters == lm.num_blocks * (lm.d_model**2 + lm.d_model)
    assert evaluate(lm, run.lens, held_out)[-1][0] < evaluate(lm, NormLens(Head(lm.anatomy)), held_out)[-1][0]


def test_without_the_package_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tuned_lens", None)
    options = ["--json", str(tmp_path / "figures.json"), "--seq_len", "64", "--test_seqs", "2", "--tokens"]
    assert quality.main([*options, "--package_tokens", "5000"]) == 2
    assert "The tuned-lens package is not installed; `pip install" in capsys.readouterr().err


def test_the_table_has_every_row_and_the_interval_of_the_mean() -> None:
    facts = {"tokens": 1000, "seconds": 12.4, "parameters": 5, "bytes": 20, "machine": "cpu"}
    text = quality_table({"ours": facts | {"kl_bits": [[1.0, 0.9, 1.1], [0.5, 0.4, 0.6], [0.75, 0.7, 0.8]]}})
    assert "0.700 to 0.800" in text
    assert [word for word in text.split() if word.startswith(("1.000", "0.500", "0.750"))] == [
        "1.000",
        "0.500",
        "0.750",
    ]


def test_figures_of_two_devices_do_not_share_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text('{"norm lens": {"machine": "NVIDIA H100"}}')
    assert quality.main(["--json", str(figures), "--device", "cpu"]) == 2
    assert "holds figures of NVIDIA H100, and this is cpu; give another file" in capsys.readouterr().err


def test_a_lens_that_was_kept_is_not_mixed_with_another(
    held_out: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept" / "5000").mkdir(parents=True)
    monkeypatch.setattr(quality, "read_held_out", lambda *_: held_out)
    options = ["--json", str(tmp_path / "figures.json"), "--seq_len", "64", "--test_seqs", "2", "--package_tokens"]
    assert quality.main([*options, "--tokens", "5000", "--keep", str(tmp_path / "kept"), "--device", "cpu"]) == 2
    assert "5000 is there already; give another folder with --keep." in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(["--json", str(tmp_path / "figures.json"), "--device", "cuda"]) == 2
    assert "there is no CUDA GPU here" in capsys.readouterr().err


def test_the_table_says_which_clock_its_times_are_of() -> None:
    facts = {"tokens": 1, "seconds": 1.0, "parameters": 5, "bytes": 20, "kl_bits": [[1.0, 1.0, 1.0]] * 2}
    assert "CPU s" in quality_table({"ours": facts | {"machine": "cpu"}})
    assert "s on NVIDIA H100" in quality_table({"ours": facts | {"machine": "NVIDIA H100"}})
