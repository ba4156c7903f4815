import copy
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError
from logos_pl.fit.module import TuningModule, refuse_other_run
from logos_pl.functional.training_basis import TrainingBasis
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Residuals, residuals
from tests.lm.families import tiny_model
from tests.tiny import make_model, resolved, tuning_module


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    return FrozenLM.load(str(make_model(tmp_path_factory.mktemp("model") / "tiny-llama")))


def built(lm: FrozenLM, **settings: Any) -> TuningModule:
    regularised = {"l2": 1e-4, "smoothness": 1e-4}
    return tuning_module(lm, **({"rank": 3, "layers_per_step": "all"} | regularised | settings))


def moved(module: TuningModule) -> TuningModule:
    """Away from the start, where half of the gradient is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    module.update_averages(1)
    return module


def trained(module: TuningModule) -> dict[str, torch.nn.Parameter]:
    """What the optimiser moves."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.fixture
def batch() -> TextBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 23, (3, 20), generator=generator)
    return TextBatch(ids, torch.tensor([[12, 15], [3, 19], [0, 7]]), {}, (7, 0, 3))


def brute_force_loss(lm: FrozenLM, module: TuningModule, batch: TextBatch, rows: list[int]) -> Tensor:
    """docs/method.md §2.1 in float64, one row, one sequence and one position at a time, from transformers' own outputs.

    Of the tuned lens and, where there is one, of the lens of bias and temperature alone beside it: the sum.
    """
    lenses = [module.translators, *([] if module.bias_only is None else [module.bias_only])]
    return torch.stack([brute_force_loss_of(lens, lm, batch, rows) for lens in lenses]).sum()


def brute_force_loss_of(translators: Translators, lm: FrozenLM, batch: TextBatch, rows: list[int]) -> Tensor:
    model = copy.deepcopy(lm.model).double()
    states: list[Tensor] = []
    handles = [model.model.layers[0].register_forward_pre_hook(lambda m, a: states.append(a[0]))]
    handles += [block.register_forward_hook(lambda m, a, out: states.append(out)) for block in model.model.layers]
    with torch.no_grad():
        model(batch.input_ids, use_cache=False)
    for handle in handles:
        handle.remove()
    gamma, eps, W = model.model.norm.weight, model.config.rms_norm_eps, model.lm_head.weight

    def norm(h: Tensor) -> Tensor:
        return h / torch.sqrt((h * h).mean() + eps) * gamma

    t = {name: value.double() for name, value in translators.named_parameters()}
    total, terms = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        U, V, c = t["U"][row - 1], t["V"][row - 1], t["c"][row - 1]
        tau = torch.log1p(torch.exp(t["log_tau"][row - 1])) + 1e-3
        for sequence, positions in enumerate(batch.positions):
            for position in positions:
                p = torch.softmax(W @ norm(states[-1][sequence, position]), 0)
                x = norm(states[row][sequence, position])
                z = W @ (x + V @ (U.T @ x) + c) / tau
                total = total - (p * torch.log_softmax(z, 0)).sum()
                terms += 1
    penalty = sum((t[name] ** 2).sum() for name in ("U", "V", "c"))
    smooth = sum(((t[name][1:] - t[name][:-1]) ** 2).sum() for name in ("U", "V"))
    return total / terms + 1e-4 * penalty + 1e-4 * smooth


