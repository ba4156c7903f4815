import gc
import json
import math
import pickle
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from logos_pl.data.prompt_types import Place, Prompt
from logos_pl.errors import InputError
from logos_pl.sweeps.document import ABSOLUTE_PATH, OutputBuilder, failed_output, skipped_output, to_json
from logos_pl.sweeps.document_schema import (
    ModelIdentity,
    Output,
)
from logos_pl.sweeps.document_summaries import PackedValues
from logos_pl.sweeps.records import NonFinite
from tests.sweeps.documents import (
    CONTROL,
    ENVIRONMENT,
    FACTS,
    FALLING,
    FILES,
    MODEL,
    ORIGIN,
    SCHEMA,
    STATS,
    UNKNOWN,
    document,
    read_back,
)
from tests.sweeps.made_records import prompt_records

LAST = Place("last", None, 3, 3)


def test_a_sweep_says_what_was_asked_of_which_model_and_how() -> None:
    plain = document(prompt_records({"norm": FALLING})._replace(left_out=("<s>",), places=(LAST,)))

    assert list(plain) == [
        "schema_version", "status", "reason", "model", "run", "model_stats", "prompts", "gold_answer", "diagnostics",
        "final_prediction", "ablation_summary", "control_prompt", "control_summary", "decomposition", "tuned_lens",
        "prism_summary", "jacobian_lens", "imported_lens",
    ]  # fmt: skip
    assert (plain["schema_version"], plain["status"], plain["reason"]) == (1, "ok", None)
    assert plain["run"] == {
        "started_utc": "2025-03-01T12:00:59Z", "finished_utc": "2025-03-01T12:01:01Z", "seconds": 2.5,
        "project_version": "0.1.0", "git_sha": "c" * 40 + "-dirty", "device": "cuda", "dtype": "bf16",
        "unembed_dtype": "float32", "decoding_norm": "final", "copy_threshold": 0.9, "copy_margin": 0.05,
        "lenses": ["norm"], "preferred_lens": "norm", "num_prompts": 1,
        "environment": {
            "torch": "2.13.0", "transformers": "5.23.0", "lightning": "2.6.6", "device": "cuda:0 (NVIDIA H200)",
        },
        "files": {
            "records": {"norm": "output-Tiny-8-records.csv", "tuned": "output-Tiny-8-records-tuned.csv"},
            "next_token": {"norm": "output-Tiny-8-pure-next-token.csv"}, "decomposition": None,
            "plots": ["output-Tiny-8-kl.png"], "page": "output-Tiny-8.html", "report": None,
        },
    }  # fmt: skip
    assert plain["prompts"] == [
        {
            "prompt_id": "pos", "prompt_variant": "orig", "fact": "Germany → Berlin", "relation": "capital",
            "form": "text", "text": "Berlin is simply", "messages": None, "answer": "Berlin", "contrast": None,
            "ids": [0, 1, 2, 3], "tokens": ["<s>", "Berlin", " is", " simply"],
            "places": [{"name": "last", "role": None, "first": 3, "last": 3}], "special_tokens_added": [],
            "special_tokens_left_out": ["<s>"],
        }
    ]  # fmt: skip
    assert plain["gold_answer"] == [
        {
            "prompt_id": "pos", "prompt_variant": "orig", "answer": "Berlin", "status": "resolved",
            "variant": "with_space", "first_id": 7, "answer_ids": [7], "pieces": [" Berlin"],
        }
    ]  # fmt: skip
    assert plain["model_stats"]["context_length"] is None
    assert (plain["tuned_lens"], plain["prism_summary"], plain["imported_lens"]) == (None, None, None)
    assert (plain["ablation_summary"], plain["control_prompt"], plain["control_summary"]) == ([], [], [])


def test_lenses_are_named_in_the_order_in_which_they_were_read() -> None:
    assert document(prompt_records(dict.fromkeys(("norm", "tuned", "prism"), FALLING)))["run"]["lenses"] == [
        "norm",
        "tuned",
        "prism",
    ]


