"""Runs by the real scripts and functions, on tiny tones written in a corpus's own layout."""

import subprocess
import sys
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from ser.run_folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "dataset=ravdess",
    "split=speaker_kfold",
    "split.n_folds=3",
    "split.val_fraction=0.3",
    "encoder=tiny",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "loader.batch_size=16",
]
TIM = ["model=tim", "model.n_blocks=2"]


def options(project: Path, *words: str) -> list[str]:
    return [
        *SMALL,
        f"data_root={project / 'data'}",
        f"cache_root={project / 'cache'}",
        f"runs_root={project / 'mlruns'}",
        *words,
    ]


def train(project: Path, *words: str) -> RunFolder:
    from ser.run import train as train_run

    overrides = options(project, *words)
    before = set((project / "mlruns" / "runs").glob("*"))
    train_run(compose("train", overrides), overrides)
    (new,) = set((project / "mlruns" / "runs").glob("*")) - before
    return RunFolder(new)


def composed(project: Path, config: str, *words: str) -> DictConfig:
    return compose(config, [f"cache_root={project / 'cache'}", *words])


def run_script(script: str, project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / script, *words], cwd=project, capture_output=True, text=True
    )