def test_the_loss_is_the_specified_one_and_its_gradient_too(lm: FrozenLM, batch: TextBatch) -> None:
    module = moved(built(lm))
    loss = module.training_step(batch, 0)["loss"]
    loss.backward()
    got = {name: parameter.grad for name, parameter in trained(module).items()}

    module.zero_grad()
    wanted = brute_force_loss(lm, module, batch, [1, 2, 3])
    wanted.backward()

    torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=1e-6)
    assert set(got) == {
        f"{lens}.{name}" for lens in ("translators", "bias_only") for name in ("U", "V", "c", "log_tau")
    }
    for name, parameter in trained(module).items():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_with_fewer_rows_the_loss_is_the_mean_over_those_drawn(
    lm: FrozenLM, batch: TextBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = moved(built(lm, layers_per_step=2))
    for step in range(4):
        monkeypatch.setattr(TuningModule, "global_step", step)
        drawn = module.training_step(batch, 0)
        assert module.reading is not None
        assert len(module.reading.rows) == drawn["rows"] == 2
        wanted = brute_force_loss(lm, module, batch, module.reading.rows)
        torch.testing.assert_close(drawn["loss"].double(), wanted, rtol=1e-6, atol=1e-6)


def test_the_rows_drawn_depend_on_seed_and_step_alone(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> None:
    one, again = built(lm, layers_per_step=2), built(lm, layers_per_step=2)
    drawn = []
    for step in range(12):
        monkeypatch.setattr(TuningModule, "global_step", step)
        assert one._rows_of_step() == again._rows_of_step()
        drawn.append(tuple(one._rows_of_step()))
    assert len(set(drawn)) == 3, "in twelve steps every pair of three rows comes up"


def test_the_vocabulary_decides_how_many_rows_are_trained(lm: FrozenLM) -> None:
    assert built(lm, layers_per_step="auto").settings.layers_per_step == 3, "never more than there are"
    with pytest.raises(InputError, match=r"layers_per_step 4 does not fit .* 3 rows"):
        built(lm, layers_per_step=4)


def test_nothing_of_the_model_is_trained_or_saved(lm: FrozenLM, batch: TextBatch) -> None:
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    module = built(lm)
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(total_steps=10))  # type: ignore[assignment]
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(3):
        optimizer.zero_grad()
        module.training_step(batch, 0)["loss"].backward()
        optimizer.step()

    names = ("U", "V", "c", "log_tau")
    lenses = ("translators", "bias_only", "averages.translators", "averages.bias_only")
    assert set(module.state_dict()) == {f"{lens}.{name}" for lens in lenses for name in names}
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    start = trained(built(lm))
    for name, parameter in trained(module).items():
        if name in ("bias_only.U", "bias_only.V"):
            assert parameter.numel() == 0
            continue
        still = (parameter == start[name]).reshape(3, -1).all(dim=1)
        assert not still.any(), f"{name} has not moved at rows {still.nonzero().flatten().tolist()}"


def test_without_temperature_tau_stays_one(lm: FrozenLM, batch: TextBatch) -> None:
    module = built(lm, temperature=False)
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(total_steps=10))  # type: ignore[assignment]
    optimizer = module.configure_optimizers()["optimizer"]
    module.training_step(batch, 0)["loss"].backward()
    optimizer.step()

    assert module.bias_only is not None
    for lens in (module.translators, module.bias_only):
        assert torch.equal(lens.inv_tau(), torch.ones(3))
        assert lens.c.any()


def train(module: TuningModule, batch: TextBatch, steps: int) -> TuningModule:
    trainer = SimpleNamespace(datamodule=SimpleNamespace(total_steps=steps), global_step=0)
    module.trainer = trainer  # type: ignore[assignment]
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]  # type: ignore[index]
    for _ in range(steps):
        optimizer.zero_grad()
        module.training_step(batch, 0)["loss"].backward()
        optimizer.step()
        schedule.step()
        trainer.global_step += 1
    return module


@pytest.mark.parametrize("rows", ["all", 2])
def test_a_bias_only_changes_no_bit_of_the_tuned_lens_and_of_what_is_logged(
    rows: str | int, lm: FrozenLM, batch: TextBatch
) -> None:
    with_one, without = (train(built(lm, layers_per_step=rows, bias_only=on), batch, 20) for on in (True, False))

    assert without.bias_only is None
    assert without.lenses.keys() == {"norm", "tuned"}
    for name, parameter in without.named_parameters():
        assert torch.equal(parameter, with_one.get_parameter(name)), name
    assert with_one.reading is not None
    assert without.reading is not None
    assert torch.equal(with_one.reading.cross_entropy_nats, without.reading.cross_entropy_nats)
    assert torch.equal(with_one.reading.kl_nats, without.reading.kl_nats)


def test_a_bias_only_learns_through_a_head_with_a_projection_and_a_soft_cap(batch: TextBatch) -> None:
    """Its cross-entropy, against that of the logits which the lens itself decodes."""
    for family in ("opt_project", "gemma2"):
        lm = FrozenLM(tiny_model(family), None, model_id=family, model_commit="", tokenizer_commit="")
        module = moved(built(lm, l2=0.0))
        assert module.bias_only is not None
        x, teacher, index = module._read(batch, [1, 2])
        loss = module._bias_only_loss(module.bias_only, x, teacher, index)
        found = torch.autograd.grad(loss, [module.bias_only.c, module.bias_only.log_tau])

        h = residuals(lm, batch.input_ids, batch.positions, [1, 2, 3]).flatten(1, 2)
        log_q = TunedLens(module.bias_only, module.head).log_probs(h[:2], [1, 2])
        p = module.lenses["norm"].log_probs(h[2:], [3]).exp()
        wanted_loss = -(p * log_q).sum(-1).mean()
        wanted = torch.autograd.grad(wanted_loss, [module.bias_only.c, module.bias_only.log_tau])
        torch.testing.assert_close(loss, wanted_loss, rtol=1e-5, atol=1e-5)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rows", ["all", 2])
