"""TIM-Nets side by side in one network, as `python -m bench.tim_folds` trains them."""

import pytest
import torch
from torch.nn import functional as F

from bench import tim_folds
from bench.tim_folds import Folded, Folds, paper_network, score, train
from ser.batch import Batch


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tim_folds, "DROPOUT", 0.0)
    monkeypatch.setattr(tim_folds, "BLOCKS", 3)
    monkeypatch.setattr(tim_folds, "BATCH", 8)
    torch.manual_seed(0)


def test_each_fold_is_a_network_of_its_own() -> None:
    networks = [paper_network().train() for _ in range(3)]
    folds = Folds(networks).train()
    frames, target = torch.randn(3, 5, 12, 39), torch.randint(8, (3, 5))
    logits = folds(frames)
    (F.cross_entropy(logits.flatten(0, 1), target.flatten()) * 3).backward()
    length = torch.full((5,), 12)
    for k, network in enumerate(networks):
        batch = Batch(torch.arange(5), target[k], frames[k], length)
        alone = network(batch)
        torch.testing.assert_close(logits[k], alone, atol=1e-5, rtol=1e-4)
        F.cross_entropy(alone, target[k]).backward()
        assert folds.fusion.grad is not None and network.fusion.grad is not None
        torch.testing.assert_close(folds.fusion.grad[k], network.fusion.grad, atol=1e-5, rtol=1e-3)
        taps, stem = network.blocks.taps.grad, network.blocks.stem.grad
        assert folds.taps.grad is not None and folds.stem.grad is not None
        mine = folds.taps.grad[:, :, 2 * k : 2 * k + 2, :, :39, :39]
        torch.testing.assert_close(mine, taps, atol=1e-5, rtol=1e-3)
        mine = folds.stem.grad[2 * k : 2 * k + 2, :, :39]
        torch.testing.assert_close(mine, stem, atol=1e-5, rtol=1e-3)
        network.eval()
    with torch.no_grad():
        scored = folds.eval()(frames)
        for k, network in enumerate(networks):
            batch = Batch(torch.arange(5), target[k], frames[k], length)
            torch.testing.assert_close(scored[k], network(batch), atol=1e-5, rtol=1e-4)


def test_learns_what_can_be_learned_and_scores_each_folds_own_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tim_folds, "MOMENTUM", 0.3)  # the running statistics of few steps
    target = torch.arange(40) % 8
    frames = 3 * F.one_hot(target, 39).float()[:, None] + 0.1 * torch.randn(40, 12, 39)
    speech = Folded(frames, target, list(torch.arange(40).split([20, 20])))
    model, seconds = train(speech, epochs=30, seed=0)
    assert len(seconds) == 30
    assert min(war for _, war in score(model, speech)) > 0.9
    swapped = Folded(frames, (target + 1) % 8, speech.tests)
    assert max(war for _, war in score(model, swapped)) < 0.1
