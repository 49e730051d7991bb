"""Imports that take a third of the time.

A run imports some 5,000 modules before its first batch. `import ser.run` takes 5.1 s of a core as
it is (torchmetrics 1.9, Lightning 2.6); 3.7 s where the garbage collector waits, which else goes
through a million new objects again and again and finds nothing; and 1.6 s where torchmetrics does
not import scipy.signal, transformers and matplotlib, for metrics that nothing here computes.
"""

import gc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

_TORCHMETRICS_NEEDS = frozenset({"numpy", "torch"})


@contextmanager
def quick_imports(module: str) -> Iterator[None]:
    """Import this module, the first to need Lightning or MLflow, within: the collector waits.

    What exists at the end is never collected, so do no other work inside. Where the module is
    imported already, as in the later jobs of a multirun, this does nothing.
    """
    if module in sys.modules:
        yield
        return
    gc.disable()
    try:
        _import_torchmetrics()
        yield
    finally:
        gc.freeze()
        gc.enable()


def _import_torchmetrics() -> None:
    """Import it before Lightning does, with the packages of its other metrics out of sight."""
    if "torchmetrics" in sys.modules:
        return
    from lightning_utilities.core import imports

    def version(name: str) -> str:
        if name not in _TORCHMETRICS_NEEDS:
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    def found(name: str) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.find_spec(name) if name in _TORCHMETRICS_NEEDS else None

    try:
        with mock.patch.multiple(imports, _version=version, find_spec=found):
            import torchmetrics  # noqa: F401
    finally:
        imports.package_available.cache_clear()  # Lightning asks the same functions
        imports.module_available.cache_clear()
