"""How many unlabelled clips of a new speaker buy how much: `model=ridge_enrolled` scored anew.

The fitted model is the same for any number of clips; only what it is adapted with differs. None
means the average training speaker's statistics.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from bench.measure import markdown
from ser.assemble import compute_features, open_material
from ser.data import EmotionDataset
from ser.metrics import confusion, uar, war
from ser.recognizer import load_recognizer
from ser.run_folder import RunFolder

CLIPS = (0, 1, 2, 5, 10, 20, 1_000_000)


def answers(run: RunFolder, encoder: str | None) -> dict[int, pd.DataFrame]:
    """Truth and prediction of the run's test clips for each number of enrolment clips."""
    cfg = OmegaConf.load(run.config)
    assert isinstance(cfg, DictConfig)
    material = open_material(cfg)
    recognizer = load_recognizer(run.best, encoder)
    table = material.speech.table
    table = table[table["id"].isin(material.split.parts["test"])]
    stores = compute_features(Path(cfg.cache_root), recognizer.features, table)
    dataset = EmotionDataset(table, recognizer.classes, stores)
    batch = dataset[list(range(len(dataset)))]
    names, model = np.array(recognizer.classes), recognizer.model
    found = {}
    for clips in CLIPS:
        model.enrolment_clips = max(clips, 1)
        with torch.inference_mode():
            model.adapt(lambda: [batch])
            asked = batch if clips else batch._replace(speaker=None)  # of an unknown speaker
            predicted = names[model(asked).argmax(1).numpy()]
        found[clips] = pd.DataFrame({"truth": table["label"].array, "prediction": predicted})
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run folders of one arm, a fold each")
    parser.add_argument("--encoder", help="folder of the encoder's weights, if it was moved")
    options = parser.parse_args()
    folds = [answers(RunFolder(Path(run)), options.encoder) for run in options.runs]
    rows = []
    for clips in CLIPS:
        pooled = pd.concat([fold[clips] for fold in folds])
        counts = confusion(pooled["truth"], pooled["prediction"], sorted(set(pooled["truth"])))
        label = "all" if clips == CLIPS[-1] else str(clips)
        rows.append([label, f"{uar(counts):.3f}", f"{war(counts):.3f}"])
    print(markdown(["clips of the speaker", "UAR", "WAR"], rows))


if __name__ == "__main__":
    main()
