"""What is fitted on validation does not flatter its own figures."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from pipeline_runs import composed, options, train
from sklearn.linear_model import LogisticRegression

from ser.confidence import at_temperature, probabilities_of
from ser.errors import SerError
from ser.fitting import Job
from ser.models.base import Batches
from ser.models.chance import Chance

STACKED = ["model=ensemble", "model.fusion=stacked", "model.ridge_share=0", "model.tim.n_blocks=2"]


def test_the_figures_of_stacked_are_of_clips_that_its_join_has_not_seen(
    project: Path, hydra_ready: None
) -> None:
    from hydra import compose

    from ser.assemble import build_data
    from ser.evaluate import evaluate
    from ser.recognizer import load_recognizer
    from ser.run import prepare

    run = train(project, *STACKED)
    found = pd.read_parquet(run.path / "validation_predictions.parquet")
    recognizer = load_recognizer(run.best)
    job = prepare(compose("train", options(project, *STACKED)))
    data = build_data(job.cfg, job.material, job.features)
    inputs, targets = recognizer.model._held_out(lambda: data.in_order("val"))
    expected = np.zeros((len(targets), recognizer.model.n_classes))
    for fold in range(5):
        held = np.arange(len(targets)) % 5 == fold
        solved = LogisticRegression(max_iter=1000).fit(inputs[~held], targets[~held])
        expected[np.ix_(held, solved.classes_)] = solved.predict_proba(inputs[held])
    raw = probabilities_of(at_temperature(found, recognizer.classes, 1.0), recognizer.classes)
    np.testing.assert_allclose(raw, expected, atol=2e-3)
    whole = LogisticRegression(max_iter=1000).fit(inputs, targets)  # what is delivered
    np.testing.assert_allclose(
        recognizer.model.meta_weight.T[whole.classes_], whole.coef_, atol=2e-2
    )
    card = (run.path / "MODEL_CARD.md").read_text()
    assert "its trained arms joined by `fusion=stacked`" in card
    assert "of clips that were left out of that fit, a fifth at a time" in card
    words = [f"runs_root={project / 'mlruns'}", f"run={run.path}", "device=cpu", "part=val"]
    with pytest.raises(SerError, match="ensemble was fitted on all of validation once"):
        evaluate(composed(project, "evaluate", *words), [])


def test_a_model_of_ones_own_that_calibrates_is_calibrated() -> None:
    class Own(Chance):
        def calibrate(self, batches: Batches) -> None: ...

    assert Own(2, {"frames": (1,)}).calibrates
    assert not Chance(2, {"frames": (1,)}).calibrates


def test_validation_of_one_emotion_is_refused_before_a_join_is_trained(
    project: Path, hydra_ready: None
) -> None:
    from hydra import compose

    from ser.run import prepare

    job = prepare(compose("train", options(project, *STACKED)))
    table, split = job.material.speech.table, job.material.split
    labels = table.set_index("id")["label"].loc[list(split.val)]
    same = tuple(labels.index[labels == labels.iloc[0]])
    one_other = labels.index[labels != labels.iloc[0]][0]
    for val in (same, (*same, one_other)):
        material = replace(job.material, split=replace(split, val=val))
        with pytest.raises(SerError, match=r"^model\.fusion=stacked .* two emotions"):
            replace(job, material=material)
        replace(job, material=material, model=Chance(2, {"frames": (1,)}))


def test_a_name_beside_others_tells_what_was_asked_for() -> None:
    cfg = OmegaConf.create({"model": {"name": "tim"}, "dataset": {"name": "emodb"}, "seed": 3})
    split = SimpleNamespace(name="loso", fold=1, n_folds=10)
    model = Chance(2, {"frames": (1,)})
    job = Job(cfg, SimpleNamespace(split=split), [], model)  # type: ignore[arg-type]
    words = ["model=tim", "split=loso", "split.fold=1", "seed=3", "dataset.root=/a b"]
    assert job.name_beside(words) == job.name == "tim-emodb-loso-f1-s3"
    words += ["model.fusion=gated", "+trainer.x=1", "~optimizer.lr"]
    assert job.name_beside(words) == f"{job.name} model.fusion=gated +trainer.x=1 ~optimizer.lr"
