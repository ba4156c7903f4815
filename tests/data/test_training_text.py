import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from logos_pl.data import model_tokenizer
from logos_pl.data.held_out_text import HeldOutText
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.shards import Shard
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.functional.positions import sample_positions
from logos_pl.functional.schedules import ScheduleName
from logos_pl.lm.config import read_config
from logos_pl.lm.sources import ModelSource
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings
from tests.data.texts import expected_side, make_texts

Corpus = Callable[..., tuple[Shard, ...]]
Make = Callable[..., TrainingText]
SMALL: dict[str, Any] = {
    "seq_len": 16,
    "effective_batch_seqs": 8,
    "micro_batch_seqs": 2,
    "positions_per_seq": 3,
    "position_range": (0.60, 0.95),
    "held_out_frac": 0.1,
    "val_seqs": 6,
    "lanes": 4,
    "num_workers": 0,
    "tokens": 16 * 8 * 1000,
}


@pytest.fixture
def make(corpus: Corpus, byte_model: ModelTokenizer) -> Iterator[Make]:
    """A data module over 3 shards of 40 texts, set up unless told otherwise."""
    folder = str(Path(corpus(3, 40)[0].url).parent)
    made: list[TrainingText] = []

    def build(
        *,
        rank: int | None = None,
        world_size: int = 2,
        ready: bool = True,
        model: ModelTokenizer | None = byte_model,
        schedule: ScheduleName = "full",
        seed: int = 316,
        **options: Any,
    ) -> TrainingText:
        settings = TrainingTextSettings(**{"dataset": folder, **SMALL, **options})
        module = TrainingText(resolve_text(settings, schedule, byte_model.num_ids), "demo", seed=seed)
        module.model = model
        if rank is not None:
            root = SimpleNamespace(root_device=torch.device("cpu"))
            trainer: Any = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=root, global_step=0)
            module.trainer = trainer
        if ready:
            module.setup("fit")
        made.append(module)
        return module

    yield build
    for module in made:
        module.teardown()


def train(module: TrainingText, count: int) -> list[TextBatch]:
    """Trains on `count` micro-batches, epoch after epoch."""
    batches: list[TextBatch] = []
    loader = module.train_dataloader()
    while len(batches) < count:
        for batch in loader:
            module.advance(batch.cursors)
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


def content(batches: list[TextBatch]) -> list[tuple[list, list, dict]]:
    return [(batch.input_ids.tolist(), batch.positions.tolist(), batch.cursors) for batch in batches]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a checkpoint gives it back: only plain types survive `weights_only`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def texts_in(sequences: list[list[int]], tokenizer: PreTrainedTokenizerFast) -> str:
    return "".join(str(tokenizer.convert_ids_to_tokens(token)) for ids in sequences for token in ids).replace("Ġ", " ")


@pytest.mark.parametrize("workers", [0, 1])
def test_resuming_after_any_batch_is_the_same_as_never_stopping(make: Make, workers: int) -> None:
    whole = make(num_workers=workers)
    expected = content(train(whole, 12))
    for stop in range(0, 12, 1 if workers == 0 else 5):
        before, after = make(num_workers=workers), make(num_workers=workers)
        got = content(train(before, stop))
        after.load_state_dict(through_a_file(before.state_dict()))
        assert got + content(train(after, 12 - stop)) == expected
        assert after.ledger() == whole.ledger()


def test_workers_that_read_ahead_leave_the_same_checkpoint_as_none(make: Make) -> None:
    states = []
    for workers in (0, 1, 2):
        module = make(num_workers=workers)
        train(module, 8)
        states.append(module.state_dict())
    assert states[0] == states[1] == states[2]


def test_the_ledger_counts_what_was_trained_on(make: Make) -> None:
    module = make()
    batches = train(module, 200)
    ledger = module.ledger()
    assert ledger.sequences == 400
    assert ledger.tokens == sum(batch.input_ids.numel() for batch in batches) == 400 * 16
    bos = sum((batch.input_ids == 0).sum().item() for batch in batches)
    assert ledger.documents == bos
    assert ledger.passes == max(cursor.pass_index for batch in batches for cursor in batch.cursors.values()) > 0
    assert (ledger.repo_id, ledger.split, ledger.num_shards) == ("corpus", "train", 3)


