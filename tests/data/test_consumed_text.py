import multiprocessing
from pathlib import Path

import torch.distributed as dist

from logos_pl.data.consumed_text import count_consumed, gather_cursors
from logos_pl.data.lanes import LaneCursor, content_hash
from logos_pl.data.layout import Cursors
from logos_pl.data.shards import Shard
from logos_pl.data.source import TextSource
from logos_pl.settings.text import TrainingTextSettings

CURSORS = {
    lane: LaneCursor(
        lane % 2,
        "a",
        lane,
        0,
        documents=lane,
        tokens=10 * lane,
        sequences=lane,
        chain=str(lane) * 64,
        text_pass=lane % 2,
    )
    for lane in range(4)
}


def test_the_ledger_adds_up_what_all_lanes_consumed() -> None:
    source = TextSource("org/data", "small", "train", "v1", "c0ffee", (Shard("a", "a"), Shard("b", "b")))
    ledger = count_consumed(source, CURSORS, TrainingTextSettings(held_out_frac=0.02, seq_len=512), ["<s>"])
    assert ledger[:6] == ("org/data", "small", "train", "v1", "c0ffee", 2)
    assert (ledger.documents, ledger.tokens, ledger.sequences, ledger.passes) == (6, 60, 6, 1)
    assert ledger.content_hash == content_hash(CURSORS)
    assert "0.02 are held out" in ledger.sample_description
    assert "part" not in ledger.sample_description
    part = count_consumed(source, CURSORS, TrainingTextSettings(part="2/3"), [])
    assert "of the others, part 2 of 3 by the same hash is trained on; packed" in part.sample_description
    assert (ledger.format, ledger.special_tokens, ledger.added_tokens) == ("text", "auto", ["<s>"])
    assert "template" not in ledger.sample_description
    chat = count_consumed(source, CURSORS, TrainingTextSettings(format="chat", special_tokens="none"), [])
    assert "each conversation rendered by the model's chat template; packed" in chat.sample_description
    assert (chat.format, chat.special_tokens, chat.added_tokens) == ("chat", "none", [])
    assert f"no document is in this text more than {ledger.passes + 1} time(s)" in ledger.sample_description


def _gather(rank: int, store: Path, answers: "multiprocessing.Queue[Cursors]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    answers.put(gather_cursors({lane: CURSORS[lane] for lane in range(rank, 4, 2)}))
    dist.destroy_process_group()


def test_every_process_learns_the_cursors_of_all(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_gather, args=(rank, tmp_path / "store", answers)) for rank in range(2)]
    for process in processes:
        process.start()
    got = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert got == [CURSORS, CURSORS]
    assert list(got[0]) == [0, 1, 2, 3]


def test_one_process_needs_nobody_else() -> None:
    assert gather_cursors(CURSORS) == CURSORS
