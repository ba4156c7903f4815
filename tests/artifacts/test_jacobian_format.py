"""Files of Jacobian lenses, as four writers lay them out, and what is refused in them."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from logos_pl.artifacts.jacobian_format import (
    JacobianOrigin,
    check_outline,
    jacobian_files,
    load_jacobian_format,
    maps_in,
)
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.artifacts.lenses import make_lm

BLOCKS, WIDTH = 4, 16  # of make_lm
LAST = BLOCKS - 1


def maps(*blocks: int, dtype: torch.dtype = torch.float16) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {block: torch.randn(WIDTH, WIDTH, generator=generator).to(dtype) for block in blocks}


def reference(*blocks: int, **changes: Any) -> dict[str, Any]:
    """What the reference implementation saves."""
    blocks = blocks or tuple(range(LAST))
    return {"J": maps(*blocks), "n_prompts": 25, "source_layers": list(blocks), "d_model": WIDTH} | changes


def jpp(*blocks: int, **config: Any) -> dict[str, Any]:
    """What a J++ fit saves: one map per block, its clusters and signed weights summed."""
    blocks = blocks or tuple(range(LAST))
    said = {"hf_model_name": "org/tiny", "lens_type": "jacobian", "relative_end_transport_layer": -1, "d_model": 16,
            "num_prompts_trained_on": 96, "lrp_mode": "rlens", "source_layers": None} | config  # fmt: skip
    return {"parameters": {"jacobians": maps(*blocks, dtype=torch.float32)}, "source_layers": [*blocks], "config": said}


def load(tmp_path: Path, content: Any, lm: FrozenLM | None = None) -> tuple[JacobianLens, JacobianOrigin]:
    path = tmp_path / "lens.pt"
    torch.save(content, path)
    lm = make_lm() if lm is None else lm
    files = jacobian_files(path)
    check_outline(files)
    return load_jacobian_format(files, lm, Head(lm.anatomy))


def write_config(folder: Path, **changes: Any) -> None:
    """`config.yaml` as Neuronpedia has it beside its files."""
    content = {
        "np_model_id": "tiny",
        "hf_model_name": "org/tiny",
        "dataset": {"name": "Salesforce/wikitext"},
        "fit": {"n_prompts": 1000, "target_layer": None},
        "results": {"prompts_fitted": 25},
    } | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


def test_every_row_reads_what_float64_reads_of_the_output_of_its_block(tmp_path: Path) -> None:
    """The oracle hooks the blocks themselves, counts them from 0, and knows nothing of rows."""
    lm, of_blocks = make_lm(), maps(0, 1, 2)
    lens, _ = load(tmp_path, reference(), lm)
    ids = torch.randint(50, (2, 7), generator=torch.Generator().manual_seed(3))
    outputs: dict[int, Tensor] = {}
    layers = lm.model.model.layers
    hooks = [
        layers[i].register_forward_hook(lambda _, __, out, i=i: outputs.update({i: out.double()})) for i in of_blocks
    ]
    lm.model(ids)
    for hook in hooks:
        hook.remove()
    norm, lm_head = lm.model.model.norm, lm.model.lm_head
    h = residuals(lm, ids, None, list(lens.rows)).flatten(1, 2)
    got = lens.log_probs(h, lens.rows)
    for block, out in outputs.items():
        carried = out.flatten(0, 1) @ of_blocks[block].double().T
        normed = carried / (carried.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
        wanted = (normed * norm.weight.double() @ lm_head.weight.double().T).log_softmax(-1)
        torch.testing.assert_close(got[lens.rows.index(block + 1)].double(), wanted, rtol=0, atol=1e-5)
    assert lens.rows == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (reference(), (None, None, "float16", None, 25, [1, 2, 3])),
        (
            reference(metadata={"model_name": "tiny", "model_revision": "c0ffee", "estimator": "relevance_lens",
                                "target_layer": LAST, "rule_coverage": {"installed": [], "skipped": []}}),
            ("tiny", "c0ffee", "float16", "relevance_lens", 25, [1, 2, 3]),
        ),
        (
            reference(0, 2, provenance={"model_id": "org/tiny", "target_layer": LAST, "skip_first": 4, "n_prompts": 25,
                                        "config_json": '{"estimator": "relp", "rules": {"ln_rule": true}}'}),
            ("org/tiny", None, "float16", "relp", 25, [1, 3]),
        ),
        (jpp(), ("org/tiny", None, "float32", "lrp_mode rlens", 96, [1, 2, 3])),
        (
            reference(provenance={"method": "jpp", "lrp_mode": "rlens", "capture_point": "block_output",
                                  "stream_reduce": "none", "stream_index": None}),
            (None, None, "float16", "jpp", 25, [1, 2, 3]),
        ),
        (reference(J={str(block): matrix for block, matrix in maps(0, 1, 2).items()}),
         (None, None, "float16", None, 25, [1, 2, 3])),
    ],
    ids=["reference", "TransformerLens", "R-lens pair", "J++", "converted J++", "text keys"],
)  # fmt: skip
def test_each_layout_is_read_with_what_it_records(
    content: dict[str, Any], wanted: tuple[Any, ...], tmp_path: Path
) -> None:
    lens, origin = load(tmp_path, content)
    assert origin[:-1] == wanted
    assert len(origin.params_sha256) == 64
    assert lens.rows == (*origin.rows, BLOCKS)


def test_the_configuration_beside_a_file_says_what_the_file_does_not(tmp_path: Path) -> None:
    write_config(tmp_path)
    assert load(tmp_path, reference())[1].base_model == "org/tiny"
    write_config(tmp_path, fit={"target_layer": LAST})
    assert load(tmp_path, reference(0, 1))[1].rows == [1, 2]
    write_config(tmp_path, fit={"target_layer": 2})
    with pytest.raises(InputError, match="leads to row 3"):
        load(tmp_path, reference(0, 1))
    write_config(tmp_path, hf_model_name="org/other")
    with pytest.raises(InputError, match="trained for org/other, not for org/tiny"):
        load(tmp_path, reference())
    (tmp_path / "config.yaml").write_text("hf_model_name: [")
    with pytest.raises(InputError, match=r"config\.yaml is not valid YAML"):
        load(tmp_path, reference())


def test_what_the_file_itself_says_comes_before_the_configuration(tmp_path: Path) -> None:
    write_config(tmp_path, hf_model_name="org/other", fit={"target_layer": 2})
    lens, origin = load(tmp_path, reference(0, 1, provenance={"model_id": "org/tiny", "target_layer": LAST}))
    assert (origin.base_model, lens.rows) == ("org/tiny", (1, 2, 4))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (reference(provenance={"target_layer": LAST - 1}), "leads to row 3, but its maps are read through the head at "
         "the last row, 4: use a lens that was fitted with target_layer 3"),
        (reference(0, 1, provenance={"target_layer": -2}), "leads to row 3"),
        (jpp(0, 1, relative_end_transport_layer=-2), "leads to row 3"),
        (reference(0, 1), r"does not record to which row its maps lead \(target_layer\); they end at row 2"),
        (reference(J=maps(0, 1) | {2: torch.eye(WIDTH)}), r"does not record to which row .* they end at row 3"),
        (reference(J=maps(0, 1, 2, 3), source_layers=None), "has a map for the last block, 3, which is not"),
        (reference(J={3: torch.eye(WIDTH)}, source_layers=None), "has no map for a row before the last"),
    ],
)  # fmt: skip
def test_a_lens_that_leads_elsewhere_than_to_the_last_row_is_refused(
    content: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"lens\.pt {said}"):
        load(tmp_path, content)


def test_the_identity_of_the_last_block_says_that_the_target_is_the_last_row_and_is_no_map(tmp_path: Path) -> None:
    lens, origin = load(tmp_path, reference(J=maps(0) | {LAST: torch.eye(WIDTH)}, source_layers=[0, LAST]))
    assert (origin.rows, lens.rows) == ([1], (1, 4))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (reference(provenance={"model_id": "org/other"}), "trained for org/other, not for org/tiny"),
        (reference(metadata={"model_name": "org/tiny", "model_revision": "b" * 40}), "at commit b{40}, but"),
        (reference(d_model=8, J={b: torch.zeros(8, 8) for b in (0, 1, 2)}), "has a map of 8 × 8 for block 0"),
        (reference(d_model=8), "map of 16 × 16 for block 0, but org/tiny has width 16: use the lens of this model"),
        (reference(J=maps(0, 1, 2, 9), source_layers=None), "has a map for block 9, but org/tiny has blocks 0 to 3"),
        (reference(J={b: torch.zeros(16) for b in (0, 1, 2)}), "has a map of 16 for block 0"),
        (reference(J={b: torch.zeros(16, 16, dtype=torch.int8) for b in (0, 1, 2)}), r"has a map of torch\.int8"),
        (reference(provenance={"capture_point": "attn_out"}), "reads attn_out, but only the residual stream"),
        (reference(provenance={"stream_reduce": "mean"}), "reads the mean of several residual streams"),
    ],
)  # fmt: skip
def test_a_lens_of_another_model_or_place_is_refused(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        load(tmp_path, content, make_lm(commit="a" * 40))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused_by_block(value: float, tmp_path: Path) -> None:
    content = reference()
    content["J"][1][3, 4] = value
    with pytest.raises(InputError, match=r"lens\.pt holds numbers that are NaN or infinite in the map of block 1"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"jacobian_sum": maps(0), "n_done": 80, "next_idx": 80, "source_layers": [0]}, "is a checkpoint of an"),
        (reference(0, 1, source_layers=[0, 1, 2]), "does not hold the maps of exactly the blocks"),
        (reference(0, 1, source_layers="all"), "does not hold the maps of exactly the blocks"),
        (reference(J={}), "is not a Jacobian lens"),
        (reference(J=torch.zeros(3, 16, 16)), "is not a Jacobian lens"),
        ({"parameters": {"weights": 1}}, "is not a Jacobian lens"),
        (torch.zeros(3), "is not a Jacobian lens"),
        (reference(J={0: 1.0}), "holds float at '0' in its maps"),
        (reference(J={-1: torch.zeros(16, 16)}), "holds Tensor at '-1' in its maps"),
        (reference(J=maps(1) | {"1": torch.zeros(16, 16)}), "holds Tensor at '1' in its maps"),
    ],
)  # fmt: skip
def test_a_partial_lens_or_another_dictionary_is_refused_before_the_model_is_loaded(
    content: Any, said: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "lens.pt")
    with pytest.raises(InputError, match=rf"lens\.pt {said}"):
        check_outline(jacobian_files(tmp_path / "lens.pt"))


def test_a_file_with_code_in_it_is_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("unpickled",))

    torch.save(reference(provenance=Bomb()), tmp_path / "lens.pt")
    with pytest.raises(InputError, match=r"lens\.pt is not a Jacobian lens: it holds a _?pytest"):
        check_outline(jacobian_files(tmp_path / "lens.pt"))


def test_a_flipped_bit_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    lm, path = make_lm(), tmp_path / "lens.pt"
    load(tmp_path, reference(), lm)
    whole = path.read_bytes()
    numbers = maps(0, 1, 2)[1].numpy().tobytes()
    flipped = bytearray(whole)
    flipped[whole.index(numbers) + 5] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(InputError, match="was altered in the part"):
        load_jacobian_format(jacobian_files(path), lm, Head(lm.anatomy))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"lens\.pt is not a Jacobian lens: it is incomplete"):
        check_outline(jacobian_files(path))


def test_what_is_no_file_or_far_too_large_is_refused(tmp_path: Path) -> None:
    lm, path = make_lm(), tmp_path / "lens.pt"
    with pytest.raises(InputError, match=r"lens\.pt cannot be read \(No such file"):
        check_outline(jacobian_files(path))
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not a regular file"):
        check_outline(jacobian_files(path))
    path.unlink()
    torch.save(reference(), path)
    with path.open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="1,099,511,627,776 bytes or more, and at most"):
        load_jacobian_format(jacobian_files(path), lm, Head(lm.anatomy))


def test_a_tensor_that_declares_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="declares a tensor of shape"):
        load(tmp_path, reference(J={0: torch.zeros(1).expand(10**6, 10**6)}, source_layers=None))


def test_maps_come_in_the_order_of_their_blocks() -> None:
    assert list(maps_in({"J": maps(2, 0, 1)}, "lens.pt")) == [0, 1, 2]
