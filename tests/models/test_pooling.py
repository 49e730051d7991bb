import torch

from ser.models.pooling import (
    AttentivePooling,
    FrameScaler,
    masked_mean,
    masked_mean_std,
    running_statistics,
)


def test_masked_mean_and_deviation_by_hand() -> None:
    sequence = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [9.0]]])
    length = torch.tensor([2, 3])
    assert masked_mean(sequence, length).tolist() == [[2.0], [5.0]]
    pooled = masked_mean_std(sequence, length)
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 1.0], [5.0, (26 / 3) ** 0.5]]))


def test_padding_may_be_anything() -> None:
    sequence = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    assert masked_mean_std(sequence, torch.tensor([2])).tolist() == [[2.0, 1.0]]


def test_a_constant_clip_has_a_finite_gradient() -> None:
    sequence = torch.ones(1, 4, 2, requires_grad=True)
    masked_mean_std(sequence, torch.tensor([3])).sum().backward()
    assert sequence.grad is not None
    assert sequence.grad.isfinite().all()


def test_attentive_pooling_with_equal_scores_is_the_mean() -> None:
    pooling = AttentivePooling(3, 4)
    torch.nn.init.zeros_(pooling.score[2].weight)
    sequence, length = torch.randn(2, 5, 3), torch.tensor([3, 5])
    torch.testing.assert_close(pooling(sequence, length), masked_mean_std(sequence, length))


def test_running_statistics_do_not_depend_on_the_batches() -> None:
    values = torch.randn(50, 3) * 7 + 1000
    values[:, 2] = 4.0
    mean, deviation = running_statistics([values[:13], values[13:14], values[14:]])
    torch.testing.assert_close(mean, values.mean(0))
    torch.testing.assert_close(deviation[:2], values[:, :2].std(0, unbiased=False))
    assert deviation[2] == 1.0


def test_scalers_by_hand() -> None:
    frames, length = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]]), torch.tensor([2])
    other = torch.tensor([[[2.0, 40.0], [4.0, 80.0]]])
    # means 2 and 20, deviations 1 and 10, one deviation for both: the root of (1 + 100) / 2
    expected = {
        "train": [[0.0, 2.0], [2.0, 6.0]],
        "clip": [[-1.0, -1.0], [1.0, 1.0]],
        "global": [[0.0, 20 / 50.5**0.5], [2 / 50.5**0.5, 60 / 50.5**0.5]],
    }
    for kind, values in expected.items():
        scaler = FrameScaler(2, kind)
        scaler.fit([(frames, length)])
        torch.testing.assert_close(scaler(other, length)[0], torch.tensor(values))
