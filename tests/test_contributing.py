"""The worked examples of CONTRIBUTING.md run as they stand there."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from split_tables import table_of

import ser.features
import ser.splits

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:python|yaml)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def example(package: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The options of an example, whose module can be imported until the test ends."""
    whole = f"{package.__name__}.{name}"
    file = whole.replace(".", "/") + ".py"
    (source,) = (block for block in BLOCKS if file in block.partition("\n")[0])
    (options,) = (block for block in BLOCKS if re.match(rf"# conf/\w+/{name}\.yaml", block))
    module = ModuleType(whole)
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, whole, module)
    monkeypatch.setattr(package, name, module, raising=False)
    return OmegaConf.create(options)


def test_the_feature_gives_what_it_says(monkeypatch):
    feature = instantiate(example(ser.features, "level", monkeypatch).level)
    (short, long) = feature.extract([np.full(512, 0.1, np.float32), np.ones(513, np.float32)], [])
    assert short.shape == (1, *feature.shape()) and short.dtype == feature.dtype
    np.testing.assert_allclose(short, -20, atol=1e-4)
    np.testing.assert_allclose(long[:, 0], [0, -27.09], atol=0.01)  # one sample in 512


def test_the_split_tests_on_whom_it_names(monkeypatch):
    policy = instantiate(example(ser.splits, "named", monkeypatch))
    table = table_of("savee")
    split = policy.split(table)
    speakers = table.set_index("id")["speaker"]
    assert set(speakers[list(split.test)]) == {"savee_KL"}
    assert set(speakers[list(split.val)]) == {"savee_JE"}
    assert set(speakers[list(split.train)]) == {"savee_DC", "savee_JK"}
