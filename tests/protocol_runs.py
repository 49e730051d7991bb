"""Finished runs of made-up arms, as MLflow and their folders would give them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

CLASSES = ("neutral", "happy", "sad")


def answers(
    clips: pd.DataFrame, share_right: float, seed: int, classes: Sequence[str] = CLASSES
) -> pd.DataFrame:
    """Predictions right for about this share of the clips; probabilities sum to one."""
    random = np.random.default_rng(seed)
    names = np.array(classes)
    wrong = names[random.integers(0, len(names), len(clips))]
    aimed = np.where(random.random(len(clips)) < share_right, clips["truth"], wrong)
    scores = random.random((len(clips), len(names))) + 1.2 * (aimed[:, None] == names)
    shares = scores / scores.sum(axis=1, keepdims=True)
    probabilities = {f"probability_{name}": shares[:, k] for k, name in enumerate(names)}
    return clips.assign(
        prediction=names[shares.argmax(1)], confidence=shares.max(1), **probabilities
    )


def clips_of(corpora: Mapping[str, int], clips_each: int = 12) -> pd.DataFrame:
    """Clips of so many speakers of each corpus, one third of each class."""
    rows = [
        {
            "id": f"{corpus}/{speaker}_{number}", "corpus": corpus,
            "speaker": f"{corpus}_{speaker}", "sex": "female", "intensity": None, "text": None,
            "duration_s": 1.0, "path": "a.wav", "truth": CLASSES[number % 3],
        }
        for corpus, speakers in corpora.items()
        for speaker in range(speakers)
        for number in range(clips_each)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def finished_children(
    root: Path,
    arms: Mapping[str, float],
    *,
    seeds: int = 1,
    folds: int = 2,
    corpora: Mapping[str, int] | None = None,
    split: str = "luna5",
) -> pd.DataFrame:
    """One run an arm, seed and fold; speakers go to folds in turn. chance answers neutral."""
    corpora = corpora or {"ravdess": 6}
    clips = clips_of(corpora)
    fold_of = pd.factorize(clips["speaker"])[0] % folds
    rows = []
    for place, (model, share) in enumerate(arms.items()):
        for seed in range(seeds):
            table = answers(clips, share, 100 * place + seed)
            if model == "chance":
                even = {f"probability_{name}": 1 / 3 for name in CLASSES}
                table = table.assign(prediction="neutral", confidence=1 / 3, **even)
            for fold in range(folds):
                folder = root / f"{model}_{seed}_{fold}"
                folder.mkdir(parents=True, exist_ok=True)
                table[fold_of == fold].to_parquet(folder / "predictions.parquet")
                rows.append(
                    {
                        "overrides": f"model={model} seed={seed} split.fold={fold}",
                        "model": model,
                        "seed": str(seed),
                        "fold": str(fold),
                        "dataset": "made_up",
                        "dataset.root": "/my/50%_calls/manifest.csv",
                        "corpora": ",".join(corpora),
                        "labels": "seven",
                        "split": split,
                        "manifest": "a" * 64,
                        "split_hash": f"{fold}" * 64,
                        "shares_speakers": "false",
                        "synthetic": "false",
                        "encoder": "none",
                        "enrolment": "all" if model == "ridge_enrolled" else "0",
                        "git_commit": "0123456789ab",
                        "config": f"{model}{seed}{fold}",
                        "run_folder": str(folder),
                        "test/uar": share,
                    }
                )
    return pd.DataFrame(rows)
