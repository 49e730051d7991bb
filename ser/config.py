"""What the scripts share: composing, checking and building from the configuration."""

import ctypes
import functools
import logging
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from ser.endings import hear
from ser.errors import FULL, INTERRUPTED, MISTAKE, OptionError, SerError
from ser.mistakes import mistake_of
from ser.options import check_choices, check_targets, check_values, explained, from_home

log = logging.getLogger(__name__)
CONF = Path(__file__).resolve().parent.parent / "conf"
DEFAULT_ENCODER, DEMO_ENCODER = "wav2vec2_base", "tiny"

# Threads of a parallel loop soon sleep at its end in place of spinning: with two runs on two cores,
# spinning made a training step 10 times slower (docs/log.md). Read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 2 GiB, in place of handing it back to the system.

    The memory of a training step's tensors, freed at its end, is otherwise fetched again page by
    page in the next: 40 % of TIM-Net's processor time. Elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that it takes
        libc.mallopt(_M_ARENA_MAX, 1)  # the others, for threads, hand large pieces back


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
keep_freed_memory()

_LIGHTNINGS = "MisconfigurationException"  # its module takes seconds to import
Job = Callable[[DictConfig], Any]
_failed: list[SerError] = []


def command(config_name: str) -> Callable[[Job], Callable[[], None]]:
    """Make a script's entry point of a function of the composed configuration.

    A SerError is printed as one paragraph and ends the script with status 2; in a multirun the
    other jobs still run first. What Hydra refuses is printed likewise.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @functools.wraps(job)
        def guarded(cfg: DictConfig) -> Any:
            try:
                from_home(cfg)
                return job(cfg)
            except Exception as error:
                mistake = mistake_of(error, cfg)
                if mistake is None:
                    raise
                tell(mistake)
                _failed.append(SerError(str(mistake)))
                if HydraConfig.get().mode != RunMode.MULTIRUN:
                    sys.exit(MISTAKE)
                return None

        start = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
        return lambda: _run(start(guarded), config_name)

    return decorate


def _run(script: Callable[[], Any], config_name: str) -> None:
    """Run a script to its exit status; Hydra raises what it refuses, and leaves the words to us."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    hear()
    try:
        check_choices(sys.argv[1:], CONF)
        script()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (HydraException, YAMLError) as error:
        if isinstance(error, InstantiationException):
            raise
        tell(explained(error, CONF, config_name))
        sys.exit(MISTAKE)
    except BrokenPipeError:  # of `--help | head`
        _print_no_more()
    except OSError as error:
        if error.errno not in FULL:
            raise
        _print_no_more()
        tell(SerError("what is printed: no space is left on its disk. Free some."))
        sys.exit(MISTAKE)
    if _failed:
        sys.exit(MISTAKE)


def _print_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's end tries again


def given_overrides() -> list[str]:
    """The options of this job as the user gave them."""
    return list(HydraConfig.get().overrides.task)


