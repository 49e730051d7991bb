"""A speech encoder's form without its weights: what the checkpoint of a trained one keeps of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ser.models.speech_encoder import SpeechEncoder
from ser.models.wav2vec2_encoder import Wav2Vec2Encoder
from ser.models.whisper_encoder import WhisperEncoder


class EncoderForm:
    """What config.json and preprocessor_config.json say; the weights come from a checkpoint."""

    def __init__(self, config: Mapping[str, Any], do_normalize: bool) -> None:
        """Keep config.json's values and `Wav2Vec2Encoder`'s do_normalize, of no concern to Whisper.

        `config` has a model_type of those that `PretrainedEncoder` reads.
        """
        self._config, self._do_normalize = dict(config), do_normalize

    def options(self) -> dict[str, Any]:
        """Plain values that this can be built from again."""
        values = {"config": self._config, "do_normalize": self._do_normalize}
        return {"_target_": "ser.models.encoder_form.EncoderForm", **values}

    def around(self, model: nn.Module) -> SpeechEncoder:
        """The encoder of a transformers model of this form, in evaluation mode."""
        if self._config["model_type"] == "whisper":
            return WhisperEncoder(model).eval()
        return Wav2Vec2Encoder(model, self._do_normalize).eval()

    def load(self) -> SpeechEncoder:
        """Build the encoder, its weights random, float32; the random state stays as it was."""
        from transformers import CONFIG_MAPPING, AutoModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as HubWhisper

        config: Any = CONFIG_MAPPING[self._config["model_type"]].from_dict(self._config)
        whisper = self._config["model_type"] == "whisper"
        build: Any = HubWhisper._from_config if whisper else AutoModel.from_config
        with torch.random.fork_rng(devices=[]):
            model = build(config, dtype=torch.float32)
        return self.around(model)
