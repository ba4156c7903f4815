"""What the Hub, the disk and the network can answer, each told to the user in one sentence."""

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch

from logos_pl.cli.plan import RunPlan, plan_prompts
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.prompt_data import PromptData
from logos_pl.errors import InputError
from logos_pl.lm import hub_call, sources
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.sources import clean_name, filed_under, files_digest, folder_name_of, locate, split_revision
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import PromptSettings
from tests.lm.hub_stand_in import COMMIT, REFUSALS, HubStandIn
from tests.tiny import make_model, namespace

OTHER = "f" * 40


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    stand_in = HubStandIn()
    stand_in.reach(monkeypatch, tmp_path / "cache")
    yield stand_in
    stand_in.close()
    sources.forget()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a repository at two commits: other weights, and another vocabulary."""
    folder = tmp_path_factory.mktemp("commits")
    first, second = make_model(folder / "first"), make_model(folder / "second", seed=1, num_hidden_layers=3)
    tokenizer = second / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"sun"', '"SUN"'))
    return {COMMIT: first, OTHER: second}


@pytest.fixture
def published(hub: HubStandIn, two_models: dict[str, Path]) -> HubStandIn:
    hub.commits["org/model"] = two_models
    return hub


def plan() -> RunPlan:
    """Of a prediction."""
    model = ModelSettings(model_id="org/model", dtype="float32", loss_block_mib=16)
    return plan_prompts(model, namespace({"devices": 1, "num_nodes": 1, "accelerator": "cpu"}))


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model_id", "revision", "message"),
    [
        ("org/gated", None, "org/gated is gated and this machine has no access; accept its licence at "),
        (
            "org/unknown",
            None,
            "there is no model 'org/unknown' on the Hub that this machine can access; check",
        ),
        ("org/model", "nowhere", "org/model has no revision 'nowhere'; give a branch, tag or commit"),
        ("org/bare", None, "org/bare has no config.json on the Hub"),
        ("a b", None, "'a b' is not a model id; give `organisation/name`, a folder or `demo`."),
    ],
)
def test_each_refusal_of_the_hub_has_its_sentence(model_id: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        locate(model_id, revision)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.usefixtures("hub")
def test_a_model_of_the_hub_is_pinned_to_its_commit() -> None:
    source = locate("org/model")
    assert (source.model_id, source.commit, source.folder.name) == ("org/model", COMMIT, COMMIT)
    assert sources.model_commit(source) == sources.tokenizer_commit(source) == COMMIT


@pytest.mark.usefixtures("hub")
def test_offline_mode_of_the_real_client_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"org/absent is not, or not completely, in the local cache.* offline mode is on; unset HF_HUB"
    ):
        locate("org/absent")


def test_configuration_tokenizer_and_weights_are_of_one_commit_though_main_moves(published: HubStandIn) -> None:
    assert plan().known.shape.num_blocks == 4
    published.main["org/model"] = OTHER
    lm = FrozenLM.load("org/model")
    tokenizer = ModelTokenizer.load("org/model").tokenizer
    data = PromptData(PromptSettings(prompt="sun moon"), "org/model")
    data.setup("predict")
    assert (lm.model_commit, lm.tokenizer_commit, lm.num_blocks) == (COMMIT, COMMIT, 4)
    assert tokenizer("sun").input_ids == lm.tokenizer("sun").input_ids
    assert list(data.prompts[0].ids) == lm.tokenizer("sun moon").input_ids
    assert not any(OTHER in request for request in published.requests)
    sources.forget()  # another process
    assert FrozenLM.load("org/model").model_commit == OTHER


def test_one_commit_is_read_from_the_cache_though_its_main_is_rewritten(
    published: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for commit in (OTHER, COMMIT):
        published.main["org/model"] = commit
        sources.forget()
        FrozenLM.load("org/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    sources.forget()
    assert plan().known.shape.num_blocks == 4
    (tmp_path / "cache/models--org--model/refs/main").write_text(OTHER)
    lm = FrozenLM.load("org/model")
    assert (lm.model_commit, lm.num_blocks) == (COMMIT, 4)


def test_a_repository_and_its_folder_give_the_same_model(published: HubStandIn, two_models: dict[str, Path]) -> None:
    there, here = FrozenLM.load("org/model"), FrozenLM.load(str(two_models[COMMIT]))
    ids = torch.arange(3, 15)[None]
    assert torch.equal(there.logits(ids), here.logits(ids))
    assert "GET" in "".join(published.requests)


def test_an_adapter_in_a_repository_is_refused(published: HubStandIn, tmp_path: Path) -> None:
    folder = shutil.copytree(published.commits["org/model"][COMMIT], tmp_path / "m")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    published.commits["org/model"] = {COMMIT: folder}
    with pytest.raises(InputError, match=r"org/model has an adapter next to its weights .* as --model.adapter"):
        FrozenLM.load("org/model")


@pytest.mark.parametrize("way", ["closed port", "silence", "server error"])
def test_without_the_hub_a_cached_model_is_read_soon_and_the_user_hears_why(
    published: HubStandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    FrozenLM.load("org/model")
    monkeypatch.setattr(hub_call, "SAY_AFTER_S", 0.1)
    monkeypatch.setattr(hub_call, "GIVE_UP_AFTER_S", 0.3)
    published.reach(monkeypatch, tmp_path / "cache", closed_port() if way == "closed port" else None)
    published.silent = way == "silence"
    if way == "server error":
        monkeypatch.setitem(REFUSALS, "org/model", (503, ""))
    capsys.readouterr()
    began = time.monotonic()
    with pytest.warns(
        UserWarning, match=f"the Hub cannot be reached: org/model is read from the local cache, at .*{COMMIT}"
    ):
        lm = FrozenLM.load("org/model")
    assert time.monotonic() - began < 8
    assert lm.model_commit == COMMIT
    waits = f"logos-pl: waiting for {published.endpoint} about org/model …\n"
    assert capsys.readouterr().err == (waits if way == "silence" else "")


def test_without_the_hub_and_the_cache_a_model_is_refused_soon(
    published: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published.reach(monkeypatch, tmp_path / "cache", closed_port())
    began = time.monotonic()
    with pytest.raises(
        InputError, match=r"org/model is not, or not completely, in the local cache.* and the Hub cannot be reached"
    ):
        FrozenLM.load("org/model")
    assert time.monotonic() - began < 3


@pytest.mark.filterwarnings("ignore:the Hub cannot be reached")
def test_weights_that_are_missing_in_the_cache_are_named_and_asked_for_again_once_the_hub_is_back(
    published: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    FrozenLM.load("org/model")
    next(tmp_path.glob("cache/models--org--model/snapshots/*/model.safetensors")).unlink()
    published.reach(monkeypatch, tmp_path / "cache", closed_port())
    with pytest.raises(
        InputError, match=r"org/model is not, or not completely, in the local cache, and the Hub cannot"
    ):
        FrozenLM.load("org/model")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", published.endpoint)
    url = published.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    assert FrozenLM.load("org/model").model_commit == COMMIT


@pytest.mark.parametrize("place", ["/no/such/folder", "./nowhere", "~/nowhere_at_all", "a/b/c"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(place: str) -> None:
    with pytest.raises(InputError, match=r"is not a folder; give a folder with a model's files, a Hub id or `demo`"):
        locate(place)


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config.json; give the folder that holds a model's files"):
        locate(str(tmp_path))


def test_a_folder_is_filed_under_its_name_and_hashed(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("[]")
    source = locate(str(folder))
    assert (source.model_id, source.commit, source.folder) == ("my-model", None, folder)
    files = (("config.json", b"{}"), ("model.safetensors", b"weights"))
    listed = "".join(f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in files)
    wanted = hashlib.sha256(listed.encode()).hexdigest()
    before = sources.model_commit(source)
    assert before == f"sha256:{wanted}"
    tokenizer = sources.tokenizer_commit(source)
    (folder / "README.md").write_text("changes nothing")
    assert sources.model_commit(source) == before
    (folder / "model.safetensors").write_bytes(b"Weights")
    assert sources.model_commit(source) != before
    assert sources.tokenizer_commit(source) == tokenizer


def test_moving_bytes_between_files_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"xy")
    (tmp_path / "b.bin").write_bytes(b"z")
    before = files_digest(tmp_path, ("*.bin",))
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "b.bin").write_bytes(b"yz")
    assert files_digest(tmp_path, ("*.bin",)) != before


@pytest.mark.parametrize(("text", "words"), [("{", "is not valid JSON"), ("[]", "is not a JSON object")])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        sources.read_config_dict(locate(str(tmp_path)))


def test_what_a_model_is_filed_under_is_known_without_asking_anyone(tmp_path: Path, hub: HubStandIn) -> None:
    (tmp_path / "my-model").mkdir()
    assert [filed_under(name) for name in ("demo", "org/model", str(tmp_path / "my-model"))] == [
        "demo",
        "org/model",
        "my-model",
    ]
    assert hub.requests == []


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-this-name/model"])
def test_a_name_that_the_file_system_refuses_is_bad_input(name: str) -> None:
    with pytest.raises(InputError, match=r"is neither a model id nor a folder that can be accessed"):
        locate(name)


@pytest.mark.parametrize(("model_id", "name"), [("org/model-7b", "model-7b"), ("gpt2", "gpt2"), ("org/m/", "m")])
def test_the_clean_name_is_the_last_part(model_id: str, name: str) -> None:
    assert clean_name(model_id) == name


def test_a_link_to_a_folder_whose_name_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(name)
    with pytest.raises(InputError, match=r"link leads to .* not UTF-8; rename it"):
        filed_under(str(tmp_path / "link"))


def test_a_revision_of_a_folder_is_refused_rather_than_passed_over(tmp_path: Path) -> None:
    for model in ("demo", str(tmp_path)):
        with pytest.raises(InputError, match=r"Only a repository on the Hub has revisions, and .* is a folder: leave"):
            locate(model, "v1")


@pytest.mark.usefixtures("hub")
def test_a_revision_in_the_name_is_the_revision_of_the_model_and_part_of_its_folders_name() -> None:
    source = locate(f"org/model@{OTHER}")
    assert (source.model_id, source.commit, source.named) == ("org/model", OTHER, OTHER)
    assert locate("org/model", OTHER) == source._replace(named=None)
    assert locate(f"org/model@{OTHER}", OTHER) == source
    assert (filed_under("org/model@pr/1"), folder_name_of("org/model@pr/1")) == ("org/model", "model@pr-1")
    assert (filed_under("org/model"), folder_name_of("org/model")) == ("org/model", "model")


def test_an_at_in_the_name_of_a_folder_is_no_revision(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "my@model")
    assert split_revision(str(folder)) == (str(folder), None)
    assert (locate(str(folder)).model_id, folder_name_of(str(folder))) == ("my@model", "my@model")
    with pytest.raises(InputError, match=r"Only a repository on the Hub has revisions, .* leave out it and the @"):
        locate(f"{folder}@v1")


def test_two_revisions_or_half_a_name_are_refused() -> None:
    with pytest.raises(InputError, match="org/model@v1 names a revision, but v2 is given as well: give only one"):
        locate("org/model@v1", "v2")
    for name in ("@v1", "org/model@"):
        with pytest.raises(InputError, match=f"{name} does not name a model at a revision"):
            locate(name)
