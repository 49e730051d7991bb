"""The one LightningModule: any EmotionModel, trained and measured in one way."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torchmetrics.classification import MulticlassConfusionMatrix

from ser.augment import BatchAugment
from ser.batch import Batch
from ser.errors import DivergedError, SerError
from ser.loss import Mixed, training_loss
from ser.metrics import METRICS, uar
from ser.models.base import EmotionModel

Schedule = Callable[[Optimizer, int, str, str], Any]
_WAYS_OUT = (
    "Lower optimizer.lr or trainer.gradient_clip_val, or look in the model for a mask that leaves "
    "nothing of a clip, a division by zero or a logarithm of it, and at the features it reads."
)


class EmotionClassifier(pl.LightningModule):
    """Loss, metrics and optimizer around an EmotionModel.

    `clip_weights` (rows of the run's table,) weighs clips in the loss. `card` is a plain dictionary
    with all that inference needs beside the weights (classes, feature settings, model options); it
    travels in the checkpoint under "ser".
    """

    def __init__(
        self,
        model: EmotionModel,
        classes: Sequence[str],
        *,
        augment: BatchAugment,
        label_smoothing: float,
        clip_weights: Tensor | None,
        optimizer: Callable[..., Optimizer],
        schedule: Schedule,
        monitor: str,
        mode: str,
        card: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.classes, self.card = model, tuple(classes), card
        self._augment, self._label_smoothing = augment, label_smoothing
        self._optimizer, self._schedule = optimizer, schedule
        self._monitor, self._mode = monitor, mode
        self._clip_weights = clip_weights
        self._train_counts = MulticlassConfusionMatrix(len(self.classes), validate_args=False)
        self._val_counts = MulticlassConfusionMatrix(len(self.classes), validate_args=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss over every logits tensor that the model exposes."""
        mixed, partner, share = self._augment(batch)
        every = [self._checked(one, batch) for one in self.model.training_logits(mixed)]
        first = every[0]
        assert isinstance(first, Tensor)
        self._train_counts.update(first.detach().argmax(1), batch.target)
        weights = torch.ones(len(batch.target), device=first.device)
        if self._clip_weights is not None:
            weights = self._clip_weights.to(first.device)[batch.index]
        if partner is not None:
            every = [Mixed(logits, partner, share) for logits in every]
        loss = training_loss(every, batch.target, weights, self._label_smoothing)
        self.log(
            "train/loss", loss.detach(), on_epoch=True, on_step=False, batch_size=len(batch.target)
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss without smoothing or weights, and the counts for the epoch's metrics."""
        logits = self._logits(batch)
        self._val_counts.update(logits.argmax(1), batch.target)
        loss = F.cross_entropy(logits, batch.target)
        self.log("val/loss", loss, on_epoch=True, batch_size=len(batch.target))

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the table (batch,), truth (batch,) and probabilities (batch, classes)."""
        return batch.index, batch.target, self._logits(batch).float().softmax(1)

    def _logits(self, batch: Batch) -> Tensor:
        logits = self._checked(self.model(batch), batch)
        assert isinstance(logits, Tensor)
        return logits

    def _checked(self, logits: Tensor | Mixed, batch: Batch) -> Tensor | Mixed:
        """The same, if they are (batch, n_classes); only the shape is asked, never the values."""
        plain, wanted = logits, (len(batch.target), len(self.classes))
        while isinstance(plain, Mixed):
            plain = plain.logits
        if isinstance(plain, Tensor) and tuple(plain.shape) == wanted:
            return logits
        got = f"logits {tuple(plain.shape)}" if isinstance(plain, Tensor) else type(plain).__name__
        raise SerError(
            f"{self._culprit()} gave {got}; forward must give (batch, n_classes) = {wanted}, and "
            "training_logits a list of such tensors. Pool over time, and take n_classes from the "
            "constructor."
        )

    def _culprit(self) -> str:
        kind = type(self.model)
        return f"model={self.card['model']['name']} ({kind.__module__}.{kind.__qualname__})"

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the epoch's training UAR where no validation follows."""
        if self.trainer.is_last_batch and not self.trainer.enable_validation:
            self._log_counts("train", {"uar": uar})

    def on_validation_epoch_end(self) -> None:
        """Log UAR, WAR and macro-F1 of the validation split, and the epoch's training UAR."""
        self._log_counts("train", {"uar": uar})
        self._log_counts("val", METRICS)

    def on_train_epoch_end(self) -> None:
        """End the training where a loss is no number; runs before the epoch's checkpoint."""
        for name in ("train/loss", "val/loss"):
            loss = float(self.trainer.callback_metrics.get(name, 0.0))
            if not math.isfinite(loss):
                raise DivergedError(
                    f"{self._culprit()}: {name} is {loss} in epoch {self.current_epoch + 1}, and "
                    f"nothing is learned from a loss that is no finite number. {_WAYS_OUT}"
                )

    def _log_counts(self, part: str, figures: dict[str, Callable[[Any], float]]) -> None:
        counter = self._train_counts if part == "train" else self._val_counts
        if not counter.update_called:
            return
        counts = counter.compute().cpu().numpy()
        counter.reset()
        values = {f"{part}/{name}": figure(counts) for name, figure in figures.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> Any:
        """The optimizer, each of the model's groups at its share of the rate, and the schedule."""
        rates = self.model.learning_rates()
        optimizer = self._optimizer([{"params": weights} for _, weights in rates])
        for group, (factor, _) in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] *= factor
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self._schedule(optimizer, steps, self._monitor, self._mode)
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the card beside the weights."""
        checkpoint["ser"] = self.card
