import errno
import subprocess
import sys

import pytest
import torch.distributed
from lightning.fabric.utilities.exceptions import MisconfigurationException

from logos_pl.cli.error_messages import describe, one_sentence
from logos_pl.errors import GatesNotPassedError, InputError


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "Parser key \"data.tokens\":\n  Expected a <class 'int'>. Got value: many",
            "--data.tokens must be a whole number (got many).",
        ),
        (
            'Parser key "data.tokens":\n  Does not validate against any of the Union subtypes\n  Subtypes: '
            "[<class 'int'>, typing.Literal['auto']]\n  Errors:\n    - Expected a <class 'int'>. Got value: 8000.0\n"
            "    - Expected a typing.Literal['auto']\n  Given value type: <class 'str'>\n  Given value: 8e3",
            "--data.tokens must be a whole number or 'auto' (got 8e3; write 8000).",
        ),
        (
            "Parser key \"model.rank\":\n  Expected a <class 'int'>. Got value: NestedArg(key='a', val=3)",
            "--model.rank.a must be a whole number (got 3).",
        ),
        (
            "Parser key \"data.seq_len\": Expected a <class 'int'>. Got value: None",
            "--data.seq_len must be a whole number (got null).",
        ),
        (
            "Parser key \"model.model_id\": Expected a <class 'str'>. Got value: None",
            "--model.model_id is missing: give it, or a configuration, such as --config configs/demo.yaml.",
        ),
        (
            "Parser key \"data.seq_len\": Expected a <class 'int'>. Got value: ",
            "--data.seq_len must be a whole number (got '').",
        ),
        (
            "argument subcommand: invalid choice: ft (choose from 'fit', 'test')",
            "There is no command ft: choose among 'fit', 'test': see `logos-pl --help` or `logos-pl fit --help`.",
        ),
        (
            "argument -c/--config: expected one argument",
            "--config needs a value: see `logos-pl --help` or `logos-pl fit --help`.",
        ),
        ("unrecognized arguments: --x", "unrecognized arguments: --x: see `logos-pl --help` or `logos-pl fit --help`."),
    ],
)
def test_the_parsers_messages_become_one_sentence(message: str, sentence: str) -> None:
    assert one_sentence(message) == sentence


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("As it is."), 2, "As it is."),
        (GatesNotPassedError("No."), 3, "No."),
        (MisconfigurationException("Two\n  lines"), 2, "Two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "x.pt"), 1, "No space left on device (x.pt): free space, or"),
        (FileNotFoundError(errno.ENOENT, "No such file", b"logs/x.0"), 1, "No such file (logs/x.0): keep files and"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x/y"), 2, "Not a directory (x/y): give another path"),
        (torch.OutOfMemoryError("CUDA out of\nmemory"), 1, "Out of memory (CUDA out of memory): use fewer or shorter"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), 2, "File name too long (xxx): give another path"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "gone"), 1, "No such file or directory (gone)"),
        (OSError(errno.EFBIG, "File too large"), 1, "File too large: free space, or choose writable folders"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 1, "Too many open files (x): raise the limit with"),
        (MemoryError("Cannot allocate memory"), 1, "Out of memory (Cannot allocate memory): use fewer"),
        (RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: 9 bytes"), 1, "Out of memory ([x] Default"),
        (BrokenPipeError(), 1, "The reader of the output closed it"),
        (torch.distributed.DistBackendError("NCCL"), 1, "Another process of the run failed"),
        (
            RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer"),
            1,
            "Another process of the run failed, as reported above",
        ),
    ],
)
def test_what_a_user_can_act_on_is_one_sentence_with_an_exit_status(
    error: Exception, status: int, sentence: str
) -> None:
    found, exit_status = describe(error)
    assert exit_status == status
    assert found.startswith(sentence)


def test_a_long_value_is_quoted_in_part() -> None:
    sentence = one_sentence(f"Parser key \"x\": Expected a <class 'int'>. Got value: {'9' * 10_000}")
    assert len(sentence) < 250
    assert sentence.startswith("--x must be a whole number (got 999")


def test_what_an_option_takes_may_be_said_in_other_words() -> None:
    message = "Parser key \"x\": Expected a <class 'foreign.Thing'>. Got value: 5"
    assert one_sentence(message, takes={"x": "a name"}) == "--x must be a name (got 5)."
    assert one_sentence(message) == "--x must be Thing (got 5)."


def test_a_fault_of_the_program_is_raised_again() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        describe(RuntimeError("a bug"))


def test_to_describe_an_error_no_large_library_is_loaded() -> None:
    code = "import sys, logos_pl.cli.error_messages; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
