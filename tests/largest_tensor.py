"""What operations allocate, seen from the dispatcher: how tests measure memory without a device's counters."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Looks at the storage behind every tensor that an operation returns; slices of ``given`` tensors count for none.

    Attributes:
        numel: Elements of the largest.
        sizes: Bytes of each, by address; an address that was let go of and taken again counts as one.
    """

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.numel = 0
        self.sizes: dict[int, int] = {}
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in _tensors(out):
            storage = part.untyped_storage()
            if storage.data_ptr() not in self._given:
                self.numel = max(self.numel, storage.nbytes() // part.element_size())
                self.sizes[storage.data_ptr()] = max(storage.nbytes(), self.sizes.get(storage.data_ptr(), 0))
        return out


def _tensors(out: Any) -> Iterator[Tensor]:
    parts = out if isinstance(out, tuple | list) else [out]
    return (part for part in parts if isinstance(part, Tensor))
