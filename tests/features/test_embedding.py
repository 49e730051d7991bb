"""Pooled encoder frames: by hand on a tiny encoder, and against golden values on real speech."""

import copy
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from ser.audio import load_waveform
from ser.errors import SerError
from ser.features import Embedding, EncoderFrames, WholeEmbedding
from ser.features.frozen import encoders_kept
from ser.features.speech import cut_to_speech
from ser.models.encoder import PretrainedEncoder, RandomEncoder

TINY = RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="float32")


def _noise(length: int) -> np.ndarray:
    return np.random.default_rng(length).uniform(-0.3, 0.3, length).astype(np.float32)


def test_embedding_is_mean_then_deviation_of_each_layers_frames() -> None:
    clips = [_noise(9000), _noise(5000)]
    embeddings = Embedding(TINY).extract(clips, ["a", "b"])
    encoder = TINY.load()
    for clip, embedding in zip(clips, embeddings, strict=True):
        with torch.inference_mode():
            states, _ = encoder(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))
        layers = states[:, 0].numpy()  # (layers, frames, width)
        expected = np.concatenate([layers.mean(axis=1), layers.std(axis=1)], axis=1)
        np.testing.assert_allclose(embedding, expected, atol=2e-3)


def test_features_of_one_encoder_share_its_weights_until_both_let_go() -> None:
    first, second = Embedding(TINY), WholeEmbedding(TINY, None)
    halved = Embedding(RandomEncoder("tiny", 2, 32, 0, "bfloat16"))
    for feature in (first, second, halved):
        feature.extract([_noise(5000)], ["a"])
    module = first._frozen._encoder()
    assert second._frozen._encoder() is module and halved._frozen._encoder() is not module
    first.release()
    assert first._frozen._encoder() is module
    kept = weakref.ref(module)
    first.release()
    second.release()
    del module
    gc.collect()
    assert kept() is None


def test_within_encoders_kept_what_is_let_go_is_not_loaded_again() -> None:
    feature = Embedding(RandomEncoder("tiny", 2, 32, 7, "float32"))
    with encoders_kept():
        kept = weakref.ref(feature._frozen._encoder())
        feature.release()
        gc.collect()
        assert kept() is not None and feature._frozen._encoder() is kept()
    feature.release()
    gc.collect()
    assert kept() is None


def test_a_given_silence_takes_the_place_of_the_recordings_own() -> None:
    speech, silence = _noise(9_600), np.zeros(8_000, np.float32)
    recorded = np.concatenate([silence, speech, silence[:3_200]])
    feature = WholeEmbedding(TINY, 0.5)
    first, second = feature.extract([recorded, np.concatenate([silence, recorded])], ["a", "b"])
    np.testing.assert_array_equal(first, second)
    (around,) = Embedding(TINY).extract([np.pad(cut_to_speech(recorded)[0], 8_000)], ["a"])
    np.testing.assert_array_equal(first, around)
    own = WholeEmbedding(TINY, None)
    assert own.settings() == Embedding(TINY).settings() != feature.settings()
    assert feature.settings() != WholeEmbedding(TINY, 0.25).settings()
    for wrong in (-1, 11):
        with pytest.raises(SerError, match=r"model\.silence_s=.*from 0 to 10, or null"):
            WholeEmbedding(TINY, wrong)


def test_encoder_frames_are_one_layer() -> None:
    clip = _noise(9000)
    (frames,) = EncoderFrames(TINY, 1).extract([clip], ["a"])
    with torch.inference_mode():
        states, _ = TINY.load()(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))
    np.testing.assert_allclose(frames, states[1, 0].numpy(), atol=2e-3)


def test_summary_says_what_pooling_saves() -> None:
    # 10 clips * 3 layers * 64 values * 2 bytes; 100 s * 50 frames * 3 layers * 32 values * 2 bytes
    assert Embedding(TINY).summary(10, 100.0) == (
        "tiny: 10 pooled embeddings take 3,840 bytes; the frames of all 3 layers would take "
        "960,000 (250 times as much)"
    )


def _whisper(shared: Path, precision: str = "float32") -> Embedding:
    folder = shared / "weights" / "whisper-base-encoder"
    if not folder.is_dir():
        pytest.skip("no Whisper weights")
    return Embedding(
        PretrainedEncoder("whisper_base", "openai/whisper-base", str(folder), "main", precision)
    )


