"""Audio in, emotions out."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ser.audio import Waveform, channels_differ, to_waveform
from ser.batch import Batch
from ser.calibration import Flags, apply_temperature, is_uncertain
from ser.data import PADDED, pad
from ser.errors import SerError
from ser.features import Feature
from ser.manifest import LONG_S
from ser.models.base import EmotionModel
from ser.probe import read_audio

log = logging.getLogger(__name__)

SHORT_S = 0.5
LONG = (
    "lasts {seconds:.0f} s and gets one answer for its whole length, though training clips last "
    "seconds: cut it into utterances first. Further files as long are not told of."
)
SHORT = (
    "lasts {seconds:.2f} s, less than a word, and gets an answer all the same: do not rely on it. "
    "Further files as short are not told of."
)
APART = (
    "has channels that are loud at different times, as a call with a speaker in each, and gets one "
    "answer for their mix: make a file of each channel. Further such files are not told of."
)
ADAPTED = (
    "adapted to these %d recordings together, as those of one speaker: ask for each speaker apart, "
    "with several recordings (docs/protocols.md says what is gained, and when it is lost)"
)

Answer = tuple[str, np.ndarray]
"""The name of a file, and its probabilities (classes,)."""


@dataclass(frozen=True)
class Recognizer:
    """A trained model with the front-end that it was trained on.

    `temperature` divides its logits. A confidence less than `abstain_below` is too little for an
    answer; None where the checkpoint has no such threshold. `synthetic`: no person spoke in its
    training.
    """

    model: EmotionModel
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    temperature: float = 1.0
    abstain_below: float | None = None
    synthetic: bool = False

    def predict_files(
        self, paths: Sequence[Path], on_error: Callable[[SerError], None] | None = None
    ) -> pd.DataFrame:
        """A row for each file: path, prediction, confidence, probability_<class>.

        A model with enrolment takes all of them for one speaker's, adapts to them first, and
        says so.
        `on_error` is told of each file that cannot be read or that the model gives no numbers for,
        and such a file has no row.

        Raises SerError naming such a file, where there is no `on_error`.
        """
        return self.table(self.answers(paths, on_error))

    def answers(
        self, paths: Sequence[Path], on_error: Callable[[SerError], None] | None = None
    ) -> Iterator[Answer]:
        """What `predict_files` makes its table of, each answer as soon as it is there."""
        read = self._read(paths, on_error)
        # one by one: memory does not grow with the number of files
        batches = [list(read)] if self.model.adapts else ([pair] for pair in read)
        for batch in filter(None, batches):
            if self.model.adapts:
                log.warning(ADAPTED, len(batch))
            keys, clips = zip(*batch, strict=True)
            for key, row in zip(keys, self.predict_waveforms(clips, keys), strict=True):
                if np.isfinite(row).all():
                    yield key, row
                else:
                    _refuse(_no_numbers(key), on_error)

    def table(self, answers: Iterable[Answer]) -> pd.DataFrame:
        """The table of `predict_files`."""
        answers = list(answers)
        names = [name for name, _ in answers]
        probabilities = np.array([row for _, row in answers]).reshape(-1, len(self.classes))
        best = probabilities.argmax(1)
        return pd.DataFrame(
            {
                "path": names,
                "prediction": [self.classes[k] for k in best],
                "confidence": probabilities.max(1),
                **{f"probability_{c}": probabilities[:, k] for k, c in enumerate(self.classes)},
            }
        )

    def _read(
        self, paths: Sequence[Path], on_error: Callable[[SerError], None] | None
    ) -> Iterator[tuple[str, dict[int, Waveform]]]:
        """Each file's name and its samples by sample rate."""
        rates = {feature.sample_rate_hz for feature in self.features}
        told: set[str] = set()
        for path in paths:
            try:
                samples, rate_hz = read_audio(path)
                clip = {rate: to_waveform(path, samples, rate_hz, rate) for rate in rates}
            except SerError as error:
                _refuse(error, on_error)
                continue
            for doubt in (one for one in _doubts(samples, rate_hz) if one not in told):
                told.add(doubt)
                log.warning("warning: %s %s", path, doubt.format(seconds=len(samples) / rate_hz))
            yield str(path), clip

    def abstaining(self, below: float) -> "Recognizer":
        """The same with another threshold: of each confidence risk_coverage.png has the errors.

        Raises SerError for what is no confidence.
        """
        if not 0 < below <= 1:
            raise SerError(
                f"--below {below:g}: a confidence lies above 0 and not above 1; "
                "risk_coverage.png of the run shows how many clips each answers."
            )
        return replace(self, abstain_below=below)

    def uncertain(self, answers: pd.DataFrame) -> Flags:
        """Which rows of `predict_files` are too little sure for an answer.

        Raises SerError where the checkpoint has no threshold.
        """
        if self.abstain_below is None:
            raise SerError(
                "This checkpoint has no abstention threshold: it was trained before there was "
                "one, or with abstain.target_accuracy=null. Train again with an "
                "abstain.target_accuracy, or give a confidence by --below."
            )
        return is_uncertain(answers["confidence"], self.abstain_below)

    def predict_waveforms(
        self, clips: Sequence[Mapping[int, Waveform]], keys: Sequence[str]
    ) -> np.ndarray:
        """Probabilities (clips, classes) of clips in memory at `temperature`, scored as one batch.

        Each clip maps a sample rate in hertz to its mono samples, for every rate that the
        features ask for; `keys` names the clips.
        """
        streams: dict[str, torch.Tensor] = {}
        for feature in self.features:
            waveforms = [clip[feature.sample_rate_hz] for clip in clips]
            values = feature.extract(waveforms, keys)
            if feature.stream in PADDED:
                streams[feature.stream], streams[f"{feature.stream}_length"] = pad(values)
            else:
                streams[feature.stream] = torch.from_numpy(np.stack(values)).float()
        zeros = torch.zeros(len(clips), dtype=torch.long)
        batch = Batch(index=zeros, target=zeros, speaker=zeros, corpus=zeros, **streams)
        with torch.inference_mode():
            if self.model.adapts:
                self.model.adapt(lambda: [batch])
            logits = self.model(batch)
        probabilities = logits.float().softmax(1).cpu().numpy()
        return apply_temperature(probabilities, self.temperature)


def _doubts(samples: np.ndarray, rate_hz: int) -> Iterator[str]:
    """What makes an answer to these samples (samples, channels) a doubtful one."""
    if len(samples) > LONG_S * rate_hz:
        yield LONG
    if len(samples) < SHORT_S * rate_hz:
        yield SHORT
    if channels_differ(samples, rate_hz):
        yield APART


def _refuse(error: SerError, on_error: Callable[[SerError], None] | None) -> None:
    if on_error is None:
        raise error
    on_error(error)


def _no_numbers(name: str) -> SerError:
    return SerError(
        f"{name}: the model's probabilities are not finite (NaN). Listen to the file; if others "
        "have it too, the checkpoint's weights are broken: take another, or train again."
    )
