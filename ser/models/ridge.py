"""Ridge regressions on the pooled layers, deaf to the speaker, or adapted to one on demand."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ser.batch import Batch
from ser.errors import SerError
from ser.models.base import Batches, EmotionModel, require
from ser.models.discriminant import fit_discriminant
from ser.models.dual_ridge import DualRidge
from ser.models.enrolment import Voice, adapted
from ser.models.least_squares import Regression
from ser.models.linear import UNSEEN
from ser.models.pooled_inputs import PooledInputs
from ser.models.primal_ridge import PrimalRidge

_log = logging.getLogger(__name__)

_POOLED = ("mean", "std")
_FOLDS = 4  # of the training speakers, for answers on speakers that a regression has not heard
_PARTITIONS = 10  # into such folds; with one, UAR between corpora hung on the draw by 7 points
_ANSWERS = 50_000  # of more clips than a tenth of this there are fewer partitions
_DUAL_CLIPS = 15_000  # more are solved by their inputs; two square matrices of these are 3.4 GiB
_DUAL_TIMES = 3  # so are more clips than so many times the inputs, where it takes less time
_CLIPS_A_DIRECTION = 16  # with fewer clips a speaker not all of their directions are projected out
_DEVIATION_CLIPS = 10.0  # clips that the training speakers' deviation counts as


class Ridge(EmotionModel):
    """The mean of several ridge regressions, then one Gaussian for each class over their answers.

    A clip is heard twice, its speech alone and all of it with silence around: the errors of the two
    differ. Its layers are brought to zero mean and unit deviation, statistic by statistic, which
    takes out much of the channel. From the standardised inputs the directions are projected out in
    which the means of the training speakers differ most, at most one for 16 clips (nuisance
    attribute projection, Solomonoff, Campbell & Boardman, ICASSP 2005). Each view of the inputs
    gives a regression on ±1 targets, the classes of a corpus weighing the same, a corpus by the
    root of its clips. Their weighted mean on clips of speakers left out gives a linear discriminant
    (ser.models.discriminant). All of it is linear: one weight matrix at inference.

    With `enrolment` the model is fitted on inputs standardised speaker by speaker, and is adapted
    to a new speaker by clips without labels: by their mean and deviation, shrunk to the training
    speakers' by how many they are, and by weights and class means moved from the training speakers'
    (ser.models.enrolment). The classes are then as likely beforehand as they are often in training,
    without it all the same. This uses more than one clip of the person and is a protocol of its
    own, not to be compared with figures that do not.

    Args:
        n_classes: number of classes.
        streams: trailing shapes of the streams given.
        statistics: of the embedding stream, in its order; None for mean and std, those of
            the feature `embedding`.
        layers: encoder layers used; a list, `all`, or `inner` for all but the first and the last.
        views: for each regression the names of the statistics that it reads.
        whole_views: the same of regressions on all frames of a clip, by mean and std.
        whole_share: their weight in the mean; 0 leaves them out, and one stream is read.
        silence_s: of the feature `embedding_whole`; None is each recording's own silence.
        penalty: squared weight against squared error, for each input of a view; above 0.
        remove_speakers: project out the training speakers' directions (not with enrolment, which
            has taken the speaker out already).
        enrolment: clips of a new speaker to adapt to: a number, `all`, or 0.
    """

    trainable: ClassVar[bool] = False
    weight: Tensor
    bias: Tensor
    class_means: Tensor
    precision: Tensor
    log_prior: Tensor
    centre: Tensor
    within: Tensor
    prior_clips: Tensor

    def __init__(
        self,
        n_classes: int,
        streams: Mapping[str, tuple[int, ...]],
        statistics: Sequence[str] | None,
        layers: Sequence[int] | str,
        views: Sequence[Sequence[str]],
        whole_views: Sequence[Sequence[str]],
        whole_share: float,
        silence_s: float | None,
        penalty: float,
        remove_speakers: bool,
        enrolment: int | str,
    ) -> None:
        super().__init__(n_classes, self.reads_of({"whole_share": whole_share}))
        if not 0 <= whole_share < 1:
            raise SerError(f"model.whole_share={whole_share}: give a share from 0 to below 1.")
        if penalty <= 0:
            raise SerError(f"model.penalty={penalty}: give a number above 0.")
        self.pooled = [PooledInputs(streams, "embedding", statistics or _POOLED, layers)]
        self.views = self.pooled[0].views("views", views, 1 - whole_share)
        if whole_share:
            self.pooled.append(PooledInputs(streams, "embedding_whole", _POOLED, layers))
            size = self.pooled[0].size
            self.views += self.pooled[1].views("whole_views", whole_views, whole_share, size)
        self.own_silence = bool(whole_share) and silence_s is None
        self.penalty, self.remove_speakers = penalty, remove_speakers
        self.enrolment_clips = _clips(enrolment)
        self._speakers: dict[int, Voice] = {}
        self._told = False
        size = sum(part.size for part in self.pooled)
        self.register_buffer("weight", torch.zeros(size, n_classes))
        self.register_buffer("bias", torch.zeros(n_classes))
        self.register_buffer("class_means", torch.zeros(n_classes, n_classes))
        self.register_buffer("precision", torch.eye(n_classes))
        self.register_buffer("log_prior", torch.zeros(n_classes))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("within", torch.ones(size))
        self.register_buffer("prior_clips", torch.ones(size))

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Pooled embeddings of the speech, and those of all frames beside them."""
        return frozenset(
            {"embedding", "embedding_whole"} if options["whole_share"] else {"embedding"}
        )

    def _inputs(self, batch: Batch) -> Tensor:
        """(batch, inputs of both streams)."""
        return torch.cat([part.inputs(batch) for part in self.pooled], 1)

    @property
    def refits(self) -> bool:
        """It chooses nothing on validation."""
        return True

    def fit(self, batches: Batches) -> None:
        """Solve every view; then the discriminant over answers to speakers left out."""
        whole = list(batches())
        inputs = torch.cat([self._inputs(batch).cpu() for batch in whole])
        target = torch.cat([batch.target for batch in whole]).cpu()
        speaker = torch.cat([require(batch.speaker, "speaker") for batch in whole]).cpu()
        corpus = torch.cat([require(batch.corpus, "corpus") for batch in whole]).cpu()
        del whole
        _, speaker = torch.unique(speaker, return_inverse=True)
        self._tell_of_silence(corpus)
        self._fit_speakers(inputs, speaker)
        if self.enrolment_clips:
            for number in range(int(speaker.max()) + 1):
                mine = speaker == number
                mean, deviation = self._statistics_of(inputs[mine])
                inputs[mine] = (inputs[mine] - mean) / deviation
        clip_weight = _balanced(target, corpus)
        centre, scale = _weighted_statistics(inputs, clip_weight)
        inputs.sub_(centre).div_(scale)
        answers, weight, offset = self._views(inputs, target, speaker, clip_weight)
        self.weight.copy_(weight / scale[:, None])
        self.bias.copy_(offset - centre @ (weight / scale[:, None]))
        repeated = target.repeat(len(answers) // len(target))
        self._fit_discriminant(answers, repeated, int(speaker.max()) + 1)

    def _tell_of_silence(self, corpus: Tensor) -> None:
        heard = self.own_silence and not self.adapts
        if heard and not self._told and bool((corpus == corpus[0]).all()):
            _log.warning(
                "ridge: of one corpus the silence around its clips is learned, too. If the model "
                "is to hear recordings from elsewhere, train on several corpora, or set "
                "model.silence_s=0.5 (in the ensemble model.ridge.silence_s=0.5)."
            )
            self._told = True

    def _views(
        self, inputs: Tensor, target: Tensor, speaker: Tensor, clip_weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over views: answers to left-out speakers of every partition, one after another;
        weight and offset on all clips.
        """
        n_partitions = max(1, min(_PARTITIONS, _ANSWERS // len(target)))
        partitions = [_speaker_folds(speaker, _FOLDS, seed) for seed in range(n_partitions)]
        answers = torch.zeros(n_partitions, len(target), self.n_classes)
        weight = torch.zeros(inputs.shape[1], self.n_classes)
        offset = torch.zeros(self.n_classes)
        remove = self.remove_speakers and not self.enrolment_clips
        n_removed = len(target) // _CLIPS_A_DIRECTION if remove else 0
        clip_weight = clip_weight.double()
        for columns, share in self.views:
            penalty = self.penalty * len(columns)
            task = Regression(target, speaker, clip_weight, self.n_classes, penalty, n_removed)
            dual = len(target) <= min(_DUAL_CLIPS, _DUAL_TIMES * len(columns))
            solver = (DualRidge if dual else PrimalRidge)(inputs[:, columns], task)
            part, constant = solver.solution()
            weight[columns] += part.float() * share
            offset += constant.float() * share
            for number, folds in enumerate(partitions):
                for fold in folds:
                    answers[number, fold] += solver.answers(fold).float() * share
        return answers.flatten(0, 1), weight, offset

    def _fit_discriminant(self, answers: Tensor, target: Tensor, n_speakers: int) -> None:
        counts = torch.bincount(target, minlength=self.n_classes)
        known = counts / counts.sum() if self.enrolment_clips else torch.ones(self.n_classes)
        self.log_prior.copy_(torch.where(counts > 0, known.log(), UNSEEN))
        means, precision = fit_discriminant(answers, target, n_speakers)
        self.class_means.copy_(means)
        self.precision.copy_(precision)

    def _fit_speakers(self, inputs: Tensor, speaker: Tensor) -> None:
        """What a new speaker's statistics are shrunk to, and how strongly."""
        number = int(speaker.max()) + 1
        counts = torch.bincount(speaker, minlength=number)[:, None]
        means = torch.zeros(number, inputs.shape[1]).index_add_(0, speaker, inputs) / counts
        within = (inputs - means[speaker]).square().mean(0)
        self.centre.copy_(means.mean(0))
        self.within.copy_(within)
        if number > 1:
            between = (means - means.mean(0)).square().sum(0) / (number - 1)
            self.prior_clips.copy_((within / between.clamp(min=1e-9)).clamp(max=1e3))

    def _statistics_of(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of a speaker from some clips, each input shrunk on its own."""
        n = len(inputs)
        own = inputs.mean(0)
        mean = (n * own + self.prior_clips * self.centre) / (n + self.prior_clips)
        spread = (inputs - own).square().sum(0)
        variance = (spread + _DEVIATION_CLIPS * self.within) / (n + _DEVIATION_CLIPS)
        return mean, variance.clamp(min=1e-9).sqrt()

    @property
    def adapts(self) -> bool:
        """With enrolment."""
        return self.enrolment_clips > 0

    def adapt(self, batches: Batches) -> None:
        """Adapt to the speakers of these clips, at most `enrolment` of each, labels unread."""
        self._speakers = {}
        if not self.adapts:
            return
        whole = list(batches())
        inputs = torch.cat([self._inputs(batch) for batch in whole])
        speaker = torch.cat([require(batch.speaker, "speaker") for batch in whole])
        for code in sorted(set(speaker.tolist())):
            mine = inputs[speaker == code]
            order = torch.randperm(len(mine), generator=torch.Generator().manual_seed(code))
            chosen = mine[order[: self.enrolment_clips]]
            mean, deviation = self._statistics_of(chosen)
            scaled = (chosen - mean) / deviation
            own = adapted(scaled, self.weight, self.bias, self.class_means, self._likelihood)
            self._speakers[code] = Voice(mean, deviation, *own)

    def _likelihood(self, answers: Tensor, means: Tensor) -> Tensor:
        """Gaussian log-likelihood and prior up to a constant: (clips, classes) of the same."""
        away = answers[:, None] - means  # (clips, classes, classes)
        distance = torch.einsum("nki,ij,nkj->nk", away, self.precision, away)
        return torch.where(self.log_prior > UNSEEN, self.log_prior - 0.5 * distance, UNSEEN)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        inputs = self._inputs(batch)
        if not self.enrolment_clips:
            return self._likelihood(inputs @ self.weight + self.bias, self.class_means)
        logits = inputs.new_zeros(len(inputs), self.n_classes)
        stranger = Voice(self.centre, self.within.sqrt(), self.weight, self.class_means)
        codes = torch.full_like(batch.target, -1) if batch.speaker is None else batch.speaker
        for code in sorted(set(codes.tolist())):
            mine, voice = codes == code, self._speakers.get(code, stranger)
            scaled = (inputs[mine] - voice.mean) / voice.deviation
            logits[mine] = self._likelihood(scaled @ voice.weight + self.bias, voice.class_means)
        return logits


def _clips(enrolment: int | str) -> int:
    """A number of clips; `all` as a number that no speaker reaches."""
    if enrolment == "all":
        return 1_000_000
    if isinstance(enrolment, int) and enrolment >= 0:
        return enrolment
    raise SerError(f"model.enrolment={enrolment}: give a number of clips, 0 for none, or all.")


def _balanced(target: Tensor, corpus: Tensor) -> Tensor:
    """Clip weights of mean one: a corpus by the root of its clips, its classes all the same."""
    cells = torch.stack([target, corpus], 1)
    _, cell, count = torch.unique(cells, dim=0, return_inverse=True, return_counts=True)
    _, own, size = torch.unique(corpus, return_inverse=True, return_counts=True)
    weight: Tensor = size[own].sqrt() / count[cell]
    return weight * (len(weight) / weight.sum())


def _weighted_statistics(inputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each input under clip weights."""
    share = weight / weight.sum()
    centre = share @ inputs
    return centre, (share @ (inputs - centre).square()).sqrt().clamp(min=1e-6)


def _speaker_folds(speaker: Tensor, n_folds: int, seed: int) -> list[Tensor]:
    """Clips of disjoint groups of speakers; of clips, where all are one speaker's."""
    if int(speaker.max()) == 0:
        speaker = torch.arange(len(speaker))
    number = int(speaker.max()) + 1
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    groups = [order[first::n_folds] for first in range(min(n_folds, number))]
    return [torch.nonzero(torch.isin(speaker, group)).squeeze(1) for group in groups]
