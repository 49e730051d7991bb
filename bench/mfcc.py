"""MFCC of 16 kHz clips in memory, against librosa and torchaudio: `python -m bench.mfcc`."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from bench.measure import Table, compare, measure, one_core, parser, publish
from bench.speech import add_root, ravdess
from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.config import keep_freed_memory
from ser.features import Mfcc

N_MFCC, N_FFT, HOP, N_MELS = 39, 2048, 512, 128
CHUNK = 32
LIBROSA, TORCHAUDIO = "librosa clip by clip", "torchaudio.transforms.MFCC clip by clip"


def ours(waveforms: list[Waveform], pool: ThreadPoolExecutor | None = None) -> list[np.ndarray]:
    """In chunks of clips, as the cache calls it."""
    feature = Mfcc(N_MFCC, N_FFT, HOP, N_MELS, 0, SAMPLE_RATE_HZ, None)
    chunks = [waveforms[i : i + CHUNK] for i in range(0, len(waveforms), CHUNK)]

    def extract(chunk: list[Waveform]) -> list[np.ndarray]:
        return feature.extract(chunk, [""] * len(chunk))

    done = pool.map(extract, chunks) if pool else map(extract, chunks)
    return [frames for part in done for frames in part]


def librosas(waveforms: list[Waveform]) -> list[np.ndarray]:
    """librosa.feature.mfcc at its defaults: (n_mfcc, frames) a clip."""
    import librosa

    return [librosa.feature.mfcc(y=w, sr=SAMPLE_RATE_HZ, n_mfcc=N_MFCC) for w in waveforms]


def torchaudios(waveforms: list[Waveform]) -> list[torch.Tensor]:
    """torchaudio's transform at the same sizes, one clip at a time, at torch's threads."""
    from torchaudio.transforms import MFCC

    sizes = {"n_fft": N_FFT, "hop_length": HOP, "n_mels": N_MELS}
    transform = MFCC(SAMPLE_RATE_HZ, N_MFCC, melkwargs=sizes)
    return [transform(torch.from_numpy(waveform)) for waveform in waveforms]


def on_both(waveforms: list[Waveform], repeats: int) -> Table:
    """Everyone with all cores."""
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return compare(
            lambda: ours(waveforms, pool),
            {
                LIBROSA: lambda: librosas(waveforms),
                TORCHAUDIO: lambda: torchaudios(waveforms),
            },
            repeats,
            name="ours, 2 threads",
        )


def on_one(waveforms: list[Waveform], repeats: int) -> Table:
    """Everyone with one thread on one core."""
    with one_core():
        return compare(
            lambda: ours(waveforms),
            {
                LIBROSA: lambda: librosas(waveforms),
                TORCHAUDIO: lambda: torchaudios(waveforms),
            },
            repeats,
        )


def difference(waveforms: list[Waveform]) -> float:
    """Largest absolute difference over the range of librosa's values."""
    pairs = list(zip(ours(waveforms), librosas(waveforms), strict=True))
    largest = max(float(np.abs(a - b.T).max()) for a, b in pairs)
    return largest / float(np.ptp(np.concatenate([b.T for _, b in pairs])))


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=5)
    add_root(options)
    options.add_argument("--clips", type=int, default=1440, help="clips at most")
    given = options.parse_args()
    keep_freed_memory()  # as train.py does; for everyone
    paths = ravdess(given.root)[: given.clips]
    waveforms = [load_waveform(path) for path in paths]
    both, one = on_both(waveforms, given.repeats), on_one(waveforms, given.repeats)
    n_frames = sum(1 + len(waveform) // HOP for waveform in waveforms)
    operations = n_frames * 2.5 * N_FFT * math.log2(N_FFT)
    alone_s = transforms_s(n_frames)
    text = (
        f"{float(np.median(both.ratios(LIBROSA))):.1f} × librosa on both cores (goal 10 ×), "
        f"{float(np.median(one.ratios(LIBROSA))):.1f} × on one; "
        f"{float(np.median(one.ratios(TORCHAUDIO))):.1f} × torchaudio on one. Largest difference "
        f"from librosa {difference(waveforms[:50]):.1e} of the range. The limit: {n_frames:,} real "
        f"Fourier transforms of {N_FFT:,} points are {operations / 1e9:.1f} G operations "
        f"(2.5·N·log2 N); alone, by torch, without windows, mel bands or logarithms, they take "
        f"{alone_s:.2f} s of one core, {alone_s / one.cpu_s('ours'):.0%} of ours."
    )
    duration_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    head = f"{len(waveforms)} clips of RAVDESS ({duration_s:,.0f} s of speech at 16 kHz)."
    parts = [head, both, "Everyone with one thread on one core:", one, text]
    publish("mfcc", "MFCC of clips in memory", parts, given, "numpy torch torchaudio librosa")


def transforms_s(n_frames: int) -> float:
    """Seconds that this many transforms alone take on one thread, a block at a time."""
    block = torch.randn(128, N_FFT)

    def run() -> None:
        for _ in range(n_frames // len(block)):
            torch.fft.rfft(block)

    with one_core():
        return min(measure(run).cpu_s for _ in range(3))


if __name__ == "__main__":
    main()
