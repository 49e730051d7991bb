"""Options as the user wrote them, held against what they stand in for."""

import difflib
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from ser.errors import OptionError, SerError
from ser.labels import LABEL_SETS, NATIVE

MONITORED = ("val/uar", "val/war", "val/macro_f1", "val/loss")
_WORDS_TOO = ("devices", "enrolment")  # numbers that may be `auto` or `all`
_PATHS = (
    "data_root", "cache_root", "runs_root", "dataset.root", "dataset_root", "encoder.path",
    "encoder_path", "run", "against", "resume", "sweep.results",
)  # fmt: skip
_BOUNDS = {  # least and most of options of a model and of augment, wherever they stand in it
    "tim_share": (0, 1), "ridge_share": (0, 1), "lora_dropout": (0, 1), "head_dropout": (0, 1),
    "input_dropout": (0, 0.99), "lr_factor": (0, math.inf),
    "encoder_lr_factor": (0, math.inf), "heads": (1, math.inf), "hidden": (1, math.inf),
    "channels": (1, math.inf), "n_blocks": (1, math.inf), "lora_rank": (1, math.inf),
    "lora_alpha": (1, math.inf), "head_epochs": (0, math.inf), "mixup": (0, math.inf),
    "mixup_alpha": (0, math.inf), "copies": (0, math.inf), "jitter": (0, math.inf),
    "probability": (0, 1), "time_masks": (0, math.inf), "time_fraction": (0, 1),
    "feature_masks": (0, math.inf), "feature_width": (0, math.inf),
}  # fmt: skip


def check_kinds(cfg: DictConfig, overrides: Sequence[str], conf: Path, config_name: str) -> None:
    """Refuse values of another kind than the default's, such as test=no or optimizer.lr=fast.

    Hydra reads `no` as a word, and a word counts as true. `overrides` are the options as given;
    those that choose an option of a group under `conf` say what the defaults are. Raises
    OptionError, also for a new key beside the groups, which nothing would read.
    """
    given = [word.partition("=")[0] for word in overrides if not _chooses(word, conf)]
    keys = [key.lstrip("+") for key in given if not key.startswith("~")]
    if not keys:
        return
    base = compose(config_name, [word for word in overrides if _chooses(word, conf)])
    for key in keys:
        if "." not in key and key not in base.keys():  # noqa: SIM118 - `in` leaves out what is ???
            raise unknown_option(key, base)
        default, value = (
            OmegaConf.select(node, key, throw_on_missing=False) for node in (base, cfg)
        )
        rule = _rule(key, default, value)
        if rule and key.rpartition(".")[2] not in _WORDS_TOO:
            told = f"{rule} (by default {_shown(default)})"
            raise OptionError(f"{key}={_shown(value)}: it must be {told}.")


def _chooses(word: str, conf: Path) -> bool:
    """Whether an override is of a whole group: `model=tim`, `feature@here=mfcc`, `~experiment`."""
    key = re.split(r"[=@]", word.lstrip("+~"), maxsplit=1)[0]
    return "@" in word.partition("=")[0] or "/" in key or (conf / key).is_dir()


def check_choices(words: Sequence[str], conf: Path) -> None:
    """Refuse what cannot name an option of a group, as dataset=3, over which Hydra itself fails.

    `words` are a script's; raises what Hydra raises of those that it refuses.
    """
    for word in words:
        if word.startswith("-") or "=" not in word or not _chooses(word, conf):
            continue
        given = OverridesParser.create().parse_override(word)
        value = "" if given.is_sweep_override() else given.value()
        for name in value if isinstance(value, list) else [value]:
            if not isinstance(name, str):
                raise ConfigCompositionException(
                    f"{word}: {_shown(name)} names no option of {given.key_or_group}. Give a name, "
                    f"as {given.key_or_group}=NAME; --help lists them. One that is a number takes "
                    f"quotes within those of the shell, as '{given.key_or_group}=\"3\"'."
                )


