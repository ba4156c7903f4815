"""Forward pass on a few token ids with traced modules, and errors that name the architecture."""

from jaxtyping import Float, Int
from torch import Tensor, arange, dtype, float32, nn, stack
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.foreign import blaming
from logos_pl.lm.trace import Call, record_calls

PROBE_TOKENS = 8
"""Length of the two sequences of ``probe_ids`` and of ``twin_ids``."""
PREFIX = 5
"""Length of the common prefix of the sequences of ``twin_ids``."""


def unsupported(architecture: str, reason: str, in_dtype: dtype = float32) -> InputError:
    """Error for an unsupported architecture, with its name and the reason.

    Args:
        architecture: Class of the model.
        reason: The check that fails.
        in_dtype: Number format, if rounding may be the cause; the message then says so.
    """
    if in_dtype == float32:
        return InputError(f"{architecture} is not supported: {reason}.")
    name = str(in_dtype).removeprefix("torch.")
    return InputError(
        f"{architecture} is not supported in {name}: {reason}; it may be in float32: give --model.dtype float32."
    )


def probe_ids(model: PreTrainedModel, offset: int = 0) -> Int[Tensor, "2 8"]:
    """Two short sequences of token ids spread over the vocabulary; they differ for each ``offset``."""
    size = model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    ids = (arange(2 * PROBE_TOKENS) * max(1, size // 17) + 1 + offset) % size
    return ids.view(2, PROBE_TOKENS).to(model.device)


def twin_ids(model: PreTrainedModel) -> Int[Tensor, "2 8"]:
    """Two sequences that differ only in the tokens after the first ``PREFIX``; the ids are not those of ``probe_ids``.

    Flipped, the batch holds the same tokens in the same contexts. A causal model then reads the same at every
    earlier position, bit for bit even where the shapes of its products depend on the tokens, as in a mixture of
    experts.
    """
    one, other = probe_ids(model, offset=1)
    return stack([one, other.index_copy(0, arange(PREFIX, device=other.device), one[:PREFIX])])


def run_traced(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch seq"], watched: list[nn.Module]
) -> tuple[list[Call], Float[Tensor, "batch seq vocab"]]:
    """Run a forward pass; returns the calls of the traced modules and the logits.

    Raises:
        InputError: The model does not run on token ids alone, fails in its number format, or returns no logits.
        RunError: There is too little memory.
    """
    name = type(model).__name__
    half = "" if model.dtype == float32 else f" in {str(model.dtype).removeprefix('torch.')}"
    remedy = "use another model, or fetch its config.json again"
    if half:  # for example, modules that keep float32 numbers and get half-precision input
        remedy = f"it may run in float32: give --model.dtype float32; else {remedy}"
    with blaming(f"{name} is not supported{half}: it does not run on token ids alone", remedy, name):
        calls, output = record_calls(lambda: model(input_ids=input_ids, use_cache=False), watched)
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise unsupported(name, "its forward returns no logits")
    return calls, logits


def last_call(calls: list[Call], module: nn.Module) -> Call:
    """The last call of a module that is known to have been called."""
    return next(call for call in reversed(calls) if call.module is module)
