"""A TIM-Net training epoch, 1,296 × 215 × 39, batch 64: `python -m bench.tim_epoch`.

The size of the paper's RAVDESS folds, against the same network of PyTorch's layers and of Keras's;
and on RAVDESS's own lengths, which the others pad to 215 frames as published.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import ser.config  # noqa: F401 - the settings of threads and memory that every run has
from bench.measure import matmul_gflops, measure, parser, publish
from bench.worker import compare_workers, serve

ALONE = "ours, 1 thread"
CLIPS, FRAMES, FEATURES, BATCH, CLASSES, BLOCKS = 1296, 215, 39, 64, 8, 8
RATE_HZ, HOP, SAMPLES = 22_050, 512, 110_000
"""TIM-Net's features of RAVDESS: clips over 110,000 samples are cut, shorter ones padded."""


class Lengths:
    """What the sampler asks of a dataset."""

    n_versions = 1

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames

    def durations(self) -> np.ndarray:
        """Frames of each clip."""
        return self._frames


def ravdess_lengths(folder: Path) -> np.ndarray:
    """Frames of 1,296 RAVDESS clips drawn at random, as TIM-Net's front-end makes them."""
    import soundfile

    clips = sorted(folder.rglob("03-01-*.wav")) or sorted(folder.rglob("03-01-*.flac"))
    chosen = np.random.default_rng(0).choice(len(clips), CLIPS, replace=False)
    seconds = np.array([soundfile.info(clips[i]).duration for i in chosen])
    samples = np.minimum((seconds * RATE_HZ).astype(int), SAMPLES)
    return samples // HOP + 1


