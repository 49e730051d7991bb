"""The ridge model: its solver against scikit-learn, what it removes, and how it adapts."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.preprocessing import StandardScaler

from ser.batch import Batch
from ser.errors import SerError
from ser.models import ridge
from ser.models.least_squares import Regression
from ser.models.pooled_inputs import PooledInputs
from ser.models.ridge import Ridge, _balanced, _speaker_folds

WIDTH, N_LAYERS, N_CLASSES = 12, 3, 3


def _model(
    enrolment: int | str = 0,
    remove: bool = True,
    whole_share: float = 0.0,
    silence_s: float | None = None,
    penalty: float = 0.1,
) -> Ridge:
    shape = (N_LAYERS, 2 * WIDTH)
    return Ridge(
        N_CLASSES,
        {"embedding": shape, "embedding_whole": shape},
        statistics=["mean", "std"],
        layers="all",
        views=[["mean"], ["mean", "std"]],
        whole_views=[["std"]],
        whole_share=whole_share,
        silence_s=silence_s,
        penalty=penalty,
        remove_speakers=remove,
        enrolment=enrolment,
    )


def _speech(n_speakers: int, seed: int, offset: float) -> Batch:
    """Clips of speakers who differ by an offset of their own far larger than the classes'."""
    draw = torch.Generator().manual_seed(seed)
    classes = torch.randn(
        N_CLASSES, N_LAYERS, 2 * WIDTH, generator=torch.Generator().manual_seed(9)
    )
    n = 30 * n_speakers
    target, speaker = torch.arange(n) % N_CLASSES, torch.arange(n) // 30
    voices = offset * torch.randn(n_speakers, N_LAYERS, 2 * WIDTH, generator=draw)
    noise = 0.8 * torch.randn(n, N_LAYERS, 2 * WIDTH, generator=draw)
    return Batch(
        index=torch.arange(n),
        target=target,
        embedding=classes[target] + voices[speaker] + noise,
        speaker=speaker + 100 * seed,
        corpus=torch.zeros(n, dtype=torch.long),
    )


def _right(model: Ridge, batch: Batch) -> float:
    return float((model(batch).argmax(1) == batch.target).float().mean())


def test_the_classes_are_learned_and_shuffled_labels_are_not() -> None:
    train, test = _speech(8, 1, 0.3), _speech(4, 2, 0.3)
    model = _model()
    model.fit(lambda: [train])
    assert _right(model, test) > 0.9
    shuffled = train.target[torch.randperm(240, generator=torch.Generator().manual_seed(0))]
    model.fit(lambda: [train._replace(target=shuffled)])
    assert _right(model, test) < 0.6


def test_answers_are_the_mean_of_scikit_learns_ridges_on_standardised_inputs() -> None:
    every = _speech(8, 1, 0.3)
    kept = (every.target > 0) | (every.index % 4 == 0)  # a class has fewer clips
    train = Batch(*(None if s is None else s[kept] for s in every))
    train = train._replace(corpus=(train.speaker > 105).long())
    model = _model(remove=False)
    model.fit(lambda: [train])
    inputs = model._inputs(train)
    weight = _balanced(train.target, train.corpus).numpy()
    scaled = StandardScaler().fit_transform(inputs.double(), sample_weight=weight)
    signs = 2 * np.eye(N_CLASSES)[train.target] - 1
    views = [scaled[:, columns] for columns, _ in model.views]
    ridges = [SklearnRidge(alpha=0.1 * view.shape[1]) for view in views]
    answers = [
        one.fit(view, signs, sample_weight=weight).predict(view)
        for one, view in zip(ridges, views, strict=True)
    ]
    ours = (inputs @ model.weight + model.bias).numpy()
    np.testing.assert_allclose(ours, np.mean(answers, 0), atol=1e-4)


