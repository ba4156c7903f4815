"""Tokenizer files that cannot be read, each refused in one sentence."""

import json
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.lm import tokenizer
from logos_pl.lm.frozen import FrozenLM
from tests.lm.model_folder import edit


def test_a_vocabulary_that_takes_a_package_names_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    monkeypatch.setattr(tokenizer, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"is only tokenizer.model, which needs the package sentencepiece.*pip install"
    ):
        FrozenLM.load(str(folder))


def test_a_panic_of_the_tokenizer_is_bad_input_and_prints_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"] = {}
    edit(folder, "tokenizer.json", post_processor=content["post_processor"])
    with pytest.raises(InputError, match="the tokenizer files of m cannot be read"):
        FrozenLM.load(str(folder))
    assert capfd.readouterr().err == ""


def test_an_unknown_setting_of_a_token_is_not_printed_raw(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    token = {"id": 0, "content": "<s>", "special": True, "\x1b[31mred": True} | dict.fromkeys(
        ("single_word", "lstrip", "rstrip", "normalized"), False
    )
    edit(folder, "tokenizer.json", added_tokens=[token, *content["added_tokens"]])
    FrozenLM.load(str(folder))
    assert "red" not in "".join(capfd.readouterr())
