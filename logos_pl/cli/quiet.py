"""Silences warnings and log messages of other libraries that a user cannot act on."""

import logging
import os
import threading
import warnings
from collections.abc import Callable
from functools import partial

WARNINGS = (
    "LightningCLI's args parameter is intended to run from within Python",
    "The '.*_dataloader' does not have many workers",  # one worker is faster than the model
    "It is recommended to use `self.log\\(.*sync_dist=True",  # the metrics are already reduced over processes
    "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",  # not needed in evaluation
    "Initializing zero-element tensors is a no-op",  # the mismatch of the weights is reported separately
    "Found .* module\\(s\\) in eval mode at the start of training",
    "(?s)Checkpoint directory .* exists and is not empty",  # resumed runs reuse their folder
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # lightning 2.6 on torch 2.13
)
"""Regular expressions of silenced warnings."""

LOGGERS = {
    "lightning.pytorch": logging.WARNING,  # tips, "GPU available: False", "max_steps reached"
    "lightning.fabric": logging.WARNING,
    "datasets": logging.ERROR,
    "huggingface_hub": logging.ERROR,
    "transformers": logging.ERROR,
    "httpx": logging.WARNING,
}
"""Minimum level by logger."""


def silence_third_parties() -> None:
    """Apply the filters in this process and, through the environment, in its workers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked; one thread each suffices
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # raised by Lightning's code, not the user's
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    hook = threading.excepthook
    if not (isinstance(hook, partial) and hook.func is _thread_failed):
        threading.excepthook = partial(_thread_failed, hook)


def _thread_failed(others: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs, /) -> None:
    """Report a failed thread, except TensorBoard's writer on a disk error, which its next call raises again."""
    of_tensorboard = args.thread is not None and type(args.thread).__module__.split(".")[0] == "tensorboard"
    if not (of_tensorboard and isinstance(args.exc_value, OSError)):
        others(args)
