"""What is hidden in a model is read off where it names the classes; the map's figures by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ser.batch import Batch
from ser.embedding_map import (
    EMBEDDING,
    HIDDEN,
    Hidden,
    map_clips,
    neighbours,
    purity,
    standardised,
)
from ser.models.base import EmotionModel
from ser.models.chance import Chance
from ser.models.linear import Linear

N_CLASSES = 3


class TwoHeads(EmotionModel):
    """Two summaries of the embedding, each with a head; a layer as wide as the classes inside."""

    def __init__(self) -> None:
        super().__init__(N_CLASSES, {"embedding"})
        self.inner = nn.Linear(4, N_CLASSES)  # over steps: no head
        self.heads = nn.ModuleList(nn.Linear(2, N_CLASSES) for _ in range(2))

    @classmethod
    def reads_of(cls, options: object) -> frozenset[str]:
        return frozenset({"embedding"})

    def forward(self, batch: Batch) -> Tensor:
        assert batch.embedding is not None
        self.inner(batch.embedding)
        first, second = batch.embedding[:, 0, :2], 10 * batch.embedding[:, 1, 2:]
        return self.heads[0](first) + self.heads[1](second)


def batches(n: int = 5) -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    embedding = torch.randn(n, 2, 4, generator=draw)
    frames = torch.randn(n, 6, 4, generator=draw)
    whole = Batch(
        index=torch.arange(n) + 100,
        target=torch.arange(n) % N_CLASSES,
        frames=frames,
        frames_length=torch.full((n,), 6),
        embedding=embedding,
    )
    return [Batch(*(s if s is None else s[part] for s in whole)) for part in ([0, 1, 2], [3, 4])]


def test_hidden_values_are_what_enters_the_heads() -> None:
    model = TwoHeads().eval()
    found = Hidden(model).of(batches())
    assert found is not None
    values, rows, what = found
    embedding = torch.cat([b.embedding for b in batches()])
    expected = torch.cat([embedding[:, 0, :2], 10 * embedding[:, 1, 2:]], 1)
    assert np.allclose(values, expected)
    assert rows.tolist() == [100, 101, 102, 103, 104] and what == HIDDEN
    assert not any(head._forward_pre_hooks for head in model.heads)


def test_a_model_without_heads_shows_the_embedding_that_it_reads() -> None:
    model = Linear(N_CLASSES, {"embedding": (2, 4)}, "all", 1.0, 10)
    found = Hidden(model).of(batches())
    assert found is not None
    assert np.allclose(found.values, torch.cat([b.embedding for b in batches()]).flatten(1))
    assert found.what == EMBEDDING


def test_a_model_that_looks_at_nothing_has_nothing_to_show() -> None:
    assert Hidden(Chance(N_CLASSES, {"frames": (4,)})).of(batches()) is None


def test_columns_are_standardised_and_flat_ones_dropped() -> None:
    values = np.array([[1.0, 5.0, 0.0], [3.0, 5.0, 10.0]], dtype=np.float32)
    assert standardised(values).tolist() == [[-1, -1], [1, 1]]


def test_purity_by_hand() -> None:
    line = np.array([[0.0], [1.0], [1.9], [10.0], [11.0], [11.9]], dtype=np.float32)
    near = neighbours(line, k=2)
    assert [sorted(row) for row in near.tolist()] == [
        [1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4],
    ]  # fmt: skip
    assert purity(near, list("aaabbb")) == pytest.approx((1.0, 2 / 5))
    # a b a b a b: each clip has one neighbour of its name at the ends, none in the middle
    assert purity(near, list("ababab")) == pytest.approx(((1 + 0 + 1) * 2 / 12, 2 / 5))


def test_neighbours_of_few_clips_are_all_the_others() -> None:
    assert neighbours(np.array([[0.0], [1.0], [5.0]], dtype=np.float32)).shape == (3, 2)


def test_the_map_keeps_clusters_apart_and_follows_its_seed() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(40, 60)).astype(np.float32)
    values[20:] += 8
    points = map_clips(values, seed=1)
    assert points.shape == (40, 2)
    assert purity(neighbours(points, k=5), ["a"] * 20 + ["b"] * 20)[0] == 1.0
    assert np.array_equal(points, map_clips(values, seed=1))
