"""The figures as Markdown tables."""

from collections.abc import Sequence
from typing import Any

from benchmarks.data import DataFigures
from benchmarks.loss import LossTime
from benchmarks.machine import Machine
from benchmarks.memory import LossMemory
from benchmarks.step import StepFigures
from benchmarks.step_memory import StepMemory
from benchmarks.timing import Ratio

MIB = 2**20


def plain(value: Any) -> Any:
    """Named tuples as dictionaries, for JSON."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: plain(item) for key, item in value._asdict().items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def machine_lines(machine: Machine, repeats: int, cpu_time: bool) -> str:
    """Lines on the machine and the clock."""
    clock = "CPU times of the process" if cpu_time else "Times"
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.threads} threads; device {machine.device}; "
        f"torch {machine.torch}, transformers {machine.transformers}; commit {machine.commit or 'unknown'}.\n"
        f"Load average {machine.load_average_before:.2f} before, {machine.load_average_after:.2f} after. {clock} are "
        f"medians of {repeats} rounds, the compared variants in turns;\nratios are medians of the rounds' own ratios "
        "(lowest–highest). No figure here is comparable with one of another run."
    )


def step_table(figures: StepFigures) -> str:
    """Table of forward and steps."""
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in figures.peaks_flop_per_s.items())
    head = (
        f"Training step against the forward pass: {figures.model}, {figures.num_blocks} blocks, d={figures.d_model}, "
        f"V={figures.vocab}, {figures.dtype} (head {figures.head_dtype}),\n[{figures.micro_batch_seqs}, "
        f"{figures.seq_len}] tokens, {figures.positions_per_seq} positions per sequence, rank {figures.rank}. "
        f"Peak, measured as the best plain product of this run: {rates}."
    )
    forward = figures.forward
    rows: list[list[str]] = [
        [
            "forward, body only", "", ms(forward.seconds), "1", f"{forward.tokens_per_s:,.0f}", "",
            gflop(forward.flop), f"forward {forward.mfu:.0%}",
        ]
    ]  # fmt: skip
    for step in figures.steps:
        mfu = "within the noise" if step.lens_mfu is None else f"lens {step.lens_mfu:.0%}"
        rows.append(
            [
                f"step, {step.rows} of {figures.num_blocks - 1} rows", f"{step.pairs:,}", ms(step.seconds),
                as_text(step.to_forward), f"{step.tokens_per_s:,.0f}", f"{step.pairs_per_s:,.0f}",
                "+" + gflop(step.added_flop), mfu,
            ]
        )  # fmt: skip
    names = ["", "pairs", "ms", "/ forward", "tokens/s", "pairs/s", "GFLOP counted", "MFU"]
    log = f"Progress and TensorBoard, every row's KL included: {ms(figures.log_seconds, 2)} ms a step on average."
    return f"{head}\n\n{table(names, rows)}\n\n{log}"


def step_memory_table(memory: Sequence[StepMemory]) -> str:
    """Table of the memory held and the peaks of a step; empty if nothing was measured."""
    if not memory:
        return ""
    names = [
        "V", "model MiB", "lens and moments MiB", "forward peak MiB", "step peak MiB", "of 4 micro-batches MiB",
    ]  # fmt: skip
    rows = [
        [
            f"{m.vocab}", mib(m.model_bytes), mib(m.lens_bytes), mib(m.forward_peak_bytes), mib(m.step_peak_bytes),
            mib(m.accumulated_peak_bytes),
        ]
        for m in memory
    ]  # fmt: skip
    head = "Memory: what is held, counted, and what the body and a step with all rows take beyond."
    return f"{head}\n\n{table(names, rows)}"


def loss_table(times: Sequence[LossTime], memory: Sequence[LossMemory]) -> str:
    """Tables of time and peak memory of both losses; empty if neither was measured."""
    return "\n\n".join(filter(None, (_loss_times(times), _loss_memory(memory))))


def _loss_times(times: Sequence[LossTime]) -> str:
    if not times:
        return ""
    names = [
        "V",
        "pairs",
        "fused ms",
        "naive ms",
        "naive / fused",
        "GFLOP fused",
        "GFLOP naive",
        "lens MFU of the loss",
    ]
    rows = [
        [
            f"{t.vocab}", f"{t.pairs:,}", ms(t.fused_seconds), ms(t.naive_seconds), as_text(t.naive_to_fused),
            gflop(t.fused_flop), gflop(t.naive_flop), f"{t.lens_mfu:.0%} of {t.peak_flop_per_s / 1e9:,.0f} GFLOP/s",
        ]
        for t in times
    ]  # fmt: skip
    return f"The lens loss, forward and backward, against materialised logits and autograd.\n\n{table(names, rows)}"


def _loss_memory(memory: Sequence[LossMemory]) -> str:
    if not memory:
        return ""
    names = ["V", "all logits MiB", "fused peak MiB", "naive peak MiB", "naive / fused"]
    rows = [
        [
            f"{m.vocab}", mib(m.logits_bytes), mib(m.fused_bytes),
            "does not fit" if m.naive_bytes is None else mib(m.naive_bytes),
            "" if m.naive_bytes is None else f"{m.naive_bytes / m.fused_bytes:.1f}",
        ]
        for m in memory
    ]  # fmt: skip
    return f"Peak memory of both losses beyond the inputs.\n\n{table(names, rows)}"


def data_table(figures: DataFigures) -> str:
    """Table of the rate of the data pipeline."""
    names = ["dataset", "tokenizer", "workers", "tokens timed", "first batch s", "tokens/s", "/ step with all rows"]
    row = [
        figures.dataset, figures.tokenizer, f"{figures.num_workers}", f"{figures.tokens:,}",
        f"{figures.start_seconds:.2f}", f"{figures.tokens_per_s:,.0f}", f"{figures.to_step:.1f}",
    ]  # fmt: skip
    return f"The data pipeline alone.\n\n{table(names, [row])}"


def table(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, with the first column left-aligned and the others right-aligned."""
    widths = [max(len(line[i]) for line in [names, *rows]) for i in range(len(names))]
    lines = [names, ["-" * (width - 1) + (":" if i else "-") for i, width in enumerate(widths)], *rows]
    return "\n".join(
        "| "
        + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in lines
    )


def ms(seconds: float, digits: int = 1) -> str:
    """Seconds formatted as milliseconds."""
    return f"{seconds * 1e3:,.{digits}f}"


def mib(num_bytes: int) -> str:
    """Bytes formatted as MiB, rounded."""
    return f"{num_bytes / MIB:,.0f}"


def gflop(flop: int) -> str:
    """Operations formatted in units of 10⁹."""
    return f"{flop / 1e9:,.1f}"


def as_text(value: Ratio) -> str:
    """The median with the lowest and the highest."""
    return f"{value.median:.2f} ({value.lowest:.2f}–{value.highest:.2f})"
