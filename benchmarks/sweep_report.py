"""The figures of a sweep as Markdown tables."""

from collections.abc import Sequence

from benchmarks.reading import Subject, SweepTime
from benchmarks.report import as_text, gflop, mib, ms, table
from benchmarks.sweep_memory import SweepMemory


def subject_lines(subject: Subject) -> str:
    """What was swept, by what."""
    return (
        f"Reading prompts: {subject.model}, {subject.num_blocks} blocks, d={subject.d_model}, V={subject.vocab}, "
        f"{subject.dtype} (head {subject.head_dtype});\nprompts of {subject.min_tokens} to {subject.max_tokens} random "
        f"tokens, norm lens and tuned lens of rank {subject.rank}, blocks of logits of {subject.block_mib} MiB."
    )


def reading_table(times: Sequence[SweepTime]) -> str:
    """The reading against its floor."""
    names = [
        "prompts", "tokens", "readings", "forward ms", "floor ms", "read ms", "read / forward", "read / floor",
        "GFLOP floor", "GFLOP read",
    ]  # fmt: skip
    rows = [
        [
            f"{t.prompts:,}", f"{t.tokens:,}", f"{t.readings:,}", ms(t.forward_seconds), ms(t.floor_seconds),
            ms(t.read_seconds), as_text(t.read_to_forward), as_text(t.read_to_floor), gflop(t.floor_flop),
            gflop(t.read_flop),
        ]
        for t in times
    ]  # fmt: skip
    return table(names, rows)


def records_table(times: Sequence[SweepTime]) -> str:
    """What becomes of the readings."""
    names = ["prompts", "records", "CSV MiB", "records ms", "CSV ms", "records / read", "CSV / read"]
    rows = [
        [
            f"{t.prompts:,}", f"{t.records:,}", f"{t.csv_bytes / 2**20:,.1f}", ms(t.records_seconds),
            ms(t.csv_seconds), as_text(t.records_to_read), as_text(t.csv_to_read),
        ]
        for t in times
    ]  # fmt: skip
    return f"Records and CSV files of the same prompts.\n\n{table(names, rows)}"


def memory_table(memory: Sequence[SweepMemory], why_not: str | None) -> str:
    """Peak memory against the number of prompts; empty where no numbers were given."""
    if why_not is not None:
        return f"Peak memory: not measured. {why_not}"
    if not memory:
        return ""
    names = ["prompts", "tokens", "batches", "tokens in the largest", "peak MiB"]
    rows = [
        [f"{m.prompts:,}", f"{m.tokens:,}", f"{m.batches}", f"{m.tokens_in_largest_batch:,}", mib(m.peak_bytes)]
        for m in memory
    ]
    return f"Peak memory beyond the model: reading, records and CSV files, batch by batch.\n\n{table(names, rows)}"
