"""What `validate` and `test` read: held-out text, and the suite's own questions, shared by the processes."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from transformers import PreTrainedTokenizerBase

from logos_pl.data.evaluation_text import TestText, ValidationText
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.suites import FACTS
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.functional.schedules import ScheduleName
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TestTextSettings, TextSettings, TrainingTextSettings
from tests.data.texts import make_texts, write_parquet

SMALL: dict[str, Any] = {
    "dataset": "demo", "seq_len": 32, "positions_per_seq": 4, "micro_batch_seqs": 2, "val_seqs": 6,
}  # fmt: skip
DEMO_TOKENS = 3072


def of_rank(rank: int | None, world_size: int) -> Any:
    if rank is None:
        return None
    root = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(global_rank=rank, world_size=world_size, strategy=root)


def module(rank: int | None = None, world_size: int = 3, **settings: Any) -> TestText:
    given = TestTextSettings(**(SMALL | {"test_seqs": 6} | settings))
    made = TestText(resolve_text(given, "full", DEMO_TOKENS), "demo")
    made.trainer = of_rank(rank, world_size)
    made.setup("test")
    return made


def validation(rank: int | None = None, world_size: int = 3, **settings: Any) -> ValidationText:
    made = ValidationText(resolve_text(TextSettings(**(SMALL | settings)), "full", DEMO_TOKENS), "demo")
    made.trainer = of_rank(rank, world_size)
    made.setup("validate")
    return made


def names(made: TestText) -> list[str]:
    _, suite, *_ = made.test_dataloader()
    return [tokenized.prompt.prompt_id for batch in suite for tokenized in batch.prompts]


def test_the_packaged_suite_is_asked_as_it_stands_without_variants_and_controls() -> None:
    facts = yaml.safe_load(Path(FACTS).read_text())["facts"]
    made = module()
    assert names(made) == [fact["id"] for fact in facts]
    assert len(facts) >= 60
    assert len({fact["relation"] for fact in facts}) >= 6
    assert [tokenized.prompt.text for tokenized in made.prompts] == [fact["prompt"] for fact in facts]
    assert {tokenized.prompt.variant for tokenized in made.prompts} == {"orig"}
    assert {tokenized.answer_tokens.status for tokenized in made.prompts} == {"resolved"}


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
    tokenizer: PreTrainedTokenizerBase = made.model.tokenizer
    calibrated, measured = (
        {line for text in tokenizer.batch_decode([ids for b in batches for ids in b.input_ids.tolist()])
         for line in text.split("<s>")}
        for batches in (made.all_validation_batches(), made.test_dataloader()[0])
    )  # fmt: skip
    assert calibrated & measured <= {""}


def test_bytes_per_token_leave_special_tokens_aside() -> None:
    made = module()
    tokenizer: PreTrainedTokenizerBase = made.model.tokenizer
    ids = [token for batch in made.test_dataloader()[0] for sequence in batch.input_ids.tolist() for token in sequence]
    words = [token for token in tokenizer.convert_ids_to_tokens(ids) if token not in tokenizer.all_special_tokens]
    assert len(words) < len(ids)
    # One letter of a byte-level vocabulary's token is one byte.
    assert made.bytes_per_token() == pytest.approx(sum(map(len, words)) / len(words), rel=1e-12)


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


@pytest.mark.parametrize("before", ["validate", "test"])
def test_a_test_asks_the_suite_whatever_came_before_it(before: str) -> None:
    wanted = module()
    made = TestText(wanted.settings, "demo")
    made.setup(before)
    made.setup("test")
    assert names(made) == names(wanted)
    assert len(made.test_dataloader()[0]) == len(wanted.test_dataloader()[0])


def test_the_whole_suite_is_asked_in_every_process_and_its_remarks_come_from_the_first_alone(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("facts:\n- {id: one, prompt: <s> a cat, answer: sat}\n- {id: two, prompt: a dog, answer: ran}\n")
    second, first = module(rank=1, suite=str(path)), module(rank=2, suite=str(path))
    assert len(recwarn) == 0
    assert len(second.prompts) == len(first.prompts) == 2
    module(rank=0, suite=str(path))
    assert [str(warning.message).split(":")[0] for warning in recwarn] == ["demo"]


def test_a_process_without_a_fact_of_a_short_suite_is_let_through(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("facts:\n- {id: one, prompt: a cat, answer: sat}\n")
    shares = [module(rank, suite=str(path)) for rank in range(3)]
    assert [names(share) for share in shares] == [["one"], [], []]
    assert all(share.allow_zero_length_dataloader_with_multiple_devices for share in shares), "or Lightning refuses"


def test_what_a_verdict_is_passed_on_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("facts:\n- {id: one, prompt: a cat, answer: sat}\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wanted = {
        "suite": "mine.yaml",
        "suite_sha256": digest,
        "facts": 1,
        "dataset": "demo",
        "name": None,
        "split": "train",
        "revision": None,
        "format": "text",
        "special_tokens": "auto",
        "held_out_frac": 0.02,
        "sequences": 6,
        "seq_len": 32,
        "positions_per_seq": 4,
        "position_range": [0.25, 1.0],
    }
    assert module(suite=str(path)).evaluated_on() == wanted


@pytest.mark.parametrize("schedule", ["full", "quick", "spec"])
def test_a_fit_a_validation_and_a_test_measure_the_same_places_of_the_same_text(schedule: ScheduleName) -> None:
    """Whatever the fit learns from: with small steps it takes more positions of each sequence."""
    own: dict[str, Any] = {"dataset": "demo", "seq_len": 64, "val_seqs": 10}
    small = TrainingTextSettings(**own, tokens=96 * 2 * 64, num_workers=0)
    training = TrainingText(resolve_text(small, schedule, DEMO_TOKENS), "demo", seed=5)
    validating = ValidationText(resolve_text(TextSettings(**own), schedule, DEMO_TOKENS), "demo")
    testing = TestText(resolve_text(TestTextSettings(**own, test_seqs=4), schedule, DEMO_TOKENS), "demo")
    for data, stage in ((training, "fit"), (validating, "validate"), (testing, "test")):
        data.setup(stage)

    def places(batches: Any) -> dict[int, tuple[list[int], list[int]]]:
        return {
            index: (ids, positions)
            for batch in batches
            for index, ids, positions in zip(
                batch.indices, batch.input_ids.tolist(), batch.positions.tolist(), strict=True
            )
        }

    wanted = places(training.val_dataloader())
    assert wanted.keys() == set(range(10))
    assert {len(positions) for _, positions in wanted.values()} == {16 if schedule == "spec" else 32}
    for batches in (validating.val_dataloader(), testing.val_dataloader(), testing.all_validation_batches()):
        assert places(batches) == wanted
    if schedule != "spec":
        assert training.settings.positions_per_seq == 56


def test_processes_share_the_validation_text_and_none_of_it_twice() -> None:
    indices = [[index for batch in validation(rank).val_dataloader() for index in batch.indices] for rank in range(3)]
    assert indices == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(InputError, match=r"6 held-out sequences .* 4 processes; make --data\.val_seqs a multiple"):
        validation(rank=0, world_size=4).val_dataloader()
    with pytest.raises(InputError, match=r"6 held-out sequences .* 4 processes; make --data\.test_seqs a multiple"):
        module(rank=0, world_size=4).test_dataloader()


def test_a_lens_that_was_fitted_with_another_share_held_out_is_refused() -> None:
    made = validation()
    made.refuse_other_share(0.02)
    with pytest.raises(InputError, match=r"fitted with 0\.1 of the documents .* give --data\.held_out_frac 0\.1\."):
        made.refuse_other_share(0.1)


def test_processes_that_read_other_files_are_told_apart(tmp_path: Path) -> None:
    """Of folders of one name, as on two machines."""
    found = []
    for machine, shards in (("one", 2), ("two", 3)):
        folder = tmp_path / machine / "corpus"
        folder.mkdir(parents=True)
        for shard in range(shards):
            write_parquet(folder / f"{shard:03}.parquet", make_texts(shard, 200))
        own: dict[str, Any] = {"dataset": str(folder), "held_out_frac": 0.1, "val_seqs": 1}
        found.append([validation(**own).same_in_all(), module(**own, test_seqs=1).same_in_all()])
    for one, two in zip(*found, strict=True):
        assert {name for name, value in one.items() if value != two[name]} == {"shards"}


class Reader(LightningModule):
    """Remembers which held-out sequences it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        self.seen.append(batch.indices)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_lightning_validates_on_either() -> None:
    settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", enable_checkpointing=False, **settings)
    for data in (
        ValidationText(resolve_text(TextSettings(**SMALL), "full", DEMO_TOKENS), "demo"),
        TestText(resolve_text(TestTextSettings(**SMALL), "full", DEMO_TOKENS), "demo"),
    ):
        reader = Reader()
        trainer.validate(reader, datamodule=data, verbose=False)
        assert reader.seen == [(0, 1), (2, 3), (4, 5)]
