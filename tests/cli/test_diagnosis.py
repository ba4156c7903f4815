"""What fits is what the choice of devices says, and a disk is found for a folder that is not there yet."""

from pathlib import Path

from logos_pl.cli.diagnosis import fit_step, what_fits
from logos_pl.lm.devices import DeviceMemory
from logos_pl.lm.known_shapes import KNOWN_SHAPES
from logos_pl.lm.memory import memory_parts

LLAMA = "meta-llama/Meta-Llama-3-8B"


def test_a_model_is_placed_where_its_estimate_has_room() -> None:
    import torch

    step = fit_step(KNOWN_SHAPES[LLAMA])
    least = memory_parts(KNOWN_SHAPES[LLAMA], "cuda", torch.bfloat16, step._replace(micro_batch_seqs=1)).total
    weights = 2 * KNOWN_SHAPES[LLAMA].num_parameters

    def on(num_bytes: int) -> tuple[str | None, str | None]:
        card = DeviceMemory("cuda:0", num_bytes, num_bytes)
        (found,) = [fit for fit in what_fits([card, DeviceMemory("cpu", 2**30, 2**30)]) if fit.model_id == LLAMA]
        return found.to_fit, found.to_read

    assert on(least) == ("cuda:0 in bfloat16", "cuda:0 in bfloat16")
    assert on(least - 1) == (None, "cuda:0 in bfloat16")
    assert on(weights) == (None, None)
    assert {fit.model_id for fit in what_fits([DeviceMemory("cpu", 2**29, 2**29)]) if fit.to_fit} == {"demo"}


def test_the_step_is_the_one_of_a_fit_with_its_defaults() -> None:
    step = fit_step(KNOWN_SHAPES[LLAMA])
    assert (step.rank, step.seq_len, step.micro_batch_seqs) == (256, 512, None)


def test_the_free_disk_of_a_folder_to_be_is_that_of_its_parent(tmp_path: Path) -> None:
    from logos_pl.cli.diagnosis import _free_disk

    there, to_be = _free_disk(tmp_path), _free_disk(tmp_path / "not" / "yet")
    assert there is not None
    assert to_be is not None
    assert abs(there - to_be) < 2**30
