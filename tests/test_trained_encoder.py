"""The checkpoint of a fine-tuned encoder, when the pretrained one's folder is gone."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from pipeline_runs import composed, train

from ser.checkpoint import SafeCheckpointIO, load_checkpoint
from ser.errors import SerError
from ser.evaluate import evaluate
from ser.models.encoder import RandomEncoder
from ser.recognizer import load_recognizer


def test_it_is_scored_and_predicts_without_the_folder(
    project: Path, hydra_ready: None, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    encoder = RandomEncoder("tiny", 2, 32, seed=1, precision="float32").load()
    encoder.model.save_pretrained(folder)  # type: ignore[operator]
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    words = ["encoder=hubert_base", f"encoder.path={folder}", "trainer.max_epochs=1"]
    run = train(project, *words, "model=wav2vec2", "model.finetune=full", "model.head_epochs=1")
    old = load_checkpoint(run.best)
    options = {"_target_": "ser.models.encoder.PretrainedEncoder", "name": "a", "repo": "a/b"}
    options |= {"path": str(folder), "revision": "main", "precision": "float32"}
    old["ser"]["model"]["encoder"] = options  # as checkpoints of before have it
    SafeCheckpointIO().save_checkpoint(old, tmp_path / "old.ckpt")
    moved = shutil.move(folder, tmp_path / "moved")

    test = pd.read_parquet(run.predictions)
    clip = test["path"].iloc[0]
    for path, where in ((run.best, None), (tmp_path / "old.ckpt", moved)):
        answer = load_recognizer(path, where).predict_files([clip])
        assert answer["confidence"][0] == pytest.approx(test["confidence"][0], abs=1e-5)
    with pytest.raises(SerError, match=rf"{folder} holds no config\.json.*--encoder-path"):
        load_recognizer(tmp_path / "old.ckpt")
    words = [f"run={run.path}", f"runs_root={project / 'mlruns'}"]
    assert evaluate(composed(project, "evaluate", *words), words) == run.metrics()["test/uar"]
