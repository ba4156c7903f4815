"""Compiles chains of element-wise operations into one CUDA kernel; elsewhere the same functions run uncompiled."""

import functools
import inspect
import os
import shutil
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def can_compile(device: torch.device) -> bool:
    """Whether torch can compile for a device: this needs CUDA, Triton, and a C compiler with Python's headers.

    Otherwise functions run uncompiled, as they do with torch's own switch, TORCH_COMPILE_DISABLE=1 in the environment.
    """
    if device.type != "cuda" or find_spec("triton") is None or torch.cuda.get_device_capability(device) < (7, 0):
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return compiler is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def compiled_on_cuda(
    function: Callable[Concatenate[Tensor, P], R],
) -> Callable[Concatenate[Tensor, P], R]:
    """``function``, compiled into one kernel where its first argument is on a device that torch can compile for.

    Results agree up to rounding. A second input size is compiled once more, into a kernel for any size.
    """

    @functools.cache
    def compiled() -> Callable[Concatenate[Tensor, P], R]:
        # At the first call, as torch's compiler takes seconds to import. Shape checks of the tests cannot be traced.
        return torch.compile(inspect.unwrap(function))

    @functools.wraps(function)
    def run(first: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        return (compiled() if can_compile(first.device) else function)(first, *args, **kwargs)

    return run
