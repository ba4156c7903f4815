import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.data.held_out import side, text_digest
from logos_pl.errors import InputError
from logos_pl.hub.decode import decode_check, held_out_documents
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.block_weights import BlockWeights
from logos_pl.lm.frozen import FrozenLM
from tests.artifacts.lenses import make_lm, make_translators
from tests.tiny import make_corpus, make_model

DOCUMENTS = ["sun moon river stone bird tree cloud fire", "snow wind light dark song road hill sea leaf rain star"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    return FrozenLM.load(str(make_model(tmp_path_factory.mktemp("models") / "tiny")))


def log_probs(lm: FrozenLM, translators: Translators, text: str, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the norm lens, the tuned lens and the model, in float64 from transformers' own hidden states."""
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        read = lm.model(ids, output_hidden_states=True)
    h, norm, W = read.hidden_states[row][0, 1:].double(), lm.model.model.norm, lm.model.lm_head.weight.double()
    x = h / (h.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight.double()
    U, V, c = (p.detach()[row - 1].double() for p in (translators.U, translators.V, translators.c))
    tau = torch.nn.functional.softplus(translators.log_tau.detach()[row - 1].double()) + 1e-3
    final = read.logits[0, 1:].double()
    return tuple(z.log_softmax(-1) for z in (x @ W.T, (x + x @ U @ V.T + c) @ W.T / tau, final))


def test_the_gain_is_the_median_over_rows_and_positions(lm: FrozenLM) -> None:
    # Fewer rows and positions than are drawn: all of them are read, and the oracle needs no draw.
    translators = make_translators()
    gains = []
    for text in DOCUMENTS:
        for row in (1, 2, 3):
            norm, tuned, final = log_probs(lm, translators, text, row)
            kl_norm, kl_tuned = ((q.exp() * (q - final)).sum(-1) / math.log(2) for q in (norm, tuned))
            gains.append(kl_norm - kl_tuned)
    everything = torch.cat(gains)

    check = decode_check(lm, TunedLens(translators, Head(lm.anatomy)), DOCUMENTS, seed=0)
    assert (check.num_documents, check.num_pairs, check.differing_logits) == (2, 3 * (8 + 11), 0)
    assert check.median_gain_bits == pytest.approx(float(everything.median()), abs=1e-4)


def test_a_lens_that_gains_passes_and_one_that_is_the_norm_lens_does_not(lm: FrozenLM) -> None:
    head = Head(lm.anatomy)
    flat = Translators(3, 16, 2)
    assert not decode_check(lm, TunedLens(flat, head), DOCUMENTS, seed=0).gains  # untrained: no gain at all
    gains = {}
    for value in (-4.0, 1.0):
        with torch.no_grad():
            flat.log_tau.fill_(value)
        gains[value] = decode_check(lm, TunedLens(flat, head), DOCUMENTS, seed=0)
    assert {check.gains for check in gains.values()} == {True, False}  # too sharp, and about as flat as the model is


def test_a_streamed_model_is_read_once_for_all_documents(
    lm: FrozenLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = FrozenLM.load(str(make_model(tmp_path / "tiny")), placement="streamed")
    translators, taken = make_translators(), []
    wanted = decode_check(lm, TunedLens(translators, Head(lm.anatomy)), DOCUMENTS, seed=0)
    take = BlockWeights.take

    def counted(weights: BlockWeights, number: int) -> None:
        taken.append(number)
        take(weights, number)

    monkeypatch.setattr(BlockWeights, "take", counted)
    found = decode_check(streamed, TunedLens(translators, Head(streamed.anatomy)), DOCUMENTS, seed=0)
    assert found == wanted
    assert taken == [0, 0, 1, 1, 2, 2, 3, 3], "each block on both documents, one after the other"


def test_a_lens_that_changes_the_last_row_does_not_pass(lm: FrozenLM) -> None:
    class Improving(TunedLens):
        def logits(self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]) -> Float[Tensor, "rows pos vocab"]:
            bonus = torch.zeros(len(rows), 1, 1)
            bonus[[row == 4 for row in rows]] = 1e-3
            return NormLens(self.head).logits(h, rows) + bonus

    check = decode_check(lm, Improving(Translators(3, 16, 2), Head(lm.anatomy)), DOCUMENTS, seed=0)
    assert check.differing_logits > 0
    assert not check.is_exact


def test_the_same_seed_draws_the_same_rows_and_positions(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logos_pl.hub.decode.NUM_ROWS", 1)
    lens = TunedLens(make_translators(), Head(lm.anatomy))
    gains = [decode_check(lm, lens, DOCUMENTS, seed).median_gain_bits for seed in (0, 0, 1, 2, 3)]
    assert gains[0] == gains[1]
    assert len(set(gains)) > 1


def test_only_documents_that_a_fit_would_have_held_out_are_read(tmp_path: Path) -> None:
    documents = held_out_documents(str(make_corpus(tmp_path / "corpus")), 0.05)
    assert 20 < len(documents) <= 32
    assert all(side(text_digest(text), 0.05) in ("val", "test") for text in documents)
    (tmp_path / "one.txt").write_text("only one document")
    with pytest.raises(InputError, match="has no document that the lens's fit would have held out"):
        held_out_documents(str(tmp_path / "one.txt"), 1e-9)


def test_without_text_or_tokenizer_there_is_nothing_to_decode(lm: FrozenLM) -> None:
    lens = TunedLens(make_translators(), Head(lm.anatomy))
    with pytest.raises(InputError, match="No document has 8 tokens or more"):
        decode_check(lm, lens, ["sun moon"], seed=0)
    bare = make_lm()
    with pytest.raises(InputError, match="org/tiny has no tokenizer"):
        decode_check(bare, TunedLens(make_translators(), Head(bare.anatomy)), DOCUMENTS, seed=0)
