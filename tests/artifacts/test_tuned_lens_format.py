import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from logos_pl.artifacts import tuned_lens_format
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin, find_format, load_format, read_config
from logos_pl.artifacts.unembed_hash import unembed_hash
from logos_pl.errors import InputError
from logos_pl.lenses.affine import AffineLens
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.lm.families import D_MODEL, tiny_model

GOLDEN = Path(__file__).parents[1] / "golden" / "tuned_lens"  # made by scripts/make_tuned_lens_golden.py

TOLERANCE_NATS = 1e-5
"""Largest difference of a log-probability: both sides compute in fp32, in another order; 3e-6 is what is seen."""


def make_lm(family: str = "llama", dtype: torch.dtype = torch.float32, model_id: str | None = None) -> FrozenLM:
    return FrozenLM.from_model(tiny_model(family, dtype), model_id=model_id or f"tiny/{family}")


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return make_lm()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "llama", tmp_path / "lens"))


def load_imported_lens(reference: str | Path, lm: FrozenLM) -> tuple[AffineLens, ImportedOrigin]:
    return load_format(find_format(str(reference), lm.model_id), lm, Head(lm.anatomy))


def change(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value != "gone"}))


def change_params(folder: Path, **changes: Tensor | None) -> None:
    params = torch.load(folder / "params.pt", weights_only=True) | changes
    torch.save({key: value for key, value in params.items() if value is not None}, folder / "params.pt")


