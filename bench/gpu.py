"""MFCC, a frozen encoder and fine-tuning on one GPU: `python -m bench.gpu --root ROOT`.

The rows of docs/performance.md that need a GPU; TIM-Net's is `python -m bench.tim_folds`.
"""

import argparse
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

import ser.config  # noqa: F401 - the settings of threads and memory that every run has
from bench import finetune
from bench.embedding import documented, in_bfloat16, operations
from bench.encoders import whisper_base
from bench.measure import compare, measure, parser, publish
from bench.mfcc import HOP, N_FFT, N_MELS, N_MFCC
from bench.speech import add_root, ravdess
from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.features import Embedding

NOT_RUN = "Not run on a GPU: none was at hand. Ready: the command above, on a machine with one."
BLOCK = 16_384  # frames transformed at once: 128 MiB of them
GOALS = {"real time": 5_000, "peak": 0.35, "mfcc s": 0.5, "finetune": 2.0}


class BatchedMfcc:
    """`ser.features.Mfcc` of many clips at once, for a GPU."""

    def __init__(self, device: torch.device) -> None:
        """Put window, mel bands and transform on the device."""
        rate, top = SAMPLE_RATE_HZ, SAMPLE_RATE_HZ / 2
        bands = melscale_fbanks(N_FFT // 2 + 1, 0.0, top, N_MELS, rate, "slaney", "slaney")
        self._bands, self._window = bands.to(device), torch.hann_window(N_FFT, device=device)
        self._dct, self._device = create_dct(N_MFCC, N_MELS, norm="ortho").to(device), device

    def __call__(self, waveforms: list[Waveform]) -> list[np.ndarray]:
        """One (frames, 39) array a clip."""
        edge = N_FFT // 2
        taken = [-(-(edge + len(waveform)) // HOP) for waveform in waveforms]  # in hops
        first = np.concatenate([[0], np.cumsum(taken)])
        signal = np.zeros(int(first[-1]) * HOP + N_FFT, dtype=np.float32)
        for start, waveform in zip(first, waveforms, strict=False):
            signal[start * HOP + edge : start * HOP + edge + len(waveform)] = waveform
        n_frames = [1 + len(waveform) // HOP for waveform in waveforms]
        clip = np.repeat(np.arange(len(waveforms)), n_frames)
        at = np.concatenate([s + np.arange(n) for s, n in zip(first, n_frames, strict=False)])
        frames = torch.from_numpy(signal).to(self._device).unfold(0, N_FFT, HOP)
        rows = torch.from_numpy(at).to(self._device)
        decibels = torch.cat([self._log_mel(frames[part]) for part in rows.split(BLOCK)])
        owner = torch.from_numpy(clip).to(self._device)
        loudest = decibels.new_full((len(waveforms),), -torch.inf)
        loudest.scatter_reduce_(0, owner, decibels.amax(1), "amax")
        decibels = torch.maximum(decibels, loudest[owner, None] - 80.0)
        coefficients = (decibels @ self._dct).cpu().numpy()
        return np.split(coefficients, np.cumsum(n_frames)[:-1])

    def _log_mel(self, frames: Tensor) -> Tensor:
        power = torch.view_as_real(torch.fft.rfft(frames * self._window)).square().sum(-1)
        return 10 * (power @ self._bands).clamp(min=1e-10).log10()


def torchaudios(waveforms: list[Waveform], device: torch.device) -> list[np.ndarray]:
    """torchaudio's transform on the device, one clip at a time."""
    from torchaudio.transforms import MFCC

    sizes = {"n_fft": N_FFT, "hop_length": HOP, "n_mels": N_MELS}
    transform = MFCC(SAMPLE_RATE_HZ, N_MFCC, melkwargs=sizes).to(device)
    return [transform(torch.from_numpy(w).to(device)).cpu().numpy() for w in waveforms]


def finished(call: Callable[[], object]) -> Callable[[], None]:
    """The call until the GPU is done with it."""

    def run() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def peak_flops(device: torch.device) -> float:
    """Operations a second of a large bfloat16 product, best of five."""
    size = 8192 if device.type == "cuda" else 512
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    call = finished(lambda: [left @ left for _ in range(10)])
    call()
    return 20 * size**3 / min(measure(call).seconds for _ in range(5))


def mfcc_parts(waveforms: list[Waveform], device: torch.device, repeats: int) -> list[object]:
    """MFCC of clips in memory."""
    batched = BatchedMfcc(device)
    table = compare(
        finished(lambda: batched(waveforms)),
        {"torchaudio, clip by clip": finished(lambda: torchaudios(waveforms, device))},
        repeats,
    )
    text = f"{len(waveforms)} clips in {table.seconds('ours'):.2f} s, copies to and from the GPU "
    return ["MFCC:", table, f"{text}included (goal {GOALS['mfcc s']} s for 1,440)."]


def embedding_parts(waveforms: list[Waveform], device: torch.device, repeats: int) -> list[object]:
    """Whisper-base's pooled layers, bfloat16."""
    shape = in_bfloat16(whisper_base())
    feature, embed = Embedding(shape), documented(whisper_base(), device)
    some = waveforms[:: max(len(waveforms) // 64, 1)]
    table = compare(
        finished(lambda: feature.extract(some, [""] * len(some))),
        {"transformers, one clip at a time": finished(lambda: [embed(w) for w in some])},
        repeats,
    )
    feature.extract(waveforms, [""] * len(waveforms))
    whole = measure(finished(lambda: feature.extract(waveforms, [""] * len(waveforms)))).seconds
    duration_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    middle = sorted(waveforms, key=len)[len(waveforms) // 2]
    flops = operations(whisper_base(), middle)[0] / len(middle) * SAMPLE_RATE_HZ * duration_s
    share = flops / whole / peak_flops(device)
    text = (
        f"All {len(waveforms)} clips: {duration_s / whole:,.0f} × real time (goal "
        f"{GOALS['real time']:,}), {share:.0%} of a large bfloat16 product's rate "
        f"(goal {GOALS['peak']:.0%})."
    )
    return ["Whisper-base's shape, bfloat16:", table, text]


def finetune_parts(given: argparse.Namespace, device: torch.device) -> list[object]:
    """wav2vec2-base's shape, both under bfloat16."""
    clips, parts = finetune.synthesise(given.clips or 128), list[object]()
    with tempfile.TemporaryDirectory() as folder:
        for mode in finetune.MODES:
            run = mode, clips, given.batch, 2
            theirs = finetune.theirs(*run, folder, bfloat16=True)
            ours = finetune.ours(*run, bfloat16=True, device=device)
            table = compare(finished(ours), {finetune.TRAINER: finished(theirs)}, given.repeats)
            parts += [f"finetune={mode} (goal {GOALS['finetune']:g} ×):", table]
    return parts


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=3)
    add_root(options)
    options.add_argument("--clips", type=int, help="clips at most")
    options.add_argument("--batch", type=int, default=32, help="clips a batch of fine-tuning")
    options.add_argument("--cpu", action="store_true", help="without a GPU, to see that it runs")
    given = options.parse_args()
    publish("gpu", "On one GPU", _parts(given), given, "torch torchaudio transformers")


def _parts(given: argparse.Namespace) -> list[object]:
    if not torch.cuda.is_available() and not given.cpu:
        return [NOT_RUN]
    device = torch.device("cpu" if given.cpu else "cuda")
    waveforms = [load_waveform(path) for path in ravdess(given.root)[: given.clips]]
    return [
        *mfcc_parts(waveforms, device, given.repeats),
        *embedding_parts(waveforms, device, given.repeats),
        *finetune_parts(given, device),
    ]


if __name__ == "__main__":
    main()