def test_a_prompt_asked_twice_is_refused_by_name() -> None:
    builder = OutputBuilder()
    builder.add(prompt_records({"norm": FALLING}))

    with pytest.raises(InputError, match=r"^The prompt pos \(orig\) appears twice: give every prompt its own id"):
        builder.add(prompt_records({"norm": FALLING}))


def test_nothing_kept_grows_with_rows_times_positions() -> None:
    record = prompt_records({"norm": FALLING})
    everywhere = [NonFinite("norm", 2, pos) for pos in range(999)]
    sizes = []
    for positions, nonfinite in (
        (record.positions, everywhere[:100]),  # their number has as many digits
        ({"norm": record.positions["norm"] * 1000}, everywhere),
    ):
        builder = OutputBuilder()
        builder.add(record._replace(positions=positions, nonfinite=tuple(nonfinite)))
        sizes.append(len(pickle.dumps(builder)))
    assert sizes[0] == sizes[1]

    rows = record.next_token["norm"]
    gc.collect()
    assert not any(isinstance(kept, type(rows[0])) for kept in everything_in(builder))


def everything_in(root: object) -> list[Any]:
    """All that is reachable from an object's own attributes."""
    found, queue = {}, list(vars(root).values())
    while queue:
        kept = queue.pop()
        if id(kept) not in found and isinstance(kept, dict | list | tuple | PackedValues):
            found[id(kept)] = kept
            queue += list(kept.values()) if isinstance(kept, dict) else list(kept)
    return list(found.values())


def test_the_text_is_the_same_every_time_and_survives_any_string() -> None:
    odd = Prompt("pos", "orig", "lone \ud83d \x00 /etc/passwd C:\\x", "\udcff")
    record = prompt_records({"norm": FALLING}, prompt=odd, tokens=("/", "/home/", "\ud83d"))
    texts = []
    for _ in range(2):
        builder = OutputBuilder()
        builder.add(record)
        texts.append(to_json(builder.finish(MODEL, FACTS, FILES, STATS, {})))

    assert texts[0] == texts[1]
    assert texts[0].isascii()
    assert texts[0].endswith("}\n")
    plain = json.loads(texts[0])
    Draft202012Validator(SCHEMA).validate(plain)
    assert plain["prompts"][0]["text"] == odd.text
    assert plain["prompts"][0]["tokens"] == ["/", "/home/", "\ud83d"]


PATHS = (
    "/home/me/x",
    "/tmp",
    "in /data/m.bin, then",
    "'C:\\Users\\me'",
    "~/x",
    "file:///x",
    r"\\server\share",
    "=/a/b",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_this_machine_is_refused_by_the_place_it_would_stand(path: str) -> None:
    builder = OutputBuilder()
    places: dict[str, Output] = {
        "model.model_id": builder.finish(replace(MODEL, model_id=path), FACTS, FILES, STATS, {}),
        "run.environment.device": builder.finish(
            MODEL, replace(FACTS, environment=replace(ENVIRONMENT, device=path)), FILES, STATS, {}
        ),
        "run.files.plots[1]": builder.finish(MODEL, FACTS, replace(FILES, plots=["a.png", path]), STATS, {}),
        "run.files.records": builder.finish(MODEL, FACTS, replace(FILES, records={path: "a.csv"}), STATS, {}),
        "model_stats.final_norm": builder.finish(MODEL, FACTS, FILES, replace(STATS, final_norm=path), {}),
        "reason": replace(failed_output(MODEL, FACTS, ""), reason=path),
        "tuned_lens.provenance.init": builder.finish(MODEL, FACTS, FILES, STATS, {"tuned": replace(ORIGIN, init=path)}),
    }
    for place, output in places.items():
        with pytest.raises(InputError, match="would contain a local path") as info:
            to_json(output)
        assert str(info.value).startswith(f"{place} would")


@pytest.mark.parametrize(
    "words", ["org/name", "https://hf.co/org/name", "and/or", "../lens", "./m", "a / b", "sha256:ab/c", "b: c", "1:/"]
)
def test_a_slash_alone_makes_no_path(words: str) -> None:
    assert not ABSOLUTE_PATH.search(words)


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("[Errno 28] No space left on device: '/home/me/out/a.csv'", "[Errno 28] No space left on device: '…/a.csv'"),
        (
            "Cannot write to /mnt/x: Read-only file system; fix it.",
            "Cannot write to …/x: Read-only file system; fix it.",
        ),
        ("C:\\Users\\me\\model and ~/b/ and https://hf.co/org/m", "…/model and …/b and https://hf.co/org/m"),
        ("/home/me is full\n/tmp is, too", "…/me is full\n…/tmp is, too"),
        ("org/m needs 12/34 GB", "org/m needs 12/34 GB"),
    ],
)
def test_a_reason_keeps_the_last_part_of_a_path(reason: str, kept: str) -> None:
    assert read_back(failed_output(MODEL, FACTS, reason))["reason"] == kept


