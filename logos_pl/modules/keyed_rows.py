"""Metric that stores rows of numbers by key, for medians over all of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class KeyedTable:
    """Collected rows sorted by key, so that the result does not depend on batches and processes.

    Not a tuple or dataclass, as torchmetrics would squeeze their one-element tensors to scalars.

    Attributes:
        keys: Key of each row.
        values: Rows.
    """

    def __init__(self, keys: Int[Tensor, " samples"], values: Float[Tensor, "samples columns"]) -> None:
        self.keys = keys
        self.values = values


class KeyedRows(Metric):
    """Collects rows of a table in fp32; merged over processes, and sorted by key.

    Args:
        num_columns: Number of columns.
    """

    full_state_update = False
    is_differentiable = False
    keys: list[Tensor]
    values: list[Tensor]

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.num_columns = num_columns
        self.add_state("keys", [], dist_reduce_fx="cat")
        self.add_state("values", [], dist_reduce_fx="cat")
        self._start()

    def reset(self) -> None:
        """Remove all rows."""
        super().reset()
        self._start()

    def _start(self) -> None:
        """Initialise with empty tensors of the right shape and dtype, for processes that receive no rows."""
        self.update(torch.zeros(0, dtype=torch.int64), torch.zeros(0, self.num_columns))

    def update(self, keys: Int[Tensor, " samples"], values: Float[Tensor, "samples columns"]) -> None:
        """Add rows.

        Raises:
            ValueError: If a row has the wrong number of columns, or keys and rows do not match.
        """
        if values.shape != (len(keys), self.num_columns):
            raise ValueError(f"{list(values.shape)} values for {len(keys)} keys: give {self.num_columns} columns each.")
        self.keys.append(keys.to(self.device))
        self.values.append(values.detach().to(self.device, torch.float32))

    def compute(self) -> KeyedTable:
        """All rows, sorted by key.

        Raises:
            ValueError: If a key is duplicated, that is, something was measured twice.
        """
        keys, order = dim_zero_cat(self.keys).sort()
        if bool((keys[1:] == keys[:-1]).any()):
            raise ValueError("A key is duplicated: something was measured twice.")
        return KeyedTable(keys, dim_zero_cat(self.values)[order])
