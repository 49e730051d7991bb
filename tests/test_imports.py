"""Quick imports: what is left out, and that nothing is missing or changed afterwards."""

import subprocess
import sys

SCRIPT = """
import gc, sys
from ser.imports import quick_imports
with quick_imports("ser.run"):
    import ser.run
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 100_000
frozen = gc.get_freeze_count()
with quick_imports("ser.run"):
    assert gc.isenabled()
assert gc.get_freeze_count() <= frozen
print(sorted({"scipy", "transformers", "matplotlib", "librosa"} & set(sys.modules)))

from lightning_utilities.core.imports import RequirementCache, package_available
assert package_available("scipy") and RequirementCache("transformers>=4.4")
from pytorch_lightning.callbacks import RichProgressBar
RichProgressBar()

import torch
from torchmetrics.classification import MulticlassConfusionMatrix
counts = MulticlassConfusionMatrix(2)(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
print(counts.tolist())
"""


def test_what_torchmetrics_alone_would_import_is_left_out_and_all_else_works():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[]", "[[1, 1], [0, 1]]"]


def test_the_bare_loop_that_a_whole_run_is_timed_against_is_bare():
    script = (
        "import sys, bench.bare_loop\n"
        "print(sorted({'pytorch_lightning', 'hydra', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
