"""TIM-Net and two readings of an encoder joined, late or by the summaries of the trained ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ser.batch import Batch
from ser.errors import SerError
from ser.loss import Mixed
from ser.models.base import Batches, EmotionModel, check_choice, moved
from ser.models.linear import class_weights
from ser.models.ridge import Ridge
from ser.models.tim import TimNet
from ser.models.wav2vec2 import Wav2Vec2Model, mean_log_probabilities

FUSIONS = ("mean_logits", "concat", "gated", "stacked", "tim_on_frames")
META_PENALTY = 1.0  # scikit-learn's default C, on 2 * n_classes log-probabilities


class Ensemble(EmotionModel):
    """Trained arms and a regression at once, composed of the very options of the single models.

    Args:
        n_classes: number of classes.
        streams: trailing shapes of the streams given.
        tim, wav2vec2: the trained arms, with all options but n_classes and streams filled in.
        ridge: the regression, likewise; it reads the same embedding as wav2vec2.
        fusion: how the trained arms are joined.
            `mean_logits`: weighted mean of the arms' log-probabilities.
            `tim_on_frames`: the same, TIM-Net reading the encoder's frames in place of MFCC.
            `concat`: a linear layer over both summaries side by side.
            `gated`: a convex mixture of both summaries, its weights computed for each clip.
            `stacked`: logistic regression on both arms' log-probabilities, fitted by `calibrate`
            on validation; the arms train as if alone.
        tim_share: TIM-Net's weight in `mean_logits` and `tim_on_frames`, and in `stacked` before
            it is calibrated; the encoder arm has the rest. With 0 in `mean_logits` there is no
            TIM-Net.
        ridge_share: the regression's weight in the mean of log-probabilities with the joined arms;
            with 0 there is none, and a model that reads no embedding is possible.
        hidden: width of the mixture in `gated`.
        dropout: of the joined summary in `concat` and `gated`.
    """

    meta_weight: Tensor
    meta_bias: Tensor

    def __init__(
        self,
        n_classes: int,
        streams: Mapping[str, tuple[int, ...]],
        tim: Callable[..., TimNet],
        wav2vec2: Callable[..., Wav2Vec2Model],
        ridge: Callable[..., Ridge],
        fusion: str,
        tim_share: float,
        ridge_share: float,
        hidden: int,
        dropout: float,
    ) -> None:
        check_choice("fusion", fusion, FUSIONS)
        if not 0 <= tim_share <= 1 or (tim_share == 0 and fusion != "mean_logits"):
            raise SerError(
                f"model.tim_share={tim_share} with fusion={fusion}: give a share from 0 to 1; 0 "
                "leaves TIM-Net out, which only fusion=mean_logits can do without."
            )
        tim_arm = tim(n_classes=n_classes, streams=streams) if tim_share else None
        wav2vec2_arm = wav2vec2(n_classes=n_classes, streams=streams)
        ridge_arm = ridge(n_classes=n_classes, streams=streams) if ridge_share else None
        if ridge_arm is not None and ridge_arm.adapts:
            raise SerError(
                "model.ridge.enrolment: an ensemble does not adapt to speakers. Set it to 0, or "
                "take model=ridge_enrolled."
            )
        arms = (tim_arm, wav2vec2_arm, ridge_arm)
        super().__init__(n_classes, frozenset().union(*(arm.reads for arm in arms if arm)))
        self.tim, self.wav2vec2, self.ridge = tim_arm, wav2vec2_arm, ridge_arm
        self.fusion, self.tim_share, self.ridge_share = fusion, tim_share, ridge_share
        sizes = (self.tim.n_outputs if self.tim else 0, self.wav2vec2.n_outputs)
        self.joiner: nn.Module | None = None
        if fusion == "concat":
            self.joiner = Concatenation(sizes, n_classes, dropout)
        elif fusion == "gated":
            self.joiner = Gate(sizes, hidden, n_classes, dropout)
        elif fusion == "stacked":
            identity = torch.eye(n_classes)
            start = torch.cat([tim_share * identity, (1 - tim_share) * identity])
            self.register_buffer("meta_weight", start)
            self.register_buffer("meta_bias", torch.zeros(n_classes))

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """What all arms read."""
        tim = TimNet.reads_of(options["tim"]) if options["tim_share"] else frozenset()
        trained = tim | Wav2Vec2Model.reads_of(options["wav2vec2"])
        regression = Ridge.reads_of(options["ridge"]) if options["ridge_share"] else frozenset()
        return trained | regression

    def learning_rates(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Each arm at its own rate; what joins them at the optimizer's."""
        joiner = [] if self.joiner is None else [(1.0, list(self.joiner.parameters()))]
        tim = self.tim.learning_rates() if self.tim else []
        return tim + self.wav2vec2.learning_rates() + joiner

    def fit(self, batches: Batches) -> None:
        """Each arm takes its statistics of the train split."""
        if self.tim is not None:
            self.tim.fit(batches)
        self.wav2vec2.fit(batches)
        self.refit(batches)

    @property
    def refits(self) -> bool:
        """The regression alone, which chooses nothing on validation."""
        return self.ridge is not None

    def refit(self, batches: Batches) -> None:
        """Solve the regression."""
        if self.ridge is not None:
            self.ridge.fit(batches)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        trained = self._join(*self._arms(batch))
        if self.ridge is None:
            return trained
        solved = self.ridge(batch).float().log_softmax(-1)
        mean: Tensor = torch.lerp(trained.float().log_softmax(-1), solved, self.ridge_share)
        return mean

    def training_logits(self, batch: Batch) -> Sequence[Tensor | Mixed]:
        """The trained arms' joined logits, then each one's own: neither can lean on the other.

        Where the join has no weights of its own that gradients could train, the arms' losses alone
        are what trains them; the joined logits are then detached and only reported.
        """
        tim, wav2vec2 = self._arms(batch)
        joined = self._join(tim, wav2vec2)
        if self.joiner is None:
            joined = joined.detach()
        of_tim = [] if self.tim is None or tim is None else [self.tim.classify_mixed(tim)]
        return [joined, *of_tim, *self.wav2vec2.each_head(wav2vec2)]

    def _arms(self, batch: Batch) -> tuple[Tensor | None, Tensor]:
        """Both summaries: (batch, tim width), None without TIM-Net, and (batch, wav2vec2 width)."""
        tim = None if self.tim is None else self.tim.summary(batch)
        return tim, self.wav2vec2.summary(batch)

    def _join(self, tim: Tensor | None, wav2vec2: Tensor) -> Tensor:
        if tim is None:
            return mean_log_probabilities(self.wav2vec2.each_head(wav2vec2))
        if self.joiner is not None:
            logits: Tensor = self.joiner(tim, wav2vec2)
            return logits
        arms = self._log_probabilities(tim, wav2vec2)
        if self.fusion == "stacked":
            return arms.flatten(1) @ self.meta_weight + self.meta_bias
        return self.tim_share * arms[:, 0] + (1 - self.tim_share) * arms[:, 1]

    def _log_probabilities(self, tim: Tensor | None, wav2vec2: Tensor) -> Tensor:
        """(batch, 2 arms, n_classes)."""
        assert self.tim is not None and tim is not None
        heads = self.wav2vec2.each_head(wav2vec2)
        arms = [self.tim.classify(tim).float().log_softmax(-1), mean_log_probabilities(heads)]
        return torch.stack(arms, 1)

    @property
    def calibrates(self) -> bool:
        """Only the `stacked` meta-learner is fitted on validation."""
        return self.fusion == "stacked"

    def calibrate(self, batches: Batches) -> None:
        """Fit the `stacked` meta-learner on validation; the other ways of joining need nothing."""
        if not self.calibrates:
            return
        inputs, targets = self._held_out(batches)
        from sklearn.linear_model import LogisticRegression

        solved = LogisticRegression(C=META_PENALTY, max_iter=1000).fit(inputs, targets)
        self.meta_weight, self.meta_bias = (
            value.to(self.meta_weight.device)
            for value in class_weights(solved, inputs.shape[1], self.n_classes)
        )

    def take_calibration(self, other: EmotionModel) -> None:
        """The meta-learner of `stacked`."""
        assert isinstance(other, Ensemble)
        if self.calibrates:
            self.meta_weight, self.meta_bias = other.meta_weight.clone(), other.meta_bias.clone()

    def _held_out(self, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
        """Both arms' log-probabilities (clips, 2 * n_classes) and the classes (clips,)."""
        training = self.training
        self.eval()
        inputs, targets = [], []
        with torch.no_grad():
            for batch in batches():
                batch = moved(batch, self.meta_bias.device)
                inputs.append(self._log_probabilities(*self._arms(batch)).flatten(1).cpu())
                targets.append(batch.target.cpu())
        self.train(training)
        return torch.cat(inputs).numpy(), torch.cat(targets).numpy()


class Concatenation(nn.Module):
    """A linear layer over both summaries, each brought to one scale first."""

    def __init__(self, sizes: tuple[int, int], n_classes: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(sum(sizes), n_classes))

    def forward(self, *summaries: Tensor) -> Tensor:
        """Two of (batch, size) -> logits (batch, n_classes)."""
        scaled = [norm(summary) for norm, summary in zip(self.norms, summaries, strict=True)]
        logits: Tensor = self.head(torch.cat(scaled, 1))
        return logits


class Gate(nn.Module):
    """gate * first + (1 - gate) * second, every coordinate with its own gate for each clip.

    Gated multimodal unit (Arevalo et al., 2017, arXiv 1702.01992, section 3.1).
    """

    def __init__(self, sizes: tuple[int, int], hidden: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(size), nn.Linear(size, hidden), nn.Tanh()) for size in sizes
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes)
        self.gate = nn.Linear(sum(sizes), hidden)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_classes))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two of (batch, size) -> logits (batch, n_classes)."""
        both = torch.cat([self.norms[0](first), self.norms[1](second)], 1)
        gate = self.gate(both).sigmoid()
        mixed = gate * self.inputs[0](first) + (1 - gate) * self.inputs[1](second)
        logits: Tensor = self.head(mixed)
        return logits