def test_the_content_hash_tells_runs_apart_that_consumed_different_text(make: Make) -> None:
    hashes = set()
    for count in (8, 16):
        module = make()
        train(module, count)
        hashes.add(module.ledger().content_hash)
    other = make(text_column="text", held_out_frac=0.15)
    train(other, 8)
    assert len({*hashes, other.ledger().content_hash}) == 3


def test_train_validation_and_test_have_no_text_in_common(
    make: Make, tokenizer: PreTrainedTokenizerFast, byte_model: ModelTokenizer
) -> None:
    module = make()
    tested = HeldOutText.find(module.settings, byte_model, {"val": 6, "test": 4}).batches("test", None)
    numbered = [ids for batch in train(module, 500) for ids in batch.input_ids.tolist()]
    trained = texts_in([ids for lane in range(4) for ids in numbered[lane::4]], tokenizer)
    held_out = {
        "val": texts_in([ids for batch in module.val_dataloader() for ids in batch.input_ids.tolist()], tokenizer),
        "test": texts_in([ids for batch in tested for ids in batch.input_ids.tolist()], tokenizer),
    }
    assert module.ledger().passes > 0
    texts = [text for shard in range(3) for text in make_texts(shard, 40)]
    for text in texts:
        side = expected_side(text, 0.1)
        assert side == "train" or f"<s>{text}<s>" not in trained
        for which, stream in held_out.items():
            assert side == which or f"<s>{text}<s>" not in stream
    assert sum(f"<s>{text}<s>" in trained for text in texts) > 50
    assert all(sum(f"<s>{text}<s>" in stream for text in texts) > 0 for stream in held_out.values())


def test_held_out_positions_do_not_depend_on_the_seed_and_training_ones_do(make: Make) -> None:
    a, b = make(seed=0), make(seed=1)
    assert content(list(a.val_dataloader())) == content(list(b.val_dataloader()))
    (x,), (y,) = train(a, 1), train(b, 1)
    assert torch.equal(x.input_ids, y.input_ids)
    assert not torch.equal(x.positions, y.positions)
    assert torch.equal(x.positions[1], sample_positions(0, 1, 16, 3, (0.60, 0.95)))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_opening_is_the_first_sequences_of_training_whoever_reads_them(make: Make, world_size: int) -> None:
    trained = [ids for batch in train(make(), 8) for ids in batch.input_ids.tolist()]
    found: dict[int, list[int]] = {}
    for rank in range(world_size):
        for batch, numbers in make(rank=rank, world_size=world_size).opening(16):
            assert len(numbers) == len(batch.input_ids) == 2
            found |= dict(zip(numbers, batch.input_ids.tolist(), strict=True))
    assert [found[number] for number in range(16)] == trained


def test_the_opening_is_read_without_moving_the_cursor(make: Make) -> None:
    module = make()
    before = module.state_dict()
    opening = [ids for batch, _ in module.opening(8) for ids in batch.input_ids.tolist()]
    assert module.state_dict() == before
    assert [ids for batch in train(module, 4) for ids in batch.input_ids.tolist()] == opening


def test_the_steps_are_those_that_the_budget_buys(make: Make) -> None:
    assert make(tokens=16 * 8 * 3).total_steps == 3
    assert make(tokens=16 * 8 * 3 + 1).total_steps == 4, "a step that is not full counts"
    small = {"tokens": 3 * 64, "seq_len": 64, "val_seqs": 2, "positions_per_seq": "auto", "position_range": "auto"}
    module = make(**small, effective_batch_seqs="auto", micro_batch_seqs="auto")
    assert (module.settings.effective_batch_seqs, module.settings.micro_batch_seqs, module.total_steps) == (2, 2, 2)


