"""MFCC of 16 kHz clips in memory, against librosa and torchaudio: `python -m bench.mfcc`."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from bench.measure import compare, measure, parser, publish
from bench.speech import add_root, ravdess
from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.features import Mfcc

N_MFCC, N_FFT, HOP, N_MELS = 39, 2048, 512, 128
CHUNK = 32
LIBROSA, TORCHAUDIO = "librosa clip by clip", "torchaudio.transforms.MFCC clip by clip"
ALONE = "ours, 1 thread"


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


def single_threaded(waveforms: list[Waveform]) -> None:
    """Ours on the calling thread alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours(waveforms)
    torch.set_num_threads(threads)


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=5)
    add_root(options)
    options.add_argument("--clips", type=int, default=1440, help="clips at most")
    given = options.parse_args()
    paths = ravdess(given.root)[: given.clips]
    waveforms = [load_waveform(path) for path in paths]
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        table = compare(
            lambda: ours(waveforms, pool),
            {
                ALONE: lambda: single_threaded(waveforms),
                LIBROSA: lambda: librosas(waveforms),
                TORCHAUDIO: lambda: torchaudios(waveforms),
            },
            given.repeats,
            name="ours, 2 threads",
        )
    some = waveforms[:50]
    pairs = list(zip(ours(some), librosas(some), strict=True))
    largest = max(float(np.abs(a - b.T).max()) for a, b in pairs)
    spread = float(np.ptp(np.concatenate([b.T for _, b in pairs])))
    n_frames = sum(1 + len(waveform) // HOP for waveform in waveforms)
    operations = n_frames * 2.5 * N_FFT * math.log2(N_FFT)
    text = (
        f"{float(np.median(table.ratios(LIBROSA))):.1f} × librosa on 2 threads (goal 10 ×), "
        f"{float(np.median(table.ratios(LIBROSA, ALONE))):.1f} × on one; "
        f"{float(np.median(table.ratios(TORCHAUDIO, ALONE))):.1f} × torchaudio on one. Largest "
        f"difference from librosa {largest / spread:.1e} of the range. The limit: {n_frames:,} "
        f"real Fourier transforms of {N_FFT:,} points are {operations / 1e9:.1f} G operations "
        f"(2.5·N·log2 N), at {operations / table.cpu_s(ALONE) / 1e9:.1f} G a second all else "
        f"included; the transforms alone, without windows, mel bands or logarithms, take "
        f"{transforms_s(n_frames):.2f} s of one core."
    )
    duration_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    head = f"{len(waveforms)} clips of RAVDESS ({duration_s:,.0f} s of speech at 16 kHz)."
    parts = [head, table, text]
    publish("mfcc", "MFCC of clips in memory", parts, given, "numpy torch torchaudio librosa")


def transforms_s(n_frames: int) -> float:
    """Seconds that this many transforms alone take on one thread, in a workspace."""
    torch.set_num_threads(1)
    block = torch.randn(128, N_FFT)
    spectrum = torch.empty(128, N_FFT // 2 + 1, dtype=torch.complex64)

    def run() -> None:
        for _ in range(n_frames // len(block)):
            torch.fft.rfft(block, out=spectrum)

    return min(measure(run).cpu_s for _ in range(3))


if __name__ == "__main__":
    main()
