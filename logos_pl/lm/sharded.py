"""A model whose blocks are sharded over the processes of a machine.

Each process keeps a shard of every matrix, and a block is whole only while it computes. The model's own code runs
unchanged; torch's ``fully_shard`` gathers the matrices of a block before its forward pass and frees them after it.
Vectors, tables and everything outside the blocks are whole in every process. With several machines, each has the whole
model.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import distributed, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig

from logos_pl.agreement import together
from logos_pl.errors import InputError
from logos_pl.lm.hollow import HollowModel, read_hollow_model
from logos_pl.lm.sources import ModelSource
from logos_pl.lm.stored_tensors import StoredTensor


class Sharing:
    """The processes that share a sharded model; every process must create this object.

    Args:
        device: Where this process runs.
        nodes: Number of machines; each of them has the whole model.

    Attributes:
        mesh: All processes, by machine where there are several.

    Raises:
        InputError: There are no other processes on this machine.
    """

    def __init__(self, device: torch.device, nodes: int = 1) -> None:
        world = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        each = world // nodes
        if each < 2:
            raise InputError(
                "a model is sharded over several processes of a machine, but there is only one: give "
                "--trainer.devices, or --model.placement streamed."
            )
        if device.type == "cuda":  # the mesh uses each process's current device
            torch.cuda.init()
            torch.cuda.set_device(device)
        shape, names = ((each,), ("shard",)) if nodes == 1 else ((nodes, each), ("replicate", "shard"))
        self.mesh: DeviceMesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
        # The processes agree on the CPU, without synchronising their devices.
        group, _ = distributed.new_subgroups(group_size=each, backend="gloo")
        assert group is not None
        self._group: ProcessGroup = group

    def anyone_reads(self, own: bool) -> bool:
        """Whether any process of the model has a micro-batch left to read; every process must call this.

        Args:
            own: Whether this process has one.
        """
        asked = torch.tensor(int(own))
        distributed.all_reduce(asked, distributed.ReduceOp.MAX, group=self._group)
        return bool(asked)


@together
def read_sharded_model(
    source: ModelSource, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, sharing: Sharing
) -> HollowModel:
    """The model, with this process's shard of the matrices of its blocks.

    Only this shard is read from the files, except for matrices that transformers assembles from several tensors, such
    as stacked experts: those are read whole, one block at a time.

    Raises:
        InputError: As for a streamed model; an error in one process is raised in all.
        RunError: Memory is short, or the disk refuses.
    """
    hollow = read_hollow_model(source, config, dtype, device)
    for number, block in enumerate(hollow.blocks):
        _shard_block(hollow, number, block, sharing.mesh)
    # A common root without weights of its own prefetches the next block while one computes, and frees the last.
    stack = _holder(hollow.model, hollow.blocks)
    fully_shard(stack, mesh=sharing.mesh, ignored_params={p for p in stack.parameters() if not isinstance(p, DTensor)})
    return hollow


def _holder(model: nn.Module, blocks: Sequence[nn.Module]) -> nn.Module:
    """The innermost module that runs the blocks."""
    wanted = {id(block) for block in blocks}
    holders = [
        module
        for module in model.modules()
        if not isinstance(module, nn.ModuleList) and wanted <= {id(part) for part in module.modules()}
    ]
    return holders[-1]


def _shard_block(hollow: HollowModel, number: int, block: nn.Module, mesh: DeviceMesh) -> None:
    plan = hollow.plan
    stored, copied, targets = plan.streamed[number], plan.copied[number], plan.targets[number]
    converted = {key: tensor for key, tensor in stored.items() if key not in copied}
    hollow.read(converted, [name for name in targets if name not in copied.values()])
    matrices = {id(hollow.model.get_parameter(name)) for name in targets}
    for part in block.parameters():
        part.requires_grad_(False)
        if id(part) in matrices:
            part.data = part.data.contiguous()
    fully_shard(
        block,
        mesh=mesh,
        reshard_after_forward=True,
        ignored_params={part for part in block.parameters() if id(part) not in matrices},
    )
    _fill(hollow, {target: stored[key] for key, target in copied.items()})


def _fill(hollow: HollowModel, tensors: Mapping[str, StoredTensor]) -> None:
    """Replaces matrices on the meta device by this process's rows of stored tensors."""
    for name, stored in tensors.items():
        path, _, last = name.rpartition(".")
        module = hollow.model.get_submodule(path)
        empty = getattr(module, last)
        start, count = _own_rows(empty)
        rows = stored.rows(start, count).to(empty.device_mesh.device_type, empty.dtype)
        part = DTensor.from_local(rows, empty.device_mesh, empty.placements, shape=empty.shape, stride=empty.stride())
        setattr(module, last, nn.Parameter(part, requires_grad=False))


def _own_rows(matrix: DTensor) -> tuple[int, int]:
    """First row and number of rows of this process, split as by torch.chunk."""
    ranks = matrix.device_mesh.size(-1)
    longest = -(-matrix.shape[0] // ranks)
    return min(matrix.device_mesh.get_local_rank(-1) * longest, matrix.shape[0]), matrix.to_local().shape[0]
