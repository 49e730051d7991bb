"""48 kHz originals to MFCC frames, against librosa: `python -m bench.decode_mfcc`.

Ours is what training runs: the feature cache, which decodes, resamples, extracts and writes shards.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.measure import Table, compare, markdown, measure, one_core, parser, publish
from bench.speech import add_root, as_clips, ravdess_originals
from ser.audio import load_waveform, mix_down, read_audio, resample
from ser.cache import Clip, FeatureCache
from ser.config import keep_freed_memory
from ser.decimate import third_of
from ser.features import Mfcc

N_MFCC = 39
COPIES = 10
GOAL = 5.0
OURS = "resample"
LOOP, JOBLIB, TWO = "librosa in a loop", "librosa in joblib, 2 processes", "ours, 2 workers"


def mfcc(rate: int) -> Mfcc:
    """librosa's defaults at this rate, whole clips."""
    return Mfcc(N_MFCC, 2048, 512, 128, 0, rate, None)


def theirs(path: Path, rate: int) -> np.ndarray:
    """As librosa's documentation shows it: (n_mfcc, frames)."""
    import librosa

    waveform, _ = librosa.load(path, sr=rate)
    frames: np.ndarray = librosa.feature.mfcc(y=waveform, sr=rate, n_mfcc=N_MFCC)
    return frames


def cached(clips: list[Clip], rate: int, workers: int) -> None:
    """Compute all clips into a cache that is new."""
    with tempfile.TemporaryDirectory() as folder:
        FeatureCache(Path(folder)).ensure(mfcc(rate), clips, workers=workers, progress=False)


def timed(paths: list[Path], rate: int, repeats: int) -> Table:
    """Both against both on one rate."""
    from joblib import Parallel, delayed

    clips = as_clips(paths, COPIES)
    with Parallel(n_jobs=2) as pool:
        return compare(
            lambda: cached(clips, rate, 1),
            {
                TWO: lambda: cached(clips, rate, 2),
                LOOP: lambda: [theirs(clip.path, rate) for clip in clips],
                JOBLIB: lambda: pool(delayed(theirs)(clip.path, rate) for clip in clips),
            },
            repeats,
            name="ours, 1 worker",
        )


def timed_on_one(paths: list[Path], rate: int, repeats: int) -> Table:
    """Both with one thread on one core."""
    clips = as_clips(paths, COPIES)
    with one_core():
        return compare(
            lambda: cached(clips, rate, 1),
            {LOOP: lambda: [theirs(clip.path, rate) for clip in clips]},
            repeats,
            name="ours, 1 worker",
        )


def steps(paths: list[Path], rate: int, repeats: int) -> dict[str, float]:
    """Milliseconds a clip of each step alone, on one thread (best of the repeats)."""
    import librosa

    raw = [read_audio(path) for path in paths]
    mono = [(np.ascontiguousarray(mix_down(samples)), hz) for samples, hz in raw]
    waveforms = [load_waveform(path, rate, many=True) for path in paths]
    feature, keys = mfcc(rate), [""] * len(paths)
    calls: dict[str, Callable[[], object]] = {
        "read the bytes": lambda: [path.read_bytes() for path in paths],
        "decode to float32": lambda: [read_audio(path) for path in paths],
        OURS: lambda: [
            third_of(samples) if hz == 3 * rate else resample(samples, hz, rate)
            for samples, hz in mono
        ],
        "resample by soxr": lambda: [resample(samples, hz, rate) for samples, hz in mono],
        "MFCC": lambda: feature.extract(waveforms, keys),
        "librosa.load": lambda: [librosa.load(path, sr=rate) for path in paths],
        "librosa.feature.mfcc": lambda: [
            librosa.feature.mfcc(y=waveform, sr=rate, n_mfcc=N_MFCC) for waveform in waveforms
        ],
    }
    with one_core():
        for call in calls.values():
            call()
        best = {
            name: min(measure(call).cpu_s for _ in range(repeats)) for name, call in calls.items()
        }
    return {name: 1e3 * seconds / len(paths) for name, seconds in best.items()}


def difference(paths: list[Path], rate: int) -> float:
    """Largest absolute difference over the range of librosa's values."""
    expected = [theirs(path, rate).T for path in paths]
    waveforms = [load_waveform(path, rate, many=True) for path in paths]
    found = mfcc(rate).extract(waveforms, [""] * len(paths))
    largest = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    return largest / float(np.ptp(np.concatenate(expected)))


def verdict(one: Table, two: Table, parts: dict[str, float], wrong: float) -> str:
    """Ratios per core and on two, and what bounds them."""
    per_core = float(np.median(one.ratios(LOOP)))
    both = float(np.median(two.ratios(JOBLIB, TWO)))
    across = float(np.median(two.ratios(LOOP, TWO)))
    fixed = parts["decode to float32"] + parts[OURS]
    whole = parts["librosa.load"] + parts["librosa.feature.mfcc"]
    reached = "reached" if per_core >= GOAL else "not reached"
    return (
        f"Per core {per_core:.2f} × librosa's loop (goal {GOAL:.0f} ×: {reached}); on both cores, "
        f"2 workers {across:.2f} × the loop, whose matrix products take both, and {both:.2f} × "
        f"joblib. Largest difference {wrong:.1e} of the range (goal 1e-3). The limit: decoding and "
        f"resampling alone take {fixed:.2f} ms a clip, so with an MFCC that cost nothing the ratio "
        f"would be at most {whole / fixed:.1f}."
    )


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=5)
    add_root(options)
    given = options.parse_args()
    keep_freed_memory()  # as train.py does; for both
    paths = ravdess_originals(given.root)[:22]
    seconds = sum(clip.duration_s for clip in as_clips(paths))
    parts: list[str] = [
        f"{len(paths)} clips of RAVDESS as published (48 kHz, {seconds / len(paths):.1f} s each), "
        f"{COPIES} times over, to {N_MFCC} coefficients. Ours writes its cache, fsync included; "
        "librosa keeps nothing. joblib's processes are warm, and their memory is not counted."
    ]
    for rate in (16_000, 22_050):
        one, two = timed_on_one(paths, rate, given.repeats), timed(paths, rate, given.repeats)
        split = steps(paths, rate, given.repeats)
        rows = [[name, f"{milliseconds:.2f}"] for name, milliseconds in split.items()]
        parts += [
            f"At {rate:,} Hz, {COPIES * len(paths)} clips, both with one thread on one core:",
            str(one),
            "On two cores:",
            str(two),
            markdown(["one thread", "processor ms a clip"], rows),
            verdict(one, two, split, difference(paths, rate)),
        ]
    packages = "numpy torch librosa soxr soundfile joblib"
    publish("decode_mfcc", "Decode, resample, MFCC", parts, given, packages)


if __name__ == "__main__":
    main()
