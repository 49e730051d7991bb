"""The encoder arm, the control rows and the joins, each against a hand-made answer."""

import numpy as np
import pytest
import torch
from arm_options import ARM, N_CLASSES, random_batch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from ser.errors import SerError
from ser.loss import Mixed
from ser.models.base import chosen_layers
from ser.models.chance import Chance
from ser.models.ensemble import Ensemble
from ser.models.linear import UNSEEN, Linear
from ser.models.ridge import Ridge
from ser.models.tim import TimNet
from ser.models.wav2vec2 import Wav2Vec2Model

TIM = {
    "width": None,
    "n_blocks": 2,
    "dropout": 0.1,
    "norm_momentum": 0.1,
    "deviation": False,
    "summary_norm": True,
    "head_dropout": 0.0,
    "mixup": 0.0,
    "masked": True,
    "normalise": "train",
    "jitter": 0.0,
    "lr_factor": 1.0,
}
RIDGE = {
    "statistics": ["mean", "std"],
    "layers": "all",
    "views": [["mean"], ["mean", "std"]],
    "whole_views": [["mean"]],
    "whole_share": 0.0,
    "silence_s": None,
    "penalty": 0.7,
    "remove_speakers": True,
    "enrolment": 0,
}
STREAMS = {"frames": (4,), "embedding": (3, 6)}


def ensemble(fusion: str, **changes: object) -> Ensemble:
    shares = {"tim_share": 0.25, "ridge_share": 0.0}
    fixed = {"fusion": fusion, "hidden": 5, "dropout": 0.0}
    options = {**fixed, **shares, **changes}
    return Ensemble(
        N_CLASSES,
        STREAMS,
        tim=lambda **shape: TimNet(**shape, **TIM),
        wav2vec2=lambda **shape: Wav2Vec2Model(**shape, **ARM),
        ridge=lambda **shape: Ridge(**shape, **RIDGE),
        **options,
    )


def test_chosen_layers() -> None:
    assert chosen_layers("all", 4) == [0, 1, 2, 3]
    assert chosen_layers("inner", 7) == [1, 2, 3, 4, 5]
    assert chosen_layers("inner", 2) == [0, 1]
    assert chosen_layers([2, 0], 3) == [2, 0]
    for wrong in ([3], [], [-1]):
        with pytest.raises(SerError, match="layers 0 to 2"):
            chosen_layers(wrong, 3)
    with pytest.raises(SerError, match="Choose one of: all, inner"):
        chosen_layers("outer", 3)


def test_chance_knows_the_shares_only() -> None:
    model = Chance(N_CLASSES, {"frames": (4,)})
    batch = random_batch(4, 0)._replace(target=torch.tensor([0, 0, 0, 1]))
    model.fit(lambda: [batch])
    torch.testing.assert_close(model(batch)[2].softmax(0), torch.tensor([4.0, 2.0, 1.0]) / 7)


def test_linear_is_scikit_learns_answer() -> None:
    model = Linear(N_CLASSES, {"embedding": (3, 6)}, [0, 1], 0.1, 500)
    train, test = random_batch(15, 1), random_batch(9, 2)
    model.fit(lambda: [train])
    inputs = train.embedding[:, :2].flatten(1).numpy()
    mean, deviation = inputs.mean(0), inputs.std(0)
    solved = LogisticRegression(C=0.1, max_iter=500).fit((inputs - mean) / deviation, train.target)
    expected = solved.predict_proba((test.embedding[:, :2].flatten(1).numpy() - mean) / deviation)
    np.testing.assert_allclose(model(test).softmax(1).numpy(), expected, atol=1e-3)


def test_linear_on_two_of_three_classes() -> None:
    model = Linear(N_CLASSES, {"embedding": (3, 6)}, "all", 0.1, 500)
    batch = random_batch(15, 1)
    model.fit(lambda: [batch._replace(target=batch.target.clamp(min=1))])
    assert (model(batch)[:, 0] == UNSEEN).all()
    assert set(model(batch).argmax(1).tolist()) == {1, 2}


