"""Adapters of peft: found, checked, and merged into the weights of a model.

The unmerged model is run once on a few tokens, and the merged one must give the same logits, up to rounding. If head
and embedding are tied, an adapter of either is refused, since merging it would change both.
"""

import dataclasses
import hashlib
import re
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.adapter_sources import AdapterSource
from logos_pl.lm.foreign import blaming
from logos_pl.lm.loaded_as import MergedAdapter
from logos_pl.lm.model_files import ADAPTER_FILE, read_json_object, refuse_pointer
from logos_pl.lm.packages import require_packages
from logos_pl.lm.probing import probe_ids
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import clean_name, file_digest
from logos_pl.lm.weight_headers import measure_weights

PACKAGES = ("peft", "accelerate")
MERGED = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "HRA", "VERA")
"""Types of adapters that can be written into the weights."""
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
UNREAD = ("megatron_config", "layer_replication", "alora_invocation_tokens", "arrow_config")
"""Options of adapters that name other code or other blocks, or depend on the text: such adapters are not merged."""
STARTS = ("gaussian", "orthogonal", "olora", "pissa")
"""Initialisations of a LoRA that need only the model; others read files written in training."""
PATTERNS = ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern")
"""Options that peft matches as regular expressions against module names."""
MAX_REPEATS = 4
TOLERANCE = {torch.float32: 1e-4}
HALF_TOLERANCE = 0.25
"""Maximum relative difference between the logits of the merged and the unmerged model, from rounding. Merged weights in
half precision are rounded once more; 0.06 was measured on a tiny random model, whose blocks amplify differences."""


class Adapter(NamedTuple):
    """An adapter whose files have been checked.

    Attributes:
        source: Where it is.
        type: Its type in peft.
        weights: Name of the file of its weights.
        base: The base model that it names; None if it names none.
    """

    source: AdapterSource
    type: str
    weights: str
    base: str | None

    def record(self, base_id: str, base_commit: str) -> MergedAdapter:
        """The record of its merge into a model."""
        digest = hashlib.sha256()
        for name in (ADAPTER_FILE, self.weights):
            digest.update(f"{name}\0{file_digest(self.source.folder / name)}\n".encode())
        given = self.source
        return MergedAdapter(given.adapter_id, given.commit, digest.hexdigest(), self.type, base_id, base_commit)


def check_adapter(source: AdapterSource) -> Adapter:
    """Check an adapter before any weight of the model is read.

    Raises:
        InputError: A package or a file is missing or damaged, or it is of a type that cannot be merged.
    """
    name, folder = source.adapter_id, source.folder
    require_packages(f"reading the adapter {name}", PACKAGES)
    raw = read_json_object(folder / ADAPTER_FILE, name)
    kind = raw.get("peft_type")
    if kind not in MERGED:
        raise InputError(
            f"the adapter {name} is of the type {kind!r}, which cannot be merged into the weights and is not read; "
            f"types that are: {', '.join(MERGED)}."
        )
    _refuse_unread(name, raw)
    files = [file for file in WEIGHTS if (folder / file).exists()]
    if not files:
        raise InputError(f"the adapter {name} has no weights ({' or '.join(WEIGHTS)}); fetch it again.")
    refuse_pointer(folder / files[0], name)
    measure_weights(folder, files[:1], name)
    base = raw.get("base_model_name_or_path")
    return Adapter(source, kind, files[0], base if isinstance(base, str) and base else None)


def refuse_adapter_on(base_id: str, adapter: Adapter, stored: str | None) -> None:
    """Check that an adapter can be merged into a model's weights; warn if it names another base model.

    Args:
        base_id: The model.
        adapter: The adapter.
        stored: Format of the model's quantised weights; None for plain numbers.

    Raises:
        InputError: The weights are quantised.
    """
    name = adapter.source.adapter_id
    if stored is not None:
        raise InputError(
            f"the adapter {name} is merged into plain weights, and those of {base_id} are {stored}; give the model "
            "without quantisation."
        )
    if adapter.base is not None and clean_name(adapter.base.replace("\\", "/")) != clean_name(base_id):
        warnings.warn(
            f"the adapter {name} names the base model {clean_name(adapter.base)}, and is merged into {base_id}.",
            stacklevel=2,
        )


