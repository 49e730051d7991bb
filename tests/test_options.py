"""Every option of every group under conf/ composes, names what exists, and builds."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from composing import GROUPS, OPTIONS, checked, composed
from hydra.utils import get_object
from omegaconf import DictConfig

from ser.config import build, plain, settle_encoder
from ser.errors import SerError
from ser.models.base import EmotionModel
from ser.splits import SplitPolicy

READ_BY = {
    "train": [group for group in GROUPS if group != "sweep"],
    "sweep": ["sweep"],  # and all of train's
    "evaluate": ["dataset", "logger"],
}
COLUMNS = [  # an option of each group at a time: composing is slow
    (config, {group: OPTIONS[group][row] for group in groups if row < len(OPTIONS[group])})
    for config, groups in READ_BY.items()
    for row in range(max(len(options) for group, options in OPTIONS.items() if group in groups))
]


NAMED_AFTER_OTHERS = {("sweep", "protocol")}  # after dataset, labels and split


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["_target_"]] if "_target_" in node else [])
        node = list(node.values())
    for below in node if isinstance(node, list) else ():
        yield from targets(below)


@pytest.mark.parametrize(("config", "options"), COLUMNS)
def test_every_option_composes_and_builds(config, options):
    words = [f"{group}={option}" for group, option in options.items()]
    words += ["run=last"] if config == "evaluate" else []
    words += ["dataset.root=/my/speech"] if "dataset=folder" in words else []
    cfg = composed(*words, config=config)
    found = [target for value in plain(cfg).values() for target in targets(value)]
    assert all(get_object(target) for target in found)
    for group, option in options.items():
        if group != "experiment" and (group, option) not in NAMED_AFTER_OTHERS:
            assert cfg[group].get("name", option) == option
        if group in BUILDS:
            BUILDS[group](cfg[group], option)


def build_optimizer(node: DictConfig, option: str) -> None:
    optimizer = build(node)([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups[0]["lr"] == node.lr


def build_scheduler(node: DictConfig, option: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduled = build(node)(optimizer, 100, "val/uar", "max")
    assert scheduled is None if option == "constant" else scheduled["interval"]


def build_augment(node: DictConfig, option: str) -> None:
    assert build(node.batch).mixup_alpha == node.batch.mixup_alpha
    assert (build(node.waveform) is None) == (node.copies == 0)


def build_split(node: DictConfig, option: str) -> None:
    policy = build(node)
    assert isinstance(policy, SplitPolicy) and policy.name == option


def build_encoder(node: DictConfig, option: str) -> None:
    assert option == "auto" or build(node) is not None


BUILDS = {
    "optimizer": build_optimizer, "scheduler": build_scheduler, "augment": build_augment,
    "split": build_split, "encoder": build_encoder,
}  # fmt: skip


def test_defaults_leave_nothing_open():
    values = plain(composed(config="sweep"))
    assert set(GROUPS) - set(values) <= {"experiment"}
    assert plain(composed("run=last", config="evaluate"))["run"] == "last"


@pytest.mark.parametrize("model", OPTIONS["model"])
def test_every_model_fits_its_own_front_end_and_builds(model):
    cfg = checked(f"model={model}", "dataset=demo")
    settle_encoder(cfg, synthetic=True)
    features = [build(node) for node in cfg.feature.values()]
    streams = {feature.stream: feature.shape() for feature in features}
    options = {key: value for key, value in plain(cfg.model).items() if key != "name"}
    built = build(options, n_classes=7, streams=streams)
    assert isinstance(built, EmotionModel) and built.reads == set(streams)
    assert built.reads == type(built).reads_of(plain(cfg.model))


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_every_experiment_passes_the_check(experiment):
    cfg = checked(f"experiment={experiment}")
    settle_encoder(cfg, synthetic=True)
    assert plain(cfg)["experiment" if "experiment" in cfg else "model"]


def test_tim_net_on_an_encoders_frames_is_as_wide_in_an_ensemble_as_alone():
    words = ("model=ensemble", "model.fusion=tim_on_frames")
    assert checked(*words).model.tim.width == checked("model=tim_on_frames").model.width == 64
    assert checked(*words, "model.tim.width=32").model.tim.width == 32
    assert checked("model=ensemble").model.tim.width is None


OURS = """
from ser.models.base import EmotionModel
class Silent(EmotionModel):
    pass
"""


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            "torch.nn.Linear",
            "it is no model. Derive its class from EmotionModel of ser.models.base",
        ),
        ("broken.Mine", "problem in broken - ModuleNotFoundError: No module named 'torchh'. Mend"),
        ("ours.Silent", "Silent (ours) lacks reads_of: a model says there"),
    ],
)
def test_a_model_of_ones_own_that_is_none_is_refused_before_the_run(
    target, told, tmp_path, monkeypatch
):
    (tmp_path / "broken.py").write_text("import torchh\n")
    (tmp_path / "ours.py").write_text(OURS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SerError) as caught:
        checked("model=tim", f"model._target_={target}")
    assert str(caught.value).removeprefix(f"model._target_={target}: ").startswith(told)