def test_mean_logits_is_the_weighted_mean_of_log_probabilities() -> None:
    model = ensemble("mean_logits").eval()
    batch = random_batch(6, 0)
    with torch.no_grad():
        tim, wav2vec2 = model.tim(batch).log_softmax(1), model.wav2vec2(batch).log_softmax(1)
        torch.testing.assert_close(model(batch), 0.25 * tim + 0.75 * wav2vec2)


def test_the_regression_has_its_share_and_is_all_that_is_fitted_again() -> None:
    model, train, test = (
        ensemble("gated", ridge_share=0.4).eval(),
        random_batch(24, 0),
        random_batch(6, 1),
    )
    model.fit(lambda: [train])
    alone = Ridge(N_CLASSES, STREAMS, **RIDGE)
    alone.fit(lambda: [train])
    with torch.no_grad():
        trained = model._join(*model._arms(test)).log_softmax(1)
        expected = 0.6 * trained + 0.4 * alone(test).log_softmax(1)
        torch.testing.assert_close(model(test), expected)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.refits
    model.refit(lambda: [train, random_batch(24, 2)])
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed and all(name.startswith("ridge.") for name in changed)


def test_a_model_trained_again_joins_its_arms_as_validation_had_it() -> None:
    first, again, batch = ensemble("stacked"), ensemble("stacked"), random_batch(24, 0)
    first.calibrate(lambda: [batch])
    assert not again.meta_weight.equal(first.meta_weight)
    again.take_calibration(first)
    assert again.meta_weight.equal(first.meta_weight) and again.meta_bias.equal(first.meta_bias)


def test_an_ensemble_does_not_adapt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RIDGE, "enrolment", "all")
    with pytest.raises(SerError, match="model=ridge_enrolled"):
        ensemble("mean_logits", ridge_share=0.4)


def test_without_a_share_there_is_no_regression() -> None:
    model = ensemble("mean_logits", ridge_share=0.0)
    assert model.ridge is None and not model.refits


def test_stacked_is_fitted_on_validation() -> None:
    model = ensemble("stacked").eval()
    batch = random_batch(30, 0)
    with torch.no_grad():
        before = model(batch)
        model.calibrate(lambda: [batch])
        after = model(batch)
    assert F.cross_entropy(after, batch.target) < F.cross_entropy(before, batch.target)


@pytest.mark.parametrize("fusion", ["mean_logits", "concat", "gated", "stacked"])
def test_both_arms_are_trained_by_losses_of_their_own(fusion: str) -> None:
    torch.manual_seed(0)
    joined, tim, *heads = ensemble(fusion).training_logits(random_batch(6, 0))
    assert tim.requires_grad
    assert len(heads) == ARM["heads"] and all(head.requires_grad for head in heads)
    assert joined.requires_grad == (fusion in ("concat", "gated"))


def test_unknown_fusion() -> None:
    with pytest.raises(SerError, match="fusion=sum is no option"):
        ensemble("sum")


def test_each_arm_of_an_ensemble_learns_at_its_own_rate() -> None:
    model = ensemble("gated")
    model.tim.lr_factor, model.wav2vec2.lr_factor = 2.0, 0.5
    rates = model.learning_rates()
    assert [factor for factor, _ in rates] == [2.0, 0.5, 1.0]
    grouped = [id(weight) for _, weights in rates for weight in weights]
    assert sorted(grouped) == sorted(id(weight) for weight in model.parameters())


def test_tim_net_mixes_summaries_as_it_mixes_targets() -> None:
    torch.manual_seed(0)
    model = TimNet(n_classes=3, streams=STREAMS, **{**TIM, "mixup": 1.0, "dropout": 0.0})
    batch = random_batch(6, 0)
    logits, mixed = model.training_logits(batch)
    assert isinstance(mixed, Mixed) and not logits.requires_grad
    assert 0 < mixed.share < 1 and sorted(mixed.partner.tolist()) == list(range(6))
    # the classifier is linear: logits of a mixed summary are mixed logits
    expected = mixed.share * logits + (1 - mixed.share) * logits[mixed.partner]
    torch.testing.assert_close(mixed.logits, expected)


def test_a_negative_mixup_is_refused() -> None:
    with pytest.raises(SerError, match=r"model.mixup=-1: alpha is above 0, or 0 to mix nothing"):
        TimNet(n_classes=3, streams=STREAMS, **{**TIM, "mixup": -1})
