"""The LightningModule: losses by hand, metrics by scikit-learn, and what a fit leaves behind."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss
from torch import Tensor

from ser.augment import BatchAugment
from ser.batch import Batch
from ser.errors import SerError
from ser.loss import Mixed
from ser.models.base import EmotionModel
from ser.schedules import constant
from ser.task import EmotionClassifier

CLASSES = ("neutral", "happy", "sad")
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.5]])
TARGET = torch.tensor([0, 1, 2, 2])
MIXED = {"share": 0.75, "partner": torch.tensor([1, 2, 3, 0])}


class Echo(EmotionModel):
    """Scales the embedding that it is given as logits; in training it exposes their halves too."""

    def __init__(self) -> None:
        super().__init__(3, {"embedding"})
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset({"embedding"})

    def forward(self, batch: Batch) -> Tensor:
        return batch.embedding * self.scale


class TwoHeaded(Echo):
    def training_logits(self, batch: Batch) -> list[Tensor]:
        return [self(batch), self(batch) / 2]


class MixedEcho(Echo):
    def training_logits(self, batch: Batch) -> list[Tensor | Mixed]:
        plain, partner, share = self(batch), MIXED["partner"], MIXED["share"]
        return [plain, Mixed(torch.lerp(plain[partner], plain, share), partner, share)]


class Broken(Echo):
    """Gives what the test asks for in place of its logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, batch: Batch) -> Any:
        return self.change(super().forward(batch))


class Mixing(BatchAugment):
    """Pairs that the test chooses; the batch itself stays as it is."""

    def __init__(self) -> None:
        super().__init__(voice=None, specaugment=None, margins=False, mixup_alpha=0.0)

    def forward(self, batch: Batch) -> tuple[Batch, Tensor, float]:
        return batch, MIXED["partner"], MIXED["share"]


def batch_of(logits: Tensor = LOGITS, target: Tensor = TARGET, first: int = 0) -> Batch:
    index = torch.arange(first, first + len(target))
    return Batch(index=index, target=target, embedding=logits)


def task_of(model: EmotionModel | None = None, **changes: Any) -> EmotionClassifier:
    options = {
        "augment": BatchAugment(voice=None, specaugment=None, margins=False, mixup_alpha=0.0),
        "label_smoothing": 0.0,
        "clip_weights": None, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1),
        "schedule": constant, "monitor": "val/uar", "mode": "max",
        "card": {"model": {"name": "echo"}},
    }  # fmt: skip
    return EmotionClassifier(model or Echo(), CLASSES, **(options | changes))


def trainer_and_loader() -> tuple[pl.Trainer, torch.utils.data.DataLoader[Batch]]:
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    batches: Any = [batch_of(), batch_of(first=4)]
    loader = torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)
    return trainer, loader


@pytest.fixture
def logged(monkeypatch):
    """What the task logs, without a trainer."""
    seen: dict[str, float] = {}

    def log(self: EmotionClassifier, key: str, value: Tensor, **how: object) -> None:
        seen[key] = float(value.detach())

    monkeypatch.setattr(EmotionClassifier, "log", log)
    monkeypatch.setattr(
        EmotionClassifier, "log_dict", lambda self, values, **how: seen.update(values)
    )
    return seen