def serve_ours(lengths: np.ndarray | None) -> None:
    """Epochs of ours: of full clips, or of these lengths, in batches as in training."""
    import torch
    from torch.nn import functional as F

    from ser.batch import Batch
    from ser.data import EpochSampler
    from ser.models.tim import TimNet

    torch.manual_seed(0)
    masked = lengths is not None
    model = TimNet(
        CLASSES, {"frames": (FEATURES,)}, width=None, n_blocks=BLOCKS, dropout=0.1,
        norm_momentum=0.01, deviation=False, summary_norm=False, head_dropout=0.0, mixup=0.0,
        masked=masked, normalise="none", jitter=0.0, lr_factor=1.0,
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.93, 0.98), eps=1e-8, fused=True)
    frames, target = torch.randn(CLIPS, FRAMES, FEATURES), torch.arange(CLIPS) % CLASSES
    length = torch.full((CLIPS,), FRAMES) if lengths is None else torch.as_tensor(lengths)
    sampler = EpochSampler(
        Lengths(length.numpy()), batch_size=BATCH, seed=0, weights=None, pool_batches=8
    )

    def epoch() -> None:
        for drawn in sampler:
            rows = torch.tensor([position for position, _ in drawn])
            longest = int(length[rows].max())
            batch = Batch(rows, target[rows], frames[rows, :longest], length[rows])
            loss = F.cross_entropy(model(batch), target[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    serve(epoch)


def serve_straight() -> None:
    """Epochs of the network of PyTorch's layers."""
    import torch
    from torch.nn import functional as F

    from bench.straight_tim import StraightTimNet

    torch.manual_seed(0)
    model = StraightTimNet(FEATURES, BLOCKS, CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.93, 0.98), eps=1e-8, fused=True)
    frames, target = torch.randn(CLIPS, FRAMES, FEATURES), torch.arange(CLIPS) % CLASSES

    def epoch() -> None:
        for rows in torch.randperm(CLIPS).split(BATCH):
            loss = F.cross_entropy(model(frames[rows]), target[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    serve(epoch)


def limit(seconds: float) -> str:
    """What the epoch's arithmetic alone takes at the rates measured on this machine."""
    import torch

    from ser.onednn import product

    steps = sum(2 * FRAMES - min(2**block, FRAMES) for block in range(BLOCKS))  # taps with a frame
    forward = CLIPS * 2 * 2 * steps * 2 * FEATURES**2
    rows, width = BATCH * FRAMES, FEATURES + 1
    weight, pairs = torch.randn(width, 2 * width), torch.randn(2 * width, rows).T
    out, left = torch.zeros(2, rows, width), torch.randn(2, rows, width)
    call = lambda: [product(weight, pairs) for _ in range(20)]  # noqa: E731
    rate = 20 * 4 * rows * width**2 / min(measure(call).seconds for _ in range(5)) / 1e9
    call = lambda: [torch.mul(left, out, out=out) for _ in range(20)]  # noqa: E731
    bandwidth = 20 * 12 * left.numel() / min(measure(call).seconds for _ in range(5)) / 1e9
    passes = BLOCKS * 31  # tensors of a direction read or written between the products, by block
    traffic = CLIPS / BATCH * passes * 4 * left.numel()
    products, moving = 3 * forward / rate / 1e9, traffic / bandwidth / 1e9
    return (
        f"Limit: an epoch's matrix products are {3 * forward / 1e9:.0f} GFLOP, "
        f"{products:.2f} s at {rate:.0f} GFLOP/s, measured, of this shape "
        f"({matmul_gflops():.0f} of large ones); what lies between them reads or "
        f"writes {traffic / 1e9:.0f} GB, at a measured "
        f"{bandwidth:.0f} GB/s {moving:.2f} s. Together {products + moving:.2f} s: ours takes "
        f"{seconds / (products + moving):.2f} times as long."
    )


def main() -> None:
    """Measure in processes of their own, print, and with --write renew docs/performance.md."""
    options = parser(__doc__, repeats=5)
    options.add_argument("--ravdess", type=Path, help="folder of RAVDESS clips, for their lengths")
    options.add_argument("--keras-python", type=Path, help="Python that has tensorflow-cpu")
    options.add_argument("--serve", choices=("ours", "straight"), help=argparse.SUPPRESS)
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # on one thread
    given = options.parse_args()
    if given.alone:
        import torch

        torch.set_num_threads(1)
    if given.serve == "straight":
        return serve_straight()
    if given.serve == "ours":
        return serve_ours(ravdess_lengths(given.ravdess) if given.ravdess else None)
    me = [sys.executable, "-m", "bench.tim_epoch", "--serve"]
    straight, port_alone = "PyTorch's Conv1d and BatchNorm1d", "PyTorch's layers, 1 thread"
    commands = {
        "ours": [*me, "ours"],
        straight: [*me, "straight"],
        ALONE: [*me, "ours", "--alone"],
        port_alone: [*me, "straight", "--alone"],
    }
    notes = []
    true = "ours, RAVDESS's own lengths"
    if given.ravdess:
        commands[true] = [*me, "ours", "--ravdess", str(given.ravdess.absolute())]
        mean = ravdess_lengths(given.ravdess).mean()
        notes.append(f"RAVDESS's clips have {mean:.0f} frames on average, {FRAMES} when padded.")
    else:
        notes.append("RAVDESS's own lengths: not run, no --ravdess given.")
    if given.keras_python:
        commands["Keras, TensorFlow"] = [
            str(given.keras_python.absolute()),
            "-m",
            "bench.keras_tim",
        ]
    else:
        notes.append("Keras: not run, no --keras-python given.")
    table = compare_workers(commands, given.repeats)
    ratio = float(np.median(table.ratios(port_alone, against=ALONE)))
    notes.append(f"On one thread PyTorch's layers take {ratio:.2f} times as long as ours.")
    if given.ravdess:
        for name in set(commands) - {true, "ours", ALONE, port_alone}:
            ratios = sorted(table.ratios(name, against=true))
            middle = ratios[len(ratios) // 2]
            notes.append(
                f"On RAVDESS's own lengths: {name}, padded, takes {middle:.2f} "
                f"[{ratios[0]:.2f}, {ratios[-1]:.2f}] times as long as ours."
            )
    title = f"TIM-Net training epoch, {CLIPS} × {FRAMES} × {FEATURES}, batch {BATCH}"
    parts = [table, *sorted(notes), limit(table.seconds("ours"))]
    publish("tim_epoch", title, parts, given, "torch numpy")
    return None


if __name__ == "__main__":
    main()