def _cosine_to_golden(
    shared: Path, corpus: str, paths: list[Path], precision: str = "float32"
) -> np.ndarray:
    """(clips, layers)"""
    golden = np.load(shared / "data" / "golden" / f"whisper_base_{corpus}.npz")
    rows = {stem: i for i, stem in enumerate(golden["clip"])}
    theirs = golden["embedding"][[rows[path.stem] for path in paths]].astype(np.float64)
    waveforms = [load_waveform(path) for path in paths]
    ours = np.stack(_whisper(shared, precision).extract(waveforms, [path.stem for path in paths]))
    product = (ours.astype(np.float64) * theirs).sum(axis=-1)
    lengths = np.linalg.norm(ours.astype(np.float64), axis=-1) * np.linalg.norm(theirs, axis=-1)
    return np.asarray(product / lengths)


def test_whisper_equals_golden_on_original_ravdess_files(shared: Path) -> None:
    paths = sorted((shared / "data" / "ravdess_original").rglob("*.wav"))[::8]
    assert _cosine_to_golden(shared, "ravdess", paths).min() >= 0.999


def test_whisper_equals_golden_on_emodb(shared: Path) -> None:
    paths = sorted((shared / "data" / "emodb" / "wav").iterdir())[::180]
    assert _cosine_to_golden(shared, "emodb", paths).min() >= 0.999
    assert _cosine_to_golden(shared, "emodb", paths, "bfloat16").min() >= 0.999


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The least cosine over layers of two embeddings (layers, 2 * width)."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float(((one * other).sum(axis=-1) / lengths).min())


def test_flac_copies_differ_from_their_originals_by_rounding_alone(shared: Path) -> None:
    """The 16 kHz copies were rounded to 16 bits again, which quiet speech does not bear.

    Rounded likewise, an original agrees with its copy; as it is, the quietest does not.
    """
    originals = sorted((shared / "data" / "ravdess_original").rglob("*.wav"))[:3]
    if not originals:
        pytest.skip("no original RAVDESS files")
    copies = {path.stem: path for path in (shared / "data" / "ravdess").rglob("*.flac")}
    assert _cosine_to_golden(shared, "ravdess", originals).min() >= 0.9999
    plain = [load_waveform(path) for path in originals]
    rounded = [np.round(waveform * 2**15).astype(np.float32) / 2**15 for waveform in plain]
    flac = [load_waveform(copies[path.stem]) for path in originals]
    clips = [*plain, *rounded, *flac]
    embeddings = _whisper(shared).extract(clips, [str(n) for n in range(len(clips))])
    as_it_is, rounded_too, copied = (embeddings[n : n + 3] for n in (0, 3, 6))
    for one, other in zip(rounded_too, copied, strict=True):
        assert _similarity(one, other) >= 0.999
    assert min(map(_similarity, as_it_is, copied)) < 0.999


def test_bfloat16_is_near_and_another_feature() -> None:
    half = RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="bfloat16")
    clip = _noise(9000)
    (one,), (other,) = (Embedding(source).extract([clip], ["a"]) for source in (TINY, half))
    assert 0.999 < _similarity(one, other) < 1.0
    (frames,) = EncoderFrames(half, 1).extract([clip], ["a"])
    assert frames.dtype == np.float16 and np.isfinite(frames).all()
    assert Embedding(TINY).settings() != Embedding(half).settings()
    assert "precision" not in TINY.identity()  # what float32 cached before the option still holds
    with pytest.raises(SerError, match="Choose one of: float32, bfloat16"):
        RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="half")


def test_a_copy_of_the_encoder_keeps_its_weights() -> None:
    encoder = TINY.load()
    clip = _noise(5000)
    waveform, lengths = torch.from_numpy(clip)[None], torch.tensor([len(clip)])
    copied = copy.deepcopy(encoder)
    source = RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="float32")
    source.load = lambda: copied  # type: ignore[method-assign]
    (embedding,) = Embedding(source).extract([clip], ["a"])
    with torch.inference_mode():
        states, _ = encoder(waveform, lengths)
    np.testing.assert_allclose(embedding[:, :32], states[:, 0].mean(1).numpy(), atol=2e-3)
