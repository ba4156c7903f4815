import pytest

from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import (
    SCHEDULES,
    CpuWork,
    ScheduleName,
    scheduled_batch,
    scheduled_lr,
    scheduled_positions,
    scheduled_rows,
    scheduled_tokens,
    spec_rows_and_positions,
)


@pytest.mark.parametrize(
    ("vocab_size", "rows", "positions"),
    [(1_000, 24, 16), (32_000, 24, 16), (64_000, 17, 12), (128_256, 12, 12), (151_936, 11, 12), (256_000, 8, 12)],
)
def test_rows_and_positions_by_vocabulary_are_the_specified_ones(vocab_size: int, rows: int, positions: int) -> None:
    assert spec_rows_and_positions(vocab_size) == (rows, positions)
    assert scheduled_rows("spec", vocab_size, 79) == rows
    assert scheduled_positions("spec", vocab_size, 512, 32) == (positions, (0.60, 0.95))


def test_never_more_rows_than_there_are() -> None:
    assert scheduled_rows("spec", 32_000, 7) == 7


@pytest.mark.parametrize("name", ["full", "quick"])
def test_the_measured_schedules_train_all_rows_on_the_whole_sequence_from_position_eight_on(name: ScheduleName) -> None:
    assert scheduled_rows(name, 256_000, 79) == 79
    positions, position_range = scheduled_positions(name, 256_000, 512, 32)
    assert positions == 32
    assert position_bounds(512, position_range) == (8, 511)


@pytest.mark.parametrize(("seq_len", "positions", "first"), [(16, 16, 0), (17, 9, 8), (32, 24, 8), (7, 7, 0)])
def test_short_sequences_have_as_many_positions_as_there_are(seq_len: int, positions: int, first: int) -> None:
    found, position_range = scheduled_positions("full", 32_000, seq_len, 32)
    assert found == positions
    assert position_bounds(seq_len, position_range) == (first, seq_len - 1)


def test_the_spec_schedule_is_the_specified_one() -> None:
    assert SCHEDULES["spec"] == ("random", 32_000_000, "cosine", 1e-4)
    assert scheduled_lr("spec", 128) == 1e-3
    assert scheduled_batch("spec", 16384, 512) == 32


@pytest.mark.parametrize(
    ("tokens", "seqs", "positions"),
    [
        (32_000_000, 32, 32),
        (4_000_000, 32, 32),
        (2_000_000, 16, 64),
        (1_000_000, 8, 128),
        (400_000, 8, 128),
        (250_000, 4, 256),
        (100_000, 2, 504),
        (1, 2, 504),
    ],
)
def test_small_budgets_take_smaller_steps_with_more_positions_of_each_sequence(
    tokens: int, seqs: int, positions: int
) -> None:
    assert scheduled_batch("full", tokens, 512) == seqs
    assert scheduled_positions("full", 32_000, 512, seqs)[0] == positions


@pytest.mark.parametrize(
    ("position_flop", "seqs", "positions"),
    [
        (35e6, 2, 504),  # 8 blocks of width 192, 6,144 tokens
        (3.3e9, 2, 32),  # SmolLM2-135M
        (0.4e9, 2, 125),  # 250 positions in 1e11 operations
        (0.4e9, 4, 62),
        (0.4e9, 32, 32),
        (1e15, 2, 32),
    ],
)
def test_on_a_cpu_a_step_of_a_large_vocabulary_gets_fewer_positions_but_not_below_32_of_a_sequence(
    position_flop: float, seqs: int, positions: int
) -> None:
    cpu = CpuWork(token_flop=1e8, position_flop=position_flop)
    assert scheduled_positions("full", 50_000, 512, seqs, cpu)[0] == positions
    assert scheduled_positions("full", 50_000, 512, seqs)[0] == min(1024 // seqs, 504)
    assert scheduled_positions("spec", 50_000, 512, seqs, cpu) == scheduled_positions("spec", 50_000, 512, seqs)


@pytest.mark.parametrize(
    ("token_flop", "position_flop", "tokens"),
    [
        (7e6, 35e6, 2_000_000),
        (212.4e6, 3.34e9, 101_000),  # 48e12 / (1.25 · 212.4e6 + 3.34e9 · 32 / 512) = 101,217
        (880e6, 16.8e9, 98_304),  # 96 steps of two sequences
    ],
)
def test_on_a_cpu_quick_has_the_tokens_of_twenty_minutes_of_a_core_or_of_its_96_steps(
    token_flop: float, position_flop: float, tokens: int
) -> None:
    cpu = CpuWork(token_flop, position_flop)
    assert scheduled_tokens("quick", 512, cpu) == tokens
    assert scheduled_tokens("quick", 512) == 2_000_000
    assert scheduled_tokens("full", 512, cpu) == scheduled_tokens("spec", 512, cpu) == 32_000_000


@pytest.mark.parametrize(("d_model", "lr"), [(64, 1e-2), (128, 1e-2), (256, 5e-3), (1280, 1e-3), (4096, 1e-3)])
def test_narrow_models_take_larger_steps_and_wide_ones_those_of_the_spec(d_model: int, lr: float) -> None:
    assert scheduled_lr("full", d_model) == pytest.approx(lr)


def test_several_passes_divide_the_rate_by_the_root_of_their_number() -> None:
    assert scheduled_lr("full", 192, passes=4) == pytest.approx(1.28 / 192 / 2)
    assert scheduled_lr("full", 4096, passes=4) == pytest.approx(5e-4)
    assert scheduled_lr("spec", 192, passes=4) == 1e-3
