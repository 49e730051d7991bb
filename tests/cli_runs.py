"""A finished run for the `ser` command to work on, and what a mistake looks like."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from ser.checkpoint import SafeCheckpointIO, load_checkpoint
from ser.cli import main
from ser.config import CONF
from ser.run_folder import RunFolder

CLASSES = ["happy", "sad", "angry"]
CONFIG = "dataset: {}\nsplit: {}\nfeature: {}\nmodel: {}\ncache_root: cache\nloader: {}\n"
SHARES = torch.tensor([0.2, 0.7, 0.1])


def chance_run(project: Path) -> RunFolder:
    """A finished run of the chance model, with five test clips, three of them wrong."""
    folder = RunFolder(project / "mlruns" / "runs" / "2026-01-01_00-00-00_chance")
    folder.path.mkdir(parents=True)
    folder.config.write_text(CONFIG)
    folder.set_state(run_id="abcdef012345", status="finished")
    feature = OmegaConf.to_container(OmegaConf.load(CONF / "feature" / "mfcc.yaml"))
    model = {"name": "chance", "_target_": "ser.models.chance.Chance"}
    card = {"classes": CLASSES, "feature": feature, "model": model}
    weights = {"model.log_share": SHARES.log()}
    SafeCheckpointIO().save_checkpoint({"ser": card, "state_dict": weights}, folder.best)
    rows = [
        ("tess/a", "sad", "sad", 0.9), ("tess/b", "sad", "happy", 0.5),
        ("tess/c", "angry", "happy", 0.95), ("tess/d", "happy", "happy", 0.6),
        ("tess/e", "happy", "sad", 0.7),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["id", "truth", "prediction", "confidence"])
    table.assign(path="/data/" + table["id"] + ".wav").to_parquet(folder.predictions)
    return folder


def recarded(run: RunFolder, **entries: float | bool) -> None:
    checkpoint = load_checkpoint(run.best)
    checkpoint["ser"] |= entries
    SafeCheckpointIO().save_checkpoint(checkpoint, run.best)


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    told = capsys.readouterr()
    assert caught.value.code == 2 and told.out == ""
    return told.err
