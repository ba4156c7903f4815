"""Releases over real HTTP: what is sent, what is not, and what is left when something breaks half-way."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants, metadata_load
from huggingface_hub.utils import close_session

from logos_pl.artifacts import load_tuned_lens
from logos_pl.artifacts.filenames import GATE_FILES
from logos_pl.artifacts.gates import record_gates
from logos_pl.cli.hub import main
from logos_pl.errors import InputError, RunError
from logos_pl.hub.index import Index
from logos_pl.hub.layout import today
from logos_pl.hub.pull import open_repository, pull
from logos_pl.hub.push import Plan, plan_release, publish, refuse_without_login
from logos_pl.lm.loaded_as import LoadedAs, MergedAdapter
from tests.artifacts.lenses import contents, reseal
from tests.artifacts.verdicts import gate_files
from tests.hub.publishing import LICENCE, REPO, SMALL, TAG, TINY, UPLOADS
from tests.hub.stand_in import READER, Hub

pytestmark = UPLOADS


NEW_WITH_A_RELEASE = ("NOTICE", "README.md", "provenance.json", "provenance.json.sha256")


def push(checkpoints: Path, tag: str | None = TAG, models: list[str] | None = None, private: bool = False) -> Plan:
    refuse_without_login()
    plan = plan_release(REPO, checkpoints, None if models is None else dict.fromkeys(models), tag)
    publish(plan, private)
    return plan


def writes(hub: Hub) -> list[str]:
    """What was asked that could change something."""
    harmless = ("/api/validate-yaml", "/preupload/main", "/objects/batch")
    return [path for method, path in hub.requests if method in ("POST", "PUT") and not path.endswith(harmless)]


def index(hub: Hub) -> Index:
    return Index.from_json(hub.files(REPO)["INDEX.json"].decode())


def change_lens(checkpoints: Path, model: str) -> None:
    """The same lens with another seed on record, as `save_tuned_lens` would leave it."""
    reseal(checkpoints / "tuned_lenses" / model, seed=7)


def test_a_release_is_one_commit_and_a_tag_on_it_in_the_layout_of_the_specification(
    hub: Hub, checkpoints: Path
) -> None:
    push(checkpoints)

    repo, files = hub.repos[f"datasets/{REPO}"], hub.files(REPO)
    assert len(repo.commits) == 2  # the one that made the repository, and the release
    assert repo.tags == {TAG: repo.commits[-1].oid}
    own = {"provenance.json", "provenance.json.sha256"}
    lens = {"weights.pt", "bias_only.pt", "README.md", "NOTICE", "kl-at-depths.png"} | own
    assert files.keys() == {".gitattributes", "INDEX.json", "README.md", f"LICENSES/{TINY}/LICENSE"} | {
        f"tuned_lenses/{model}/{name}" for model in (TINY, SMALL) for name in lens
    }
    for model in (TINY, SMALL):
        entry = json.loads(files["INDEX.json"])["tuned_lenses"][model]
        folder = f"tuned_lenses/{model}"
        assert (entry["path"], entry["tl_version"], entry["gates_passed"]) == (folder, TAG, None)
        assert entry["sha256"] == {n: hashlib.sha256(files[f"{folder}/{n}"]).hexdigest() for n in lens}
        provenance = json.loads(files[f"{folder}/provenance.json"])
        assert provenance["sha256"] == {n: s for n, s in entry["sha256"].items() if n not in own}
        assert (entry["model_commit"], entry["tokenizer_commit"]) == (provenance["model_commit"], "70ce")
        local = checkpoints / "tuned_lenses" / model.partition("/")[2] / "weights.pt"
        assert files[f"{folder}/weights.pt"] == local.read_bytes()
    assert not (checkpoints / "hub").exists()  # the built release is gone when it has arrived


def test_the_licence_file_is_the_models_own_and_what_its_metadata_say_is_recorded(hub: Hub, checkpoints: Path) -> None:
    plan = push(checkpoints)

    entries = index(hub).tuned_lenses
    assert hub.files(REPO)[f"LICENSES/{TINY}/LICENSE"] == LICENCE
    assert (entries[TINY].licence.id, entries[TINY].licence.files) == ("mit", [f"LICENSES/{TINY}/LICENSE"])
    assert (entries[SMALL].licence.id, entries[SMALL].licence.link) == ("apache-2.0", "x.org")
    assert plan.licences[TINY].remark is None
    assert plan.licences[SMALL].remark == (
        "org/small has no licence file, and states `apache-2.0`: nothing else is recorded."
    )
    assert b"apache-2.0 (x.org)" in hub.files(REPO)[f"tuned_lenses/{SMALL}/NOTICE"]


def test_the_hubs_validator_is_asked_and_its_client_reads_the_cards_metadata(
    hub: Hub, checkpoints: Path, tmp_path: Path
) -> None:
    push(checkpoints)

    assert ("POST", "/api/validate-yaml") in hub.requests
    (tmp_path / "card.md").write_bytes(hub.files(REPO)["README.md"])
    metadata = metadata_load(tmp_path / "card.md")
    assert metadata is not None
    assert (metadata["license"], metadata["license_link"], metadata["viewer"]) == ("other", "LICENSES", False)


def test_a_lens_keeps_its_version_until_it_changes(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints)
    change_lens(checkpoints, "small")
    hub.requests.clear()
    plan = push(checkpoints, f"{TAG}.1")

    assert {model: entry.tl_version for model, entry in index(hub).tuned_lenses.items()} == {
        TINY: TAG, SMALL: f"{TAG}.1",
    }  # fmt: skip
    assert index(hub).release == f"{TAG}.1"
    assert [artifact.model_id for artifact in plan.staged.unchanged] == [TINY]
    sent = {f"tuned_lenses/{SMALL}/{name}" for name in NEW_WITH_A_RELEASE}
    assert set(plan.additions) == {"INDEX.json", "README.md"} | sent
    assert not [path for method, path in hub.requests if method == "PUT"]  # weights and figure are there already
    assert hub.repos[f"datasets/{REPO}"].tags.keys() == {TAG, f"{TAG}.1"}


def test_pushing_what_is_there_sends_nothing(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints)
    hub.requests.clear()

    plan = push(checkpoints, None)

    assert not plan.changes
    assert writes(hub) == []


def test_a_model_that_cannot_be_asked_later_keeps_the_licence_that_was_found_once(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints)
    del hub.repos[f"models/{TINY}"]
    plan = plan_release(REPO, checkpoints, None, f"{TAG}.1")
    assert not plan.changes
    assert plan.licences[TINY].texts == {f"LICENSES/{TINY}/LICENSE": LICENCE}
    assert plan.licences[TINY].remark is None


def test_an_adapted_model_keeps_the_licence_of_a_base_model_that_cannot_be_asked_later(
    hub: Hub, checkpoints: Path
) -> None:
    adapter = hub.add("models/org/adapter", {"LICENSE": b"of the adapter"})
    base = hub.repos[f"models/{TINY}"].commits[-1].oid
    made_of = MergedAdapter("org/adapter", adapter.commits[-1].oid, "ab" * 32, "LORA", TINY, base)
    folder = checkpoints / "tuned_lenses" / "small"
    mark = json.loads(contents(folder)["provenance.json"])["fingerprint"]
    reseal(folder, fingerprint=mark | {"loaded_as": dataclasses.asdict(LoadedAs(adapter=made_of))})
    push(checkpoints)
    del hub.repos[f"models/{TINY}"]
    plan = plan_release(REPO, checkpoints, None, f"{TAG}.1")
    assert not plan.changes
    texts = {f"LICENSES/{SMALL}/LICENSE": b"of the adapter", f"LICENSES/{SMALL}/base/LICENSE": LICENCE}
    assert plan.licences[SMALL].texts == texts
    assert {path: hub.files(REPO)[path] for path in texts} == texts


def test_a_release_of_some_models_leaves_the_others_and_still_describes_them(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints, TAG, [TINY])
    before = hub.files(REPO)
    push(checkpoints, f"{TAG}.1", [SMALL])

    after = hub.files(REPO)
    assert {path: data for path, data in after.items() if TINY in path} == {
        path: data for path, data in before.items() if TINY in path
    }
    assert index(hub).tuned_lenses.keys() == {TINY, SMALL}
    assert b"`org/tiny`" in after["README.md"]
    assert b"`org/small`" in after["README.md"]


def test_a_file_that_a_lens_no_longer_has_is_removed(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints)
    folder = checkpoints / "tuned_lenses" / "small"
    provenance = json.loads((folder / "provenance.json").read_text())
    (folder / "bias_only.pt").unlink()
    del provenance["sha256"]["bias_only.pt"]
    reseal(folder, sha256=provenance["sha256"], bias_only=None)

    push(checkpoints, f"{TAG}.1")

    assert f"tuned_lenses/{SMALL}/bias_only.pt" not in hub.files(REPO)
    assert f"tuned_lenses/{TINY}/bias_only.pt" in hub.files(REPO)


@pytest.mark.parametrize("tag", [TAG, "v2026.02.30", "latest", "v2026.1.31"])
def test_a_release_that_exists_or_is_none_is_refused_and_nothing_changes(hub: Hub, checkpoints: Path, tag: str) -> None:
    push(checkpoints)
    change_lens(checkpoints, "small")
    hub.requests.clear()

    with pytest.raises(InputError, match=r"releases never change: give another --tag|is not a release: give a date"):
        push(checkpoints, tag)
    assert writes(hub) == []


def test_without_a_tag_the_days_first_free_one_is_taken(hub: Hub, checkpoints: Path) -> None:
    assert push(checkpoints, None, [TINY]).release.version == today()
    assert push(checkpoints, None, [SMALL]).release.version == f"{today()}.1"


def test_an_upload_that_is_cut_off_once_goes_on_by_itself(hub: Hub, checkpoints: Path) -> None:
    hub.cut_uploads = 1
    push(checkpoints)
    assert ("PUT", "cut") in hub.requests
    assert hub.repos[f"datasets/{REPO}"].tags.keys() == {TAG}


def test_an_upload_that_breaks_leaves_nothing_to_see_and_is_gone_on_with(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints, TAG, [TINY])
    before = hub.files(REPO)
    hub.cut_uploads = 1000
    with pytest.raises(RunError, match=r"^The connection to .* broke while me/lenses was published: run the same"):
        push(checkpoints, f"{TAG}.1")
    assert hub.files(REPO) == before
    assert hub.repos[f"datasets/{REPO}"].tags.keys() == {TAG}

    hub.cut_uploads = 0
    weights = (checkpoints / "tuned_lenses" / "small" / "weights.pt").read_bytes()
    hub.lfs[hashlib.sha256(weights).hexdigest()] = weights  # this one had arrived
    hub.requests.clear()
    push(checkpoints, f"{TAG}.1")
    sent = [path for method, path in hub.requests if method == "PUT"]
    assert hashlib.sha256(weights).hexdigest() not in "".join(sent)
    assert hub.repos[f"datasets/{REPO}"].tags.keys() == {TAG, f"{TAG}.1"}


def test_a_release_whose_tag_failed_is_finished_by_the_next_push(hub: Hub, checkpoints: Path) -> None:
    hub.refuse_tags = 1000
    with pytest.raises(RunError, match="The Hub failed while me/lenses was requested"):
        push(checkpoints)
    repo = hub.repos[f"datasets/{REPO}"]
    assert (len(repo.commits), repo.tags) == (2, {})

    hub.refuse_tags = 0
    plan = push(checkpoints)
    assert plan.published.unfinished == TAG
    assert (len(repo.commits), repo.tags) == (2, {TAG: repo.commits[-1].oid})


def test_an_unfinished_release_is_never_given_other_lenses(hub: Hub, checkpoints: Path) -> None:
    hub.refuse_tags = 1
    with pytest.raises(RunError):
        push(checkpoints)
    change_lens(checkpoints, "small")
    with pytest.raises(InputError, match="was started with other lenses and can only be completed with those"):
        push(checkpoints)
    push(checkpoints, f"{TAG}.1")
    repo = hub.repos[f"datasets/{REPO}"]
    assert repo.tags == {TAG: repo.commits[-2].oid, f"{TAG}.1": repo.commits[-1].oid}


def test_a_commit_of_someone_else_in_between_is_not_run_over(hub: Hub, checkpoints: Path) -> None:
    push(checkpoints, TAG, [TINY])
    plan = plan_release(REPO, checkpoints, None, f"{TAG}.1")
    repo = hub.repos[f"datasets/{REPO}"]
    repo.commit(hub.files(REPO) | {"by.someone": b"else"})

    with pytest.raises(RunError, match="me/lenses was changed by someone else at the same time"):
        publish(plan, private=False)
    assert "by.someone" in hub.files(REPO)
    assert repo.tags.keys() == {TAG}


def test_a_dry_run_builds_what_would_be_sent_and_asks_for_no_change(hub: Hub, checkpoints: Path) -> None:
    plan = plan_release(REPO, checkpoints, None, TAG)
    assert writes(hub) == []
    built = {path.relative_to(plan.folder).as_posix() for path in plan.folder.rglob("*") if path.is_file()}
    assert built == set(plan.additions)
    publish(plan, private=False)
    assert hub.files(REPO).keys() - {".gitattributes"} == built


def test_a_repository_is_made_private_and_an_existing_public_one_is_not_taken_for_private(
    hub: Hub, checkpoints: Path
) -> None:
    push(checkpoints, TAG, [TINY], private=True)
    repo = hub.repos[f"datasets/{REPO}"]
    assert repo.private
    push(checkpoints, f"{TAG}.1", [SMALL], private=True)
    repo.private = False
    change_lens(checkpoints, "small")
    with pytest.raises(InputError, match="me/lenses exists and is public"):
        push(checkpoints, f"{TAG}.2", private=True)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "There is no Hub token on this machine: log in"),
        ("hf_forged", "The Hub does not accept this machine's token: log in again"),
        (READER, "This machine's token may not do that with me/lenses"),
    ],
)
def test_who_may_not_write_is_told_so_in_one_sentence(
    hub: Hub, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, sentence: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises((InputError, RunError), match=f"^{sentence}") as refusal:
        push(checkpoints)
    assert "\n" not in str(refusal.value)
    assert f"datasets/{REPO}" not in hub.repos


def test_a_repository_of_something_else_is_left_alone(hub: Hub, checkpoints: Path) -> None:
    with pytest.raises(InputError, match=r"org/text has no INDEX\.json and holds data\.txt"):
        plan_release("org/text", checkpoints, None, TAG)


@pytest.mark.parametrize("repo_id", ["lenses", "me/", "/lenses", "../lenses", "me/lenses/more", ""])
def test_what_is_no_repository_is_refused_before_anything_is_built(hub: Hub, checkpoints: Path, repo_id: str) -> None:
    with pytest.raises(
        InputError, match=f"^--repo_id {repo_id} is not the id of a repository: give `organisation/name`"
    ):
        plan_release(repo_id, checkpoints, None, TAG)
    assert not (checkpoints / "hub").exists()
    assert hub.requests == []


def test_without_a_network_nothing_is_published(hub: Hub, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 cannot be reached"):
        plan_release(REPO, checkpoints, None, TAG)


def test_a_dry_run_without_a_network_builds_as_if_the_hub_had_nothing_and_says_so(
    hub: Hub, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["push", "--repo_id", REPO, "--tag", TAG, "--folder", str(checkpoints), "--dry_run"]
    for patch in ({"ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": True}):
        with monkeypatch.context() as context:
            for name, value in patch.items():
                context.setattr(constants, name, value)
            close_session()  # offline or not is settled when a connection is made
            assert main(command) == 0
        close_session()
        said = capsys.readouterr().out
        assert said.startswith("note: the Hub cannot be reached; the release is built as if"), patch
        assert f"release {TAG} of {REPO}:" in said
        assert "built and verified, nothing uploaded" in said
    assert hub.requests == []


def test_a_lens_that_was_evaluated_is_published_with_its_verdict_and_evaluated_again_where_it_was_pulled_to(
    hub: Hub, checkpoints: Path, tmp_path: Path
) -> None:
    lens = checkpoints / "tuned_lenses" / "tiny"
    evaluated = load_tuned_lens(lens)[1]
    record_gates(lens, evaluated, gate_files(model_commit=evaluated.model_commit))
    push(checkpoints, TAG, [TINY])

    there = hub.files(REPO)
    entry = index(hub).tuned_lenses[TINY]
    assert entry.gates_passed is True
    assert entry.sha256.keys() >= set(GATE_FILES)
    assert "kl-at-depths.png" not in entry.sha256
    card = there[f"tuned_lenses/{TINY}/README.md"].decode()
    assert "## Gates: passed" in card
    assert "](gates-rows.png)" in card
    assert "0.457 [0.100, 0.900] bits" in card

    (pulled,) = pull(open_repository(REPO, TAG), [TINY], tmp_path / "mine", replace=False)
    second = gate_files(passed=False, model_commit=evaluated.model_commit)
    record_gates(pulled.folder, load_tuned_lens(pulled.folder)[1], second)
    assert b"## Gates: not passed" in (pulled.folder / "README.md").read_bytes()
    assert (pulled.folder / "NOTICE").read_bytes() == there[f"tuned_lenses/{TINY}/NOTICE"]


def test_a_damaged_lens_is_not_published(hub: Hub, checkpoints: Path) -> None:
    path = checkpoints / "tuned_lenses" / "small" / "weights.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"weights\.pt was altered"):
        plan_release(REPO, checkpoints, None, TAG)
    assert writes(hub) == []


def test_a_lens_whose_acceptance_is_no_verdict_is_not_published(hub: Hub, checkpoints: Path) -> None:
    reseal(checkpoints / "tuned_lenses" / "small", acceptance={"passed": True})
    with pytest.raises(InputError, match="acceptance lacks the field calibration_only"):
        plan_release(REPO, checkpoints, None, TAG)


def test_publishing_leaves_the_lenses_on_this_machine_as_they_are(hub: Hub, checkpoints: Path) -> None:
    before = {folder.name: contents(folder) for folder in (checkpoints / "tuned_lenses").iterdir()}
    push(checkpoints)
    assert {folder.name: contents(folder) for folder in (checkpoints / "tuned_lenses").iterdir()} == before
