"""Where a speech encoder's weights are: described at once, loaded when they are needed.

An instance is cheap. Its sizes and its identity come from config.json and a hash, so features that
are already in the cache need neither the weights nor transformers.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ser.errors import SerError
from ser.models.base import check_choice
from ser.models.encoder_form import EncoderForm
from ser.models.hub import fetch, hash_files, read_json
from ser.models.speech_encoder import SpeechEncoder
from ser.models.wav2vec2_encoder import Wav2Vec2Encoder

_log = logging.getLogger(__name__)

# in order of preference; the second is read by torch's weights-only loader, which runs no code
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PREFIXES = ("wav2vec2.", "hubert.", "wavlm.", "model.encoder.")
PRECISIONS = ("float32", "bfloat16")
_BY = "by encoder.path=… to train.py, encoder_path=… to evaluate.py, --encoder-path … to ser"
_MODEL_TYPES = ("wav2vec2", "hubert", "wavlm", "whisper")


class EncoderWeights(ABC):
    """One encoder that can be loaded.

    Attributes:
        name: the option's name, for reports.
        precision: of the frozen encoder's products, one of PRECISIONS; no concern of fine-tuning.
    """

    name: str
    precision: str
    frame_rate_hz: float = 50.0  # every architecture here steps 320 samples at 16 kHz

    @property
    @abstractmethod
    def n_layers(self) -> int:
        """Hidden states given, the transformer's input included."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Features of a frame."""

    def identity(self) -> dict[str, str | int]:
        """What tells these numbers from others, for the cache: the weights, and bfloat16."""
        other = {} if self.precision == "float32" else {"precision": self.precision}
        return {**self._identity(), **other}

    @abstractmethod
    def _identity(self) -> dict[str, str | int]:
        """What tells these weights from others."""

    @abstractmethod
    def load(self) -> SpeechEncoder:
        """Build the encoder and read its weights, float32, in evaluation mode, on the CPU.

        Raises:
            SerError: weights are missing, unreachable or do not fit their config.
        """


