"""Loops over numbers, compiled by numba: at the first call, and kept on disk.

Loops are kept short and many, and go over slices: LLVM then turns each into vector instructions,
which it does not where it would have to check many arrays for overlap, or an index for its sign.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """The function compiled; it leaves the interpreter's lock alone, and NaN stays NaN."""
    return _compiled(function, {})


def inlined(function: Kernel) -> Kernel:
    """The same, to be called by kernels alone: its code becomes part of theirs."""
    return _compiled(function, {"forceinline": True})


def _compiled(function: Kernel, more: dict[str, Any]) -> Kernel:
    compiled: Any
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}} | more
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in can be written: compiled anew in each process
        compiled = numba.njit(**options)(function)
    return compiled  # type: ignore[no-any-return]