def log_probs(lens: Lens, lm: FrozenLM, input_ids: Tensor) -> Tensor:
    rows = list(range(lm.num_blocks + 1))
    return lens.log_probs(residuals(lm, input_ids, None, rows).flatten(1, 2), rows)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_row_reads_what_the_package_itself_has_read(family: str) -> None:
    golden = load_file(GOLDEN / family / "readings.safetensors")
    lm = make_lm(family)
    lens, origin = load_imported_lens(GOLDEN / family, lm)
    assert unembed_hash(lm.anatomy.lm_head.weight) == origin.unembed_hash, "torch draws other numbers: make them anew"
    got = log_probs(lens, lm, golden["input_ids"])
    torch.testing.assert_close(got[:-1], golden["log_probs"], rtol=0, atol=TOLERANCE_NATS)
    assert float((got[1:] - golden["log_probs"]).abs().max()) > 1, "one row off would go unseen"
    own = lm.logits(golden["input_ids"])[0].log_softmax(-1)
    torch.testing.assert_close(got[-1], own, rtol=0, atol=TOLERANCE_NATS)


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt2", "gpt_neox", "opt", "gptj"])
def test_every_row_reads_what_the_package_reads_here_and_now(family: str, tmp_path: Path) -> None:
    package = pytest.importorskip("tuned_lens", reason="the tuned-lens package is not installed: the golden files do")
    lm = make_lm(family)
    lm.model.config.name_or_path = lm.model_id
    theirs = package.TunedLens.from_model(lm.model)
    with torch.no_grad():
        for parameter in theirs.layer_translators.parameters():
            parameter.normal_(std=0.3 / parameter.shape[-1] ** 0.5)
    theirs.save(tmp_path)
    input_ids = torch.randint(90, (2, 7), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        states = lm.model(input_ids, output_hidden_states=True).hidden_states[:-1]
        wanted = torch.stack([theirs(state, row).log_softmax(-1).flatten(0, 1) for row, state in enumerate(states)])
    lens, _ = load_imported_lens(tmp_path, lm)
    torch.testing.assert_close(log_probs(lens, lm, input_ids)[:-1], wanted, rtol=0, atol=TOLERANCE_NATS)


def test_what_is_known_of_the_lens_comes_with_it(lm: FrozenLM, folder: Path) -> None:
    change(folder, unembed_hash=None, base_model_revision="main", license="of a later version")
    params = torch.load(folder / "params.pt", weights_only=True)
    torch.save({name: tensor.half() for name, tensor in params.items()}, folder / "params.pt")
    lens, origin = load_imported_lens(folder, lm)
    assert origin[:4] == ("tiny/llama", "main", "float16", None)
    assert len(origin.params_sha256) == 64
    assert lens.weight.dtype == torch.float32
    assert torch.equal(lens.weight[2], params["2.weight"].half().float())
    change(folder, bias=False)
    change_params(folder, **{f"{i}.bias": None for i in range(3)})
    assert not load_imported_lens(folder, lm)[0].bias.any()


@pytest.mark.parametrize(
    ("base", "model_id", "fits"),
    [
        ("org/tiny", "org/tiny", True),
        ("tiny", "org/tiny", True),
        ("org/tiny", "tiny", True),
        ("/home/someone/models/tiny", "org/tiny", True),
        ("C:\\models\\tiny", "tiny", True),
        ("org/tiny", "other/tiny", False),
        ("org/tiny", "org/tiny-chat", False),
        ("/home/someone/models/tiny", "mini", False),
    ],
)
def test_the_models_name_decides_as_far_as_it_is_known(base: str, model_id: str, fits: bool, folder: Path) -> None:
    change(folder, base_model_name_or_path=base)
    lm = make_lm(model_id=model_id)
    if fits:
        assert "/home" not in load_imported_lens(folder, lm)[1].base_model
    else:
        with pytest.raises(
            InputError, match=f"not for {model_id}: load .* put {model_id} into base_model_name_or_path"
        ):
            load_imported_lens(folder, lm)


def test_another_commit_is_refused_and_a_branch_cannot_be_compared(folder: Path) -> None:
    lm = make_lm()
    lm.model_commit = "a" * 40
    for revision in ("a" * 40, "main", None):
        change(folder, base_model_revision=revision)
        load_imported_lens(folder, lm)
    change(folder, base_model_revision="b" * 40)
    with pytest.raises(InputError, match=f"at commit {'b' * 40}, but the model is at {'a' * 40}"):
        load_imported_lens(folder, lm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_unembedding_is_known_again_in_the_format_it_was_hashed_in(dtype: torch.dtype, folder: Path) -> None:
    weight = tiny_model("llama").lm_head.weight
    change(folder, unembed_hash=unembed_hash(weight, dtype))
    load_imported_lens(folder, make_lm())  # in float32 nothing is lost, whatever was hashed
    load_imported_lens(folder, make_lm(dtype=dtype))


def test_another_unembedding_is_refused(lm: FrozenLM, folder: Path) -> None:
    change(folder, unembed_hash="0" * 64)
    with pytest.raises(
        InputError, match=r"another unembedding than that of tiny/llama .* use the lens of this model\.$"
    ):
        load_imported_lens(folder, lm)
    with pytest.raises(InputError, match=r"or compare in full precision with --model\.dtype float32"):
        load_imported_lens(folder, make_lm(dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"d_model": "gone"},
            r"config\.json is not the configuration of a lens, which has base_model_name_or_path, d_model",
        ),
        ({"d_model": "many"}, r"config\.json: d_model is 'many', but must be of type int"),
        ({"num_hidden_layers": 4}, r"trained for: 4 blocks of width 32, given: 3 blocks of width 32"),
        ({"d_model": 16}, r"trained for: 3 blocks of width 16"),
        ({"lens_type": "other"}, r"lens_type 'other', but must have 'linear_tuned_lens'"),
        ({"bias": False}, r"0\.bias has shape \(32,\), but config\.json requires None"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, lm: FrozenLM, folder: Path
) -> None:
    change(folder, **changes)
    with pytest.raises(InputError, match=message):
        load_imported_lens(folder, lm)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"1.weight": None}, r"1\.weight has shape None, but config\.json requires \(32, 32\)"),
        ({"1.weight": torch.zeros(D_MODEL, 8)}, r"1\.weight has shape \(32, 8\)"),
        ({"3.bias": torch.zeros(D_MODEL)}, r"3\.bias has shape \(32,\), but config\.json requires None"),
        ({"0.bias": torch.full((D_MODEL,), torch.nan)}, r"0\.bias holds numbers that are NaN"),
        ({"0.bias": torch.zeros(D_MODEL, dtype=torch.int8)}, r"0\.bias is torch\.int8"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    changes: dict[str, Tensor | None], message: str, lm: FrozenLM, folder: Path
) -> None:
    change_params(folder, **changes)
    with pytest.raises(InputError, match=message):
        load_imported_lens(folder, lm)


