"""Long calls at once on a CPU, each in a thread of its own with its share of the cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

Given = TypeVar("Given")
Result = TypeVar("Result")

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pools.clear)


def side_by_side(call: Callable[[Given], Result], given: Sequence[Given]) -> list[Result]:
    """`[call(one) for one in given]`, in threads of their own where torch has more than one.

    No gradients are recorded. A thread's operations use torch's threads divided by their number.
    """
    n_threads = torch.get_num_threads()

    def without_gradients(one: Given) -> Result:
        with torch.no_grad():
            return call(one)

    if len(given) < 2 or n_threads < 2:
        return list(map(without_gradients, given))
    return list(_pool(len(given), max(1, n_threads // len(given))).map(without_gradients, given))


def _pool(n_workers: int, n_threads: int) -> ThreadPoolExecutor:
    """Workers whose operations use so many threads; started once."""
    if (n_workers, n_threads) not in _pools:
        before, started = torch.get_num_threads(), Barrier(n_workers)

        def start() -> None:
            torch.get_num_threads()  # or torch would set the number itself, at the first operation
            torch.set_num_threads(n_threads)
            started.wait()

        pool = ThreadPoolExecutor(n_workers, "side by side", start)
        list(pool.map(str, range(n_workers)))
        torch.set_num_threads(before)  # the workers' was the process's default too
        _pools[n_workers, n_threads] = pool
    return _pools[n_workers, n_threads]
