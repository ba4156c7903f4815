import math

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.functional.budget import (
    average_weight,
    lr_factor,
    opening_sequences,
    plan_batching,
    sequences_set_aside,
    total_steps,
    warmup_factor,
    warmup_steps,
)


@pytest.mark.parametrize(("tokens", "steps", "warmup"), [(32_000_000, 1954, 196), (16_000_000, 977, 98)])
def test_token_budgets_at_32_sequences_of_512_are_rounded_up_to_steps(tokens: int, steps: int, warmup: int) -> None:
    assert total_steps(tokens, 512, 32) == steps
    assert warmup_steps(steps) == warmup


def test_a_partial_last_step_counts_and_a_full_one_adds_none() -> None:
    assert [total_steps(tokens, 8, 4) for tokens in (1, 31, 32, 33, 64)] == [1, 1, 1, 2, 2]
    assert [warmup_steps(total) for total in (1, 9, 10, 11, 100)] == [1, 1, 1, 2, 10]


@pytest.mark.parametrize("numbers", [(0, 512, 32), (100, 0, 32), (100, 512, -1)])
def test_a_budget_that_buys_no_step_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=f"{numbers[0]} tokens"):
        total_steps(*numbers)


def test_learning_rate_rises_linearly_to_one_and_falls_along_a_cosine_to_exactly_zero() -> None:
    total, warmup = 50, 5
    factors = [lr_factor(step, total, warmup) for step in range(total + 2)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    for step in range(5, 50):
        assert factors[step] == pytest.approx((1 + math.cos(math.pi * (step - 5) / 45)) / 2, abs=1e-15)
    assert factors[49] > 0
    assert factors[50:] == [0.0, 0.0]
    assert factors[5:51] == sorted(factors[5:51], reverse=True)


@pytest.mark.parametrize(
    ("total", "warmup", "factors"), [(1, 1, [1.0, 0.0]), (2, 2, [0.5, 1.0, 0.0]), (2, 0, [1.0, 0.5, 0.0])]
)
def test_short_schedules_warm_up_fully_and_end_at_zero(total: int, warmup: int, factors: list[float]) -> None:
    assert [lr_factor(step, total, warmup) for step in range(total + 1)] == pytest.approx(factors, abs=1e-15)


def test_the_factor_drives_a_lambda_schedule_so_that_no_step_runs_at_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, 4, 1))
    used = []
    for _ in range(4):
        used.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert used == pytest.approx([2.0, 2.0, 1.5, 0.5])
    assert schedule.get_last_lr() == [0.0]


@pytest.mark.parametrize(
    ("total", "effective", "lanes", "opening", "set_aside"),
    [
        (1954, 32, 8, 608, 80),
        (245, 32, 8, 64, 8),
        (97, 2, 8, 24, 8),
        (99, 32, 8, 32, 8),
        (12, 8, 4, 24, 4),
        (12, 4, 8, 16, 8),
    ],
)
def test_the_opening_is_whole_steps_of_one_percent_and_an_eighth_of_it_is_set_aside_from_every_lane(
    total: int, effective: int, lanes: int, opening: int, set_aside: int
) -> None:
    assert opening_sequences(total, effective, lanes, seq_len=512, d_model=192) == opening
    assert sequences_set_aside(opening, lanes) == set_aside


def test_the_opening_of_a_wide_model_holds_64_tokens_for_each_unit_of_width_within_a_quarter_of_the_budget() -> None:
    assert opening_sequences(1954, 32, 8, seq_len=512, d_model=8192) * 512 == 64 * 8192
    assert opening_sequences(100, 32, 8, seq_len=512, d_model=8192) == 25 * 32


def test_the_average_weights_each_step_by_its_number() -> None:
    values = [3.0, -1.0, 4.0, 1.0, -5.0]
    average = 0.0
    for step, value in enumerate(values, start=1):
        average += average_weight(step) * (value - average)
    assert average == pytest.approx(sum(s * v for s, v in enumerate(values, start=1)) / 15)


def test_after_the_warm_up_the_rate_stays() -> None:
    assert [warmup_factor(step, 4) for step in (0, 1, 3, 4, 1000)] == [0.25, 0.5, 1, 1, 1]


def test_effective_batch_is_the_product_of_the_plan() -> None:
    assert plan_batching(32, 2, 8).sequences == 32
    assert plan_batching(32, 1, 8) == (8, 4, 1)
    assert plan_batching(32, 2, 8) == (8, 2, 2)
    assert plan_batching(32, 1, 32) == (32, 1, 1)


@pytest.mark.parametrize("numbers", [(32, 3, 8), (4, 1, 8), (0, 1, 1), (8, 0, 1), (8, 1, -1)])
def test_a_batch_that_does_not_divide_is_refused_with_its_three_numbers(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InputError) as refusal:
        plan_batching(*numbers)
    assert all(str(number) in str(refusal.value) for number in numbers)
