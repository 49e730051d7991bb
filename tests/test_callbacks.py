"""What happens around the epochs, on Lightning's own loop with scripted figures."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ser.callbacks import EpochLines, History, SeedEpochs, standard_callbacks
from ser.checkpoint import SafeCheckpointIO

pytestmark = [  # what ser.quiet.quieten silences in a run
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
]


class Scripted(pl.LightningModule):
    """Logs a given validation figure each epoch; its one weight counts the epochs trained."""

    def __init__(self, figures: list[float], name: str = "val/uar") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.figures, self.name, self.drawn = figures, name, list[float]()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.drawn.append(torch.rand(1).item())
        return -self.weight.sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log(self.name, torch.tensor(self.figures[self.current_epoch]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["ser"] = {}


def run(
    folder: Path, task: Scripted, epochs: int, resume: Path | None = None, **changes: object
) -> tuple[pl.Trainer, History]:
    options = {"seed": 5, "keep": "best", "monitor": task.name, "mode": "max", "patience": 2}
    options |= changes
    callbacks = standard_callbacks(folder, **options)  # type: ignore[arg-type]
    (history,) = (callback for callback in callbacks if isinstance(callback, History))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, callbacks=callbacks,
        plugins=[SafeCheckpointIO()], enable_model_summary=False, enable_progress_bar=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    batches = DataLoader(torch.zeros(2), batch_size=None)  # type: ignore[arg-type]
    trainer.fit(task, batches, batches, ckpt_path=resume)
    return trainer, history


def weight_in(path: Path) -> float:
    """Epochs that the model in a checkpoint has been trained for (two batches each)."""
    return float(torch.load(path, weights_only=True)["state_dict"]["weight"]) / 2


def test_the_best_and_the_last_epoch_are_kept(tmp_path):
    run(tmp_path, Scripted([0.2, 0.6, 0.5]), epochs=3)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.ckpt", "last.ckpt"}
    assert weight_in(tmp_path / "kept.ckpt") == 2 and weight_in(tmp_path / "last.ckpt") == 3


def test_a_resumed_run_remembers_the_best_of_the_last_epoch_that_it_finished(tmp_path):
    figures = [0.5, 0.6, 0.55]
    run(tmp_path, Scripted(figures), epochs=2)
    run(tmp_path, Scripted(figures), epochs=3, resume=tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "kept.ckpt", weights_only=True)["epoch"] == 1


def test_with_keep_last_no_epoch_is_chosen_and_none_left_out(tmp_path):
    trainer, _ = run(tmp_path, Scripted([0.6, 0.5, 0.4, 0.3]), epochs=4, keep="last", patience=None)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert trainer.current_epoch == 4 and weight_in(tmp_path / "last.ckpt") == 4


def test_a_loss_is_best_when_it_is_least(tmp_path):
    run(tmp_path, Scripted([0.6, 0.2, 0.5], "val/loss"), epochs=3, mode="min")
    assert weight_in(tmp_path / "kept.ckpt") == 2


def test_training_stops_after_patience_epochs_without_gain(tmp_path):
    figures = [0.2, 0.6, 0.5, 0.6, 0.9, 0.9]
    trainer, history = run(tmp_path, Scripted(figures), epochs=6)
    assert trainer.current_epoch == 4
    assert [row["epoch"] for row in history.rows] == [0, 1, 2, 3]
    assert [row["val/uar"] for row in history.rows] == pytest.approx(figures[:4])


def test_training_stops_early_whatever_is_kept(tmp_path):
    trainer, _ = run(tmp_path, Scripted([0.6, 0.5, 0.4, 0.3]), epochs=4, keep="last", patience=1)
    assert trainer.current_epoch == 2 and weight_in(tmp_path / "last.ckpt") == 2


def test_a_resumed_run_draws_and_remembers_what_an_uninterrupted_one_does(tmp_path):
    figures = [0.1, 0.2, 0.3, 0.4]
    whole = Scripted(figures)
    _, all_rows = run(tmp_path / "whole", whole, epochs=4)
    cut = Scripted(figures)
    run(tmp_path / "cut", cut, epochs=2)
    rest = Scripted(figures)
    _, rows = run(tmp_path / "cut", rest, epochs=4, resume=tmp_path / "cut" / "last.ckpt")
    assert cut.drawn + rest.drawn == whole.drawn and len(set(whole.drawn)) == 8
    assert rows.rows == all_rows.rows and len(rows.rows) == 4


def test_epoch_seeds_differ_by_epoch_and_by_run():
    def drawn(seed: int, epoch: int) -> float:
        callback, trainer = SeedEpochs(seed), SimpleNamespace(current_epoch=epoch)
        callback.on_train_batch_start(trainer, None, None, 0)
        first = torch.rand(1).item()
        callback.on_train_batch_start(trainer, None, None, 1)
        assert torch.rand(1).item() != first
        return first

    assert drawn(0, 1) == drawn(0, 1)
    assert len({drawn(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


def test_an_epoch_that_is_repeated_replaces_its_row():
    history = History()
    for epoch, figure in [(0, 0.1), (1, 0.2), (1, 0.3)]:
        metrics = {"val/uar": torch.tensor(figure)}
        history.on_train_epoch_end(
            SimpleNamespace(current_epoch=epoch, callback_metrics=metrics), None
        )
    assert history.rows == [
        {"epoch": 0, "val/uar": pytest.approx(0.1)},
        {"epoch": 1, "val/uar": pytest.approx(0.3)},
    ]
    again = History()
    again.load_state_dict(history.state_dict())
    assert again.rows == history.rows and again.rows is not history.rows


def test_one_line_an_epoch(caplog):
    caplog.set_level(logging.INFO, logger="ser")
    metrics = {"val/uar": torch.tensor(0.12345), "train/loss": torch.tensor(2.0), "lr": 1}
    EpochLines().on_train_epoch_end(
        SimpleNamespace(current_epoch=1, max_epochs=40, callback_metrics=metrics), None
    )
    assert caplog.messages == ["epoch   2/40  train/loss 2.000  val/uar 0.123"]


@pytest.mark.parametrize(("terminal", "shown"), [(True, "RichProgressBar"), (False, "EpochLines")])
def test_a_bar_on_a_terminal_and_lines_elsewhere(tmp_path, monkeypatch, terminal, shown):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    callbacks = standard_callbacks(
        tmp_path, seed=0, keep="last", monitor="val/uar", mode="max", patience=1
    )
    names = {type(callback).__name__ for callback in callbacks}
    assert {"RichProgressBar", "EpochLines"} & names == {shown}
