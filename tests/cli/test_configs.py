"""Every shipped configuration parses under every subcommand, says only what differs, and settles to the figures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from transformers import PreTrainedConfig

from benchmarks.architectures import ARCHITECTURES
from logos_pl.cli import plan
from logos_pl.cli.entry import main
from logos_pl.cli.run import KINDS
from logos_pl.data.training_text import TrainingText
from logos_pl.functional.budget import BatchPlan
from logos_pl.lm.devices import DeviceMemory
from logos_pl.lm.sources import ModelSource
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.text import TrainingTextSettings

CONFIGS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))}


MEMORY = [DeviceMemory("cuda:0", 10**12, 10**12), DeviceMemory("cpu", 10**12, 10**12)]
# Parameters in billions, from the models' own pages.
BILLIONS = {
    "llama3_8b": 8.03,
    "llama3_70b": 70.6,
    "mistral_7b": 7.24,
    "mistral_small_24b": 23.6,
    "gemma2_9b": 9.24,
    "gemma2_27b": 27.2,
    "qwen3_8b": 8.19,
    "qwen3_14b": 14.8,
    "qwen2_5_72b": 72.7,
    "yi_34b": 34.4,
    "smollm2_135m": 0.135,
    "qwen3_0_6b": 0.596,
    "gpt2": 0.124,
    "pythia_160m": 0.162,
}


def architecture(name: str) -> PreTrainedConfig:
    return ARCHITECTURES[yaml.safe_load(CONFIGS[name].read_text())["model"]["model_id"]]


def test_there_is_a_configuration_for_the_demo_and_each_model() -> None:
    assert set(CONFIGS) == {"demo", *BILLIONS}


def printed(subcommand: str, path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main([subcommand, "--config", str(path), *more, "--print_config"])
    assert ended.value.code == 0
    settings: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return settings


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_parses_under_every_command_and_its_options_are_taken(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = yaml.safe_load(CONFIGS[name].read_text())
    for command, kind in KINDS.items():
        settings = printed(command, CONFIGS[name], capsys)
        made = {section: options(**settings[section]) for section, options in kind.groups.items()}
        assert made["model"].model_id == given["model"]["model_id"]
        if "data" in given and command == "fit":
            assert {key: getattr(made["data"], key) for key in given["data"]} == given["data"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_says_only_what_differs_from_the_defaults(name: str) -> None:
    given = yaml.safe_load(CONFIGS[name].read_text())
    defaults = TuningSettings(model_id="unnamed"), TrainingTextSettings()

    for section, made in zip(("model", "data"), defaults, strict=True):
        for key, value in given.get(section, {}).items():
            assert getattr(made, key) != value, f"{section}.{key} repeats the default"


def test_the_command_line_overrides_a_configuration_and_reads_underscored_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = printed("fit", CONFIGS["gpt2"], capsys, "--model.rank", "64", "--data.tokens", "1_000_000")

    assert settings["model"]["rank"] == 64
    assert settings["data"]["tokens"] == 1_000_000


def planned(settings: dict[str, Any]) -> tuple[plan.RunPlan, TuningSettings, TrainingTextSettings]:
    model, text = TuningSettings(**settings["model"]), TrainingTextSettings(**settings["data"])
    return plan.plan_text(model, text, settings["schedule"], SimpleNamespace(**settings["trainer"]))


@pytest.mark.parametrize("name", BILLIONS)
def test_a_configuration_settles_to_the_devices_and_the_steps_of_the_spec(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = printed("fit", CONFIGS[name], capsys)
    monkeypatch.setattr(plan, "locate", lambda model_id, *rest: ModelSource(model_id, model_id, None, Path()))
    monkeypatch.setattr(plan, "read_config", lambda source: architecture(name))
    monkeypatch.setattr(plan, "measure_memory", lambda cards: MEMORY)

    run, _, text = planned(settings)

    assert run.known.shape.num_parameters / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)
    steps = TrainingText(text, "demo").total_steps
    assert steps == {32_000_000: 1954, 4_000_000: 245}[int(text.tokens)]
    assert run.batching == BatchPlan(32, 1, 1)
    assert (run.choice.device.type, run.devices) == ("cuda", [0])


def test_on_the_cpu_micro_batches_are_eight_and_accumulated_to_the_effective_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = printed("fit", CONFIGS["gpt2"], capsys)
    monkeypatch.setattr(plan, "locate", lambda model_id, *rest: ModelSource(model_id, model_id, None, Path()))
    monkeypatch.setattr(plan, "read_config", lambda source: architecture("gpt2"))
    monkeypatch.setattr(plan, "measure_memory", lambda cards: MEMORY[1:])

    run, _, _ = planned(settings)

    assert run.batching == BatchPlan(8, 4, 1)
    assert run.choice.device.type == "cpu"
