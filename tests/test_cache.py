"""The feature cache: reuse, damage, kill -9, two runs at once."""

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_clips import N_CLIPS, Doubled, samples, write_clips

from ser import cache as cache_module
from ser.cache import Clip, FeatureCache
from ser.errors import SerError


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    return write_clips(tmp_path)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_CHUNK_CLIPS", 2)


def _check(store: cache_module.FeatureStore, clips: list[Clip]) -> None:
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(store[clip.sha256], 2 * samples(i)[:, None])


def test_a_second_ensure_does_no_work(
    tmp_path: Path, clips: list[Clip], caplog: pytest.LogCaptureFixture
) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    twin = Clip(clips[0].path, clips[0].sha256, clips[0].duration_s)
    store = cache.ensure(feature, [*clips, twin], workers=2, progress=False)
    assert sorted(feature.extracted) == sorted(clip.sha256 for clip in clips)
    assert len(store) == N_CLIPS and clips[3].sha256 in store and "unknown" not in store
    assert store.nbytes == sum(4 * len(samples(i)) for i in range(N_CLIPS))
    _check(store, clips)
    with caplog.at_level(logging.INFO, "ser.cache"):
        _check(cache.ensure(feature, clips, workers=1, progress=False), clips)
    assert len(feature.extracted) == N_CLIPS
    assert f"{N_CLIPS} clips reused, 0 computed" in caplog.text