class RandomEncoder(EncoderWeights):
    """A tiny wav2vec 2.0 with random weights: for tests, nothing to download, nothing learned."""

    def __init__(self, name: str, n_blocks: int, width: int, seed: int, precision: str) -> None:
        """Choose the size; the weights follow from the seed."""
        self.name, self._n_blocks, self._width, self._seed = name, n_blocks, width, seed
        self.precision = check_choice("encoder.precision", precision, PRECISIONS)

    @property
    def n_layers(self) -> int:
        """n_blocks + 1."""
        return self._n_blocks + 1

    @property
    def width(self) -> int:
        """As given."""
        return self._width

    def _identity(self) -> dict[str, str | int]:
        """Size and seed."""
        sizes = {"n_blocks": self._n_blocks, "width": self._width, "seed": self._seed}
        return {"random": "wav2vec2", **sizes}

    def load(self) -> SpeechEncoder:
        """Draw the weights, leaving the global random state as it was."""
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        config = Wav2Vec2Config(
            hidden_size=self._width,
            num_hidden_layers=self._n_blocks,
            num_attention_heads=4,
            intermediate_size=2 * self._width,
            conv_dim=[self._width] * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            build: Any = Wav2Vec2Model._from_config
            return Wav2Vec2Encoder(build(config, dtype=torch.float32), do_normalize=True).eval()


class PretrainedEncoder(EncoderWeights):
    """A checkpoint in a local folder, or on the Hugging Face hub through its local cache."""

    def __init__(self, name: str, repo: str, path: str | None, revision: str, precision: str):
        """Describe the checkpoint; nothing is read yet.

        Args:
            name: the option's name.
            repo: owner/name on the hub, used when path is null.
            path: a folder with config.json, preprocessor_config.json and model.safetensors.
            revision: branch, tag or commit of the repo.
            precision: one of PRECISIONS.
        """
        self.precision = check_choice("encoder.precision", precision, PRECISIONS)
        self.name, self.repo, self.revision = name, repo, revision
        self.path = None if path is None else Path(path).expanduser()

    @property
    def n_layers(self) -> int:
        """From config.json."""
        key = "encoder_layers" if self._is_whisper else "num_hidden_layers"
        return int(self._config[key]) + 1

    @property
    def width(self) -> int:
        """From config.json."""
        return int(self._config["d_model" if self._is_whisper else "hidden_size"])

    def _identity(self) -> dict[str, str | int]:
        """The hub's commit, or the hash of a local folder's config and weights."""
        if self.path is None:
            return {"repo": self.repo, "commit": self._folder.name}
        configs = [self._folder / "config.json", self._folder / "preprocessor_config.json"]
        return {
            "config": hash_files([path for path in configs if path.is_file()]),
            "weights": hash_files([self._weights()]),
        }

    def load(self) -> SpeechEncoder:
        """Read the weights, float32, in evaluation mode, on the CPU."""
        folder = self._weights().parent
        _log.info("encoder %s: loading %s", self.name, folder)
        return self.form.around(self._from_pretrained(folder))

    @property
    def form(self) -> EncoderForm:
        """All but the weights."""
        return EncoderForm(self._config, not self._is_whisper and self._do_normalize())

    @property
    def _is_whisper(self) -> bool:
        return bool(self._config["model_type"] == "whisper")

    @cached_property
    def _folder(self) -> Path:
        """Where config.json is: the local folder, or the commit's snapshot in the hub's cache."""
        config = self._file("config.json")
        if config is None:
            raise SerError(
                f"encoder {self.name}: {self.path} holds no config.json. Give the folder of "
                f"{self.repo} {_BY}. encoder.path=null has train.py take it from the hub."
                if self.path
                else f"encoder {self.name}: {self.repo} on the hub has no config.json, so it is "
                "no transformers checkpoint. Choose another encoder.repo."
            )
        return config.parent

    @cached_property
    def _config(self) -> dict[str, Any]:
        config = read_json(self._folder / "config.json")
        if config.get("model_type") not in _MODEL_TYPES:
            raise SerError(
                f"encoder {self.name}: {self._folder} is a {config.get('model_type')} checkpoint; "
                f"the encoders that can be read are {', '.join(_MODEL_TYPES)}."
            )
        strides = config.get("conv_stride", [320])
        if math.prod(strides) != 320:
            raise SerError(
                f"encoder {self.name}: {self._folder} steps {math.prod(strides)} samples a frame; "
                "only encoders of 320 (50 frames a second) are supported."
            )
        return config

    def _file(self, *names: str) -> Path | None:
        """The first of these files that the checkpoint has, from the folder or the hub."""
        if self.path is None:
            return self._from_hub(*names)
        return next((self.path / name for name in names if (self.path / name).is_file()), None)

    def _weights(self) -> Path:
        folder = self._folder  # says so where there is no checkpoint at all
        path = self._file(*_WEIGHTS)
        if path is None:
            raise SerError(
                f"encoder {self.name}: {self.path or folder} has a config.json but none of "
                f"{', '.join(_WEIGHTS)}. Take a whole checkpoint, unsharded."
            )
        return path

    def _do_normalize(self) -> bool:
        """Whether the checkpoint wants clips of zero mean and unit variance."""
        path = self._file("preprocessor_config.json")
        if path is None:
            _log.warning(
                "encoder %s: no preprocessor_config.json; clips are brought to zero mean and unit "
                "variance, transformers' default", self.name,
            )  # fmt: skip
            return True
        return bool(read_json(path).get("do_normalize", True))

    def _from_hub(self, *names: str) -> Path | None:
        try:
            return fetch(self.repo, self.revision, names)
        except OSError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SerError(
                f"encoder {self.name}: {self.repo} (revision {self.revision}) is not in the "
                f"Hugging Face cache and could not be downloaded ({reason}). Connect to the "
                "network, or set HF_HOME to a cache that has it, or give a local folder "
                f"{_BY}, or try the code without weights by training with encoder=tiny."
            ) from error

    def _from_pretrained(self, folder: Path) -> nn.Module:
        """Read with transformers, then check that no weight of the encoder was left out."""
        import transformers
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as HubWhisper

        kind: Any = HubWhisper if self._is_whisper else transformers.AutoModel
        mapping = {r"^(model\.)?encoder\.": ""} if self._is_whisper else None
        try:
            with _quiet(transformers):
                model, report = kind.from_pretrained(
                    folder, output_loading_info=True, local_files_only=True, weights_only=True,
                    dtype=torch.float32, key_mapping=mapping,
                )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            raise SerError(
                f"encoder {self.name}: the weights in {folder} cannot be read ({error}). Fetch "
                "the checkpoint again."
            ) from error
        self._check(folder, model, report)
        loaded: nn.Module = model
        return loaded

    def _check(self, folder: Path, model: nn.Module, report: dict[str, Any]) -> None:
        """Every weight of the encoder was in the file, and none of the file's was left over.

        Heads, decoders and quantisers beside the encoder are not ours and may be there.
        """
        parts = {name for name, _ in model.named_children()}
        unexpected = sorted(
            key for key in report["unexpected_keys"] if _strip_prefix(key).split(".")[0] in parts
        )
        missing = sorted(set(report["missing_keys"]) - {"masked_spec_embed"})
        wrong = [str(key) for key in report.get("mismatched_keys", ())]
        if missing or unexpected or wrong:
            faults = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
            told = "; ".join(
                f"{len(keys)} {fault} (such as {keys[0]})" for fault, keys in faults.items() if keys
            )
            raise SerError(
                f"encoder {self.name}: the weights in {folder} do not fit its config.json: {told}. "
                "Parts of the encoder would stay random. Take both files from one checkpoint."
            )


def _strip_prefix(key: str) -> str:
    return key.removeprefix(next((p for p in _PREFIXES if key.startswith(p)), ""))


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers' loading bar and its table of keys, which we check ourselves, silent."""
    said = transformers.utils.logging
    level, had_bar = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(level)
        if had_bar:
            said.enable_progress_bar()
