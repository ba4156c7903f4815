"""What is settled before anything is loaded, on the demo: sizes, device, batches, refusals."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.cli import plan
from logos_pl.errors import InputError
from logos_pl.functional.budget import BatchPlan
from logos_pl.lm.devices import DeviceMemory
from logos_pl.lm.known_shapes import KNOWN_SHAPES
from logos_pl.lm.memory import ModelShape
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import TrainingTextSettings
from tests.lm.model_shapes import LLAMA_70B
from tests.tiny import make_model

MEMORY = [DeviceMemory("cuda:1", 10**11, 10**11), DeviceMemory("cpu", 10**10, 10**10)]


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "measure_memory", lambda cards: MEMORY)
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 8)


def options(**overrides: Any) -> tuple[TuningSettings, TrainingTextSettings, SimpleNamespace]:
    """Options of a fit on the demo; `overrides` as section__option."""
    given: dict[str, dict[str, Any]] = {
        "model": {"model_id": "demo"},
        "data": {},
        "trainer": {"accelerator": "auto", "devices": "auto", "num_nodes": 1},
    }
    for key, value in overrides.items():
        section, name = key.split("__")
        given[section][name] = value
    return (
        TuningSettings(**given["model"]),
        TrainingTextSettings(**given["data"]),
        SimpleNamespace(**given["trainer"]),
    )


def planned(**overrides: Any) -> tuple[plan.RunPlan, TuningSettings, TrainingTextSettings]:
    model, text, trainer = options(**overrides)
    return plan.plan_text(model, text, "full", trainer)


def batching(**overrides: Any) -> BatchPlan:
    found = planned(**overrides)[0].batching
    assert found is not None
    return found


def test_auto_settles_to_the_first_device_with_room_and_its_format() -> None:
    run, model, text = planned()

    assert (run.choice.device.type, run.devices) == ("cuda", [1])
    assert run.choice.dtype == torch.bfloat16
    assert run.batching == BatchPlan(32, 1, 1)
    assert (model.dtype, model.rank) == ("bfloat16", 64)
    assert (text.tokens, text.effective_batch_seqs, text.micro_batch_seqs) == (32_000_000, 32, 32)
    assert run.sentence().startswith("demo: 2.3M parameters, 8 blocks, on cuda:1 in bfloat16 (about ")


def test_what_the_user_names_is_kept() -> None:
    run, _, text = planned(
        model__dtype="float32",
        trainer__accelerator="cpu",
        trainer__devices=2,
        data__tokens=16_385,
        data__effective_batch_seqs=32,
    )

    assert (run.choice.device.type, run.devices) == ("cpu", 2)
    assert run.batching == BatchPlan(8, 2, 2)
    assert (text.tokens, text.effective_batch_seqs) == (16_385, 32)
    assert run.choice.dtype == torch.float32


SMOLLM2 = KNOWN_SHAPES["HuggingFaceTB/SmolLM2-135M"]
SMALL = {"data__tokens": 100_000, "data__effective_batch_seqs": "auto"}


def test_positions_and_the_tokens_of_quick_follow_what_a_cpu_can_do_and_on_a_gpu_they_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan.KnownModel, "read", lambda settings: plan.KnownModel("SmolLM2", SMOLLM2, 8192))
    model, text, trainer = options(trainer__accelerator="cpu")
    quick = plan.plan_text(model, text, "quick", trainer)[2]
    assert (quick.tokens, quick.effective_batch_seqs, quick.positions_per_seq) == (101_000, 2, 32)
    assert planned(trainer__accelerator="cpu", **SMALL)[2].positions_per_seq == 32
    assert planned(trainer__accelerator="cpu", data__positions_per_seq=100, **SMALL)[2].positions_per_seq == 100
    assert planned(trainer__accelerator="cuda", **SMALL)[2].positions_per_seq == 504
    assert plan.plan_text(model, text, "quick", options()[2])[2].tokens == 2_000_000


def test_a_device_that_is_chosen_for_its_memory_counts_like_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.KnownModel, "read", lambda settings: plan.KnownModel("SmolLM2", SMOLLM2, 8192))
    monkeypatch.setattr(plan, "measure_memory", lambda cards: [DeviceMemory("cuda:0", 10**8, 10**8), MEMORY[1]])
    run, _, text = planned(**SMALL)
    assert (run.choice.device.type, text.positions_per_seq) == ("cpu", 32)
    assert planned(trainer__accelerator="cpu", **SMALL)[2] == text


def test_the_number_of_processes_does_not_change_what_a_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.KnownModel, "read", lambda settings: plan.KnownModel("SmolLM2", SMOLLM2, 8192))
    one, two = (planned(trainer__accelerator="cpu", trainer__devices=devices, **SMALL)[2] for devices in (1, 2))
    assert (one.positions_per_seq, one.effective_batch_seqs) == (two.positions_per_seq, two.effective_batch_seqs)


def test_the_estimate_is_for_the_format_that_is_used() -> None:
    half = planned(trainer__accelerator="cuda")[0].choice
    full = planned(trainer__accelerator="cuda", model__dtype="float32")[0].choice

    assert full.dtype == torch.float32
    assert full.needed_bytes > half.needed_bytes


def test_the_micro_batch_follows_the_card_and_not_what_is_free_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for free in (1_050_000_000, 1_100_000_000):
        card = DeviceMemory("cuda:0", free, 1_100_000_000)
        monkeypatch.setattr(plan, "measure_memory", lambda cards, card=card: [card])
        run = planned(data__positions_per_seq=12)[0]
        assert run.batching == BatchPlan(16, 2, 1)
        assert run.choice.needed_bytes < 1_050_000_000


def test_what_does_not_fit_is_streamed_and_the_plan_says_so_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    known = plan.KnownModel("Meta-Llama-3-70B", LLAMA_70B, 8192)
    monkeypatch.setattr(plan.KnownModel, "read", lambda settings: known)
    devices = [DeviceMemory("cuda:0", 24 * 10**9, 24 * 10**9), DeviceMemory("cpu", 64 * 10**9, 64 * 10**9)]
    monkeypatch.setattr(plan, "measure_memory", lambda cards: devices)
    run, model, _ = planned(model__rank=128, data__tokens=2_000_000)
    assert (model.placement, model.group_tokens) == ("streamed", run.choice.group_tokens)
    assert run.choice.group_tokens == 2**16
    # 68.45 G parameters of 2 bytes at 2 GB/s are 68.5 s for 65,536 tokens.
    sentence = run.sentence()
    assert sentence.startswith(
        "Meta-Llama-3-70B: 70,553.7M parameters, 80 blocks, streamed to cuda:0 in bfloat16 (about"
    )
    assert sentence.endswith(
        "127.5 GiB are read for every 65,536 tokens, so a disk of 2 GB/s gives at most 957 tokens/s, 35 min for "
        "2,000,000 tokens"
    )
    run, _, _ = planned(model__rank=128, data__tokens=2_000_000, data__passes=2)
    assert run.sentence().endswith("70 min for 4,000,000 tokens")


def test_a_placement_is_settled_and_recorded_for_a_model_that_fits() -> None:
    run, model, _ = planned()
    assert (model.placement, model.group_tokens, run.choice.placement) == ("resident", "auto", "resident")
    run, model, _ = planned(model__placement="streamed", model__group_tokens=4096)
    assert (model.placement, model.group_tokens) == ("streamed", 4096)


def test_a_streamed_model_runs_in_one_process() -> None:
    with pytest.raises(
        InputError, match=r"--model.placement streamed runs in one process, but --trainer.devices starts 2"
    ):
        planned(model__placement="streamed", trainer__devices=2, trainer__accelerator="cpu")
    assert planned(trainer__devices=2, trainer__accelerator="cpu")[1].placement == "resident"


def test_a_model_is_sharded_over_the_processes_of_each_machine() -> None:
    several: dict[str, Any] = {"trainer__devices": 2, "trainer__accelerator": "cpu", "model__placement": "sharded"}
    run, model, _ = planned(**several)
    assert (model.placement, run.choice.shards) == ("sharded", 2)
    assert re.search(
        r"in 2 shards on cpu in float32 \(about .* GiB each\), of which .* GiB are read from", run.sentence()
    )
    assert planned(**several, trainer__num_nodes=4)[0].choice.shards == 2
    for alone in ({"trainer__devices": 1}, {"trainer__devices": 1, "trainer__num_nodes": 2}):
        with pytest.raises(InputError, match="several devices of a machine, but there is only one process"):
            planned(**several | alone)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"data__seq_len": 513}, r"seq_len 513 exceeds the context of demo: give at most 512 tokens"),
        ({"data__tokens": 1_023}, "too few for one step of 2 sequences"),
        ({"model__rank": 129}, "Rank 129 does not fit a model of width 128"),
        ({"data__micro_batch_seqs": 5}, "multiple of 5"),
        ({"data__micro_batch_seqs": 0}, "--data.micro_batch_seqs must be at least 1"),
        ({"trainer__accelerator": "tpu"}, "there is no device 'tpu'"),
        ({"model__model_id": "./nowhere"}, "not a folder"),
        (
            {"trainer__devices": "many"},
            "--trainer.devices must be a positive number .*got many",
        ),
        ({"trainer__devices": 0}, "--trainer.devices must be a positive number .*got 0"),
        (
            {"trainer__devices": -1},
            "--trainer.devices must be a positive number .*got -1",
        ),
        (
            {"trainer__devices": 10**12},
            "--trainer.devices must be a positive number .*got 1000000000000",
        ),
        (
            {"trainer__devices": "0,one"},
            "--trainer.devices must be a positive number .*got 0,one",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_any_weight_is_read(override: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(**override)


def test_a_model_that_fits_nowhere_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "measure_memory", lambda cards: [DeviceMemory("cpu", 10**6, 10**6)])

    with pytest.raises(
        InputError, match=r"fits on no device here: cpu has 0\.0 GiB free of the .* GiB needed in float32"
    ):
        planned()


def test_more_processes_than_a_cpu_has_a_use_for_are_refused_before_any_starts() -> None:
    with pytest.raises(InputError, match=r"--trainer\.devices starts 1,000 processes, .* give at most"):
        planned(trainer__accelerator="cpu", trainer__devices=1000)


@pytest.mark.parametrize(
    ("devices", "processes"), [("0,1", 2), ([0, 1], 2), ("4", 4), ("auto", 1), ("0,", 1), ([3], 1), (1, 1)]
)
def test_devices_are_counted_however_they_are_named(
    devices: str | list[int], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "measure_memory", lambda cards: MEMORY)
    assert batching(trainer__devices=devices).world_size == processes


def test_the_memory_of_the_devices_that_are_named_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def of_one(cards: Any) -> list[DeviceMemory]:
        asked.append(cards)
        return MEMORY

    def of_each(processes: int, cards: Any) -> list[DeviceMemory]:
        asked.append((processes, cards))
        return MEMORY

    monkeypatch.setattr(plan, "measure_memory", of_one)
    monkeypatch.setattr(plan, "memory_of_each", of_each)
    for devices in ("auto", 1, [1], "2", [0, 3]):
        planned(trainer__devices=devices)
    planned(trainer__devices=2, trainer__num_nodes=2)
    planned(trainer__devices=2, trainer__accelerator="cpu")
    assert asked == [None, [0], [1], (2, [0, 1]), (2, [0, 3]), (2, [0, 1]), (2, [])]


def test_an_automatic_micro_batch_divides_the_effective_batch() -> None:
    assert batching(trainer__accelerator="cpu", data__effective_batch_seqs=12) == BatchPlan(6, 2, 1)


@pytest.mark.parametrize(("devices", "given", "wanted"), [(1, "auto", 8), (3, "auto", 9), (16, "auto", 16), (3, 8, 8)])
def test_every_process_validates_on_as_many_sequences(
    devices: int, given: Any, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "memory_of_each", lambda processes, cards: MEMORY)
    batch = {"effective_batch_seqs": 48, "micro_batch_seqs": 1, "tokens": 48 * 512, "val_seqs": given}
    settings = {f"data__{name}": value for name, value in batch.items()}
    text = planned(trainer__accelerator="cpu", trainer__devices=devices, **settings)[2]
    assert text.val_seqs == wanted


def test_a_head_that_is_to_be_held_in_fp32_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ModelShape("llama", 8_030_261_248, 32, 4096, 128_256)
    monkeypatch.setattr(plan, "shape_in_memory", lambda config, stored: shape)
    monkeypatch.setattr(plan, "measure_memory", lambda cards: [DeviceMemory("cuda:0", 2**37, 2**37)])
    needed = {fp32: planned(model__fp32_unembed=fp32)[0].choice.needed_bytes for fp32 in ("auto", True, False)}
    assert needed[True] - needed["auto"] == 128_256 * 4096 * 4
    assert needed[False] == needed["auto"]


@pytest.mark.parametrize("init", ["closed_form", "random"])
def test_a_model_with_one_block_is_refused_by_name_however_the_lens_starts(init: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "one", num_hidden_layers=1)
    model, text, trainer = options(model__model_id=str(folder), model__init=init)
    with pytest.raises(InputError, match="one has 1 block, so no inner row"):
        plan.plan_text(model, text, "full", trainer)
    swept = plan.plan_prompts(ModelSettings(model_id=str(folder)), trainer)
    assert swept.known.shape.num_blocks == 1, "it can be swept with the norm lens"


def test_what_is_not_plain_weights_is_said_and_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    large = KNOWN_SHAPES["demo"]._replace(num_parameters=10**11, largest_block=10**9, block_bytes=0.5625)
    known = plan.KnownModel("m", large, 512, weights="bitsandbytes 4-bit weights, quantised in memory")
    monkeypatch.setattr(plan.KnownModel, "read", lambda settings: known)
    run, _, _ = planned()
    assert (run.choice.placement, run.choice.device.type) == ("resident", "cuda")
    assert "8 blocks, bitsandbytes 4-bit weights, quantised in memory, on cuda:1 in bfloat16" in run.sentence()
