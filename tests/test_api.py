import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

import logos_pl
from logos_pl.api import lens_logits, load_model, load_tuned_lens, norm_lens, skipping_perplexity, sweep
from logos_pl.artifacts.card import model_card
from logos_pl.artifacts.imported_lens import load_imported_lens
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.data.prompt_types import Prompt
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.record_csv import flat, next_token_header
from tests.artifacts.lenses import make_lm, make_provenance, make_translators
from tests.data.toy_tokenizers import toy_tokenizer
from tests.tiny import make_chat_model, make_imported_lens, make_jacobian_lens, make_model

PROMPT = "sun moon river ."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def lm(folder: Path) -> FrozenLM:
    return load_model(str(folder), device="cpu")


def ids_of(prompt: str, lm: FrozenLM) -> torch.Tensor:
    assert lm.tokenizer is not None
    return lm.tokenizer(prompt, return_tensors="pt")["input_ids"]


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, logos_pl; print([m for m in ('torch', 'transformers', 'logos_pl.api') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_those_of_the_api() -> None:
    for name in (
        "load_model",
        "load_tuned_lens",
        "load_imported_lens",
        "lens_logits",
        "norm_lens",
        "skipping_perplexity",
        "sweep",
    ):
        assert getattr(logos_pl, name) is globals()[name]
        assert name in dir(logos_pl)
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        _ = logos_pl.lode_model


def test_a_model_in_a_folder_is_loaded_and_named_after_it(lm: FrozenLM) -> None:
    assert (lm.model_id, lm.num_blocks, str(lm.device), lm.dtype) == ("tiny", 4, "cpu", torch.float32)


def test_the_dtype_asked_for_wins(folder: Path) -> None:
    assert load_model(str(folder), dtype="bfloat16", device="cpu").dtype == torch.bfloat16


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no device 'abacus'"):
        load_model(str(folder), device="abacus")


def test_the_last_row_gives_the_models_own_logits(lm: FrozenLM) -> None:
    ids = ids_of(PROMPT, lm)
    assert ids[0, 0] == 0  # BOS
    own = lm.logits(ids)[0]
    for lens in (norm_lens(lm), TunedLens(make_translators(), Head(lm.anatomy))):
        found = lens_logits(lm, lens, PROMPT, row=4)
        assert found.dtype == torch.float32
        assert torch.allclose(found, own, atol=1e-5)


def test_an_inner_row_is_read_as_the_specification_writes_it(lm: FrozenLM) -> None:
    # docs/method.md §2: ( W (x + (x U) Vᵀ + c) ) / τ with x = norm(h); in float64 from transformers' hidden states.
    translators, row = make_translators(), 2
    ids = ids_of(PROMPT, lm)
    with torch.no_grad():
        h = lm.model(ids, output_hidden_states=True).hidden_states[row][0].double()
    norm, W = lm.model.model.norm, lm.model.lm_head.weight.double()
    x = h / (h.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight.double()
    U, V, c = (p.detach()[row - 1].double() for p in (translators.U, translators.V, translators.c))
    tau = torch.nn.functional.softplus(translators.log_tau.detach()[row - 1].double()) + 1e-3
    wanted = (x + x @ U @ V.T + c) @ W.T / tau
    found = lens_logits(lm, TunedLens(translators, Head(lm.anatomy)), PROMPT, row)
    assert not found.requires_grad  # a notebook wants numbers
    assert torch.allclose(found.double(), wanted, atol=1e-4)
    assert torch.allclose(lens_logits(lm, norm_lens(lm), PROMPT, row).double(), x @ W.T, atol=1e-4)


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_the_model_does_not_have_is_refused(lm: FrozenLM, row: int) -> None:
    with pytest.raises(InputError, match=f"Row {row} cannot be read: tiny has rows 0 to 4"):
        lens_logits(lm, norm_lens(lm), PROMPT, row)


def test_a_prompt_longer_than_the_context_is_refused(lm: FrozenLM) -> None:
    lens_logits(lm, norm_lens(lm), " ".join(["sun"] * 63), 0)
    with pytest.raises(InputError, match="has 65 tokens, but tiny reads at most 64"):
        lens_logits(lm, norm_lens(lm), " ".join(["sun"] * 64), 0)


def test_a_prompt_without_tokens_or_a_model_without_tokenizer_is_refused(lm: FrozenLM) -> None:
    bare = make_lm()
    with pytest.raises(InputError, match="no tokenizer"):
        lens_logits(bare, norm_lens(bare), PROMPT, 0)
    bare.tokenizer = toy_tokenizer("byte_level", begin=False)
    with pytest.raises(InputError, match="no tokens"):
        lens_logits(bare, norm_lens(bare), "", 0)


def test_a_prompt_with_its_own_bos_is_swept_with_one_and_that_is_said(lm: FrozenLM) -> None:
    assert lm.tokenizer is not None
    bos = lm.tokenizer.bos_token
    with pytest.warns(UserWarning, match=r": prompts 'p1', 'p2' begin with the BOS"):
        read = sweep(lm, [f"{bos}{PROMPT}", f"{bos} {PROMPT}"])
    (plain,) = sweep(lm, [PROMPT]).prompts
    assert [prompt.left_out for prompt in (*read.prompts, plain)] == [(bos,), (bos,), ()]
    assert read.prompts[0].ids == plain.ids


def test_the_quick_start_on_the_card_runs(
    folder: Path, lm: FrozenLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "path" / "to").mkdir(parents=True)  # what the card puts for the place of a local folder
    (tmp_path / "path" / "to" / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    translators = make_translators()
    provenance = make_provenance(lm, translators)
    save_tuned_lens("checkpoints/tuned_lenses/tiny", translators, provenance)
    code = model_card(provenance, 1).split("```python\n")[1].split("```")[0]
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip() != ""
    lens, _ = load_tuned_lens("checkpoints/tuned_lenses/tiny", lm)
    assert lens.head.num_rows == 5


def test_a_sweep_goes_straight_into_pandas(lm: FrozenLM) -> None:
    lens = TunedLens(make_translators(), Head(lm.anatomy))
    prompts = [("sun moon", "river"), "snow wind light", Prompt("mine", "no_filler", "fire", "sea", "leaf")]

    read = sweep(lm, prompts, {"tuned": lens})

    frame = pandas.DataFrame(map(flat, read.next_token))
    assert len(frame) == 3 * 2 * 5
    assert list(frame.columns) == list(next_token_header())
    assert list(frame.prompt_id.unique()) == ["p1", "p2", "mine"]
    own = lm.logits(ids_of("sun moon", lm))[0, -1].softmax(-1)
    last = frame[(frame.prompt_id == "p1") & (frame.lens == "tuned") & (frame.layer == 4)].iloc[0]
    assert last.top1_id == int(own.argmax())
    assert last.p_top1 == pytest.approx(float(own.max()), abs=1e-6)
    assert len(read.positions) == 2 * 5 * (3 + 4 + 2)
    assert read.milestones["p1", "orig", "tuned"].first_kl_below_0_5 is not None


def test_a_sweep_that_attributes_logits_gives_the_components_of_every_answers_logit(lm: FrozenLM) -> None:
    prompts = [("sun moon", "river"), "snow wind light", Prompt("mine", "no_filler", "fire", "sea", "leaf")]
    frame = pandas.DataFrame(map(flat, sweep(lm, prompts, attribution=True).contributions))

    assert list(frame.groupby("prompt_id", sort=False).size()) == [2 * 4 + 3] * 3
    sums = frame[frame.kind != "total"].groupby("prompt_id").contribution_nats.sum()
    logits = lm.logits(ids_of("fire", lm))[0, -1]
    mine = frame[frame.prompt_id == "mine"]
    assert sums["mine"] == pytest.approx(float(logits[mine.token_id.iloc[0]]), abs=1e-4)
    margin = float(logits[mine.token_id.iloc[0]] - logits[int(mine.contrast_id.iloc[0])])
    assert mine.margin_contribution_nats.iloc[-1] == pytest.approx(margin, abs=1e-4)
    assert sweep(lm, prompts[:1]).contributions == []


def test_an_imported_lens_is_swept_from_python_too(lm: FrozenLM, tmp_path: Path) -> None:
    lens, origin = load_imported_lens(make_imported_lens(tmp_path / "theirs", scale=0.1, model_id="tiny"), lm)
    read = sweep(lm, ["sun moon"], {"imported": lens})
    assert list(read.prompts[0].next_token) == ["norm", "imported"]
    wanted = lens_logits(lm, lens, "sun moon", row=2)[-1].softmax(-1).max()
    assert read.prompts[0].next_token["imported"][2].p_top1 == pytest.approx(float(wanted), abs=1e-6)
    assert origin.base_model == "tiny"


def test_imported_lenses_may_have_any_name_in_a_sweep_from_python(lm: FrozenLM, tmp_path: Path) -> None:
    lens, _ = load_imported_lens(make_jacobian_lens(tmp_path / "j.pt", (1, 2)), lm)
    read = sweep(lm, ["sun moon"], {"my_j": lens, "norm": norm_lens(lm)})
    assert list(read.prompts[0].next_token) == ["norm", "my_j"]
    assert [row.layer for row in read.next_token if row.lens == "my_j"] == [2, 3, 4]
    with pytest.raises(InputError, match=r"no map for row\(s\) 1"):
        lens_logits(lm, lens, "sun moon", row=1)


def test_a_sweep_refuses_lenses_it_has_no_name_for_and_models_without_a_tokenizer(lm: FrozenLM) -> None:
    with pytest.raises(InputError, match="no lens named 'mine': choose among norm, tuned, prism"):
        sweep(lm, ["sun"], {"mine": norm_lens(lm)})
    with pytest.raises(InputError, match="no tokenizer"):
        sweep(FrozenLM.from_model(lm.model), ["sun"])


def test_a_text_is_predicted_without_the_last_blocks(lm: FrozenLM) -> None:
    ids = ids_of(PROMPT, lm)
    lens = TunedLens(make_translators(), Head(lm.anatomy))
    with torch.no_grad():
        own = float(lm.model(ids, labels=ids).loss.exp())
    row_three = torch.log_softmax(lens_logits(lm, lens, PROMPT, row=3).double(), -1)[:-1]
    by_hand = float((-row_three.gather(1, ids[0, 1:, None]).mean()).exp())

    assert skipping_perplexity(lm, lens, PROMPT, skipped=0) == pytest.approx(own, rel=1e-5)
    assert skipping_perplexity(lm, lens, PROMPT, skipped=1) == pytest.approx(by_hand, rel=1e-5)
    for skipped in (-1, 4):
        with pytest.raises(InputError, match=f"{skipped} of 4 blocks cannot be skipped"):
            skipping_perplexity(lm, lens, PROMPT, skipped=skipped)


def test_a_lens_of_another_model_is_refused(lm: FrozenLM, folder: Path) -> None:
    other = norm_lens(load_model(str(folder), device="cpu"))
    with pytest.raises(InputError, match="tuned lens is bound to another model"):
        sweep(lm, ["sun"], {"tuned": other})
    for read in (lambda: lens_logits(lm, other, "sun", row=1), lambda: skipping_perplexity(lm, other, PROMPT, 1)):
        with pytest.raises(InputError, match="bound to another model"):
            read()


def test_prompts_that_share_a_name_or_are_one_text_are_refused(lm: FrozenLM) -> None:
    with pytest.raises(InputError, match=r"Two prompts are called p2 \(orig\)"):
        sweep(lm, [Prompt("p2", "orig", "sun"), "moon"])
    with pytest.raises(InputError, match="give a list, "):
        sweep(lm, "sun moon")


def test_conversations_and_token_ids_are_swept_like_texts(tmp_path: Path) -> None:
    lm = load_model(str(make_chat_model(tmp_path / "tiny")), device="cpu")
    turns = [{"role": "user", "content": "sun moon"}]
    assert lm.tokenizer is not None
    ids: Any = lm.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    chat, bare, text = sweep(lm, [(turns, "tree"), (ids, "tree"), ("hill sun moon . road", "tree")]).prompts
    assert chat.ids == bare.ids == text.ids == tuple(ids)
    assert [record._replace(prompt_id="") for record in chat.next_token["norm"]] == [
        record._replace(prompt_id="") for record in bare.next_token["norm"]
    ]
    for prompt in (turns, ids):
        assert torch.equal(
            lens_logits(lm, norm_lens(lm), prompt, 2), lens_logits(lm, norm_lens(lm), text.prompt.text, 2)
        )


def test_special_tokens_are_left_out_where_none_are_wanted(lm: FrozenLM) -> None:
    with pytest.warns(UserWarning, match=r"tiny: prompt 'p1' is read without the BOS"):
        (bare,) = sweep(lm, [PROMPT], special_tokens="none").prompts
    (usual,) = sweep(lm, [PROMPT]).prompts
    assert (bare.ids, usual.added, bare.added) == (usual.ids[1:], ("<s>",), ())


def test_a_conversation_needs_a_chat_template(lm: FrozenLM) -> None:
    with pytest.raises(
        InputError, match=r"^prompt 'p1' cannot be rendered, as the model has no chat template: give plain"
    ):
        sweep(lm, [[{"role": "user", "content": "sun"}]])
