"""Schedules are compared by mean divergences that match brute force."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import schedules
from benchmarks.evaluation import PROMPT_TOKENS, Evaluation, unseen_sequences
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.text import TextSettings


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return FrozenLM.load("demo")


@pytest.fixture(scope="module")
def evaluation(lm: FrozenLM) -> Evaluation:
    return Evaluation(lm, unseen_sequences(TextSettings(dataset="demo", seq_len=64), "demo", 3))


def test_the_mean_of_every_row_is_that_of_brute_force(lm: FrozenLM, evaluation: Evaluation) -> None:
    head = Head(lm.anatomy)
    found = evaluation.kl_bits(NormLens(head))
    for name, h in evaluation.residuals.items():
        log_p = torch.log_softmax(head.logits(head.normalise(h, evaluation.rows)).double(), dim=-1)
        kl = (log_p[-1].exp() * (log_p[-1] - log_p[:-1])).sum(-1).mean(1) / torch.log(torch.tensor(2.0))
        assert found[name] == pytest.approx(kl.tolist(), abs=1e-4)


def test_prompts_are_openings_of_single_documents_read_at_their_last_token(
    lm: FrozenLM, evaluation: Evaluation
) -> None:
    assert lm.tokenizer is not None
    bos = lm.tokenizer.bos_token_id
    packed = torch.tensor([[5, 6, bos, *range(10, 50), bos, *range(10, 31)]])
    lengths = []
    for ids, at in evaluation._prompts(packed):
        assert ids.shape[1] in range(PROMPT_TOKENS[0], PROMPT_TOKENS[1] + 1)
        assert at.tolist() == [[ids.shape[1] - 1]] * len(ids)
        assert (ids == bos).sum() == len(ids)
        assert ids[:, 0].tolist() == [bos] * len(ids)
        lengths += [ids.shape[1]] * len(ids)
    assert sorted(lengths) == [16, 17]


def test_what_is_in_the_file_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    known = {"cpu_seconds": 7.0, "tokens": 8, "kl_bits": {"text": [1.0, 2.0], "late text": [3.0], "prompts": [4.0]}}
    figures.write_text(json.dumps(dict.fromkeys(schedules.grid(1, 128), known)))
    monkeypatch.setattr(schedules, "SEQUENCES", 1)
    monkeypatch.setattr("sys.argv", ["schedules", f"--json={figures}"])
    monkeypatch.delattr(schedules, "fit")
    schedules.main()
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("| spec ") and line.endswith("|      8 |     7 | 1.500 |     3.000 |   4.000 |")
        for line in lines
    )