def test_the_tokenizer_is_the_models_own(make: Make) -> None:
    module = make(model=None, val_seqs=1)
    assert module.model is not None
    (batch,) = train(module, 1)
    first = make_texts(0, 1)[0]
    expected = module.model.tokenizer(first)["input_ids"]
    assert batch.input_ids[0, : len(expected)].tolist() == expected[:16]


def test_the_models_configuration_is_read_once_and_not_at_every_interval(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(source: ModelSource) -> PreTrainedConfig:
        read.append(source.model_id)
        return read_config(source)

    monkeypatch.setattr(model_tokenizer, "read_config", reading)
    module = make(model=None, val_seqs=1, validate_every_steps=1)
    train(module, 12)  # three steps, and so many intervals
    module.setup("validate")
    assert read == ["demo"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_seqs": 5000}, "lower --data.val_seqs, or raise --data.held_out_frac."),
        ({"text_column": "content"}, "only id, text; name the one that holds the text with --data.text_column."),
        ({"dataset": "./nowhere"}, "There is no folder or file ./nowhere"),
        ({"split": "test"}, "no split 'test', only train"),
    ],
)
def test_text_that_cannot_be_read_is_refused_at_set_up(make: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make(**settings)


def test_what_processes_cannot_share_evenly_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match=r"4 lanes cannot be divided among 3 processes"):
        make(rank=0, world_size=3).train_dataloader()
    with pytest.raises(InputError, match=r"6 held-out sequences .* 4 processes; make --data\.val_seqs a multiple"):
        make(rank=0, world_size=4).val_dataloader()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"seq_len": 32}, "seq_len 16, but this run has 32"),
        ({"held_out_frac": 0.2}, "held_out_frac 0.1, but this run has 0.2"),
        ({"lanes": 8}, "lanes 4, but this run has 8"),
    ],
)
def test_a_checkpoint_of_other_data_settings_is_refused(make: Make, changed: dict[str, Any], field: str) -> None:
    before = make()
    train(before, 3)
    after = make(**changed)
    after.load_state_dict(before.state_dict())
    with pytest.raises(InputError, match=f"The checkpoint was written with data {field}; resume with"):
        after.train_dataloader()


def test_a_checkpoint_of_another_dataset_is_refused(make: Make, corpus: Corpus) -> None:
    before = make()
    train(before, 3)
    corpus(4, 40)  # one shard more in the same folder
    after = make()
    after.load_state_dict(before.state_dict())
    with pytest.raises(InputError, match="written with data shards"):
        after.train_dataloader()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tokens": 96 * 32 * 128}, "tokens 98304, but this run has 393216"),
        ({"effective_batch_seqs": 16}, "effective_batch_seqs 8, but this run has 16"),
        ({"seq_len": 64}, "seq_len 128, but this run has 64"),
    ],
)
def test_what_was_given_is_named_and_not_what_auto_makes_of_it(make: Make, changed: dict[str, Any], field: str) -> None:
    auto = {"effective_batch_seqs": "auto", "positions_per_seq": "auto", "micro_batch_seqs": "auto"}
    own = auto | {"position_range": "auto", "tokens": 96 * 8 * 128, "seq_len": 128, "val_seqs": 1}
    before, after = make(**own), make(**own | changed)
    assert before.settings.positions_per_seq != after.settings.positions_per_seq
    after.load_state_dict(before.state_dict())
    with pytest.raises(InputError, match=f"The checkpoint was written with data {field}; resume with"):
        after.train_dataloader()


def test_the_identity_of_a_run_is_what_it_reads_as_plain_values(make: Make) -> None:
    names = b"000.parquet\n001.parquet\n002.parquet"
    module = make(seed=7)
    wanted = {
        "shards": hashlib.sha256(names).hexdigest(),
        "dataset": "corpus",
        "name": None,
        "split": "train",
        "commit": None,
        "format": "text",
        "text_column": "text",
        "special_tokens": "auto",
        "held_out_frac": 0.1,
        "part": "1/1",
        "seq_len": 16,
        "lanes": 4,
        "tokens": 128_000,
        "passes": 1,
        "effective_batch_seqs": 8,
        "micro_batch_seqs": 2,
        "positions_per_seq": 3,
        "position_range": [0.60, 0.95],
        "seed": 7,
        "validate_every_steps": 100,
        "val_seqs": 6,
    }
    assert module.identity() == wanted
    assert through_a_file(module.state_dict())["identity"] == wanted