def test_files_that_are_missing_or_broken_are_refused_and_nothing_is_unpickled(lm: FrozenLM, folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("unpickled",))

    torch.save({"0.weight": Bomb()}, folder / "params.pt")
    with pytest.raises(InputError, match=r"params\.pt is not a state dict of tensors only"):
        load_imported_lens(folder, lm)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_config(folder / "config.json")
    (folder / "params.pt").unlink()
    with pytest.raises(InputError, match=r"has no params\.pt: --lens\.imported takes the folder"):
        find_format(str(folder), "tiny/llama")
    for nowhere in (str(folder / "nothing"), "nothing", "a/b/c"):
        with pytest.raises(InputError, match=f"There is no folder {nowhere}: "):
            find_format(nowhere, "tiny/llama")


class FakeSpace(BaseHTTPRequestHandler):
    """Answers for the Space `org/lenses`, which has a lens for tiny/llama alone."""

    requests: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        head, _, name = self.path.partition("/resolve/main/lens/tiny/")
        path = GOLDEN / name
        found = head == "/spaces/org/lenses" and path.is_file()
        data = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if not found:
            code = "EntryNotFound" if head.startswith("/spaces/org/lenses") else "RepoNotFound"
            self.send_header("X-Error-Code", code)
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeSpace)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def download(repo_id: str, filename: str, repo_type: str, revision: str | None) -> str:
        return huggingface_hub.hf_hub_download(
            repo_id,
            filename,
            repo_type=repo_type,
            revision=revision,
            endpoint=f"http://127.0.0.1:{server.server_port}",
            cache_dir=tmp_path,
            token=False,
        )

    monkeypatch.setattr(tuned_lens_format, "hf_hub_download", download)
    FakeSpace.requests.clear()
    yield FakeSpace.requests
    server.shutdown()
    server.server_close()


def test_from_a_space_only_the_models_own_files_are_fetched(lm: FrozenLM, space: list[str]) -> None:
    fetched, local = (load_imported_lens(where, lm)[0] for where in ("org/lenses", GOLDEN / "llama"))
    assert torch.equal(fetched.weight, local.weight)
    assert [path.rpartition("/")[2] for path in space] == ["config.json", "params.pt"]


@pytest.mark.usefixtures("space")
def test_what_a_space_has_not_is_said_in_one_sentence() -> None:
    with pytest.raises(
        InputError, match=r"Space org/lenses has no lens for tiny/opt \(lens/tiny/opt/config\.json is missing\)"
    ):
        find_format("org/lenses", "tiny/opt")
    with pytest.raises(InputError, match="neither a folder nor a Space org/none that this machine can access"):
        find_format("org/none", "tiny/llama")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"1.weight": torch.eye(16).to_sparse()}, "_rebuild_sparse_tensor"),
        ({"1.weight": torch.zeros(1).expand(10**6, 10**6)}, "declares a tensor of shape"),
        ({"1.weight": torch.zeros(16, 16, device="meta")}, "_rebuild_meta_tensor_no_storage"),
        ({1: torch.zeros(1)}, "holds Tensor at 1"),
    ],
)
def test_what_is_no_plain_tensor_or_has_no_name_is_refused(
    lm: FrozenLM, folder: Path, changes: dict[Any, Tensor], problem: str
) -> None:
    params = torch.load(folder / "params.pt", weights_only=True)
    torch.save(params | changes, folder / "params.pt")
    with pytest.raises(InputError, match=rf"params\.pt is not a state dict of tensors only: it .*{problem}"):
        load_imported_lens(folder, lm)


def test_a_flipped_bit_of_the_numbers_is_refused_by_their_checksum(lm: FrozenLM, folder: Path) -> None:
    weight = torch.load(folder / "params.pt", weights_only=True)["1.weight"]
    data = bytearray((folder / "params.pt").read_bytes())
    data[data.index(weight.numpy().tobytes()) + 3] ^= 1
    (folder / "params.pt").write_bytes(data)
    with pytest.raises(InputError, match="was altered in the part"):
        load_imported_lens(folder, lm)


@pytest.mark.parametrize("name", ["config.json", "params.pt"])
def test_files_that_are_no_files_or_far_too_large_are_refused(lm: FrozenLM, folder: Path, name: str) -> None:
    os.truncate(folder / name, 2**40)
    with pytest.raises(InputError, match=rf"{name} has 1,099,511,627,776 bytes or more, and at most"):
        load_imported_lens(folder, lm)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=name):
        load_imported_lens(folder, lm)
