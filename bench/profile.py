"""Where a TIM-Net training step's time goes, before and after, as a picture: `-m bench.profile`.

Before: the straight port of bench/straight_tim.py. After: ours. Batch 64 × 215 × 39, one thread's
self time by kind of operation, with Adam; written to docs/figures/profile.png.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import ser.config  # noqa: F401 - the settings of threads and memory that every run has
from bench.measure import parser, publish
from bench.straight_tim import StraightTimNet
from ser.batch import Batch
from ser.models.tim import TimNet

CLIPS, FRAMES, FEATURES, CLASSES, BLOCKS = 64, 215, 39, 8, 8
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "profile.png"
KINDS = {
    "matrix products, convolutions": ("mm", "conv", "linear", "mkldnn"),
    "normalisation": ("batch_norm",),
    "padding, copies, new memory": (
        "pad", "copy", "cat", "stack", "empty", "clone", "fill", "zero", "flip", "gather", "index",
    ),
    "optimizer": ("Optimizer", "addcdiv", "sqrt", "lerp"),
    "sums": ("sum", "mean"),
    "elementwise": (),
}  # fmt: skip
"""By what the names of operations hold, the first that fits; the last takes the rest."""


def kind_of(operation: str) -> str:
    """The row of KINDS."""
    return next(
        (kind for kind, words in KINDS.items() if any(word in operation for word in words)),
        "elementwise",
    )


def steps() -> dict[str, Callable[[], None]]:
    """A training step of each network."""
    ours = TimNet(
        CLASSES, {"frames": (FEATURES,)}, width=None, n_blocks=BLOCKS, dropout=0.1,
        norm_momentum=0.01, deviation=False, summary_norm=False, head_dropout=0.0, mixup=0.0,
        masked=False, normalise="none", jitter=0.0, lr_factor=1.0,
    )  # fmt: skip
    straight = StraightTimNet(FEATURES, BLOCKS, CLASSES)
    frames, target = torch.randn(CLIPS, FRAMES, FEATURES), torch.arange(CLIPS) % CLASSES
    batch = Batch(torch.arange(CLIPS), target, frames, torch.full((CLIPS,), FRAMES))
    forward = {"before": lambda: straight(frames), "after": lambda: ours(batch)}

    def step_of(name: str, model: torch.nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.93, 0.98))

        def step() -> None:
            optimizer.zero_grad()
            F.cross_entropy(forward[name](), target, label_smoothing=0.1).backward()
            optimizer.step()

        return step

    return {"before": step_of("before", straight), "after": step_of("after", ours)}


def profiled(step: Callable[[], None], repeats: int) -> dict[str, float]:
    """Milliseconds of each kind in a step: that of the fastest of the repeats."""
    step()
    best: dict[str, float] = {}
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            step()
        spent = dict.fromkeys(KINDS, 0.0)
        for event in found.key_averages():
            spent[kind_of(event.key)] += event.self_cpu_time_total / 1000
        if not best or sum(spent.values()) < sum(best.values()):
            best = spent
    return best


def draw(spent: dict[str, dict[str, float]]) -> None:
    """A bar for each, its kinds end to end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 2.8), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    for row, name in enumerate(spent):
        left = 0.0
        for colour, (kind, length) in zip(colours, spent[name].items(), strict=False):
            label = kind if row == 0 else None
            axes.barh(row, length, left=left, color=colour, label=label, edgecolor="white")
            if length > 0.05 * max(sum(each.values()) for each in spent.values()):
                axes.text(left + length / 2, row, f"{length:.0f}", ha="center", va="center")
            left += length
        axes.text(left, row, f"  {left:.0f} ms", va="center", fontweight="bold")
    axes.set_yticks(range(len(spent)), list(spent))
    axes.invert_yaxis()
    axes.set_xlabel("ms a training step, one thread")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    """Profile both, and with --write draw the picture and renew docs/performance.md."""
    given = parser(__doc__, repeats=10).parse_args()
    torch.set_num_threads(1)
    spent = {name: profiled(step, given.repeats) for name, step in steps().items()}
    rows = ["| | " + " | ".join(KINDS) + " | all |", "|---" * (len(KINDS) + 2) + "|"]
    rows += [
        f"| {name} | " + " | ".join(f"{ms:.0f}" for ms in (*kinds.values(), sum(kinds.values())))
        + " |"
        for name, kinds in spent.items()
    ]  # fmt: skip
    parts = ["\n".join(rows), "Milliseconds.", "![Profile](figures/profile.png)"]
    if given.write:
        draw(spent)
    publish("profile", "A TIM-Net training step, before and after", parts, given, "torch")


if __name__ == "__main__":
    main()
