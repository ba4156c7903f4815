from datetime import UTC, datetime
from pathlib import Path

from logos_pl.lm.frozen import FrozenLM
from logos_pl.modules.base import LensModule
from logos_pl.settings.model import ModelSettings
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.run_facts import model_identity, model_stats, run_facts
from tests.tiny import make_model


def test_model_and_run_are_described_by_what_was_loaded(tmp_path: Path) -> None:
    lm = FrozenLM.load(str(make_model(tmp_path / "tiny-llama")), dtype="bfloat16")
    module = LensModule(ModelSettings(model_id=lm.model_id))
    module.build(lm)

    identity = model_identity(lm)
    assert (identity.model_id, identity.clean_model_name) == ("tiny-llama", "tiny-llama")
    assert identity.model_commit is not None
    assert identity.model_commit.startswith("sha256:")
    stats = model_stats(module)
    assert (stats.num_blocks, stats.d_model, stats.vocab_size, stats.context_length) == (4, 16, 23, 64)
    assert stats.num_parameters == sum(parameter.numel() for parameter in lm.model.parameters())
    assert (stats.architecture, stats.final_norm, stats.tied_embeddings) == ("LlamaForCausalLM", "rms", False)
    assert stats.head_sha256 == module.head.sha256()
    started = datetime.now(UTC)
    facts = run_facts(module, started, CopyRule(0.9, 0.2))
    assert facts.started == started <= facts.finished
    assert (facts.dtype, facts.unembed_dtype, facts.device, facts.decoding_norm) == (
        "bfloat16", "float32", "cpu", "final",
    )  # fmt: skip
    assert (facts.copy_threshold, facts.copy_margin) == (0.9, 0.2)
