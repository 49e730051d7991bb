"""Batches: padding, versions, the epoch's order, and the weights that balance corpus × class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ser.data import (
    EmotionDataModule,
    EmotionDataset,
    EpochSampler,
    check_factors,
    clip_weights,
    in_order,
    pad,
)
from ser.errors import SerError
from ser.shards import FeatureStore, write_shard
from ser.splits import Split

CLASSES = ("neutral", "happy", "sad")


def store(folder: Path, values: Mapping[str, np.ndarray]) -> FeatureStore:
    folder.mkdir(parents=True)
    features = {f"sha {name}": np.asarray(array) for name, array in values.items()}
    write_shard(folder, features)
    (dtype,) = {array.dtype.type for array in features.values()}
    return FeatureStore(folder, dtype)


def table_of(labels: str, corpora: str | None = None) -> pd.DataFrame:
    """One clip a letter (n, h or s); its corpus is the letter below it, if any are given."""
    full = {name[0]: name for name in CLASSES}
    ids = [f"clip{number}" for number in range(len(labels))]
    return pd.DataFrame(
        {
            "id": ids,
            "label": [full[letter] for letter in labels],
            "sha256": [f"sha {name}" for name in ids],
            "corpus": list(corpora or "t" * len(labels)),
            "speaker": [f"s{number % 2}" for number in range(len(labels))],
        }
    )


def frames_of(lengths: list[int], offset: float = 0) -> dict[str, np.ndarray]:
    """Clips of two features, each filled with its own number plus an offset."""
    return {
        f"clip{number}": np.full((length, 2), number + offset, dtype=np.float16)
        for number, length in enumerate(lengths)
    }


def dataset_of(folder: Path, lengths: list[int], copies: int = 0) -> EmotionDataset:
    versions = [
        store(folder / str(copy), frames_of(lengths, offset=100 * copy))
        for copy in range(copies + 1)
    ]
    labels = "nhs" * len(lengths)
    return EmotionDataset(table_of(labels[: len(lengths)]), CLASSES, {"frames": versions})


def sampler_of(dataset: EmotionDataset, **changes: object) -> EpochSampler:
    options = {"batch_size": 4, "seed": 0, "weights": None, "pool_batches": 2} | changes
    return EpochSampler(dataset, **options)  # type: ignore[arg-type]


def test_padding_is_zeros_after_each_clip():
    clips = [np.array([[1, 2]], np.float16), np.array([[3, 4], [5, 6], [7, 8]], np.float16)]
    padded, lengths = pad(clips)
    assert padded.dtype == torch.float32 and lengths.tolist() == [1, 3]
    expected = [[[1, 2], [0, 0], [0, 0]], [[3, 4], [5, 6], [7, 8]]]
    assert padded.tolist() == expected
    waves, samples = pad([np.ones(2, np.float32), np.ones(3, np.float32)])
    assert waves.tolist() == [[1, 1, 0], [1, 1, 1]] and samples.tolist() == [2, 3]


def test_a_batch_holds_rows_of_the_table_targets_and_every_stream(tmp_path):
    table = table_of("hsn").set_index(pd.Index([10, 11, 12]))
    embedding = {f"clip{n}": np.full((2, 4), n, np.float16) for n in range(3)}
    waveform = {f"clip{n}": np.full(n + 1, n, np.float32) for n in range(3)}
    stores = {
        "embedding": [store(tmp_path / "e", embedding)],
        "waveform": [store(tmp_path / "w", waveform)],
    }
    dataset = EmotionDataset(table, CLASSES, stores)
    batch = dataset[[2, 0]]
    assert batch.index.tolist() == [12, 10]
    assert batch.target.tolist() == [0, 1]  # neutral, happy
    assert batch.embedding.dtype == torch.float32 and batch.embedding.shape == (2, 2, 4)
    assert batch.embedding[:, 0, 0].tolist() == [2, 0]
    assert batch.waveform.tolist() == [[2, 2, 2], [0, 0, 0]]
    assert batch.waveform_length.tolist() == [3, 1]
    assert batch.frames is None and batch.frames_length is None
    assert len(dataset) == 3 and dataset.durations().tolist() == [1, 2, 3]


def test_a_version_picks_an_augmented_copy_and_wraps_around(tmp_path):
    dataset = dataset_of(tmp_path, [1, 2, 3], copies=2)
    assert dataset.n_versions == 3
    batch = dataset[[(0, 0), (1, 1), (2, 2), (2, 3)]]
    assert [clip[0, 0].item() for clip in batch.frames] == [0, 101, 202, 2]


def test_streams_of_fixed_shape_have_versions_too(tmp_path):
    plain = {f"clip{n}": np.full((1, 2), n, np.float32) for n in range(2)}
    copy = {name: values + 100 for name, values in plain.items()}
    stores = {"embedding": [store(tmp_path / "0", plain), store(tmp_path / "1", copy)]}
    dataset = EmotionDataset(table_of("nh"), CLASSES, stores)
    assert dataset[[(1, 1), (0, 0)]].embedding[:, 0, 0].tolist() == [101, 0]
    assert dataset.durations().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(9, 4, [4, 5]), (8, 4, [4, 4]), (10, 4, [2, 4, 4]), (1, 4, [1]), (5, 4, [5]), (3, 1, [1] * 3)],
)
def test_no_clip_is_left_over_alone(tmp_path, n, size, sizes):
    sampler = sampler_of(dataset_of(tmp_path, list(range(1, n + 1))), batch_size=size)
    batches = list(sampler)
    assert sorted(len(batch) for batch in batches) == sizes and len(sampler) == len(sizes)
    assert sorted(place for batch in batches for place, _ in batch) == list(range(n))


def test_an_epoch_visits_each_clip_once(tmp_path):
    sampler = sampler_of(dataset_of(tmp_path, [5, 1, 4, 2, 3, 9, 8, 7, 6, 10, 11]))
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3
    assert sorted(map(len, batches)) == [3, 4, 4]
    assert sorted(position for batch in batches for position, _ in batch) == list(range(11))


def test_the_order_is_a_function_of_seed_and_epoch(tmp_path):
    dataset = dataset_of(tmp_path, [3] * 12, copies=3)
    first, resumed, other = sampler_of(dataset), sampler_of(dataset), sampler_of(dataset, seed=1)
    epochs = {}
    for epoch in range(3):
        first.set_epoch(epoch)
        epochs[epoch] = list(first)
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]
    assert epochs[0] != epochs[1] != epochs[2]
    other.set_epoch(2)
    assert list(other) != epochs[2]
    versions = {version for batch in epochs[0] for _, version in batch}
    assert versions <= {0, 1, 2, 3} and len(versions) > 1


def test_batches_are_cut_from_pools_sorted_by_length(tmp_path):
    lengths = list(np.random.default_rng(0).permutation(np.arange(1, 33)))
    dataset = dataset_of(tmp_path, lengths)

    def spread(pool_batches: int) -> list[int]:
        batches = list(sampler_of(dataset, pool_batches=pool_batches))
        rows = [[lengths[position] for position, _ in batch] for batch in batches]
        assert all(row == sorted(row) for row in rows)
        return [row[-1] - row[0] for row in rows]

    assert spread(8) == [3] * 8  # one pool of all: neighbours in length
    assert np.mean(spread(2)) < 0.75 * np.mean(spread(1))


def test_the_order_of_batches_is_random_and_not_by_length(tmp_path):
    lengths = list(range(1, 33))
    sampler = sampler_of(dataset_of(tmp_path, lengths), pool_batches=8)
    starts = [batch[0][0] for batch in sampler]
    assert sorted(starts) == list(range(0, 32, 4)) and starts != sorted(starts)


def test_weights_draw_clips_in_proportion(tmp_path):
    dataset = dataset_of(tmp_path, [1] * 10)
    weights = np.array([0, 8, *[1] * 8], dtype=float)
    sampler = sampler_of(dataset, weights=weights)
    drawn = np.zeros(10)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        np.add.at(drawn, [position for batch in sampler for position, _ in batch], 1)
    assert drawn.sum() == 2000 and drawn[0] == 0
    np.testing.assert_allclose(drawn / 2000, weights / 16, atol=0.05)


def test_clip_weights_equalise_corpus_and_class(tmp_path):
    labels, corpora = "nnnhsnh", "aaaabbb"
    table = table_of(labels, corpora)
    frames = store(tmp_path / "frames", frames_of([1] * 7))
    dataset = EmotionDataset(table, CLASSES, {"frames": [frames]})
    weights = clip_weights(dataset, {})
    assert weights.mean() == pytest.approx(1)
    cells = pd.Series(weights).groupby([table["corpus"], table["label"]]).sum()
    assert len(cells) == 5
    np.testing.assert_allclose(cells, 7 / 5)
    np.testing.assert_allclose(weights, np.array([1, 1, 1, 3, 3, 3, 3]) * 7 / 15)


def test_a_corpus_may_count_less_and_then_classes_are_equal_over_all_corpora(tmp_path):
    frames = store(tmp_path / "frames", frames_of([1] * 5))
    dataset = EmotionDataset(table_of("nhhhh", "aabbb"), CLASSES, {"frames": [frames]})
    weights = clip_weights(dataset, {"b": 0.5})
    np.testing.assert_allclose(weights, np.array([8, 2, 1, 1, 1]) * 5 / 13)
    with pytest.raises(SerError, match=r"loss.corpora=\{c:2\}: a factor above 0.*are here a, b"):
        check_factors({"c": 2}, {"a", "b"})
    with pytest.raises(SerError, match=r"loss.corpora=\{b:0\}"):
        check_factors({"b": 0}, {"a", "b"})


@pytest.fixture
def parts(tmp_path):
    """Four train, two val and two test clips, with one augmented copy of the train clips."""
    table = table_of("nnnhnhsn")
    ids = tuple(table["id"])
    split = Split("made up", 0, 1, ids[:4], ids[4:6], ids[6:], shares_speakers=False)
    plain = store(tmp_path / "plain", frames_of([2] * 8))
    copy = store(tmp_path / "copy", frames_of([2] * 4, offset=100))

    def build(imbalance: str) -> EmotionDataModule:
        return EmotionDataModule(
            table, CLASSES, split, {"frames": [plain, copy]},
            batch_size=3, pool_batches=1, imbalance=imbalance, corpora={}, seed=0,
        )  # fmt: skip

    return build


def test_parts_are_served_in_order_and_as_recorded(parts):
    data = parts("none")
    train = [batch.index.tolist() for batch in data.in_order("train")]
    assert train == [[0, 1, 2], [3]]
    assert [batch.index.tolist() for batch in data.val_dataloader()] == [[4, 5]]
    assert [batch.index.tolist() for batch in data.in_order("test")] == [[6, 7]]
    values = {value for batch in data.in_order("train") for value in batch.frames[:, 0, 0].tolist()}
    assert values == {0, 1, 2, 3}
    assert data.val.n_versions == data.test.n_versions == 1


def test_training_sees_copies_too(parts):
    loader = parts("none").train_dataloader()
    seen: set[float] = set()
    for epoch in range(10):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert sorted(row for batch in batches for row in batch.index.tolist()) == [0, 1, 2, 3]
        seen |= {value for batch in batches for value in batch.frames[:, 0, 0].tolist()}
    assert seen == {0, 1, 2, 3, 100, 101, 102, 103}


def test_imbalance_chooses_who_weighs(parts):
    assert parts("none").loss_weights(8) is None and parts("sampler").loss_weights(8) is None
    weights = parts("weights").loss_weights(8)
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2, 1, 1, 1, 1], rtol=1e-6)

    def share_of_happy(imbalance: str) -> float:
        loader, happy = parts(imbalance).train_dataloader(), 0
        for epoch in range(100):
            loader.sampler.set_epoch(epoch)
            happy += sum(int((batch.index == 3).sum()) for batch in loader)
        return happy / 400

    assert share_of_happy("weights") == share_of_happy("none") == 0.25
    assert share_of_happy("sampler") == pytest.approx(0.5, abs=0.08)


def test_any_dataset_in_order(tmp_path):
    loader = in_order(dataset_of(tmp_path, [1, 2, 3, 4, 5]), batch_size=2)
    assert len(loader) == 3
    assert [batch.index.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]
