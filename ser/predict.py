"""Audio in, emotions out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ser.audio import load_waveform
from ser.batch import Batch
from ser.data import PADDED, pad
from ser.features import Feature
from ser.models.base import EmotionModel


@dataclass(frozen=True)
class Recognizer:
    """A trained model with the front-end that it was trained on."""

    model: EmotionModel
    features: tuple[Feature, ...]
    classes: tuple[str, ...]

    def predict_files(self, paths: Sequence[Path]) -> pd.DataFrame:
        """A row for each file: path, prediction, confidence, probability_<class>.

        Raises SerError naming the file that cannot be read.
        """
        rows = [self.predict_file(path) for path in paths]
        probabilities = np.stack(rows)
        best = probabilities.argmax(1)
        return pd.DataFrame(
            {
                "path": [str(path) for path in paths],
                "prediction": [self.classes[k] for k in best],
                "confidence": probabilities.max(1),
                **{f"probability_{c}": probabilities[:, k] for k, c in enumerate(self.classes)},
            }
        )

    def predict_file(self, path: Path) -> np.ndarray:
        """Probabilities (classes,) of one file."""
        streams: dict[str, torch.Tensor] = {}
        for feature in self.features:
            waveform = load_waveform(path, feature.sample_rate_hz)
            (value,) = feature.extract([waveform], [str(path)])
            if feature.stream in PADDED:
                streams[feature.stream], streams[f"{feature.stream}_length"] = pad([value])
            else:
                streams[feature.stream] = torch.from_numpy(value)[None].float()
        one = torch.zeros(1, dtype=torch.long)
        with torch.inference_mode():
            logits = self.model(Batch(index=one, target=one, **streams))
        return np.asarray(logits[0].float().softmax(0).cpu())
