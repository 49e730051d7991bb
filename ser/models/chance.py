"""What knowing nothing of a clip is worth: the class shares of the train split."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ser.batch import Batch
from ser.models.base import Batches, EmotionModel, stream_shape


class Chance(EmotionModel):
    """The same logits, the log shares of the classes, for every clip.

    It asks for frames, the cheapest stream, only because a batch needs one.
    """

    trainable: ClassVar[bool] = False
    log_share: Tensor

    def __init__(self, n_classes: int, streams: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(n_classes, self.reads_of({}))
        stream_shape("Chance", streams, "frames")
        self.register_buffer("log_share", torch.zeros(n_classes))

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Frames."""
        return frozenset({"frames"})

    def fit(self, batches: Batches) -> None:
        """Count the classes; one imagined clip of each keeps the logarithm finite."""
        counts = torch.ones(self.n_classes)
        for batch in batches():
            counts += torch.bincount(batch.target.cpu(), minlength=self.n_classes)
        self.log_share = (counts / counts.sum()).log().to(self.log_share.device)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        return self.log_share.expand(len(batch.target), -1)
