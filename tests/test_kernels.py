"""Compiled loops."""

from typing import Any

import numba
import pytest

from ser.kernels import kernel


def double(x: float) -> float:
    return 2 * x


def test_a_kernel_is_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = numba.njit

    def refusing(*given: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'double': no locator available for file")
        return plain(*given, **options)

    monkeypatch.setattr(numba, "njit", refusing)
    compiled: Any = kernel(double)
    assert compiled(2.0) == 4.0
    assert compiled.signatures
