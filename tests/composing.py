"""Configurations as the scripts compose them; composing is slow, so each is composed once."""

import copy
import functools

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ser.config import CONF, check

GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
OPTIONS = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}


def composed(*words: str, config: str = "train") -> DictConfig:
    """The configuration that these words give; the caller's own copy."""
    return copy.deepcopy(_composed(config, words))


def checked(*words: str) -> DictConfig:
    """The training configuration that these words give, past ser.config.check."""
    cfg = composed(*words)
    check(cfg)
    return cfg


@functools.cache
def _composed(config: str, words: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, list(words))
