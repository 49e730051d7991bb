"""Where a TIM-Net training step's time goes, before and after, as a picture: `-m bench.profile`.

Before: the straight port of bench/straight_tim.py. After: ours. Batch 64 × 215 × 39, one thread's
self time by kind of operation, with Adam; written to docs/figures/profile.png.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from seaborn import color_palette
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import ser.config  # noqa: F401 - the settings of threads and memory that every run has
from bench.measure import parser, publish
from bench.straight_tim import StraightTimNet
from ser.batch import Batch
from ser.models.tim import TimNet
from ser.plots import new_figure

CLIPS, FRAMES, FEATURES, CLASSES, BLOCKS = 64, 215, 39, 8, 8
TITLE = "A TIM-Net training step, before and after"
LEAST_SHARE = 0.005  # of a step: what is less is not drawn
EQUAL_CONTRAST = 0.179  # luminance on which black and white stand out alike (WCAG 2.1)
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


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance from 0 to 1 of an sRGB colour (WCAG 2.1)."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def picture(spent: dict[str, dict[str, float]]) -> Figure:
    """A bar for each, its kinds end to end; a kind that nowhere has half a per cent is left out."""
    shares = {n: {k: ms / sum(of.values()) for k, ms in of.items()} for n, of in spent.items()}
    kinds = [k for k in KINDS if any(of[k] >= LEAST_SHARE for of in shares.values())]
    longest = max(sum(of.values()) for of in spent.values())
    figure = new_figure(9, 3.4, TITLE)
    axes = figure.subplots()
    left = dict.fromkeys(spent, 0.0)
    for kind, colour in zip(kinds, color_palette("colorblind"), strict=False):
        ms = [of[kind] for of in spent.values()]
        axes.barh(list(spent), ms, left=list(left.values()), height=0.6, color=[colour], label=kind)
        for row, (name, length) in enumerate(zip(spent, ms, strict=True)):
            middle = left[name] + length / 2
            left[name] += length
            if length > 0.05 * longest:
                ink = "black" if luminance(colour) > EQUAL_CONTRAST else "white"
                axes.text(middle, row, f"{length:.0f}", ha="center", va="center", color=ink)
            elif shares[name][kind] >= LEAST_SHARE:  # too narrow: above it
                axes.text(middle, row - 0.32, f"{length:.0f}", ha="center", va="bottom")
    for row, (name, of) in enumerate(spent.items()):
        axes.text(left[name], row, f"  {sum(of.values()):.0f} ms", va="center", fontweight="bold")
    axes.set_ylim(len(spent) - 0.6, -0.65)
    axes.set_xlabel("ms a training step, one thread")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


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
        PICTURE.parent.mkdir(exist_ok=True)
        picture(spent).savefig(PICTURE)
    publish("profile", TITLE, parts, given, "torch")


if __name__ == "__main__":
    main()
