"""Notices of other libraries that a user of this one cannot act on, silenced one by one, by message."""

import logging
import os
import threading
import warnings
from collections.abc import Callable
from functools import partial

WARNINGS = (
    "LightningCLI's args parameter is intended to run from within Python",
    "The '.*_dataloader' does not have many workers",  # one worker tokenises faster than the model reads
    "It is recommended to use `self.log\\(.*sync_dist=True",  # the metrics have merged the processes already
    "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",  # evaluation needs none of them
    "Initializing zero-element tensors is a no-op",  # of a model whose weights do not fit, which is said
    "Found .* module\\(s\\) in eval mode at the start of training",
    "(?s)Checkpoint directory .* exists and is not empty",  # resumed runs go on in their folder
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # lightning 2.6 on torch 2.13
)
"""Regular expressions of warnings."""

LOGGERS = {
    "lightning.pytorch": logging.WARNING,  # tips, "GPU available: False", "max_steps reached"
    "lightning.fabric": logging.WARNING,
    "datasets": logging.ERROR,
    "huggingface_hub": logging.ERROR,
    "transformers": logging.ERROR,
    "httpx": logging.WARNING,
}
"""Loggers and the least level that still speaks."""


def silence_third_parties() -> None:
    """Silence them in this process and, through the environment, in its workers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are forked; one thread each is enough
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # names lightning uses, not the user
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    hook = threading.excepthook
    if not (isinstance(hook, partial) and hook.func is _thread_failed):
        threading.excepthook = partial(_thread_failed, hook)


def _thread_failed(others: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs, /) -> None:
    """Say what a thread failed of, unless TensorBoard's writer met a disk: the next call to it raises the same."""
    of_tensorboard = args.thread is not None and type(args.thread).__module__.split(".")[0] == "tensorboard"
    if not (of_tensorboard and isinstance(args.exc_value, OSError)):
        others(args)