def tell(error: Exception) -> None:
    """Print a user's mistake as one paragraph."""
    sys.stdout.flush()
    sys.stderr.write(f"\nerror: {' '.join(str(error).split())}\n")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain Python values, interpolations resolved."""
    values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def build(node: Any, *arguments: Any, **extra: Any) -> Any:
    """Instantiate a node that has a `_target_`; a wrong option becomes a SerError that names it."""
    try:
        return hydra.utils.instantiate(node, *arguments, **extra, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, SerError):
                raise cause from None
            cause = cause.__cause__
        why = error.__cause__
        if isinstance(why, TypeError) and "argument" in str(why):
            mend = (
                "Its YAML under conf/ must give each parameter that the class takes, and no other. "
                "One that an experiment sets is dropped by ~GROUP.KEY."
            )
        elif isinstance(why, (TypeError, ValueError)) or type(why).__name__ == _LIGHTNINGS:
            mend = "Mend that option; its YAML under conf/ tells of it."
        else:
            raise
        raise OptionError(f"{node.get('_target_')}: {str(why).rstrip('.')}. {mend}") from error


def load_option(group: str, name: str) -> DictConfig:
    """One option of a config group as its file has it."""
    node = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert isinstance(node, DictConfig)
    return node


def settle_encoder(cfg: DictConfig, synthetic: bool) -> None:
    """Turn encoder=auto into the default one, or on the demo corpus into the tiny one.

    Interpolations are resolved here and not sooner: feature and model refer to the encoder.
    """
    if cfg.encoder.name == "auto":
        _choose_encoder(cfg, synthetic)
    if cfg.encoder.get("path"):  # a run is resumed and scored from other folders too
        cfg.encoder.path = str(Path(cfg.encoder.path).absolute())
    OmegaConf.resolve(cfg)


def _choose_encoder(cfg: DictConfig, synthetic: bool) -> None:
    name = DEMO_ENCODER if synthetic else DEFAULT_ENCODER
    chosen = load_option("encoder", name)
    if cfg.encoder.path is not None:
        if "path" not in chosen:
            raise SerError(
                f"encoder.path={cfg.encoder.path} needs the encoder that lies there, and the demo "
                f"corpus takes encoder={name}, which has no files. Name it: encoder=wav2vec2_base, "
                "or another of conf/encoder/."
            )
        chosen.path = cfg.encoder.path
    chosen.precision = cfg.encoder.precision
    if any("encoder" in node for node in cfg.feature.values()):
        why = "the demo corpus; random weights" if synthetic else "the default"
        log.info("encoder=auto: %s (%s)", name, why)
    OmegaConf.update(cfg, "encoder", chosen, merge=False, force_add=True)


def settle_front_end(cfg: DictConfig) -> None:
    """Give the model the streams that its own options ask for, then check that they match.

    Fine-tuning reads waveforms where a frozen encoder reads pooled embeddings (an ensemble both,
    one for each reading of the encoder), fusion=tim_on_frames the encoder's frames where the others
    read MFCC (with the width of model=tim_on_frames: as many channels as the encoder has would be
    64 times the weights in its blocks), and tim_share=0 neither; all other mismatch is an error.
    """
    wanted = _class(cfg.model).reads_of(plain(cfg.model))
    if "waveform" in wanted:
        _swap_feature(cfg, "embedding", "waveform", keep="embedding" in wanted)
    if "embedding_whole" in wanted:
        _swap_feature(cfg, "embedding", "embedding_whole", keep=True, level=logging.DEBUG)
    if cfg.model.get("fusion") == "tim_on_frames":
        _swap_feature(cfg, "mfcc", "encoder_frames")
        if cfg.model.tim.width is None:
            cfg.model.tim.width = load_option("model", "tim_on_frames").width
            log.info("model.tim.width=%d here, as model=tim_on_frames has it", cfg.model.tim.width)
    if cfg.model.get("tim_share") == 0 and "frames" not in wanted and "mfcc" in cfg.feature:
        log.info("model=%s reads no mfcc here: tim_share=0 leaves TIM-Net out", cfg.model.name)
        del cfg.feature["mfcc"]
    given = {_stream(node): key for key, node in cfg.feature.items()}
    if set(given) != set(wanted):
        raise SerError(
            f"model={cfg.model.name} reads {_words(wanted)}, but feature="
            f"{'+'.join(map(str, given.values()))} gives {_words(given)}. Drop the feature= option "
            "if one was given: the class says in `reads_of` what it reads, and conf/model/"
            f"{cfg.model.name}.yaml picks the front-end, by `override /feature@_global_.feature`."
        )


def _class(node: DictConfig) -> Any:
    return hydra.utils.get_class(node._target_)


def trains(cfg: DictConfig) -> bool:
    """Whether the model has weights trained by gradient: the others do not depend on the seed."""
    return bool(_class(cfg.model).trainable)


def _stream(feature: DictConfig) -> Any:
    """The stream of a front-end; SpeechOnly has its front-end's."""
    from ser.features.base import Stream

    own = feature.get("feature", feature)
    stream = getattr(_class(own), "stream", None)
    if stream not in get_args(Stream):
        raise SerError(
            f"{own._target_}: its class attribute `stream` is {stream!r}, but a feature gives one "
            f"of the streams {', '.join(get_args(Stream))}. Choose one of them."
        )
    return stream


def _swap_feature(
    cfg: DictConfig, old: str, new: str, keep: bool = False, level: int = logging.INFO
) -> None:
    if old not in cfg.feature or new in cfg.feature:
        return
    how = "beside" if keep else "in place of"
    log.log(level, "model=%s reads %s here %s %s", cfg.model.name, new, how, old)
    others = {key: node for key, node in cfg.feature.items() if keep or key != old}
    swapped = OmegaConf.merge(others, load_option("feature", new))
    OmegaConf.update(cfg, "feature", swapped, merge=False, force_add=True)


def _words(names: Any) -> str:
    return " and ".join(sorted(names))


def check(cfg: DictConfig) -> None:
    """Refuse impossible options before any data or weight is touched."""
    OmegaConf.set_struct(cfg, False)
    from_home(cfg)
    cfg.dataset.root = str(Path(cfg.dataset.root).absolute())
    check_values(cfg)
    check_targets(cfg)
    from ser.calibration import check_target  # numpy, which --help does without

    check_target(cfg.abstain.target_accuracy)
    if "mixed" in str(cfg.trainer.precision) and "fused" in cfg.optimizer:
        cfg.optimizer.fused = False  # Lightning refuses to clip such an optimizer's gradients there
    settle_front_end(cfg)
    heard = _copied_streams(cfg)
    if cfg.augment.copies and heard and not trains(cfg):
        log.info(
            "model=%s is fitted at once, on the clips as recorded: augment's copies are left out",
            cfg.model.name,
        )
        cfg.augment.copies = 0


def _copied_streams(cfg: DictConfig) -> set[str]:
    """The model's streams that get augmented copies; an unknown one would turn them off unseen."""
    from ser.features.base import Stream

    given, asked = {_stream(node) for node in cfg.feature.values()}, cfg.augment.streams
    if unknown := [stream for stream in asked if stream not in get_args(Stream)]:
        raise SerError(
            f"augment.streams={list(asked)}: {', '.join(unknown)} is no stream. Choose among "
            f"{', '.join(get_args(Stream))}; model={cfg.model.name} reads {_words(given)}."
        )
    if cfg.augment.copies and not given & set(asked):
        log.warning(
            "augment.streams=%s, but model=%s reads %s: no augmented copies are made.",
            list(asked), cfg.model.name, _words(given),
        )  # fmt: skip
    return given & set(asked)
