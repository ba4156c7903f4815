"""Which numbers of a configuration are refused before anything is built, and which are not."""

import math

import pytest

from logos_pl.errors import InputError
from logos_pl.lm.config_values import check_values, key_of


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"num_hidden_layers": 10**9}, "1,000,000,000 for num_hidden_layers, but no model has more than 4,096"),
        ({"n_layer": 10**6}, "for n_layer"),
        ({"text_config": {"num_layers": -(10**6)}}, "for num_layers"),
        ({"num_experts": 10**6}, "for num_experts"),
        ({"hc_sinkhorn_iters": 10**9}, "for hc_sinkhorn_iters"),
        ({"attention_types": [[["global"], 10**9]]}, "for attention_types"),
        ({"hidden_size": 10**9}, "for hidden_size"),
        ({"vocab_size": 10**300}, "a number of 301 digits for vocab_size"),
        ({"rope_theta": -1}, "rope_theta -1, which must be a positive number"),
        ({"rope_parameters": {"full": {"rope_theta": math.inf}}}, "rope_theta inf"),
        ({"rope_theta": "x"}, "rope_theta 'x'"),
        ({"rope_theta": True}, "rope_theta True"),
        ({"pad_token_id": 320, "vocab_size": 320}, "pad_token_id 320, but token ids end at 319 .* set it to null"),
        ({"pad_token_id": -321, "vocab_size": 320}, "pad_token_id -321"),
    ],
)
def test_what_no_model_has_is_refused(config: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        check_values(config, "m")
    assert str(caught.value).startswith("config.json of m has ")
    assert len(str(caught.value)) < 200


def test_what_large_models_have_is_not() -> None:
    check_values(
        {
            "num_hidden_layers": 126,
            "num_experts": 16_384,
            "num_attention_heads": 128,
            "hidden_size": 53_248,
            "vocab_size": 290_943,
            "max_position_embeddings": 10_485_760,
            "rope_parameters": {"rope_theta": 5e8, "original_max_position_embeddings": 8192},
            "rope_theta": None,
            "num_position_embeddings": 2304,
            "pad_token_id": -1,
            "eos_token_id": [128_001, 128_009],
            "time_step_limit": [0.0, math.inf],
            "seed": 2**32,
        },
        "m",
    )


def test_the_key_is_named_whose_value_an_error_quotes() -> None:
    config = {"model_type": "foo", "hidden_size": 3, "rope_parameters": {"rope_type": "foo"}}
    assert key_of(config, "'foo'") == "rope_type is 'foo'"
    assert key_of(config, "module 'torch' has no attribute 'bar'") is None
