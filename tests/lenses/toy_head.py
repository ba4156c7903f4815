"""A head built by hand: LayerNorm with weights, a projection, a bias, a scale and a soft-cap."""

import torch
from torch import nn

from logos_pl.lenses.head import Head
from logos_pl.lm.anatomy import Anatomy

D_MODEL, D_HEAD, VOCAB = 8, 6, 23


def toy_head(num_blocks: int = 4, *, d_model: int = D_MODEL) -> Head:
    torch.manual_seed(0)
    norm, project, lm_head = nn.LayerNorm(d_model), nn.Linear(d_model, D_HEAD), nn.Linear(D_HEAD, VOCAB)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    parts = nn.ModuleList([norm, project, lm_head]).requires_grad_(False)
    anatomy = Anatomy(
        architecture="Toy",
        family="toy",
        body=parts,
        blocks=[nn.Identity() for _ in range(num_blocks)],
        final_norm=norm,
        project=project,
        head_divisor=1.0,
        lm_head=lm_head,
        logit_multiplier=2.0,
        logit_divisor=1.0,
        softcap=5.0,
        next_norms=None,
        stream_dtype=torch.float32,
    )
    return Head(anatomy)


def residuals(num_rows: int, num_pos: int = 5) -> torch.Tensor:
    return torch.randn(num_rows, num_pos, D_MODEL, generator=torch.Generator().manual_seed(1))
