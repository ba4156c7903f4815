"""Facts about model and run for a sweep's document."""

from datetime import UTC, datetime

from logos_pl.artifacts.environment import environment, git_sha, project_version
from logos_pl.artifacts.provenance_schema import Environment
from logos_pl.lm.frozen import FrozenLM
from logos_pl.modules.base import LensModule
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.document_schema import ModelIdentity, ModelStats, RunFacts


def model_identity(lm: FrozenLM) -> ModelIdentity:
    """Identity of the model."""
    return ModelIdentity(lm.model_id, lm.clean_model_name, lm.model_commit, lm.tokenizer_commit, lm.loaded_as)


def model_stats(module: LensModule) -> ModelStats:
    """Sizes and properties of the model."""
    lm, head = module.frozen, module.head
    return ModelStats(
        architecture=lm.anatomy.architecture,
        num_parameters=sum(parameter.numel() for parameter in lm.model.parameters()),
        num_blocks=lm.num_blocks,
        d_model=lm.d_model,
        vocab_size=lm.vocab_size,
        context_length=lm.context_length,
        tied_embeddings=lm.tied_embeddings,
        final_norm=head.final.kind,
        softcap=head.unembedding.softcap,
        logit_scale=head.unembedding.scale,
        head_sha256=head.sha256(),
    )


def run_facts(module: LensModule, started: datetime, copy_rule: CopyRule) -> RunFacts:
    """Facts about the run up to now."""
    lm = module.frozen
    made_with = environment(lm.device)
    return RunFacts(
        started=started,
        finished=datetime.now(UTC),
        project_version=project_version(),
        git_sha=git_sha(),
        device=str(lm.device),
        dtype=dtype_name(lm),
        decoding_norm=module.decoding_norm,
        environment=Environment(made_with.torch, made_with.transformers, made_with.lightning, made_with.device),
        unembed_dtype=str(module.head.unembedding.weight.dtype).removeprefix("torch."),
        copy_threshold=copy_rule.threshold,
        copy_margin=copy_rule.margin,
    )


def dtype_name(lm: FrozenLM) -> str:
    """Name of the model's dtype."""
    return str(lm.dtype).removeprefix("torch.")
