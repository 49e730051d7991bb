"""The contract that every model keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ser.batch import Batch
from ser.errors import SerError
from ser.loss import Mixed

Batches = Callable[[], Iterable[Batch]]
Streams = Mapping[str, tuple[int, ...]]


class EmotionModel(nn.Module, ABC):
    """A classifier of batches of clips.

    A run calls, in this order: the constructor; `fit` once, on the train split without
    augmentation or shuffling; gradient training on `training_logits` (unless `trainable` is
    False); `calibrate` on the validation split, with the weights loaded that are kept; where that
    fits anything (`calibrates`), on four fifths of it before, to predict the other fifth. `fit` and
    `calibrate` write to buffers or parameters only, so a checkpoint of tensors holds the outcome.

    In evaluation mode a clip's logits do not depend on the other clips of its batch.

    Attributes:
        reads: the streams of the batch that the model needs.
        n_classes: the number of classes.
        trainable: False when `fit` is the whole training.
    """

    trainable: ClassVar[bool] = True

    def __init__(self, n_classes: int, reads: Iterable[str]) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.reads = frozenset(reads)

    @classmethod
    @abstractmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """The streams that a model with these options (its YAML) reads, without building it."""
        raise SerError(
            f"{cls.__name__} ({cls.__module__}) lacks reads_of: a model says there, as a class "
            "method, which streams it takes of a batch (CONTRIBUTING.md)."
        )

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""

    def training_logits(self, batch: Batch) -> Sequence[Tensor | Mixed]:
        """All logits (batch, n_classes) that the loss is applied to; first the model's, unmixed."""
        return [self(batch)]

    def fit(self, batches: Batches) -> None:
        """Take statistics of the train split; `batches()` starts a new pass over it."""

    def learning_rates(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Trainable parameters, each group with the factor of its learning rate."""
        return [(1.0, [weight for weight in self.parameters() if weight.requires_grad])]

    @property
    def adapts(self) -> bool:
        """Whether `adapt` is to be called before clips of new speakers are scored."""
        return False

    def adapt(self, batches: Batches) -> None:
        """Take what unlabelled clips tell of their speakers; forgets those of the last call."""

    @property
    def refits(self) -> bool:
        """Whether `refit` is to be called: only what chooses nothing on validation may be."""
        return False

    def refit(self, batches: Batches) -> None:
        """Fit on train and validation together, once the validation figures are taken."""
        self.fit(batches)

    @property
    def calibrates(self) -> bool:
        """Whether `calibrate` fits anything: the model then knows the clips it was given."""
        return type(self).calibrate is not EmotionModel.calibrate

    def calibrate(self, batches: Batches) -> None:
        """Take what must come from the validation split, anew each time, after training."""

    def take_calibration(self, other: "EmotionModel") -> None:
        """Take from a model of the same options what `calibrate` gave it."""


def stream_shape(model: str, streams: Streams, name: str) -> tuple[int, ...]:
    """The trailing shape of one clip's stream.

    Raises:
        SerError: the front-end does not give the stream.
    """
    if name not in streams:
        given = ", ".join(sorted(streams)) or "nothing"
        raise SerError(
            f"{model} reads {name}, but the feature gives {given}. Drop the feature= option if one "
            "was given, or choose another under `defaults` in the model's file of conf/model/."
        )
    return streams[name]


def require(stream: Tensor | None, name: str) -> Tensor:
    """The stream of a batch, or an error that names it.

    Raises:
        SerError: the batch does not carry the stream.
    """
    if stream is None:
        raise SerError(f"the batch carries no {name}: choose a feature that gives {name}.")
    return stream


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        SerError: it is not; the message lists the choices.
    """
    if value not in choices:
        raise SerError(f"{name}={value} is no option. Choose one of: {', '.join(choices)}.")
    return value


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device."""
    streams: list[Any] = [None if stream is None else stream.to(device) for stream in batch]
    return Batch(*streams)


def chosen_layers(layers: Sequence[int] | str, n_layers: int) -> list[int]:
    """The encoder layers asked for: `all`, `inner` (neither the first nor the last), or a list.

    Raises:
        SerError: another word, no layer, or one that the encoder does not have.
    """
    if isinstance(layers, str):
        check_choice("layers", layers, ("all", "inner"))
        everything = list(range(n_layers))
        return (everything[1:-1] or everything) if layers == "inner" else everything
    chosen = list(layers)
    if not chosen or any(not 0 <= layer < n_layers for layer in chosen):
        raise SerError(
            f"layers={chosen}: the encoder gives layers 0 to {n_layers - 1}. "
            "Choose among them, or all, or inner."
        )
    return chosen