def test_a_bar_is_for_terminals_and_leaves_nothing_in_a_file(
    tmp_path: Path,
    clips: list[Clip],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    cache.ensure(feature, clips[:4], workers=1, progress=True)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # how rich is told that this is a terminal
    cache.ensure(feature, clips, workers=1, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "8/8" in err


def test_other_settings_have_a_folder_of_their_own(tmp_path: Path, clips: list[Clip]) -> None:
    cache = FeatureCache(tmp_path / "cache")
    two, three = Doubled(tmp_path / "log"), Doubled(tmp_path / "log", gain=3.0)
    assert cache.folder_of(two) != cache.folder_of(three)
    cache.ensure(two, clips, workers=1, progress=False)
    store = cache.ensure(three, clips[:2], workers=1, progress=False)
    assert len(store) == 2
    np.testing.assert_allclose(store[clips[1].sha256], 3 * samples(1)[:, None])


def test_views_are_mapped_and_private(tmp_path: Path, clips: list[Clip]) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    store = cache.ensure(feature, clips, workers=1, progress=False)
    view = store[clips[0].sha256]
    assert not view.flags.owndata and np.shares_memory(view, store[clips[0].sha256])
    torch.from_numpy(view)[:] = 7.0  # no warning about read-only memory, nothing reaches the file
    _check(cache_module.FeatureStore(store.folder, np.float32), clips)


@pytest.mark.parametrize("suffix", [".bin", ".json"])
def test_a_damaged_shard_is_told_and_computed_again(
    tmp_path: Path, clips: list[Clip], suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    cache.ensure(feature, clips, workers=1, progress=False)
    (damaged,) = cache.folder_of(feature).glob(f"*{suffix}")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    _check(cache.ensure(feature, clips, workers=1, progress=False), clips)
    assert "damaged, its clips are computed again" in caplog.text
    assert len(feature.extracted) == 2 * N_CLIPS


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0, -1])
def test_one_flipped_bit_of_the_values_is_told_and_computed_again(
    tmp_path: Path, clips: list[Clip], at: int, caplog: pytest.LogCaptureFixture
) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    cache.ensure(feature, clips[:4], workers=1, progress=False)
    (damaged,) = cache.folder_of(feature).glob("*.bin")
    cache.ensure(feature, clips, workers=1, progress=False)
    _flip(damaged, at)
    _check(cache.ensure(feature, clips, workers=1, progress=False), clips)
    assert f"{damaged.name} does not match its checksum" in caplog.text
    assert len(feature.extracted) == N_CLIPS + 4  # the other shard's are reused
    caplog.clear()
    _check(cache.ensure(feature, clips, workers=1, progress=False), clips)
    assert len(feature.extracted) == N_CLIPS + 4 and caplog.text == ""


def test_values_that_are_not_asked_for_are_not_read(tmp_path: Path, clips: list[Clip]) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    cache.ensure(feature, clips[:4], workers=1, progress=False)
    (damaged,) = cache.folder_of(feature).glob("*.bin")
    _flip(damaged, 0)
    cache.ensure(feature, clips[4:], workers=1, progress=False)
    cache.ensure(feature, clips[4:], workers=1, progress=False)
    assert len(feature.extracted) == N_CLIPS and damaged.exists()


def test_a_shard_written_before_there_were_checksums_is_read(
    tmp_path: Path, clips: list[Clip]
) -> None:
    feature, cache = Doubled(tmp_path / "log"), FeatureCache(tmp_path / "cache")
    cache.ensure(feature, clips, workers=1, progress=False)
    (index,) = cache.folder_of(feature).glob("*.json")
    content = json.loads(index.read_bytes().partition(b"\n")[2])
    del content["crc32"]
    body = json.dumps(content).encode()
    index.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    _check(cache.ensure(feature, clips, workers=1, progress=False), clips)
    assert len(feature.extracted) == N_CLIPS


def test_a_clip_whose_feature_is_not_finite_is_named_and_the_rest_is_kept(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_CHUNK_CLIPS", 1)
    feature, cache = Doubled(tmp_path / "log", gain=float("inf")), FeatureCache(tmp_path / "cache")
    with pytest.raises(
        SerError, match=r"clip11\.wav: its feature Doubled .*not finite.*Doubled\.e"
    ):
        cache.ensure(feature, clips, workers=1, progress=False)
    clips[0].path.write_text("no audio")  # the shortest, so the last
    feature = Doubled(tmp_path / "log2")
    with pytest.raises(SerError, match=r"clip0\.wav: cannot be decoded"):
        cache.ensure(feature, clips, workers=1, progress=False)
    cache.ensure(feature, clips[1:], workers=1, progress=False)
    assert len(feature.extracted) == N_CLIPS - 1


def _run(folder: Path, feature: Doubled, clips: list[Clip]) -> None:
    """What the other process of a test does."""
    cache_module._CHUNK_CLIPS, cache_module._COMMIT_S = 1, 0.0
    FeatureCache(folder).ensure(feature, clips, workers=1, progress=False)


def _start(tmp_path: Path, feature: Doubled, clips: list[Clip]) -> SpawnProcess:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(tmp_path / "cache", feature, clips))
    process.start()
    return process


def _wait_for(feature: Doubled, n_clips: int) -> None:
    give_up = time.monotonic() + 60
    while len(feature.extracted) < n_clips:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_all_clips_of_a_slow_chunk_are_written_once_it_is_done(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two chunks lost all clips but the first of a chunk longer than _COMMIT_S."""
    monkeypatch.setattr(cache_module, "_COMMIT_S", 0.0)
    feature = Doubled(tmp_path / "log")
    FeatureCache(tmp_path).ensure(feature, clips, workers=1, progress=False)
    indices = list(FeatureCache(tmp_path).folder_of(feature).glob("*.json"))
    entries = [json.loads(index.read_bytes().partition(b"\n")[2])["entries"] for index in indices]
    assert [len(clips) for clips in entries] == [2] * (N_CLIPS // 2)


def test_what_a_killed_run_finished_is_kept(tmp_path: Path, clips: list[Clip]) -> None:
    slow = Doubled(tmp_path / "log", delay_s=0.2)
    process = _start(tmp_path, slow, clips)
    _wait_for(slow, 5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = FeatureCache(tmp_path / "cache").folder_of(slow)
    (folder / "orphan.bin").write_bytes(b"half")
    (folder / "x.bin.1.part").write_bytes(b"half")
    fresh = Doubled(tmp_path / "log2")
    store = FeatureCache(tmp_path / "cache").ensure(fresh, clips, workers=1, progress=False)
    _check(store, clips)
    assert N_CLIPS - 5 <= len(fresh.extracted) <= N_CLIPS - 3
    assert not [*folder.glob("orphan.*"), *folder.glob("*.part")]


def test_two_runs_at_once_compute_each_clip_once(tmp_path: Path, clips: list[Clip]) -> None:
    slow = Doubled(tmp_path / "log", delay_s=0.05)
    process = _start(tmp_path, slow, clips)
    _wait_for(slow, 1)
    here = Doubled(tmp_path / "log2")
    store = FeatureCache(tmp_path / "cache").ensure(here, clips, workers=1, progress=False)
    process.join()
    assert process.exitcode == 0 and here.extracted == []
    assert len(slow.extracted) == N_CLIPS
    _check(store, clips)