def each_loss(logits: Tensor = LOGITS, target: Tensor = TARGET, smoothing: float = 0) -> np.ndarray:
    """Cross-entropy of each clip, written out."""
    exponents = np.exp(logits.numpy().astype(float))
    surprise = -np.log(exponents / exponents.sum(1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(3)[target] + smoothing / 3
    return np.asarray((wanted * surprise).sum(1))


def test_the_loss_is_the_mean_cross_entropy(logged):
    loss = task_of().training_step(batch_of(), 0).item()
    assert loss == pytest.approx(log_loss(TARGET, LOGITS.double().softmax(1)), abs=1e-6)
    assert logged["train/loss"] == loss == pytest.approx(each_loss().mean(), abs=1e-6)


def test_smoothing_spreads_a_share_over_all_classes(logged):
    loss = task_of(label_smoothing=0.1).training_step(batch_of(), 0)
    assert loss.item() == pytest.approx(each_loss(smoothing=0.1).mean(), abs=1e-6)


def test_clips_are_weighed_by_their_row(logged):
    weights = torch.tensor([9.0, 9.0, 0.5, 1.0, 2.0, 0.0])
    loss = task_of(clip_weights=weights).training_step(batch_of(first=2), 0)
    assert loss.item() == pytest.approx(np.mean(each_loss() * [0.5, 1, 2, 0]), abs=1e-6)


def test_every_logits_tensor_counts_the_same(logged):
    loss = task_of(TwoHeaded()).training_step(batch_of(), 0)
    halves = each_loss(LOGITS / 2)
    assert loss.item() == pytest.approx((each_loss().mean() + halves.mean()) / 2, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_clips_have_both_targets_each_with_its_own_weight(logged, smoothing):
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    task = task_of(augment=Mixing(), clip_weights=weights, label_smoothing=smoothing)
    first = each_loss(smoothing=smoothing) * [1, 2, 3, 4]
    second = each_loss(target=TARGET[MIXED["partner"]], smoothing=smoothing) * [2, 3, 4, 1]
    expected = np.mean(0.75 * first + 0.25 * second)
    assert task.training_step(batch_of(), 0).item() == pytest.approx(expected, abs=1e-6)


def test_a_model_may_mix_what_it_likes_of_its_clips(logged):
    task = task_of(MixedEcho(), clip_weights=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    mixed = MIXED["share"] * LOGITS + (1 - MIXED["share"]) * LOGITS[MIXED["partner"]]
    first = each_loss(mixed) * [1, 2, 3, 4]
    second = each_loss(mixed, TARGET[MIXED["partner"]]) * [2, 3, 4, 1]
    expected = np.mean([each_loss() * [1, 2, 3, 4], 0.75 * first + 0.25 * second])
    assert task.training_step(batch_of(), 0).item() == pytest.approx(expected, abs=1e-6)


def test_validation_is_scored_over_all_batches_together(logged):
    draw = np.random.default_rng(0)
    truth, guess = draw.integers(3, size=60), draw.integers(3, size=60)
    guess[truth == 0] = 0
    logits = torch.nn.functional.one_hot(torch.as_tensor(guess), 3).float()
    task = task_of(label_smoothing=0.3, clip_weights=torch.zeros(60))
    for start in (0, 25, 50):
        part = slice(start, start + 25)
        task.validation_step(batch_of(logits[part], torch.as_tensor(truth[part])), 0)
    last = slice(50, 60)
    plain = each_loss(logits[last], torch.as_tensor(truth[last])).mean()
    assert logged["val/loss"] == pytest.approx(plain, abs=1e-6)  # neither smoothed nor weighed
    task.on_validation_epoch_end()
    assert logged["val/uar"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert logged["val/war"] == pytest.approx(accuracy_score(truth, guess))
    assert logged["val/macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert "train/uar" not in logged


def test_counts_start_anew_each_epoch(logged):
    task = task_of()
    task.validation_step(batch_of(), 0)
    task.training_step(batch_of(), 0)
    task.on_validation_epoch_end()
    assert logged["val/uar"] == logged["train/uar"] == pytest.approx(2 / 3)
    logged.clear()
    task.validation_step(batch_of(target=torch.tensor([0, 1, 1, 0])), 0)
    task.on_validation_epoch_end()
    assert logged["val/war"] == 1 and "train/uar" not in logged


def test_predictions_are_rows_truth_and_probabilities():
    index, truth, probabilities = task_of().predict_step(batch_of(first=7), 0)
    assert index.tolist() == [7, 8, 9, 10] and truth.tolist() == [0, 1, 2, 2]
    torch.testing.assert_close(probabilities, LOGITS.softmax(1))
    _, _, half = task_of().predict_step(batch_of(LOGITS.bfloat16()), 0)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("with_schedule", [False, True])
def test_what_is_frozen_is_not_optimised(with_schedule):
    asked = []

    def schedule(*arguments: Any) -> dict[str, str] | None:
        asked.append(arguments)
        return {"interval": "step"} if with_schedule else None

    task = task_of(schedule=schedule, monitor="val/loss", mode="min")
    task.trainer = trainer = SimpleNamespace(estimated_stepping_batches=12.0)  # noqa: F841
    configured = task.configure_optimizers()
    optimizer = configured["optimizer"] if with_schedule else configured
    (group,) = optimizer.param_groups
    assert group["params"] == [task.model.scale]
    assert asked == [(optimizer, 12, "val/loss", "min")]
    if with_schedule:
        assert configured["lr_scheduler"] == {"interval": "step"}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_a_fit_logs_by_epoch_and_puts_the_card_in_the_checkpoint(tmp_path):
    task = task_of(card={"classes": list(CLASSES), "seed": 3})
    trainer, loader = trainer_and_loader()
    trainer.fit(task, loader, loader)
    figures = {"train/loss", "train/uar", "val/loss", "val/uar", "val/war", "val/macro_f1"}
    assert set(trainer.callback_metrics) == figures
    assert trainer.callback_metrics["val/war"] == pytest.approx(0.5)
    assert task.model.scale.item() != 1 and task.model.frozen.item() == 1
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert checkpoint["ser"] == {"classes": list(CLASSES), "seed": 3}
    assert checkpoint["state_dict"]["model.scale"] == task.model.scale.item()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_a_loss_that_is_no_number_ends_the_training():
    name = r"^model=echo \(test_task\.Broken\)"
    always = Broken(lambda logits: logits * torch.nan)
    scoring = Broken(lambda logits: logits if logits.requires_grad else logits * torch.nan)
    for model, part in ((always, "train"), (scoring, "val")):
        trainer, loader = trainer_and_loader()
        with pytest.raises(SerError, match=rf"{name}: {part}/loss is nan in epoch 1, .*optimizer"):
            trainer.fit(task_of(model), loader, loader)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda logits: logits[:, None].expand(4, 9, 3), r"logits \(4, 9, 3\)"),
        (lambda logits: logits.repeat(1, 2), r"logits \(4, 6\)"),
        (lambda logits: logits[:, :1], r"logits \(4, 1\)"),
        (lambda logits: None, "NoneType"),
    ],
)
@pytest.mark.parametrize("step", ["training_step", "validation_step", "predict_step"])
def test_logits_of_another_shape_are_refused_before_the_loss(logged, change, got, step):
    task = task_of(Broken(change))
    rule = r"forward must give \(batch, n_classes\) = \(4, 3\)"
    with pytest.raises(SerError, match=rf"^model=echo \(test_task\.Broken\) gave {got}; {rule}"):
        getattr(task, step)(batch_of(), 0)
    assert not logged


def test_the_shape_of_mixed_logits_is_that_of_the_pair(logged):
    class HalfMixed(MixedEcho):
        def training_logits(self, batch: Batch) -> list[Tensor | Mixed]:
            plain, mixed = super().training_logits(batch)
            return [plain, mixed._replace(logits=mixed.logits[:2])]

    with pytest.raises(SerError, match=r"gave logits \(2, 3\); .*training_logits a list"):
        task_of(HalfMixed()).training_step(batch_of(), 0)