def test_processes_of_one_run_have_read_the_same(make: Make) -> None:
    one, other = make(rank=0), make(rank=1)
    assert one.same_in_all() == other.same_in_all()
    assert one.same_in_all().items() > one.identity().items()
    train(other, 1)
    differing = {name for name, value in one.same_in_all().items() if value != other.same_in_all()[name]}
    assert differing == {"the text consumed"}


def test_a_lens_is_not_validated_on_what_it_was_trained_on(make: Make) -> None:
    before, after = make(), make(held_out_frac=0.2)
    after.load_state_dict(before.state_dict())
    with pytest.raises(InputError, match=r"fitted with 0\.1 of the documents held out; with .*held_out_frac 0\.2 it"):
        after.val_dataloader()
    same = make()
    same.load_state_dict(before.state_dict())
    assert len(same.val_dataloader()) == 3


class Reader(LightningModule):
    """Trains nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[list[int]]] = []
        self.validated = 0

    def training_step(self, batch: TextBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch.input_ids.tolist())
        return self.weight.sum()

    def on_train_batch_end(self, outputs: Any, batch: TextBatch, batch_idx: int) -> None:
        self.trainer.datamodule.advance(batch.cursors)  # type: ignore[attr-defined]

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        self.validated += batch.input_ids.shape[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.1)


def fit(module: TrainingText, steps: int, ckpt_path: Path | None = None) -> tuple[Reader, Trainer]:
    reader = Reader()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=4,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(reader, datamodule=module, ckpt_path=ckpt_path, weights_only=True)
    return reader, trainer


PASSES: dict[str, Any] = {"passes": 3, "tokens": 2 * 8 * 16 + 1, "num_workers": 0}
"""Three steps of 8 sequences of 16 tokens, rounded up; a step has two sequences of each of 4 lanes."""


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_text_is_trained_on_again_at_other_positions_and_counts_once(
    make: Make, world_size: int, workers: int
) -> None:
    modules = [
        make(rank=rank, world_size=world_size, **PASSES | {"num_workers": workers}) for rank in range(world_size)
    ]
    per_pass = 3 * 4 // world_size
    assert modules[0].total_steps == 9
    for module in modules:
        batches = train(module, 3 * per_pass)
        passes = [batches[start : start + per_pass] for start in range(0, len(batches), per_pass)]
        ids = [[batch.input_ids.tolist() for batch in one] for one in passes]
        assert ids[0] == ids[1] == ids[2]
        positions = [torch.cat([batch.positions for batch in one]) for one in passes]
        assert not any(torch.equal(positions[a], positions[b]) for a, b in ((0, 1), (1, 2), (0, 2)))
        once = make(rank=module.trainer.global_rank, world_size=world_size, tokens=PASSES["tokens"])  # type: ignore[union-attr]
        assert ids[0] == [batch.input_ids.tolist() for batch in train(once, per_pass)]
        for lane in range(module.trainer.global_rank, 4, world_size):  # type: ignore[union-attr]
            cursor, wanted = module._cursors[lane], once._cursors[lane]
            assert cursor.sequences == 3 * wanted.sequences
            assert cursor == wanted._replace(sequences=cursor.sequences)


def test_a_text_that_repeats_its_documents_says_so_in_every_pass(make: Make) -> None:
    module = make(rank=0, world_size=1, passes=2, tokens=16 * 8 * 50)
    train(module, 4 * 50)
    repeats = module.ledger().passes
    assert repeats > 0
    for more in (1, 99, 100):  # to the first micro-batch, the middle and the end of the second pass
        train(module, more)
        assert module.ledger().passes == repeats


@pytest.mark.parametrize("done", [1, 11, 12, 13, 20, 23, 24, 25, 35])
def test_any_pass_is_resumed_where_it_was_left(make: Make, done: int) -> None:
    whole = content(train(make(**PASSES), 36))
    first, second = make(**PASSES), make(**PASSES)
    begun = content(train(first, done))
    second.load_state_dict(through_a_file(first.state_dict()))
    assert begun + content(train(second, 36 - done)) == whole


def test_passes_end_at_a_whole_round_of_the_lanes(make: Make) -> None:
    """Three sequences a step and four lanes: four steps are three rounds."""
    given: dict[str, Any] = {"effective_batch_seqs": 3, "micro_batch_seqs": 1, "tokens": 5 * 3 * 16}
    assert make(**given).total_steps == 5
    assert make(**given, passes=2).total_steps == 2 * 8


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_lightnings_own_checkpoint_carries_the_cursor(make: Make, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"validate_every_steps": 2, "num_workers": 1}
    whole, _ = fit(make(**settings), 7)
    first, trainer = fit(make(**settings), 3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    second, _ = fit(make(**settings), 7, tmp_path / "last.ckpt")
    assert len(whole.seen) == 7 * 4
    assert first.seen + second.seen == whole.seen
    assert whole.validated == 3 * 6  # after steps 2, 4 and 6


def test_the_reference_corpus_is_streamed_with_the_reference_tokenizer(shared: Path) -> None:
    corpus, model = shared / "corpus" / "fineweb-edu-local", shared / "models" / "tiny-llama"
    settings = TrainingTextSettings(dataset=str(corpus), name="CC-MAIN-2025-26", tokens=10**6)
    module = TrainingText(resolve_text(settings, "full", ModelTokenizer.load(str(model)).num_ids), str(model))
    module.setup("fit")
    batches = train(module, 8)
    module.teardown()
    assert all(batch.input_ids.shape == (8, 512) and batch.positions.shape == (8, 128) for batch in batches)
    assert all(batch.positions.min() >= 8 and batch.positions.max() <= 511 for batch in batches)
    assert module.total_steps == 245  # of 8 sequences, so that there are enough steps
    ledger = module.ledger()
    assert (ledger.name, ledger.num_shards, ledger.tokens) == ("CC-MAIN-2025-26", 4, 8 * 8 * 512)
    assert sum(len(batch.input_ids) for batch in module.val_dataloader()) == 32


def test_a_new_fit_begins_at_the_start_whatever_was_read_before(make: Make) -> None:
    module = make(rank=0, world_size=1)
    first = content(train(module, 4))
    module.setup("fit")
    assert content(train(module, 4)) == first

    evaluated = make(rank=0, world_size=1)
    evaluated.load_state_dict(module.state_dict())
    evaluated.setup("fit")
    assert content(train(evaluated, 4)) == first


def test_a_fit_that_goes_on_keeps_its_place(make: Make) -> None:
    module, whole = make(rank=0, world_size=1), make(rank=0, world_size=1)
    first = content(train(module, 4))
    assert module.trainer is not None
    module.trainer.global_step = 2
    module.setup("fit")
    assert first + content(train(module, 4)) == content(train(whole, 8))


def test_a_validation_in_between_leaves_the_place_where_it_is(make: Make) -> None:
    module, whole = make(rank=0, world_size=1), make(rank=0, world_size=1)
    first = content(train(module, 4))
    module.setup("validate")
    assert first + content(train(module, 4)) == content(train(whole, 8))
    restored = make(rank=0, world_size=1)
    restored.load_state_dict(module.state_dict() | {"identity": module.identity() | {"held_out_frac": 0.2}})
    restored.setup("validate")
    with pytest.raises(InputError, match="it would be evaluated on text it has seen"):
        restored.val_dataloader()


def test_a_state_that_no_fit_has_written_is_refused(make: Make) -> None:
    module = make()
    broken: list[dict[str, Any]] = [
        {},
        {"cursors": {}},
        {"cursors": 3, "identity": {}},
        {"cursors": {"first": (0,)}, "identity": {}},
        {"cursors": {0: tuple(range(99))}, "identity": {}},
    ]
    for state in broken:
        with pytest.raises(InputError, match="The checkpoint's place in the text is invalid"):
            module.load_state_dict(state)
