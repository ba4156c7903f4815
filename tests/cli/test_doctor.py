"""`logos-pl doctor`: one screen without a network, without secrets, on a broken machine too."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from logos_pl.cli import diagnosis
from logos_pl.cli.diagnosis import Device, Diagnosis, Fit, Hub
from logos_pl.cli.doctor import main, screen
from logos_pl.io.terminal import Console


def made(**changes: Any) -> Diagnosis:
    """A machine with a card."""
    found = Diagnosis(
        versions={"logos-pl": "0.1.0", "torch": "2.13.0+cu130", "lightning": None, "peft": "0.21.2", "gguf": None},
        commit=f"{'a' * 40}-dirty",
        python="3.12.1",
        system="Linux 6.1 x86_64",
        cores=16,
        host_free_bytes=100 * 2**30,
        host_total_bytes=128 * 2**30,
        devices=[Device("cuda:0", "NVIDIA H100", 77 * 2**30, 80 * 2**30), Device("cpu", None, 2**37, 2**37)],
        device_error=None,
        hub=Hub("environment", True, "/data/hub", 3 * 2**40, None),
        switches={"HF_HUB_OFFLINE": "1"},
        fits=[
            Fit("demo", "cuda:0 in bfloat16", "cuda:0 in bfloat16"),
            Fit("org/large", None, "cuda:0 in bfloat16"),
            Fit("org/larger", None, "cpu in bfloat16"),
            Fit("org/huge", None, None),
        ],
    )
    return found._replace(**changes)


def lines(found: Diagnosis, capsys: pytest.CaptureFixture[str], width: int = 80) -> list[str]:
    capsys.readouterr()
    Console(width=width).print(screen(found))
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_screen_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(made(), capsys) == [
        "logos-pl  0.1.0 at aaaaaaaaaaaa-dirty",
        "Python    3.12.1 on Linux 6.1 x86_64, 16 cores",
        "packages  torch 2.13.0+cu130, lightning missing, peft 0.21.2",
        "devices   cuda:0 (NVIDIA H100): 77.0 GiB of 80.0 GiB free",
        "          cpu: 128.0 GiB of 128.0 GiB free",
        "Hub       a token from environment, offline mode",
        "cache     /data/hub, 3,072.0 GiB free on its disk",
        "switches  HF_HUB_OFFLINE=1",
        "fits      to fit a lens, on cuda:0 in bfloat16: demo",
        "          only to read, on cuda:0 in bfloat16: large",
        "          only to read, on cpu in bfloat16: larger",
        "          not at all: huge",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_is_one_screen_of_any_width(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    fits = [Fit(f"org/model-number-{number}", None, "cpu in float32") for number in range(15)]
    said = lines(made(fits=fits), capsys, width)
    assert len(said) <= 25
    assert max(map(len, said)) <= width
    assert all(f"model-number-{number}" in " ".join(said) for number in range(15))


def test_a_machine_whose_devices_cannot_be_asked_still_has_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nCUDA kernel errors might …")

    monkeypatch.setattr("logos_pl.lm.devices.measure_memory", broken)
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "devices   cannot be queried: CUDA error: no kernel image is available." in said
    assert "free on the host" in said


def test_without_asking_for_it_no_connection_is_opened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was used")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert main([]) == 0
    assert "The Hub was not contacted" in capsys.readouterr().out


def test_secrets_are_not_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:password@proxy.example:8080")
    monkeypatch.setenv("HF_ENDPOINT", "user:password@hub.example")
    assert main(["--json"]) == 0
    said = capsys.readouterr().out
    assert "hf_secret" not in said
    assert "password" not in said
    found = json.loads(said)
    assert found["hub"]["token"] == "environment"
    assert found["switches"]["HTTPS_PROXY"] == "proxy.example"
    assert found["switches"]["HF_ENDPOINT"] == "hub.example"


def test_json_has_the_bytes_and_every_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == set(Diagnosis._fields)
    assert found["versions"].keys() == {"logos-pl", *diagnosis.PACKAGES, *diagnosis.OPTIONAL}
    assert found["devices"][-1]["name"] == "cpu"
    assert 0 < found["devices"][-1]["free_bytes"] <= found["host_total_bytes"]
    assert found["fits"][0]["model_id"] == "demo"


def test_asked_to_it_says_what_the_hub_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "get_token", lambda: None)
    monkeypatch.setattr(diagnosis.HfApi, "model_info", lambda *_, **__: None)
    assert main(["--online"]) == 0
    said = capsys.readouterr().out
    assert "reachable without a token" in said
    assert "was not contacted" not in said
    monkeypatch.setattr(diagnosis, "get_token", lambda: "hf_secret")
    monkeypatch.setattr(diagnosis.HfApi, "whoami", lambda *_: {"name": "somebody"})
    assert main(["--online"]) == 0
    assert "token accepted, user somebody" in capsys.readouterr().out


def test_in_the_locale_c_it_is_ascii(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "logos_pl", "doctor"],
        env=os.environ | {"LC_ALL": "C", "COLUMNS": "60", "HF_HOME": str(tmp_path / "größe")},
        capture_output=True,
        check=True,
    )
    said = done.stdout.decode("ascii")
    assert max(map(len, said.splitlines())) <= 60
    assert "\\xf6" in said