def test_a_bias_only_is_what_a_fit_at_rank_0_gives(rows: str | int, lm: FrozenLM, batch: TextBatch) -> None:
    beside, alone = (train(built(lm, layers_per_step=rows, rank=rank, lr=1e-2), batch, 20) for rank in (3, 0))

    assert alone.bias_only is None, "it would be the lens itself"
    assert beside.bias_only is not None
    for name in ("c", "log_tau"):
        fitted, start = (getattr(lens, name) for lens in (beside.bias_only, Translators(3, 16, 0)))
        assert (fitted - start).abs().min() > 1e-5
        torch.testing.assert_close(fitted, getattr(alone.translators, name), rtol=1e-3, atol=1e-5)


class Waits(TorchDispatchMode):
    """Collects what would make a CUDA device wait: a value read, or a shape that hangs on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.in_body = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [t for part in args if isinstance(part, list | tuple) for t in part if isinstance(t, Tensor)]
        if name.startswith("index"):
            waits = any(mask.dtype == torch.bool for mask in masks)
        else:
            waits = bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags))
        if waits:
            self.seen.append(f"{name} in the body" if self.in_body else name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, {"layers_per_step": 2, "decoding_norm": "next"}])
def test_a_step_never_waits_for_the_device_but_once_at_the_start_in_transformers(
    settings: dict[str, Any], lm: FrozenLM, batch: TextBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, run = Waits(), lm.run

    def watched(*args: Any) -> None:
        waits.in_body = True
        run(*args)
        waits.in_body = False

    monkeypatch.setattr(lm, "run", watched)
    # What lies on the CPU is looked at there, which costs nothing; on a device it is not.
    monkeypatch.setattr("logos_pl.lm.residuals._check", lambda *_: None)
    module = built(lm, **settings)
    trainer = SimpleNamespace(datamodule=SimpleNamespace(total_steps=10), global_step=0)
    module.trainer = trainer  # type: ignore[assignment]
    made = module.configure_optimizers()
    with waits:
        module.training_step(batch, 0)["loss"].backward()
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()  # type: ignore[index]
    # Transformers asks whether position_ids tell packed documents apart.
    assert waits.seen == ["_local_scalar_dense in the body"]


@pytest.mark.parametrize("layers_per_step", ["all", 2])
def test_from_residuals_to_gradients_no_number_is_looked_at(
    layers_per_step: str | int, lm: FrozenLM, batch: TextBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device there are none to look at."""
    module = built(lm, layers_per_step=layers_per_step)
    module.trainer = SimpleNamespace(global_step=0)  # type: ignore[assignment]
    kept = torch.empty(int(module.settings.layers_per_step) + 1, *batch.positions.shape, lm.d_model, device="meta")
    batch = batch._replace(residuals=Residuals(kept, kept[:0]))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta device
    module.head.to("meta")
    module.translators.to("meta")
    assert module.bias_only is not None
    module.bias_only.to("meta")

    module.training_step(batch, 0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in trained(module).values())


@pytest.mark.parametrize("anneal", ["average", "cosine"])
def test_what_is_validated_is_the_average_over_the_steps_or_under_a_cosine_the_last_one(
    anneal: str, lm: FrozenLM, batch: TextBatch
) -> None:
    module = built(lm, anneal=anneal)
    generator = torch.Generator().manual_seed(1)
    seen: dict[str, list[Tensor]] = {name: [] for name in trained(module)}
    for step in range(1, 5):
        with torch.no_grad():
            for parameter in trained(module).values():
                parameter += torch.randn(parameter.shape, generator=generator)
        module.update_averages(step)
        for name, parameter in trained(module).items():
            seen[name].append(parameter.detach().clone())
    for name, values in seen.items():
        weights = torch.arange(1.0, 5) if anneal == "average" else torch.tensor([0.0, 0, 0, 1])
        wanted = torch.einsum("s,s...->...", weights / weights.sum(), torch.stack(values))
        found = module.get_parameter(f"averages.{name}")
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert not found.requires_grad
    tuned = module.lenses["tuned"]
    assert isinstance(tuned, TunedLens)
    assert tuned.translators is module.average("translators")


def test_validation_reads_every_row_and_the_last_agrees_with_the_model(lm: FrozenLM, batch: TextBatch) -> None:
    module = moved(built(lm))
    module.on_validation_epoch_start()
    module.validation_step(batch, 0)
    readings = module.take_readings()

    assert readings.keys() == {"norm", "tuned"}, "the bias-only lens is read where the gates compare with it, not here"
    for lens in ("norm", "tuned"):
        assert readings[lens]["kl_from_final_bits"].shape == (5,)
        assert readings[lens]["kl_from_final_bits"][4] == pytest.approx(0, abs=1e-7)
        assert readings[lens]["top1_agree"][4] == 1
    assert readings["norm"]["kl_from_final_bits"][0] == readings["tuned"]["kl_from_final_bits"][0]
    inner = slice(1, 4)
    assert (readings["norm"]["kl_from_final_bits"][inner] != readings["tuned"]["kl_from_final_bits"][inner]).all()


