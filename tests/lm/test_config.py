"""What of a configuration is put right before a model is built, and what it says of lengths."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, PreTrainedConfig, XLNetConfig

from logos_pl.lm.config import context_length
from logos_pl.lm.frozen import FrozenLM
from tests.lm.model_folder import edit

IDS = torch.arange(3, 15)[None]


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_attention_that_may_not_run_here_gives_way_to_torchs_own_and_says_so(
    whole: Path, folder: Path, key: str
) -> None:
    with pytest.warns(UserWarning, match="requests the attention 'flash_attention_2': torch's own is used instead"):
        lm = FrozenLM.load(str(edit(folder, **{key: "flash_attention_2"})))
    assert lm.model.config._attn_implementation == "sdpa"
    assert torch.equal(lm.logits(IDS), FrozenLM.load(str(whole)).logits(IDS))


def test_preferences_on_what_a_forward_returns_change_nothing(whole: Path, folder: Path) -> None:
    edit(folder, return_dict=False, output_hidden_states=True, output_attentions=True, use_cache=True)
    assert torch.equal(FrozenLM.load(str(folder)).logits(IDS), FrozenLM.load(str(whole)).logits(IDS))


def test_a_model_without_a_bound_on_positions_has_no_context_length() -> None:
    assert context_length(PreTrainedConfig()) is None
    assert context_length(GPT2Config(n_positions=77)) == 77
    assert context_length(XLNetConfig()) is None
