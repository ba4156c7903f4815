import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.artifacts import tuned_lens
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError, RunError
from logos_pl.kinds.registry import LensKind, kind_of, register, unregister
from logos_pl.kinds.request import FoundLens, LensRequest, LoadedLens
from logos_pl.lenses.norm import NormLens
from logos_pl.modules import lens_loader
from logos_pl.modules.base import LensModule
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import TextSettings
from tests.artifacts.lenses import make_lm, make_provenance, make_translators
from tests.tiny import make_imported_lens, make_model

TRAINER = SimpleNamespace(is_global_zero=True, datamodule=ValidationText(TextSettings(held_out_frac=0.02), "tiny"))


def request(**changes: Any) -> LensRequest:
    return LensRequest(**({"model_id": "tiny", "clean_model_name": "tiny"} | changes))


def evaluated(folder: Path, with_bias_only: bool) -> LensModule:
    """A module as it stands when an evaluation of the artifact in `folder` begins."""
    lm, translators = make_lm(), make_translators()
    bias_only = make_translators(rank=0) if with_bias_only else None
    save_tuned_lens(folder, translators, make_provenance(lm, translators), bias_only)
    module = LensModule(ModelSettings(model_id=lm.model_id))
    module.build(lm)
    loader = LensLoader({"tuned": request(use="require", folder=folder)})
    loader.setup(TRAINER, module, "test")
    loader.on_test_start(TRAINER, module)
    return module


def test_an_evaluation_takes_both_lenses_from_the_artifact(tmp_path: Path) -> None:
    module = evaluated(tmp_path / "tiny", with_bias_only=True)
    tuned, bias_only = (module.lenses[name] for name in ("tuned", "bias"))
    assert torch.equal(tuned.translators.V, make_translators().V)  # type: ignore[attr-defined]
    assert torch.equal(bias_only.translators.c, make_translators(rank=0).c)  # type: ignore[attr-defined]
    assert bias_only.head is tuned.head is module.head
    assert module.origins.keys() == {"tuned"}


def test_an_evaluation_makes_no_second_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold a large unembedding once more, and not in the number format that the run asks for."""
    monkeypatch.delattr(tuned_lens, "Head")
    evaluated(tmp_path / "tiny", with_bias_only=True)


def test_an_untrained_bias_only_never_stands_in_for_one_that_the_artifact_lacks(tmp_path: Path) -> None:
    module = evaluated(tmp_path / "tiny", with_bias_only=False)
    assert module.lenses.keys() == {"norm", "tuned"}


def test_the_lens_is_found_before_the_model_is_loaded_and_joins_the_others_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = LensModule(ModelSettings(model_id=str(make_model(tmp_path / "tiny-llama"))))
    missing = LensLoader({"imported": request(source=str(tmp_path / "nothing"))})
    with pytest.raises(InputError, match="There is no folder"):
        missing.setup(TRAINER, module, "predict")

    loader = LensLoader({"imported": request(source=str(make_imported_lens(tmp_path / "theirs", scale=0.1)))})
    loader.setup(TRAINER, module, "predict")
    assert module.lm is None
    module.configure_model()
    loader.on_predict_start(TRAINER, module)
    lens = module.lenses["imported"]
    assert list(module.lenses) == ["norm", "imported"]
    assert lens.head.unembedding.weight is module.head.unembedding.weight, "one unembedding serves all lenses"
    assert module.origins["imported"].base_model == "tiny-llama"  # type: ignore[attr-defined]
    assert "imported lens: trained for tiny-llama with the tuned-lens package" in capsys.readouterr().out
    h = torch.randn(5, 3, 16)
    imported, norm = (of.logits(h, range(5)) for of in (lens, module.lenses["norm"]))
    assert [torch.equal(a, b) for a, b in zip(imported, norm, strict=True)] == [False] * 4 + [True]


# A kind of lens as the loader sees it


@pytest.fixture
def toy() -> Iterator[dict[str, Any]]:
    """A kind whose finding the test decides; what was loaded of it is noted."""
    settings: dict[str, Any] = {"there": True, "sentence": None, "share": None, "loads": 0}

    def load(lm: Any, head: Any) -> LoadedLens:
        settings["loads"] += 1
        return LoadedLens({"toy": NormLens(head)}, "from a box", settings["share"], identity="red")

    def find(request: LensRequest) -> FoundLens:
        return FoundLens(load, settings["there"], settings["sentence"], title="a toy")

    register(LensKind(name="toy", label="toy lens", colour="tab:red", first_row=0, find=find))
    yield settings
    unregister("toy")


@pytest.fixture
def with_gates(toy: dict[str, Any]) -> None:
    """The toy is evaluated against the gates."""
    plain = kind_of("toy")
    unregister("toy")
    register(dataclasses.replace(plain, evaluated=True))


@pytest.fixture
def module() -> LensModule:
    made = LensModule(ModelSettings(model_id="tiny"))
    made.build(make_lm())
    return made


def test_a_lens_that_is_not_there_is_done_without_or_refused(
    toy: dict[str, Any], module: LensModule, capsys: pytest.CaptureFixture[str]
) -> None:
    toy |= {"there": False, "sentence": "There is no toy: make one."}
    loader = LensLoader({"toy": request()})
    loader.setup(TRAINER, module, "predict")
    loader.on_predict_start(TRAINER, module)
    assert capsys.readouterr().out == "There is no toy: make one.\n"
    assert list(module.lenses) == ["norm"], "an untrained tuned lens is no lens either"
    assert toy["loads"] == 0
    with pytest.raises(InputError, match="There is no toy: make one"):
        LensLoader({"toy": request(use="require")}).setup(TRAINER, module, "predict")
    toy["sentence"] = None
    with pytest.raises(InputError, match="There is no toy lens for tiny"):
        LensLoader({"toy": request(use="require")}).setup(TRAINER, module, "predict")


def test_text_that_its_fit_has_not_held_out_judges_no_lens_of_any_kind(toy: dict[str, Any], module: LensModule) -> None:
    toy["share"] = 0.1
    loader = LensLoader({"toy": request()})
    loader.setup(TRAINER, module, "validate")
    with pytest.raises(InputError, match=r"give --data.held_out_frac 0\.1"):
        loader.on_validation_start(TRAINER, module)
    loader.on_predict_start(TRAINER, module)  # prompts are no text
    loader.on_test_start(TRAINER, module)  # without gates, it reads only intermediates
    assert module.origins == {"toy": "from a box"}


def test_text_that_its_fit_has_not_held_out_judges_no_lens_with_gates(
    toy: dict[str, Any], with_gates: None, module: LensModule
) -> None:
    toy["share"] = 0.1
    loader = LensLoader({"toy": request()})
    loader.setup(TRAINER, module, "test")
    with pytest.raises(InputError, match=r"give --data.held_out_frac 0\.1"):
        loader.on_test_start(TRAINER, module)


def test_the_first_process_decides_whether_there_is_a_lens(
    toy: dict[str, Any], module: LensModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens_loader, "gather", lambda own: [False, own])
    loader = LensLoader({"toy": request()})
    loader.setup(TRAINER, module, "validate")
    assert loader.found == {}


def test_processes_that_have_read_different_lenses_refuse_to_go_on(
    toy: dict[str, Any], module: LensModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = LensLoader({"toy": request()})
    loader.setup(TRAINER, module, "validate")
    monkeypatch.setattr("logos_pl.agreement.gather", lambda own: [own, {"the toy lens": "blue"}])
    with pytest.raises(RunError, match="the toy lens is red in the first and blue in process 1"):
        loader.on_validation_start(TRAINER, module)
