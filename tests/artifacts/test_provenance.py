import dataclasses
import json

import pytest

from logos_pl.artifacts.provenance import Provenance
from logos_pl.errors import InputError
from tests.artifacts.lenses import make_provenance
from tests.artifacts.verdicts import make_acceptance, make_kpis

# Written out from the specification of provenance.json, not from the code.
GROUPS = {
    "dataset": {"repo_id", "name", "split", "revision", "sample_description", "content_hash", "documents"},
    "budget": {"tokens", "seq_len", "positions_per_seq", "position_range"},
    "batching": {"micro_batch_seqs", "grad_accum", "effective_batch_seqs", "world_size"},
    "capacity": {"rank_k", "rows", "parameters"},
    "optim": {
        "lr",
        "betas",
        "weight_decay",
        "schedule",
        "total_steps",
        "warmup_steps",
        "steps_done",
        "stopped_early",
    },
    "temperature": {"enabled", "tau"},
    "precision": {"model", "unembed", "loss"},
    "environment": {"torch", "transformers", "lightning", "device"},
}
PLAIN = {
    "model_id",
    "clean_model_name",
    "model_commit",
    "tokenizer_commit",
    "project_version",
    "git_sha",
    "seed",
    "decoding_norm",
    "layers_per_step",
    "regularizers",
    "preconditioner",
    "schedule",
    "init",
    "val_kl_bits",
    "kpis",
    "acceptance",
    "sha256",
    "fingerprint",
    "schema_version",
}


def test_every_field_of_the_specification_is_written() -> None:
    written = json.loads(make_provenance().to_json())
    assert written.keys() >= PLAIN | GROUPS.keys()
    for group, fields in GROUPS.items():
        assert written[group].keys() >= fields, group


def test_a_provenance_survives_json() -> None:
    provenance = make_provenance()
    assert Provenance.from_json(provenance.to_json()) == provenance


def test_kpis_and_verdicts_may_be_added_later() -> None:
    evaluated = dataclasses.replace(make_provenance(), kpis=make_kpis(), acceptance=make_acceptance(passed=True))
    assert Provenance.from_json(evaluated.to_json()) == evaluated


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_is_refused_by_its_number(version: object) -> None:
    plain = json.loads(make_provenance().to_json()) | {"schema_version": version}
    with pytest.raises(InputError, match=f"schema_version {version}, but this logos-pl reads 1"):
        Provenance.from_json(json.dumps(plain))


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}"])
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="schema_version None"):
        Provenance.from_json(text)


def test_a_missing_field_of_a_group_is_refused_by_name() -> None:
    plain = json.loads(make_provenance().to_json())
    del plain["dataset"]["content_hash"]
    with pytest.raises(InputError, match="dataset lacks the field content_hash"):
        Provenance.from_json(json.dumps(plain))


def with_group(group: str, **changes: object) -> dict[str, object]:
    return {group: json.loads(make_provenance().to_json())[group] | changes}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"seed": -(2**63) - 1}, "seed"),
        ({"clean_model_name": "other"}, "clean_model_name"),
        ({"clean_model_name": "", "model_id": "org/"}, "clean_model_name"),
        (with_group("dataset", held_out_frac=-0.1), "dataset: held_out_frac"),
        (with_group("dataset", held_out_frac=0.5), "dataset: held_out_frac"),
        (with_group("capacity", rows=0), "capacity"),
        (with_group("capacity", rank_k=-1), "capacity"),
        (with_group("capacity", parameters=0), "capacity"),
        ({"val_kl_bits": {"<img>": json.loads(make_provenance().to_json())["val_kl_bits"]["25"]}}, "val_kl_bits"),
        (with_group("bias_only", file="weights.pt"), "bias-only lens: file"),
        (with_group("fingerprint", num_tokens=0, residual_norms=[[], [], []]), "fingerprint: num_tokens"),
        (with_group("fingerprint", num_tokens=10**18), "fingerprint: num_tokens"),
        (with_group("fingerprint", residual_norms=[]), "fingerprint: residual_norms"),
        (with_group("fingerprint", residual_norms=[[], []]), "fingerprint: residual_norms"),
        (with_group("fingerprint", residual_norms=[[1.0], [1.0, 2.0]]), "fingerprint: residual_norms"),
        (with_group("fingerprint", top_ids=[], top_logits=[]), "fingerprint: top_ids"),
        (with_group("fingerprint", top_ids=[1]), "fingerprint: top_ids"),
    ],
)
def test_what_has_the_right_type_and_cannot_be_is_refused_by_its_name(changes: dict[str, object], where: str) -> None:
    plain = json.loads(make_provenance().to_json()) | changes
    with pytest.raises(InputError, match=f"^provenance.json: {where} cannot be "):
        Provenance.from_json(json.dumps(plain))


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e400", str(2**64)])
def test_numbers_that_no_float_or_integer_here_holds_are_refused(number: str) -> None:
    text = make_provenance().to_json().replace('"lr": 0.001', f'"lr": {number}')
    with pytest.raises(InputError, match=r"^provenance\.json holds (an integer of|a number beyond)"):
        Provenance.from_json(text)
