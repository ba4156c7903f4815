"""Base LightningModule with the frozen model, its head, the lenses and the validation step."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sized
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from logos_pl.agreement import together
from logos_pl.artifacts.transfer import Transfer
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompts import PromptBatch
from logos_pl.data.reading_ahead import ReadAheadLoader, Stage
from logos_pl.data.unspoken_tokens import UnspokenBatch
from logos_pl.errors import InputError, RunError
from logos_pl.functional.divergence import RowDivergence
from logos_pl.functional.row_index import among_all_rows
from logos_pl.io.progress import Progress
from logos_pl.lenses.decoding import lens_divergence
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lm.frozen import DEFAULT_GROUP_TOKENS, FrozenLM
from logos_pl.lm.residuals import Request, Residuals, gather, read_in_groups
from logos_pl.modules.row_means import RowMeans
from logos_pl.settings.model import ModelSettings

QUANTITIES = RowDivergence._fields

Reading = dict[str, Float[Tensor, " rows"]]
"""Means over held-out positions for rows 0 to n, by quantity, of one lens; NaN at rows that it does not read."""

Readings = dict[str, Reading]
"""Readings of several lenses, by name."""

AnyBatch = TypeVar("AnyBatch", TextBatch, PromptBatch, UnspokenBatch)


class LensModule(LightningModule):
    """A frozen model with lenses.

    The frozen model is not registered as a submodule: it is never trained, saved, summarised or wrapped by a
    distributed strategy.

    Args:
        settings: Options of the frozen model and its head.

    Attributes:
        lm: The frozen model; None until `configure_model`.
        head: Head of the model.
        lenses: Lenses by name; `norm` is added by `build`.
        origins: Origins of loaded lenses, by name.
        transfers: For each lens that was fitted on another model, how far this model is from that one; by name.
        validation: Results of the last validation.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.lm: FrozenLM | None = None
        self.lenses: dict[str, Lens] = {}
        self.origins: dict[str, object] = {}
        self.transfers: dict[str, Transfer] = {}
        self.validation: Readings = {}
        self.row_means: MutableMapping[str, RowMeans] = {}

    head: Head

    @together
    def configure_model(self) -> None:
        """Load and freeze the model; idempotent.

        Raises:
            InputError: The model cannot be loaded or compiled, is not supported, or does not fit the settings.
        """
        if self.lm is not None:
            return
        given = self.settings
        # Lightning calls this under `with torch.device(cuda)`, where transformers would need a device map and every new
        # tensor would be created on the GPU; tensors are moved there explicitly instead.
        with torch.device("cpu"):
            with Progress("loading the model", shown=self.global_rank == 0):
                # Without a Trainer, as from Python, there is one machine.
                lm = load_frozen(given, self.device, 1 if self._trainer is None else self.trainer.num_nodes)
            if given.compile:
                lm.compile_blocks()
            self.build(lm)
        if lm.streamed is not None or lm.sharing is not None:
            self.trainer.datamodule.read_ahead = self.read_ahead  # type: ignore[attr-defined]

    def build(self, lm: FrozenLM) -> None:
        """Create head and lenses for a loaded model.

        Raises:
            InputError: A setting does not fit the model.
        """
        given = self.settings
        self.head = Head(lm.anatomy, decoding_norm=given.decoding_norm, fp32_unembed=given.fp32_unembed).to(self.device)
        self.lenses = {"norm": NormLens(self.head)}
        self.lm = lm

    @property
    def frozen(self) -> FrozenLM:
        """The frozen model; available after `configure_model`."""
        assert self.lm is not None, "configure_model() has not run yet"
        return self.lm

    @property
    def decoding_norm(self) -> DecodingNorm:
        """Norm before the unembedding: `final` or `next`."""
        return self.settings.decoding_norm

    @property
    def rows(self) -> list[int]:
        """All rows, 0 to n."""
        return list(range(self.frozen.num_blocks + 1))

    def add_lens(self, name: str, lens: Lens, origin: object = None) -> None:
        """Add a lens.

        Args:
            name: Name of the lens.
            lens: Lens bound to the module's head.
            origin: Origin of the lens; None if not recorded.
        """
        self.lenses[name] = lens
        if origin is not None:
            self.origins[name] = origin

    # Residuals of a batch

    def request(self, stage: Stage, batch: Any) -> Request:
        """What a step reads from the model: by default all rows at the sampled positions of a text."""
        return Request(batch.input_ids, batch.positions, self.rows)

    def given(self, stage: Stage, batch: TextBatch | PromptBatch | UnspokenBatch) -> Residuals:
        """Residuals of a step's batch: those read ahead, or read now."""
        if batch.residuals is not None:
            return batch.residuals
        return gather(self.frozen, [self.request(stage, batch)])[0]

    def read_ahead(self, stage: Stage, loader: Iterable[Any]) -> ReadAheadLoader:
        """Loader of the same batches with their residuals, read in groups (streamed) or in step (sharded).

        Raises:
            InputError: The model is sharded, and a process has no batch: Lightning would leave it behind.
        """
        if self.frozen.sharing is not None and isinstance(loader, Sized) and len(loader) == 0:
            raise InputError(
                f"One of {self.trainer.world_size} processes has nothing to read, but a sharded model needs all of "
                "them: give fewer --trainer.devices, or more to read (a longer --data.suite)."
            )
        return ReadAheadLoader(loader, lambda batches: self._in_groups(stage, batches))

    def _in_groups(self, stage: Stage, batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
        for batch, found in read_in_groups(self.frozen, batches, lambda batch: self.request(stage, batch)):
            yield batch._replace(residuals=found)

    # Validation

    def validate_lenses(self, names: Iterable[str]) -> None:
        """Set the lenses to validate."""
        self.row_means = self.place_means({name: RowMeans(len(self.lenses[name].rows), QUANTITIES) for name in names})

    def place_means(self, means: Mapping[str, RowMeans]) -> MutableMapping[str, RowMeans]:
        """Move metrics to the device of the model, except on MPS, which has no float64."""
        if self.device.type == "mps":
            return dict(means)
        # Registered, so that they move with the module.
        return cast(MutableMapping[str, RowMeans], nn.ModuleDict(means).to(self.device))

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Update the divergences of every row from the final distribution, for each lens."""
        self._read_rows(self.given("val", batch).rows.flatten(1, 2), batch)

    def _read_rows(self, h: Float[Tensor, "rows pos d_model"], batch: TextBatch) -> None:
        """Update the metrics of a validation from the residuals of a batch."""
        for name in self.row_means:
            divergence = lens_divergence(self.lenses[name], h, block_bytes=self.settings.block_bytes)
            self.row_means[name].update(**divergence._asdict())
            self._note_divergence(name, divergence, batch)

    def _note_divergence(self, name: str, divergence: RowDivergence, batch: TextBatch) -> None:
        """Hook: keep more of a lens's divergences on a batch of the validation than their means."""

    def take_readings(self) -> Readings:
        """Return the results of the validation, merged over processes, and reset the metrics.

        Raises:
            RunError: A lens gave non-finite values.
        """
        readings: Readings = {}
        for name, means in self.row_means.items():
            readings[name] = self._placed(name, means.compute())
            means.reset()
        refuse_nonfinite(readings)
        return readings

    def _placed(self, name: str, means: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " rows"]]:
        """Means of a lens at rows 0 to n, on the CPU."""
        rows, num_rows = self.lenses[name].rows, self.frozen.num_blocks + 1
        fills = {key: 0 if key == "nonfinite" else torch.nan for key in means}
        return {key: among_all_rows(value.cpu(), rows, num_rows, fills[key]) for key, value in means.items()}

    def identity(self) -> dict[str, Any]:
        """Values that must agree in all processes, as plain values."""
        return {
            "model_id": self.frozen.model_id,
            "model_commit": self.frozen.model_commit,
            "tokenizer_commit": self.frozen.tokenizer_commit,
            "model_dtype": str(self.frozen.dtype),
            "unembed_dtype": str(self.head.unembedding.weight.dtype),
            "compile": self.settings.compile,
            "decoding_norm": self.decoding_norm,
        }


