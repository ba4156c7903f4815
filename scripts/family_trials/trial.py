"""One architecture tried: a tiny random model of it, saved, and loaded as a user's model is."""

import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from logos_pl.errors import LogosError
from logos_pl.lm.branches import find_branches
from logos_pl.lm.foreign import reason
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.lm.sources import ModelSource
from scripts.family_trials.tiny import VOCAB, tiny_config
from tests.lm.families import build
from tests.lm.placed import resident, save, streamed

CAUSAL: tuple[str, ...] = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""Every ``model_type`` that transformers builds a causal language model of."""
MULTIMODAL = (
    "aya_vision", "cohere2_vision", "glm4v", "glm4v_moe", "idefics2", "idefics3", "internvl", "lfm2_vl", "llava",
    "llava_next", "llava_onevision", "mistral3", "qwen2_audio", "qwen2_vl", "qwen2_5_vl", "qwen3_vl",
    "qwen3_vl_moe", "smolvlm", "video_llava", "voxtral",
)  # fmt: skip
"""Some of the others that read images or sounds as well as text."""
DENSE = "llama"
"""A model without experts, to compare those with."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EXACT, SAME_BITS, NO, NOT_BUILT = "exact", "same bits", "–", "not built"
REFUSED = "refused"
MAX_PARAMETERS = 20_000_000
MAX_REMARK = 230
TOKENS = torch.randint(7, VOCAB - 1, (8, 16), generator=torch.Generator().manual_seed(0))
_ADVICE = re.compile(
    r"; (it may (be|run) in float32: give --model\.dtype float32|else use another model.*|use another model.*|"
    r"use a decoder-only language model|fetch the model again|give --model\.placement resident)\.?$"
)


class Trial(NamedTuple):
    """What came of one architecture, in the words of the table.

    Attributes:
        model_type: Its name in ``config.json``.
        architecture: The class that was built, or a dash.
        float32: ``exact``, ``refused`` or ``not built``.
        bfloat16: The same.
        attribution: ``exact`` or a dash.
        streamed: ``same bits`` or a dash.
        remark: Why, and what else is worth knowing.
        moved: For a mixture of experts, how far row n of a token moves when its sequence is read in a batch of eight
            and not alone, as a share of its length: the most, by number format.
    """

    model_type: str
    architecture: str
    float32: str
    bfloat16: str
    attribution: str
    streamed: str
    remark: str
    moved: dict[str, float]


def try_family(model_type: str, *, batch: bool = False) -> Trial:
    """Builds a tiny model of an architecture and does with it what the table says.

    Args:
        model_type: The architecture.
        batch: Whether ``moved`` is measured if it has no experts, too.
    """
    try:
        config = tiny_config(CONFIG_MAPPING[model_type])
        kind: Any = (
            AutoModelForMultimodalLM if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING else AutoModelForCausalLM
        )
        with torch.device("meta"):
            size = sum(part.numel() for part in kind.from_config(config).parameters())
        if size > MAX_PARAMETERS:
            raise ValueError(f"no tiny configuration is known: this one makes {size:,} parameters")
        model = build(lambda: kind.from_config(config))
    except Exception as error:
        return Trial(model_type, NO, NOT_BUILT, NOT_BUILT, NO, NO, _shortened(reason(error)), {})
    with tempfile.TemporaryDirectory() as folder:
        source = save(model, Path(folder) / "m")
        if model.config.model_type != config.model_type:  # the language model of a configuration with several parts
            config.save_pretrained(source.folder)
        return _tried(model_type, type(model).__name__, source, batch or _has_experts(config))


def _tried(model_type: str, architecture: str, source: ModelSource, batch: bool) -> Trial:
    verdicts: dict[str, str] = {}
    remarks: dict[str, str] = {}
    further: list[str] = []
    moved: dict[str, float] = {}
    attribution = streams = NO
    for name, dtype in DTYPES.items():
        try:
            lm = resident(source, dtype)
        except LogosError as error:
            verdicts[name], remarks[name] = REFUSED, _said(error)
            continue
        verdicts[name], architecture = EXACT, type(lm.model).__name__
        if lm.stream_dtype != dtype:
            further.append(f"its residual stream is kept in {str(lm.stream_dtype).removeprefix('torch.')}")
        if name == "float32":
            attribution = _attribution(lm)
        streamed_as = _streamed(source, dtype, lm)
        streams = streamed_as if streams in (NO, SAME_BITS) else streams
        if batch:
            moved[name] = _moved(lm)
    if streams not in (NO, SAME_BITS):
        further.insert(0, f"not streamed: {streams}")
        streams = NO
    if len(set(remarks.values())) == 1 and len(remarks) == len(DTYPES):
        further.insert(0, next(iter(remarks.values())))
    else:
        further[:0] = [f"{name}: {why}" for name, why in remarks.items()]
    return Trial(
        model_type, architecture, verdicts["float32"], verdicts["bfloat16"], attribution, streams,
        _shortened("; ".join(further)), moved,
    )  # fmt: skip


def _attribution(lm: FrozenLM) -> str:
    try:
        find_branches(lm.model, lm.anatomy)
    except LogosError:
        return NO
    return EXACT


def _streamed(source: ModelSource, dtype: torch.dtype, lm: FrozenLM) -> str:
    """``same bits``, or why not."""
    try:
        other = streamed(source, dtype)
    except LogosError as error:
        return _said(error)
    rows = range(lm.num_blocks + 1)
    same = torch.equal(residuals(other, TOKENS, None, rows), residuals(lm, TOKENS, None, rows))
    return SAME_BITS if same else "its rows have other bits"


def _moved(lm: FrozenLM) -> float:
    """Largest change of row n of a token by the other sequences of its batch, as a share of its length."""
    together = _last_row(lm, TOKENS)
    alone = torch.cat([_last_row(lm, sequence[None]) for sequence in TOKENS])
    return float(((together - alone).norm(dim=-1) / alone.norm(dim=-1)).max())


def _last_row(lm: FrozenLM, ids: Tensor) -> Tensor:
    return residuals(lm, ids, None, [lm.num_blocks])[0].float()


def _has_experts(config: PreTrainedConfig) -> bool:
    text = config.get_text_config(decoder=True).to_dict()
    return any("experts" in key and isinstance(value, int) and value > 1 for key, value in text.items())


def _said(error: LogosError) -> str:
    """The reason of a refusal without the architecture's name and the advice."""
    text = re.sub(r"^\S+ (is not supported|cannot be streamed)[^:]*: ", "", str(error))
    while (shorter := _ADVICE.sub("", text)) != text:
        text = shorter
    return text.rstrip(".")


def _shortened(text: str) -> str:
    text = " ".join(text.split()).replace("|", "/")
    return text if len(text) <= MAX_REMARK else f"{text[:MAX_REMARK]}…"
