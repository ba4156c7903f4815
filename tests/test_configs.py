"""Every shipped configuration parses under every subcommand, says only what differs, and settles to the figures."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from logos_pl import plan
from logos_pl.data.datamodule import LensDataModule
from logos_pl.entry import main
from logos_pl.lm.devices import DeviceMemory
from logos_pl.lm.sources import Source
from logos_pl.modules.tuning import LensTuning
from tests.tiny import namespace

CONFIGS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))}


class Known(NamedTuple):
    """A model's published sizes: the configuration that matters for them, and the parameters in billions."""

    config: PreTrainedConfig
    billions: float


def sizes(kind: type[PreTrainedConfig], billions: float, *numbers: int, **more: Any) -> Known:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    settings = dict(zip((*names, "num_key_value_heads"), numbers, strict=True))
    return Known(kind(**settings, **{"max_position_embeddings": 8192, "tie_word_embeddings": False, **more}), billions)


# From the models' own pages and config.json files.
MODELS = {
    "llama3_8b": sizes(LlamaConfig, 8.03, 128256, 4096, 14336, 32, 32, 8),
    "llama3_70b": sizes(LlamaConfig, 70.6, 128256, 8192, 28672, 80, 64, 8),
    "mistral_7b": sizes(MistralConfig, 7.24, 32000, 4096, 14336, 32, 32, 8),
    "mistral_small_24b": sizes(MistralConfig, 23.6, 131072, 5120, 32768, 40, 32, 8, head_dim=128),
    "gemma2_9b": sizes(Gemma2Config, 9.24, 256000, 3584, 14336, 42, 16, 8, head_dim=256, tie_word_embeddings=True),
    "gemma2_27b": sizes(Gemma2Config, 27.2, 256000, 4608, 36864, 46, 32, 16, head_dim=128, tie_word_embeddings=True),
    "qwen3_8b": sizes(Qwen3Config, 8.19, 151936, 4096, 12288, 36, 32, 8, head_dim=128),
    "qwen3_14b": sizes(Qwen3Config, 14.8, 151936, 5120, 17408, 40, 40, 8, head_dim=128),
    "qwen2_5_72b": sizes(Qwen2Config, 72.7, 152064, 8192, 29568, 80, 64, 8),
    "yi_34b": sizes(LlamaConfig, 34.4, 64000, 7168, 20480, 60, 56, 8, max_position_embeddings=4096),
    "smollm2_135m": sizes(LlamaConfig, 0.135, 49152, 576, 1536, 30, 9, 3, tie_word_embeddings=True),
    "qwen3_0_6b": sizes(Qwen3Config, 0.596, 151936, 1024, 3072, 28, 16, 8, head_dim=128, tie_word_embeddings=True),
    "gpt2": Known(GPT2Config(), 0.124),
    "pythia_160m": Known(
        GPTNeoXConfig(
            vocab_size=50304, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        ),
        0.162,
    ),
}


def test_there_is_a_configuration_for_the_demo_and_each_model() -> None:
    assert set(CONFIGS) == {"demo", *MODELS}


def printed(subcommand: str, path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main([subcommand, "--config", str(path), *more, "--print_config"])
    assert ended.value.code == 0
    settings: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return settings


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_parses_under_every_subcommand_and_instantiates(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for subcommand in ("fit", "validate", "test", "predict", "selftest"):
        settings = printed(subcommand, CONFIGS[name], capsys)
    given = yaml.safe_load(CONFIGS[name].read_text())
    module, data = LensTuning(**settings["model"]), LensDataModule(**settings["data"])

    assert module.model_id == given["model"]["model_id"]
    assert (data.tokens, data.seq_len) == (settings["data"]["tokens"], settings["data"]["seq_len"])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_says_only_what_differs_from_the_defaults(name: str) -> None:
    given = yaml.safe_load(CONFIGS[name].read_text())
    module, data = LensTuning("unnamed"), LensDataModule()

    for section, made in (("model", module), ("data", data)):
        for key, value in given.get(section, {}).items():
            assert getattr(made, key) != value, f"{section}.{key} repeats the default"


def test_the_command_line_overrides_a_configuration_and_reads_underscored_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = printed("fit", CONFIGS["gpt2"], capsys, "--model.rank", "64", "--data.tokens", "1_000_000")

    assert settings["model"]["rank"] == 64
    assert settings["data"]["tokens"] == 1_000_000


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_settles_to_the_devices_and_the_steps_of_the_spec(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = namespace(printed("fit", CONFIGS[name], capsys))
    known = MODELS[name]
    monkeypatch.setattr(plan, "locate", lambda model_id, revision: Source(model_id, model_id, None, Path()))
    monkeypatch.setattr(plan, "read_config", lambda source: known.config)
    monkeypatch.setattr(plan, "measure_memory", lambda: [DeviceMemory("cuda:0", 10**12), DeviceMemory("cpu", 10**12)])

    run = plan.plan_run(settings)
    run.settle(settings)

    assert run.shape.num_parameters / 1e9 == pytest.approx(known.billions, rel=0.01)
    assert run.steps == {32_000_000: 1954, 4_000_000: 245}[settings.data.tokens]
    assert (settings.data.micro_batch_seqs, run.batching.grad_accum) == (32, 1)
    assert (settings.trainer.accelerator, settings.trainer.devices) == ("cuda", [0])


def test_on_the_cpu_micro_batches_are_eight_and_accumulated_to_the_effective_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = namespace(printed("fit", CONFIGS["gpt2"], capsys))
    monkeypatch.setattr(plan, "locate", lambda model_id, revision: Source(model_id, model_id, None, Path()))
    monkeypatch.setattr(plan, "read_config", lambda source: MODELS["gpt2"].config)
    monkeypatch.setattr(plan, "measure_memory", lambda: [DeviceMemory("cpu", 10**12)])

    run = plan.plan_run(settings)
    run.settle(settings)

    assert (settings.data.micro_batch_seqs, run.batching.grad_accum) == (8, 4)
    assert settings.trainer.accelerator == "cpu"