def merge_adapter(model: PreTrainedModel, adapter: Adapter, base_id: str) -> PreTrainedModel:
    """The model with an adapter merged into its weights, after checking that it gives the unmerged model's logits.

    Args:
        model: The base model with all its weights on the CPU; it is changed.
        adapter: The adapter.
        base_id: What the model is called in messages.

    Raises:
        InputError: The adapter does not fit the model, or the merged model gives other logits.
        RunError: There is too little memory, or the disk fails.
    """
    name, folder = adapter.source.adapter_id, adapter.source.folder
    raw = read_json_object(folder / ADAPTER_FILE, name)
    remedy = "check the adapter and its base model"
    with (
        quiet(),
        warnings.catch_warnings(action="ignore"),
        blaming(f"the adapter {name} cannot be merged into {base_id}", remedy, name, raw),
    ):
        from peft import PeftConfig, PeftModel
        from peft import __version__ as peft_version

        config = PeftConfig.from_pretrained(str(folder))
        _refuse_unknown(name, raw, config, peft_version)
        config.inference_mode = True
        ends = [model.get_input_embeddings(), model.get_output_embeddings()]
        adapted = PeftModel(model.eval(), config)
        mapping = getattr(model, "_checkpoint_conversion_mapping", {})
        _refuse_tied(name, base_id, ends, adapted)
        found = adapted.load_adapter(str(folder), "default", torch_device="cpu", key_mapping=mapping)
        _refuse_other_tensors(name, base_id, found.missing_keys, found.unexpected_keys)
        ids = probe_ids(model)
        wanted = _logits(adapted, ids)
        merged = adapted.merge_and_unload(safe_merge=True)
    if type(merged) is not type(model):
        raise InputError(f"the adapter {name} turns {base_id} into a {type(merged).__name__}; {remedy}.")
    got, bound = _logits(merged, ids), TOLERANCE.get(merged.dtype, HALF_TOLERANCE)
    drift = float((got - wanted).norm() / wanted.norm().clamp(min=1e-30))
    if not drift <= bound:  # NaN is refused too
        raise InputError(
            f"the adapter {name}, merged into {base_id}, does not give the logits of the unmerged model (they differ "
            f"by {drift:.1e} of their size); take a newer peft, or another adapter."
        )
    return merged


@torch.no_grad()
def _logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits.double()


def _refuse_tied(name: str, base_id: str, ends: list[nn.Module | None], adapted: nn.Module) -> None:
    """Refuse an adapter of the embedding or the output layer if they are tied: merging it would change both.

    Args:
        name: The adapter.
        base_id: The model.
        ends: Its embedding and its output layer.
        adapted: The model with the adapter in place.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    embedding, head = (getattr(end, "weight", None) for end in ends)
    changed = [part.get_base_layer() for part in adapted.modules() if isinstance(part, BaseTunerLayer)]
    if embedding is not None and embedding is head and sum(any(end is part for part in changed) for end in ends) == 1:
        raise InputError(
            f"the adapter {name} changes the embedding or the output layer, which are tied in {base_id}, and the "
            "merge would change both: untie them in the base model, and save it with tie_word_embeddings false."
        )


def _refuse_unread(name: str, raw: dict[str, Any]) -> None:
    given = next((key for key in UNREAD if raw.get(key)), None)
    if given is not None:
        raise InputError(f"the adapter {name} sets {given}, which cannot be merged into the weights; take another one.")
    _refuse_slow(name, raw)
    start = raw.get("init_lora_weights", True)
    if not (isinstance(start, bool) or (isinstance(start, str) and start.startswith(STARTS))):
        raise InputError(
            f"the adapter {name} starts from {start!r} (init_lora_weights), which needs files of its training; save it "
            "as an ordinary LoRA, as described in peft's documentation."
        )


def _refuse_slow(name: str, raw: dict[str, Any]) -> None:
    """Refuse regular expressions that could take hours to match: repeated groups, or many repeats."""
    for key in PATTERNS:
        given = raw.get(key)
        for pattern in [given] if isinstance(given, str) else given if isinstance(given, list | dict) else []:
            text = str(pattern)
            if re.search(r"\)[*+{]", text) or len(re.findall(r"[*+{]", text)) > MAX_REPEATS:
                raise InputError(
                    f"the adapter {name} gives {key} by a regular expression that may take forever to match "
                    f"({text[:60]!r}); list the modules by name."
                )


def _refuse_unknown(name: str, raw: dict[str, Any], config: Any, version: str) -> None:
    """Refuse options that peft would ignore."""
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(key for key, value in raw.items() if key not in known and value not in (None, False, "", [], {}))
    if unknown:
        raise InputError(
            f"the adapter {name} sets {unknown[0]}, which peft {version} does not know; take a newer peft, or check "
            f"{ADAPTER_FILE}."
        )


def _refuse_other_tensors(name: str, base_id: str, missing: list[str], unexpected: list[str]) -> None:
    """Refuse an adapter that lacks tensors, or has tensors for modules that the model does not have."""
    for keys, what in ((missing, "lacks"), (unexpected, "has tensors that have no place in the model:")):
        if keys:
            raise InputError(
                f"the adapter {name} {what} {len(keys)} tensors, {sorted(keys)[0]} first, and cannot be merged into "
                f"{base_id}; check that this is its base model."
            )
