"""MFCC, a frozen encoder and fine-tuning on one GPU's machine: `python -m bench.gpu --root ROOT`.

TIM-Net's folds there are `python -m bench.tim_folds`. MFCC are computed on the processor.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from bench import finetune, mfcc
from bench.device import add_cpu, on_gpu
from bench.embedding import documented, in_bfloat16, operations
from bench.encoders import whisper_base
from bench.measure import compare, measure, parser, publish
from bench.speech import add_root, ravdess
from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.data import pad
from ser.features import Embedding
from ser.features.frozen import halve
from ser.models.pooling import mask_of

GOALS = {"mfcc": 0.5, "real time": 5_000, "peak": 0.35, "finetune": 2.0}
BATCH = 128
"""Clips at a time where they lie in the GPU's memory already."""


def finished(call: Callable[[], object]) -> Callable[[], None]:
    """The call until the GPU is done with it."""

    def run() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def peak_flops(device: str) -> float:
    """Operations a second of a large bfloat16 product, best of five."""
    size = 8192 if device == "cuda" else 512
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    call = finished(lambda: [left @ left for _ in range(10)])
    call()
    return 20 * size**3 / min(measure(call).seconds for _ in range(5))


def mfcc_part(waveforms: list[Waveform]) -> str:
    """MFCC of all clips by so many threads."""
    seconds = {}
    for threads in sorted({1, 2, 4, 8, len(os.sched_getaffinity(0))}):
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            mfcc.ours(waveforms, pool)
            seconds[threads] = min(
                measure(lambda: mfcc.ours(waveforms, pool)).seconds for _ in range(3)
            )
    told = ", ".join(f"{took:.2f} s on {threads}" for threads, took in seconds.items())
    return (
        f"MFCC of {len(waveforms)} clips in memory, no GPU, by threads: {told} "
        f"(goal {GOALS['mfcc']:g} s)."
    )


def in_memory(waveforms: list[Waveform], device: str) -> Callable[[], None]:
    """The pooled layers of clips that lie on the device, padded in batches of about one length.

    On a GPU each batch is a CUDA graph, which spares the time in which it waits for Python.
    """
    order = sorted(waveforms, key=len)
    parts = [pad(order[at : at + BATCH]) for at in range(0, len(order), BATCH)]
    batches = [(waveform.to(device), length.to(device)) for waveform, length in parts]
    module = whisper_base().load().requires_grad_(False).to(device)
    halve(module)

    def pooled(waveform: Tensor, length: Tensor) -> Tensor:
        states, frames = module(waveform, length)
        kept = mask_of(frames, states.shape[2])[..., None]
        count = frames[:, None]
        mean = (states * kept).sum(2, dtype=torch.float32) / count
        rest = (states - mean[:, :, None].to(states.dtype)) * kept
        variance = rest.square().sum(2, dtype=torch.float32) / count
        return torch.cat([mean, variance.sqrt()], -1).half()

    def plain() -> None:
        with torch.inference_mode():
            for batch in batches:
                pooled(*batch)

    if device == "cpu":
        return plain
    plain()
    graphs, made = [torch.cuda.CUDAGraph() for _ in batches], []
    with torch.inference_mode():
        for graph, batch in zip(graphs, batches, strict=True):
            with torch.cuda.graph(graph, pool=graphs[0].pool() if made else None):
                made.append(pooled(*batch))

    def replay() -> None:
        assert made  # what a graph writes to must stay
        for graph in graphs:
            graph.replay()

    return finished(replay)


def embedding_parts(waveforms: list[Waveform], device: str, repeats: int) -> list[object]:
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
    extract = finished(lambda: feature.extract(waveforms, [""] * len(waveforms)))
    whole = min(measure(extract).seconds for _ in range(repeats))
    alone = in_memory(waveforms, device)
    alone()
    inside = min(measure(alone).seconds for _ in range(repeats))
    duration_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    middle = sorted(waveforms, key=len)[len(waveforms) // 2]
    flops = operations(whisper_base(), middle)[0] / len(middle) * SAMPLE_RATE_HZ * duration_s
    peak = peak_flops(device)
    text = (
        f"All {len(waveforms)} clips, from samples in the computer's memory to arrays there: "
        f"{duration_s / whole:,.0f} × real time (goal {GOALS['real time']:,}), "
        f"{flops / whole / peak:.0%} of a large bfloat16 product's rate ({peak / 1e12:,.0f} "
        f"TFLOP/s). Of clips that lie in the GPU's memory, spectrogram and pooling included: "
        f"{duration_s / inside:,.0f} ×, {flops / inside / peak:.0%} (goal {GOALS['peak']:.0%})."
    )
    return ["Whisper-base's shape, bfloat16:", table, text]


def finetune_parts(given: argparse.Namespace, device: str) -> list[object]:
    """wav2vec2-base's shape, both under bfloat16."""
    clips, parts = finetune.synthesise(given.clips or 128), list[object]()
    with tempfile.TemporaryDirectory() as folder:
        for mode in finetune.MODES:
            run = mode, clips, given.batch, 4
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
    options.add_argument("--parts", choices=("all", "features", "finetune"), default="all")
    add_cpu(options)
    given = options.parse_args()

    def parts(device: str) -> list[object]:
        made: list[object] = []
        if given.parts != "finetune":
            waveforms = [load_waveform(path) for path in ravdess(given.root)[: given.clips]]
            made = [mfcc_part(waveforms), *embedding_parts(waveforms, device, given.repeats)]
        return made if given.parts == "features" else [*made, *finetune_parts(given, device)]

    publish("gpu", "On one GPU", on_gpu(given, parts), given, "torch transformers")


if __name__ == "__main__":
    main()
