"""Audio in, emotions out."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

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
from ser.probe import LEAST_S, check_floats, read_audio
from ser.utterances import utterances_of

log = logging.getLogger(__name__)

SHORT_S = 0.5
LONG = (
    "lasts {seconds:.0f} s and gets one answer for its whole length, though training clips last "
    "seconds: ask for its utterances (`ser predict --utterances`). Further files as long are not "
    "told of."
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

Span = tuple[float, float]
"""Begin and end in seconds."""


class Heard(NamedTuple):
    """A recording, or one utterance of it: its samples by sample rate in hertz."""

    path: str
    clip: Mapping[int, Waveform]
    span_s: Span | None


class Answer(NamedTuple):
    """The probabilities (classes,) of a recording, or of an utterance of it."""

    path: str
    span_s: Span | None
    probabilities: np.ndarray


@dataclass(frozen=True)
class Recognizer:
    """A trained model with the front-end that it was trained on.

    `temperature` divides its logits. A confidence less than `abstain_below` is too little for an
    answer; None where the checkpoint has no such threshold. `synthetic`: no person spoke in its
    training. `card` is the checkpoint's; `again` loads the same anew, by which it is pickled: a
    process that is spawned reads the file. Threads may share one, but for a model with enrolment.
    """

    model: EmotionModel
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    temperature: float = 1.0
    abstain_below: float | None = None
    synthetic: bool = False
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    again: "Callable[[], Recognizer] | None" = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.again is None:
            raise SerError(
                "This recognizer was put together by hand and is not pickled. Pickle one that "
                "load_recognizer gave, which a new process loads from its checkpoint."
            )
        return _again, (self.again, self.abstain_below)

    def predict_files(
        self,
        paths: Iterable[str | Path],
        on_error: Callable[[SerError], None] | None = None,
        utterances: bool = False,
    ) -> pd.DataFrame:
        """A row for each file: path, prediction, confidence, probability_<class>.

        With `utterances` a row for each of what lies between a file's pauses, with begin_s and
        end_s. A model with enrolment takes all of them for one speaker's, adapts to them first, and
        says so.
        `on_error` is told of each file that cannot be read or that the model gives no numbers for,
        and such a file has no row.

        Raises SerError naming such a file, where there is no `on_error`.
        """
        return self.table(self.answers(paths, on_error, utterances))

    def answers(
        self,
        paths: Iterable[str | Path],
        on_error: Callable[[SerError], None] | None = None,
        utterances: bool = False,
    ) -> Iterator[Answer]:
        """What `predict_files` makes its table of, each answer as soon as it is there."""
        if isinstance(paths, str | Path):
            raise SerError(f"{paths}: files are given as a list; of one file, [{str(paths)!r}].")
        read = self._read(map(Path, paths), on_error, utterances)
        # one by one: memory does not grow with the number of files
        batches = [list(read)] if self.model.adapts else ([one] for one in read)
        for batch in filter(None, batches):
            if self.model.adapts:
                log.warning(ADAPTED, len(batch))
            keys = [f"{heard.path} {heard.span_s}" for heard in batch]
            rows = self.predict_waveforms([heard.clip for heard in batch], keys)
            for heard, row in zip(batch, rows, strict=True):
                if np.isfinite(row).all():
                    yield Answer(heard.path, heard.span_s, row)
                else:
                    _refuse(_no_numbers(heard.path), on_error)

    def table(self, answers: Iterable[Answer]) -> pd.DataFrame:
        """The table of `predict_files`."""
        answers = list(answers)
        probabilities = np.array([each.probabilities for each in answers])
        probabilities = probabilities.reshape(-1, len(self.classes))
        spans = [each.span_s for each in answers if each.span_s is not None]
        times = zip(("begin_s", "end_s"), np.array(spans).T, strict=True) if spans else ()
        best = probabilities.argmax(1)
        return pd.DataFrame(
            {
                "path": [each.path for each in answers],
                **dict(times),
                "prediction": [self.classes[k] for k in best],
                "confidence": probabilities.max(1),
                **{f"probability_{c}": probabilities[:, k] for k, c in enumerate(self.classes)},
            }
        )

    def _read(
        self,
        paths: Iterable[Path],
        on_error: Callable[[SerError], None] | None,
        utterances: bool,
    ) -> Iterator[Heard]:
        rates = {feature.sample_rate_hz for feature in self.features}
        told: set[str] = set()
        for path in paths:
            try:
                samples, rate_hz = read_audio(path)
                clip = {rate: to_waveform(path, samples, rate_hz, rate) for rate in rates}
            except SerError as error:
                _refuse(error, on_error)
                continue
            passed = told | {LONG} if utterances else told
            for doubt in (one for one in _doubts(samples, rate_hz) if one not in passed):
                told.add(doubt)
                log.warning("warning: %s %s", path, doubt.format(seconds=len(samples) / rate_hz))
            if not utterances:
                yield Heard(str(path), clip, None)
                continue
            rate, waveform = min(clip.items())
            for begin_s, end_s in utterances_of(waveform, rate):
                piece = {
                    hz: mono[round(begin_s * hz) : round(end_s * hz)] for hz, mono in clip.items()
                }
                yield Heard(str(path), piece, (begin_s, end_s))

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

        Each clip maps a sample rate in hertz to its mono samples (samples,), floats whose full
        scale is 1, for every rate that the features ask for (`feature.sample_rate_hz`); `keys`
        names the clips. `ser.audio.resample` changes a rate.

        Raises SerError naming the clip whose samples are anything else.
        """
        if not clips:
            return np.empty((0, len(self.classes)), np.float32)
        rates = sorted({feature.sample_rate_hz for feature in self.features})
        clips = [_checked(key, clip, rates) for key, clip in zip(keys, clips, strict=True)]
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


def _again(load: Callable[[], Recognizer], abstain_below: float | None) -> Recognizer:
    return replace(load(), abstain_below=abstain_below)


def _checked(
    key: str, clip: Mapping[int, Waveform], rates_hz: Sequence[int]
) -> dict[int, Waveform]:
    """The samples that the features ask for; integers, say, would be answered wrongly unseen."""
    if not isinstance(clip, Mapping) or not clip.keys() >= set(rates_hz):
        wanted = ", ".join(f"{rate}: samples" for rate in rates_hz)
        raise SerError(
            f"{key}: a clip is {{{wanted}}}, its samples at each rate in hertz that the features "
            "ask for. Resample it (ser.audio.resample)."
        )
    checked = {rate: np.asarray(clip[rate]) for rate in rates_hz}
    for rate, samples in checked.items():
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise SerError(
                f"{key}: samples are floats (samples,) whose full scale is 1, and these are "
                f"{samples.dtype} {samples.shape}. Divide integers by their full scale (32768 for "
                "16 bits), and take the mean of channels."
            )
        if len(samples) < LEAST_S * rate:
            raise SerError(f"{key}: {len(samples)} samples are less than {1000 * LEAST_S:.0f} ms.")
        check_floats(Path(key), samples)
    return {rate: samples.astype(np.float32, copy=False) for rate, samples in checked.items()}


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
