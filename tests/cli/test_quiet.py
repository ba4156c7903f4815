import errno
import threading

import pytest
from tensorboard.summary.writer.event_file_writer import _AsyncWriter

from logos_pl.cli.quiet import silence_third_parties


class FullDisk:
    """What TensorBoard's thread writes to."""

    def write(self, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hook of threads was told before ours."""
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(str(args.exc_value)))
    silence_third_parties()
    return told


def test_a_full_disk_in_tensorboards_thread_is_met_by_the_caller_alone(hook: list[str]) -> None:
    writer = _AsyncWriter(FullDisk())
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        writer.write(b"x")
        writer.flush()
    writer._worker.join()

    assert hook == []


def test_what_another_thread_fails_of_is_said_once(hook: list[str]) -> None:
    silence_third_parties()

    def fail() -> None:
        raise OSError("another")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    assert hook == ["another"]