@pytest.mark.parametrize("path", PATHS)
def test_no_reason_keeps_a_failure_from_being_written(path: str) -> None:
    assert read_back(failed_output(MODEL, FACTS, path))["status"] == "failed"


def test_a_model_that_was_skipped_and_one_that_failed_say_so_and_claim_nothing() -> None:
    unknown = ModelIdentity("org/Big", "Big", None, None)
    skipped = read_back(skipped_output(unknown, UNKNOWN, "It needs 140 GB and there are 16."))
    failed = read_back(failed_output(unknown, FACTS, "It failed."))

    assert (skipped["status"], skipped["reason"]) == ("skipped", "It needs 140 GB and there are 16.")
    assert skipped["run"]["device"] is None
    assert skipped["run"]["files"] == {
        "records": {}, "next_token": {}, "decomposition": None, "plots": [], "page": None, "report": None,
    }  # fmt: skip
    assert (failed["status"], failed["model"]["model_id"], failed["run"]["device"]) == ("failed", "org/Big", "cuda")
    for plain in (skipped, failed):
        assert plain["model_stats"] is None
        assert plain["run"]["num_prompts"] == 0
        assert list(plain) == list(document())


def test_times_are_in_utc() -> None:
    moment = datetime(2025, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=5)))
    plain = read_back(skipped_output(MODEL, replace(UNKNOWN, started=moment, finished=moment), "no"))

    assert plain["run"]["started_utc"] == "2025-02-28T20:30:00Z"


def test_what_a_report_is_made_of_is_what_the_document_says() -> None:
    builder = OutputBuilder()
    tied = {0: {"identity_row": True}}
    builder.add(prompt_records({"norm": [*FALLING[:4], math.nan, *FALLING[5:]]}, rows={"norm": tied}))
    builder.add(prompt_records({"norm": FALLING, "tuned": FALLING}, prompt=CONTROL))
    output, swept = builder.finish(MODEL, FACTS, FILES, STATS, {}), builder.swept()

    for section in ("prompts", "gold_answer", "diagnostics", "final_prediction"):
        assert list(getattr(swept, section)) == getattr(output, section)
        assert getattr(swept, section)[-1:] == [getattr(swept, section)[1]]
    assert swept.lenses == ["norm", "tuned"]
    assert [prompt.identity_row for prompt in swept.summaries] == [True, False]
    kl = [prompt.at_depths["norm"][::4].tolist() for prompt in swept.summaries]
    assert kl[1] == [FALLING[row] for row in (0, 2, 4, 6, 8)]
    assert math.isnan(kl[0][2])
    assert swept.summaries[1].at_depths["tuned"][1::4].tolist() == [FALLING[row] + 1.0 for row in (0, 2, 4, 6, 8)]