def test_whole_clips_have_their_share_of_the_answers() -> None:
    speech, whole = _speech(8, 1, 0.3), _speech(8, 2, 0.3)
    whole = speech._replace(embedding=whole.embedding)
    both = speech._replace(embedding_whole=whole.embedding)
    model, of_speech, of_whole = _model(whole_share=0.25), _model(), _model()
    of_whole.views = of_whole.pooled[0].views("views", [["std"]], 1.0)
    assert model.reads == {"embedding", "embedding_whole"} and of_speech.reads == {"embedding"}
    answers = []
    for one, clips in ((model, both), (of_speech, speech), (of_whole, whole)):
        one.fit(lambda clips=clips: [clips])
        answers.append(one._inputs(clips) @ one.weight + one.bias)
    expected = 0.75 * answers[1] + 0.25 * answers[2]
    torch.testing.assert_close(answers[0], expected, atol=1e-4, rtol=1e-4)


def test_one_corpus_and_its_silence_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    one = _speech(8, 1, 0.3)
    one = one._replace(embedding_whole=one.embedding)
    two = one._replace(corpus=one.index % 2)
    told = _model(whole_share=0.25)
    for model, train in (
        (told, one),
        (told, one),
        (_model(whole_share=0.25), two),
        (_model(whole_share=0.25, silence_s=0.5), one),
        (_model(), one),
    ):
        model.fit(lambda train=train: [train])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "model.silence_s=0.5" in caplog.text


def test_only_with_enrolment_are_the_classes_as_likely_as_in_training() -> None:
    train = _speech(8, 1, 0.3)
    kept = (train.target > 0) | (train.index % 2 == 0)
    part = Batch(*(None if s is None else s[kept] for s in train))
    plain, enrolled = _model(), _model("all")
    for model in (plain, enrolled):
        model.fit(lambda: [part])
    assert plain.log_prior.equal(torch.zeros(N_CLASSES))
    shares = torch.bincount(part.target) / len(part.target)
    torch.testing.assert_close(enrolled.log_prior, shares.log())


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_of_whole_clips_is_an_error(share: float) -> None:
    with pytest.raises(SerError, match=r"model\.whole_share="):
        _model(whole_share=share)


def test_enrolment_helps_where_speakers_differ_and_reads_no_label() -> None:
    train, test = _speech(8, 1, 1.5), _speech(6, 2, 1.5)
    plain, enrolled = _model(), _model("all")
    for model in (plain, enrolled):
        model.fit(lambda: [train])
        model.adapt(lambda: [test])
    assert enrolled.adapts and not plain.adapts
    assert _right(enrolled, test) > _right(plain, test) + 0.05
    before = enrolled(test)
    enrolled.adapt(lambda: [test._replace(target=torch.zeros_like(test.target))])
    assert torch.equal(enrolled(test), before)


def test_enrolment_takes_no_more_clips_than_it_says() -> None:
    train, test = _speech(8, 1, 1.5), _speech(2, 2, 1.5)
    few, every = _model(3), _model("all")
    for model in (few, every):
        model.fit(lambda: [train])
        model.adapt(lambda: [test])
    assert not torch.allclose(few(test), every(test))
    kept = torch.zeros(60, dtype=torch.bool)
    for speaker in range(2):  # the same draw as adapt's
        order = torch.randperm(30, generator=torch.Generator().manual_seed(200 + speaker))
        kept[order[:3] + 30 * speaker] = True
    changed = torch.where(kept[:, None, None], test.embedding, torch.randn_like(test.embedding))
    before = few(test)
    few.adapt(lambda: [test._replace(embedding=changed)])
    assert torch.allclose(few(test), before)


def test_statistics_of_a_speaker_are_drawn_to_those_of_the_others_by_hand() -> None:
    """Two speakers of mean 2 and 6 (variance 8), their clips 1 around: 1 / 8 of a clip counts."""
    model = _model("all")
    inputs = torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    model._fit_speakers(inputs, torch.tensor([0, 0, 1, 1]))
    mean, deviation = model._statistics_of(torch.tensor([[6.0], [12.0]]))
    torch.testing.assert_close(mean, torch.full_like(mean, (2 * 9 + 4 / 8) / (2 + 1 / 8)))
    # their variance counts as ten clips
    torch.testing.assert_close(deviation, torch.full_like(mean, (2 * 9 + 10 * 1) / 12).sqrt())


