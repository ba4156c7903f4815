"""The lens of the `tuned-lens` package, trained with its recipe on our stream of text.

Its own lens class, loss (KL of every position, autocast to bfloat16) and optimiser (SGD with Nesterov momentum at its
default rate, gradients clipped, a linear decay).
"""

import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import elapsed
from benchmarks.tuned_lens_package import PACKAGE, make_package_lens
from logos_pl.data.training_text import TrainingText
from logos_pl.lenses.affine import AffineLens
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM


class PackageRun(NamedTuple):
    """The trained lens of the package.

    Attributes:
        lens: Its translators as a lens of this project.
        parameters: Number of parameters.
        tokens: Tokens trained on.
        seconds: Time of reading and training, as of ``elapsed``.
    """

    lens: AffineLens
    parameters: int
    tokens: int
    seconds: float


def train_package(lm: FrozenLM, data: TrainingText, tokens: int) -> PackageRun:
    """Train the package's lens with its recipe on the first part of the text.

    Args:
        lm: The model, on its device.
        data: The text, with the sequences of a step and of a micro-batch.
        tokens: How much of it is read, rounded down to whole steps.

    Raises:
        InputError: The package is not installed, or does not support the model.
    """
    began = elapsed(lm.device)
    lens = make_package_lens(lm)
    step_seqs, micro_seqs = int(data.settings.effective_batch_seqs), int(data.settings.micro_batch_seqs)
    step_tokens = step_seqs * data.settings.seq_len
    steps = max(1, tokens // step_tokens)
    trained = [parameter for parameter in lens.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    accumulated = step_seqs // micro_seqs
    for number, (batch, _) in enumerate(data.opening(steps * step_seqs), start=1):
        _package_gradient(lm, lens, batch.input_ids.to(lm.device), accumulated)
        if number % accumulated == 0:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            decay.step()
            print(f"{PACKAGE}: step {number // accumulated}/{steps}", file=sys.stderr, flush=True)
    seconds = elapsed(lm.device) - began
    weight, bias = (torch.stack([getattr(part, name) for part in lens]) for name in ("weight", "bias"))
    return PackageRun(
        AffineLens(Head(lm.anatomy), weight, bias),
        sum(parameter.numel() for parameter in trained),
        steps * step_tokens,
        seconds,
    )


def _package_gradient(lm: FrozenLM, lens: Any, input_ids: Tensor, accumulated: int) -> None:
    """Accumulate the gradient of a micro-batch as in the package's `train_loop`."""
    with torch.no_grad():
        output = lm.model(input_ids, output_hidden_states=True)
        log_p = output.logits.float().log_softmax(dim=-1)
    for row, state in enumerate(output.hidden_states[:-1]):
        with torch.autocast(lm.device.type, dtype=torch.bfloat16):
            log_q = lens(state, idx=row).log_softmax(dim=-1)
            loss = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
        (loss / accumulated).backward()
