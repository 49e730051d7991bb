"""What benches that want a GPU share: where they run, and what they say without one."""

import argparse
from collections.abc import Callable

import torch

NOT_RUN = "Not run on a GPU: none was at hand. Ready: the command above, on a machine with one."


def add_cpu(options: argparse.ArgumentParser) -> None:
    """--cpu, of benches that want a GPU."""
    options.add_argument("--cpu", action="store_true", help="without a GPU, to see that it runs")


def on_gpu(given: argparse.Namespace, parts: Callable[[str], list[object]]) -> list[object]:
    """The section's parts as measured on `cuda`, on `cpu` where asked for, or NOT_RUN."""
    if given.cpu:
        return parts("cpu")
    return parts("cuda") if torch.cuda.is_available() else [NOT_RUN]