def test_an_unknown_speaker_is_taken_for_the_average_one() -> None:
    train = _speech(8, 1, 0.3)
    model = _model("all")
    model.fit(lambda: [train])
    stranger = _speech(1, 3, 0.3)
    assert torch.isfinite(model(stranger)).all()
    assert torch.equal(model(stranger), model(stranger._replace(speaker=None)))


def test_many_clips_are_solved_by_their_inputs_to_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, test = _speech(8, 1, 0.3), _speech(4, 2, 0.3)
    few, many = _model(), _model()
    monkeypatch.setattr(ridge, "_DUAL_TIMES", 100)
    few.fit(lambda: [train])
    for limit in ("_DUAL_TIMES", "_DUAL_CLIPS"):
        monkeypatch.setattr(ridge, limit, 0)
        monkeypatch.setattr(ridge, "DualRidge", None)
        many.fit(lambda: [train])
        torch.testing.assert_close(many(test), few(test), atol=1e-3, rtol=1e-3)


def test_of_very_many_clips_fewer_partitions_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    train = _speech(8, 1, 0.3)
    model, answered = _model(), []
    monkeypatch.setattr(model, "_fit_discriminant", lambda *args: answered.append(args))
    for answers in (100_000, 3 * len(train.target), 1):
        monkeypatch.setattr(ridge, "_ANSWERS", answers)
        model.fit(lambda: [train])
    n = len(train.target)
    assert [len(answers) for answers, *_ in answered] == [10 * n, 3 * n, n]
    assert all(len(answers) == len(target) for answers, target, _ in answered)


def test_of_speakers_of_few_clips_not_all_directions_are_projected_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def noted(*args: object) -> Regression:
        regression = Regression(*args)
        asked.append(regression.n_removed)
        return regression

    monkeypatch.setattr(ridge, "Regression", noted)
    train = _speech(8, 1, 0.3)
    _model().fit(lambda: [train])
    _model(remove=False).fit(lambda: [train])
    assert set(asked[:2]) == {240 // 16} and set(asked[2:]) == {0}


@pytest.mark.parametrize("penalty", [0, -1.0])
def test_an_impossible_penalty_is_an_error(penalty: float) -> None:
    with pytest.raises(SerError, match=r"penalty="):
        _model(penalty=penalty)


@pytest.mark.parametrize("enrolment", ["some", -1])
def test_an_impossible_enrolment_is_an_error(enrolment: int | str) -> None:
    with pytest.raises(SerError, match=r"model\.enrolment="):
        _model(enrolment)


def test_a_view_of_an_absent_statistic_is_an_error() -> None:
    with pytest.raises(SerError, match="the feature gives mean, std"):
        PooledInputs({"embedding": (3, 24)}, "embedding", ["mean", "std"], "all").views(
            "views", [["delta"]], 1.0
        )


def test_no_view_at_all_is_an_error() -> None:
    pooled = PooledInputs({"embedding": (3, 24)}, "embedding", ["mean", "std"], "all")
    with pytest.raises(SerError, match=r"model\.whole_views=\[\]"):
        pooled.views("whole_views", [], 0.25)


def test_a_class_without_clips_is_never_answered() -> None:
    train = _speech(8, 1, 0.3)
    known = train.target < 2
    part = Batch(*(None if s is None else s[known] for s in train))
    model = _model()
    model.fit(lambda: [part])
    assert set(model(train).argmax(1).tolist()) == {0, 1}


def test_a_corpus_weighs_by_the_root_of_its_clips_and_its_classes_the_same() -> None:
    corpus = torch.tensor([7] * 16 + [3] * 4)
    target = torch.tensor([0] * 12 + [1] * 4 + [0, 1, 1, 2])
    weight = _balanced(target, corpus)
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    total = torch.zeros(2, 3).index_put_(((corpus == 7).long(), target), weight, accumulate=True)
    torch.testing.assert_close(total[1, :2], total[0, :1].expand(2) * 2)  # the root of 16 / 4
    torch.testing.assert_close(total[0], total[0, :1].expand(3))


def test_of_one_speaker_the_folds_are_of_clips() -> None:
    folds = _speaker_folds(torch.zeros(10, dtype=torch.long), 4, 0)
    assert sorted(torch.cat(folds).tolist()) == list(range(10))
    assert all(0 < len(fold) < 10 for fold in folds)
