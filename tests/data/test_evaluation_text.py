"""What `test` reads: the suite's own questions, shared by the processes, and one validation text in all of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from logos_pl.data.datamodule import LensDataModule

from logos_pl.data.suites import FACTS
from logos_pl.errors import InputError

SMALL: dict[str, Any] = {
    "dataset": "demo", "seq_len": 32, "positions_per_seq": 4, "micro_batch_seqs": 2, "val_seqs": 6, "test_seqs": 6,
}  # fmt: skip


def module(rank: int | None = None, world_size: int = 3, **settings: Any) -> LensDataModule:
    made = LensDataModule(**SMALL, **settings)
    if rank is not None:
        root = SimpleNamespace(root_device=torch.device("cpu"))
        trainer: Any = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=root)
        made.trainer = trainer
    made.setup("test")
    return made


def names(made: LensDataModule) -> list[str]:
    _, suite = made.test_dataloader()
    return [asked.prompt.prompt_id for batch in suite for asked in batch.prompts]


def test_the_packaged_suite_is_asked_as_it_stands_without_variants_and_controls() -> None:
    facts = yaml.safe_load(Path(FACTS).read_text())["facts"]
    made = module()
    assert names(made) == [fact["id"] for fact in facts]
    assert len(facts) >= 60
    assert len({fact["relation"] for fact in facts}) >= 6
    assert [asked.prompt.text for asked in made.asked] == [fact["prompt"] for fact in facts]
    assert {asked.prompt.variant for asked in made.asked} == {"orig"}
    assert {asked.gold.status for asked in made.asked} == {"resolved"}


def test_processes_share_the_suite_and_the_text_and_nobody_reads_twice() -> None:
    whole = module()
    shares = [module(rank) for rank in range(3)]
    of_ranks = [names(share) for share in shares]
    assert sorted(name for share in of_ranks for name in share) == sorted(names(whole))
    assert max(map(len, of_ranks)) - min(map(len, of_ranks)) <= 1
    indices = [index for share in shares for batch in share.test_dataloader()[0] for index in batch.indices]
    assert sorted(indices) == list(range(6))


def test_every_process_fits_temperatures_on_all_of_the_validation_text() -> None:
    whole, share = (list(made.all_validation_batches()) for made in (module(), module(rank=1)))
    assert [batch.indices for batch in whole] == [batch.indices for batch in share] == [(0, 1), (2, 3), (4, 5)]
    for one, two in zip(whole, share, strict=True):
        assert torch.equal(one.input_ids, two.input_ids)
        assert torch.equal(one.positions, two.positions)


def test_no_text_that_is_measured_on_is_calibrated_on() -> None:
    made = module()
    tokenizer = made.tokenizer
    assert tokenizer is not None
    calibrated, measured = (
        {line for text in tokenizer.batch_decode([ids for b in batches for ids in b.input_ids.tolist()])
         for line in text.split("<s>")}
        for batches in (made.all_validation_batches(), made.test_dataloader()[0])
    )  # fmt: skip
    assert calibrated & measured <= {""}


def test_bytes_per_token_leave_special_tokens_aside() -> None:
    made = module()
    tokenizer = made.tokenizer
    assert tokenizer is not None
    ids = [token for batch in made.test_dataloader()[0] for sequence in batch.input_ids.tolist() for token in sequence]
    words = [token for token in tokenizer.convert_ids_to_tokens(ids) if token not in tokenizer.all_special_tokens]
    assert len(words) < len(ids)
    # One letter of a byte-level vocabulary's token is one byte.
    assert made.test_bytes_per_token() == pytest.approx(sum(map(len, words)) / len(words), rel=1e-12)


def test_a_fact_without_an_answer_is_refused_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("facts:\n- {id: one, prompt: a cat, answer: sat}\n- {id: two, prompt: a dog}\n")
    with pytest.raises(InputError, match=r"two \(line 3\) has no answer"):
        module(suite=str(path))


def test_a_suite_of_ones_own_is_asked_without_its_controls(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "facts:\n- {id: one, prompt: The opposite of hot is, answer: cold, no_filler: Hot and,"
        " control: {prompt: The opposite of up is, answer: down}}\n"
    )
    assert names(module(suite=str(path))) == ["one"]


@pytest.mark.parametrize("before", ["fit", "validate", "predict"])
def test_a_test_asks_the_suite_whatever_came_before_it(before: str) -> None:
    wanted = module()
    made = LensDataModule(**SMALL)
    made.setup(before)
    made.setup("test")
    assert names(made) == names(wanted)
    assert len(made.test_dataloader()[0]) == len(wanted.test_dataloader()[0])


def test_a_prediction_reads_its_own_prompts_after_a_test() -> None:
    made = module(prompt="a cat")
    made.setup("predict")
    assert [asked.prompt.text for asked in made.asked] == ["a cat"]