def reading_of(stored: Mapping[str, list[float]], num_rows: int) -> Reading:
    """Means of a lens, from a checkpoint.

    Raises:
        KeyError: A quantity is missing.
        ValueError: A quantity has the wrong number of rows.
    """
    reading = {name: torch.tensor(stored[name], dtype=torch.float64) for name in QUANTITIES}
    reading["nonfinite"] = torch.tensor(stored["nonfinite"], dtype=torch.int64)
    if any(values.shape != (num_rows,) for values in reading.values()):
        raise ValueError(f"expected a reading of {num_rows} rows")
    return reading


def load_frozen(settings: ModelSettings, device: torch.device, nodes: int = 1) -> FrozenLM:
    """Load the frozen model according to its options, with every `auto` resolved.

    Args:
        settings: Its options.
        device: Where this process runs.
        nodes: Number of machines in the run.

    Raises:
        InputError: The model cannot be loaded or is not supported.
    """
    return FrozenLM.load(
        settings.model_id,
        revision=settings.revision,
        gguf=settings.gguf,
        adapter=settings.adapter,
        dtype=settings.dtype,
        device=device,
        placement="resident" if settings.placement == "auto" else settings.placement,
        group_tokens=DEFAULT_GROUP_TOKENS if settings.group_tokens == "auto" else settings.group_tokens,
        nodes=nodes,
    )


@together
def refuse_nonfinite(readings: Readings) -> None:
    """Check that all values are finite.

    Raises:
        RunError: Some are not; the message names lens and rows.
    """
    for name, reading in readings.items():
        rows = reading["nonfinite"].nonzero().flatten().tolist()
        if rows:
            count = int(reading["nonfinite"].sum())
            raise RunError(
                f"The {name} lens gave {count} values that are not finite, at rows {rows}: run the model in float32 or "
                "bfloat16 (--model.dtype), or lower --model.lr."
            )