def _rule(key: str, default: Any, value: Any) -> str:
    """What the value would have to be; empty where it is that, or where anything may stand."""
    whole = value is None and "." not in key  # below, null stands for a part that is left out
    if isinstance(default, DictConfig) and (whole or not isinstance(value, DictConfig | None)):
        return f"given by its parts, such as {key}.{next(iter(map(str, default)))}="
    if value is None:
        return ""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return "" if number and value == int(value) else "a whole number"
    if isinstance(default, float):
        return "" if number else "a number"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def explained(error: HydraException | YAMLError, conf: Path, config_name: str) -> SerError:
    """Hydra's refusal of an option, with what there is in its place; a file that is no YAML."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        at = error.problem_mark
        return OptionError(
            f"{at.name}, line {at.line + 1}: this is no YAML ({error.problem}). Mend the file."
        )
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return OptionError(f"{group}={name} is not known: choose {', '.join(error.options)}.")
    if isinstance(error, OverrideParseException):
        return OptionError(
            f"{error.override}: Hydra cannot read it ({str(error).splitlines()[0]}). A value with "
            "anything but English letters, digits, spaces and . / - _ + : $ % @ * ? | in it takes "
            "quotes of its own inside those of the shell, as 'dataset.root=\"~/clips (1)\"'."
        )
    merged = re.match(r"Error merging override (\+*(.+?)=.*)", str(error))
    if isinstance(error, ConfigCompositionException) and merged:
        return OptionError(
            f"{merged[1]}: a list cannot take the place of parts. Give each part by its name, as "
            f"{merged[2]}.PART=…; --help lists them."
        )
    unknown = re.match(r"Could not override '(.+)'", str(error))
    if isinstance(error, ConfigCompositionException) and unknown:
        part = str(getattr(error.__cause__, "full_key", "")).removeprefix(f"{unknown[1]}.")
        if part not in ("", unknown[1]):
            return OptionError(
                f"{unknown[1]} has no part {part}. +{unknown[1]}=… adds to the parts that there "
                f"are; ~{unknown[1]} beside it takes those away."
            )
        with initialize_config_dir(str(conf), version_base="1.3"):
            return unknown_option(unknown[1], compose(config_name))
    return OptionError(str(error))


def unknown_option(key: str, base: DictConfig) -> OptionError:
    """The error for a key that nothing has, with the keys that are nearest."""
    near = difflib.get_close_matches(key, list(_keys(base)), n=3, cutoff=0.7)
    guess = f" Did you mean {' or '.join(near)}?" if near else ""
    return OptionError(f"{key}: there is no such option.{guess} --help lists all.")


def _keys(node: DictConfig, above: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{above}{key}"
        below = node._get_node(key)
        if isinstance(below, DictConfig):
            yield from _keys(below, f"{above}{key}.")


def from_home(cfg: DictConfig) -> None:
    """Put the home folder in place of a leading ~, in place: shells leave one after `=` alone."""
    for key in _PATHS:
        value = OmegaConf.select(cfg, key, throw_on_missing=False)
        if isinstance(value, str) and value.startswith("~"):
            OmegaConf.update(cfg, key, os.path.expanduser(value))


def check_values(cfg: DictConfig) -> None:
    """Refuse values that cannot be; others are refused by what they are given to."""
    choices = {
        "loss.imbalance": (cfg.loss.imbalance, ("weights", "sampler", "none")),
        "dataset.source": (cfg.dataset.source, ("auto", "combined", "corpus", "demo")),
        "dataset.labels": (cfg.dataset.labels, (NATIVE, *LABEL_SETS)),
        "monitor.metric": (cfg.monitor.metric, MONITORED),
        "monitor.mode": (cfg.monitor.mode, ("max", "min")),
        "keep": (cfg.keep, ("last", "best")),
    }
    for option, (value, allowed) in choices.items():
        if value not in allowed:
            raise SerError(f"{option}={value} is not known: choose {', '.join(allowed)}.")
    positive = {
        "loader.batch_size": cfg.loader.batch_size,
        "loader.pool_batches": cfg.loader.pool_batches,
        "trainer.max_epochs": cfg.trainer.max_epochs,
    }
    if cfg.early_stopping.patience is not None:
        positive["early_stopping.patience"] = cfg.early_stopping.patience
    for option, value in positive.items():
        if not isinstance(value, int) or value < 1:
            raise SerError(f"{option}={value}: it must be a whole number of at least 1.")
    check_name("dataset.name", cfg.dataset.name)
    _check_numbers(cfg)
    _check_pairs(cfg)


def check_name(option: str, name: object) -> None:
    """Refuse a name that makes no folder or cannot be looked up in MLflow."""
    if not re.fullmatch(r"\w[\w.,+=@ -]*", str(name)):
        raise SerError(
            f"{option}={name}: it names a folder and is looked up in MLflow. Begin with a letter "
            "or digit and take letters, digits, spaces and . , + = @ _ - only."
        )


def check_targets(cfg: DictConfig) -> None:
    """Refuse a `_target_` that names nothing, by its key: what is built of it comes much later."""
    import pydoc  # --help does without

    for key in _keys(cfg):
        if key.rpartition(".")[2] != "_target_":
            continue
        target = str(OmegaConf.select(cfg, key))
        module, _, name = target.rpartition(".")
        try:
            found, home = pydoc.locate(target), pydoc.locate(module)
        except pydoc.ErrorDuringImport as error:
            raise OptionError(f"{key}={target}: {error}. Mend that module.") from error
        if key == "model._target_" and callable(found) and not hasattr(found, "reads_of"):
            raise OptionError(
                f"{key}={target}: it is no model. Derive its class from EmotionModel of "
                "ser.models.base, or name another in the file of conf/model/ that was chosen."
            )
        if callable(found):
            continue
        if home is None:
            why = f"there is no module {module}."
        else:
            near = difflib.get_close_matches(name, dir(home), n=3, cutoff=0.7)
            guess = f" Did you mean {' or '.join(near)}?" if near else ""
            why = f"{module} has no class or function {name}.{guess}"
        group, _, rest = key.partition(".")
        file = f"the file of conf/{group}/ that was chosen" if rest else "conf/"
        raise OptionError(
            f"{key}={target}: {why} Mend it in {file}; a class is named by its own module or by "
            "a package whose __init__ imports it."
        )


def _check_numbers(cfg: DictConfig) -> None:
    bounds = {
        "seed": (cfg.seed, 0, 2**32 - 1),
        "loss.label_smoothing": (cfg.loss.label_smoothing, 0, 0.999),
        "trainer.gradient_clip_val": (cfg.trainer.get("gradient_clip_val"), 0, math.inf),
        "scheduler.warmup_fraction": (cfg.scheduler.get("warmup_fraction"), 0, 0.999),
    }
    for group in ("model", "augment"):
        for key in _keys(cfg[group], f"{group}."):
            value, least_and_most = OmegaConf.select(cfg, key), _BOUNDS.get(key.rpartition(".")[2])
            if least_and_most and isinstance(value, int | float):  # a model of one's own may differ
                bounds[key] = (value, *least_and_most)
    for option, (value, least, most) in bounds.items():
        if value is not None and (isinstance(value, str) or not least <= value <= most):
            top = "" if most == math.inf else f" and {most} at most"
            raise SerError(f"{option}={value}: it must be {least} or more{top}.")


def _check_pairs(cfg: DictConfig) -> None:
    """Refuse options that exclude one another."""
    if cfg.loss.corpora and cfg.loss.imbalance == "none":
        raise SerError(
            f"loss.corpora={dict(cfg.loss.corpora)}: with loss.imbalance=none all clips count the "
            "same. Set loss.imbalance=weights or sampler."
        )
    best = "min" if cfg.monitor.metric.endswith("loss") else "max"
    if cfg.monitor.mode != best:
        raise SerError(
            f"monitor.mode={cfg.monitor.mode} with monitor.metric={cfg.monitor.metric} takes the "
            f"worst epoch for the best. Give monitor.mode={best}, too."
        )
    if cfg.refit and cfg.scheduler._target_.endswith(".plateau"):
        raise SerError(
            "refit=true with scheduler=plateau: its rates follow validation, which trains in the "
            "second training. Choose another scheduler, or refit=false."
        )
    if cfg.augment.copies and cfg.augment.waveform is None:
        raise SerError(
            f"augment.copies={cfg.augment.copies}: copies are made by a waveform augmentation, and "
            "this option of augment has none. Choose augment=waveform, or drop augment.copies."
        )