def test_each_sequences_figure_is_its_mean_at_the_depth_percentiles_whatever_the_batches(
    lm: FrozenLM, batch: TextBatch
) -> None:
    module = moved(built(lm))
    by_batches = []
    for parts in ([slice(0, 3)], [slice(2, 3), slice(0, 2)]):
        module.on_validation_epoch_start()
        for part in parts:
            some = batch._replace(
                input_ids=batch.input_ids[part], positions=batch.positions[part], indices=batch.indices[part]
            )
            module.validation_step(some, 0)
        readings = module.take_readings()["tuned"]["kl_from_final_bits"]
        by_batches.append(module.sequence_kl_bits)
    assert torch.equal(*(figures.argsort() for figures in by_batches))
    torch.testing.assert_close(by_batches[0], by_batches[1], rtol=1e-5, atol=1e-6)
    for index, number in ((0, 1), (1, 2), (2, 0)):  # sorted by the index of the sequence: 0, 3, 7
        module.on_validation_epoch_start()
        part = slice(number, number + 1)
        module.validation_step(TextBatch(batch.input_ids[part], batch.positions[part], {}, (5,)), 0)
        alone = module.take_readings()["tuned"]["kl_from_final_bits"]
        assert float(by_batches[0][index]) == pytest.approx(float(alone[[1, 2, 3]].mean()), rel=1e-5)
    assert float(by_batches[0].mean()) == pytest.approx(float(readings[[1, 2, 3]].mean()), rel=1e-5)


class Pieces(NormLens):
    """Notes how many positions it decodes at a time."""

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self.sizes: list[int] = []

    def decode_inputs(self, h: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        self.sizes.append(h.shape[1])
        return super().decode_inputs(h, rows)


def test_validation_decodes_no_more_at_a_time_than_the_budget_of_a_block(
    lm: FrozenLM, batch: TextBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = built(lm)
    module.on_validation_epoch_start()
    module.validation_step(batch, 0)
    whole = module.row_means["norm"].compute()
    module.row_means["norm"].reset()
    module.lenses["norm"] = lens = Pieces(module.head)
    monkeypatch.setattr(type(module.settings), "block_bytes", 4 * 5 * lm.d_model * 4)
    module.validation_step(batch, 0)
    assert lens.sizes == [4, 2]
    for name, mean in module.row_means["norm"].compute().items():
        torch.testing.assert_close(mean, whole[name], rtol=1e-6, atol=1e-6)


def test_a_checkpoint_of_another_run_is_refused_naming_what_differs(lm: FrozenLM) -> None:
    module = built(lm)
    refuse_other_run(module.identity(), module.identity())

    with pytest.raises(InputError, match=r"model_id 'other' \(now 'tiny-llama'\), rank 8 \(now 3\)"):
        refuse_other_run(module.identity() | {"model_id": "other", "rank": 8}, module.identity())
    with pytest.raises(InputError, match=r"bias_only True \(now False\)"):
        refuse_other_run(module.identity(), built(lm, bias_only=False).identity())
    with pytest.raises(InputError, match="not written by logos-pl fit"):
        module.on_load_checkpoint({"state_dict": {}})


def test_a_resumed_lens_has_its_basis_on_the_device_of_the_run(lm: FrozenLM) -> None:
    """Lightning restores while the parameters are still on the CPU: from there it would be copied at every step."""
    module = built(lm, init="closed_form")
    basis = TrainingBasis(torch.eye(lm.d_model), torch.eye(lm.d_model))
    checkpoint = {"lens_identity": module.identity(), "lens_start": None, "lens_basis": basis._asdict()}
    checkpoint["lens_validation"] = {}
    module._device = torch.device("meta")
    module.on_load_checkpoint(checkpoint)
    for lens in (module.translators, module.average("translators")):
        assert lens.basis is not None
        assert {part.device.type for part in lens.basis} == {"meta"}


def test_a_rank_beyond_the_width_is_refused(lm: FrozenLM, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Rank 17 does not fit a model of width 16"):
        built(lm, rank=17)


def test_the_model_is_loaded_as_it_is_inside_a_device_context(tmp_path: Path) -> None:
    """Lightning calls `configure_model` under the device of the run; the meta device shows what would land there."""
    module = TuningModule(resolved(model_id=str(make_model(tmp_path / "tiny-llama")), rank=3))
    with torch.device("meta"):
        module.configure_model()

    assert module.frozen.device == torch.device("cpu")
    tensors = [*module.translators.parameters(), module.head.unembedding.weight, *module.frozen.model.parameters()]
    assert all(tensor.device == torch.device("cpu") for tensor in tensors)
