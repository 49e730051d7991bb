"""Self-supervised and Whisper encoders behind one forward: waveforms in, every layer's frames out.

All are exact when padded: a clip's frames do not depend on the clips beside it in the batch.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

_SAMPLE_RATE_HZ = 16_000
_RECEPTIVE_FIELD = 400
"""Samples under one frame of either family; shorter clips are filled up with zeros."""


class SpeechEncoder(nn.Module, ABC):
    """A speech encoder that can be frozen or fine-tuned.

    Attributes:
        n_layers: hidden states given: the transformer's input and each layer's output; the last
            one is after the final layer norm where the architecture has one.
        width: features of a frame.
        exact_when_padded: whether a clip's frames are the same alone and in a padded batch.
        lora_targets: names of the linear modules that LoRA may wrap with effect.
        masks: in training, what hides parts of the features that enter the transformer (Whisper:
            its convolutions): (batch, frames, features), (batch,) lengths -> the same shape.
    """

    n_layers: int
    width: int
    exact_when_padded: bool = True
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    masks: Callable[[Tensor, Tensor], Tensor] | None

    def __init__(self) -> None:
        super().__init__()
        self.masks = None

    def _masked(self, features: Tensor, lengths: Tensor) -> Tensor:
        if self.masks is None or not self.training:
            return features
        return self.masks(features, lengths)

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks, first to last: what `last_n` unfreezes from the end."""

    @abstractmethod
    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that clips of these numbers of samples give, (batch,)."""

    @abstractmethod
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            waveform: (batch, samples) at 16 kHz; what lies past a clip's length is ignored.
            lengths: (batch,) samples of each clip. A clip shorter than the receptive field (400
                samples, 25 ms) is filled up with zeros to it.

        Returns:
            Hidden states (n_layers, batch, frames, width) and frame lengths (batch,). What lies
            past a clip's frames is arbitrary.
        """


def _fill_up(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Silence past each clip, and no clip under the receptive field."""
    short = _RECEPTIVE_FIELD - waveform.shape[1]
    if short > 0:
        waveform = nn.functional.pad(waveform, (0, short))
    waveform = waveform * _mask(lengths, waveform.shape[1])
    return waveform, lengths.clamp(min=_RECEPTIVE_FIELD)


def _mask(lengths: Tensor, size: int) -> Tensor:
    """(batch, size), true where a clip has something."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


_frames_of_clips: ContextVar[Tensor | None] = ContextVar("frames_of_clips", default=None)
_hidden_states: ContextVar[list[Tensor] | None] = ContextVar("hidden_states", default=None)


class _MaskedGroupNorm(nn.GroupNorm):
    """One group a channel, with each clip's own frames alone in its mean and variance.

    With padding counted in, as transformers does, a clip's features depend on its neighbours
    (transformers issue 21534).
    """

    def forward(self, input: Tensor) -> Tensor:  # (batch, channels, frames)
        """Normalise; past a clip's frames the values are arbitrary."""
        lengths = _frames_of_clips.get()
        if lengths is None or bool((lengths == input.shape[-1]).all()):
            return super().forward(input)
        mask = _mask(lengths, input.shape[-1])[:, None]
        values = input.float() * mask
        count = lengths[:, None, None]
        mean = values.sum(-1, keepdim=True) / count
        variance = ((values - mean) * mask).square().sum(-1, keepdim=True) / count
        normed = (values - mean) * torch.rsqrt(variance + self.eps)
        return (normed * self.weight[:, None] + self.bias[:, None]).to(input.dtype)


def _record_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if (states := _hidden_states.get()) is not None:
        states.append(args[0] if args else kwargs["hidden_states"])


def _record_output(_: nn.Module, __: Any, output: Any) -> None:
    if (states := _hidden_states.get()) is not None:
        states.append(output[0] if isinstance(output, tuple) else output)


class Wav2Vec2Encoder(SpeechEncoder):
    """wav2vec 2.0, HuBERT and WavLM, which share one architecture in transformers.

    Layer drop and SpecAugment of the checkpoint's config are off: every layer is always there,
    and augmentation is the front-end's.
    """

    def __init__(self, model: nn.Module, do_normalize: bool) -> None:
        """Wrap a Wav2Vec2Model, HubertModel or WavLMModel.

        Args:
            model: the transformers model, whose module names stay as they are.
            do_normalize: bring each clip to zero mean and unit variance first, as the
                checkpoint's preprocessor_config.json says.
        """
        super().__init__()
        self.model: Any = model
        self.do_normalize = do_normalize
        config: Any = model.config
        config.layerdrop, config.apply_spec_augment = 0.0, False
        self.n_layers, self.width = config.num_hidden_layers + 1, config.hidden_size
        if config.model_type == "wavlm":
            # WavLM hands its projections' weights to a torch function and never calls the modules
            self.lora_targets = ("intermediate_dense", "output_dense")
            # ... with a boolean padding mask beside its float position bias
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
        self._replace_group_norm()
        projection: Any = model.feature_projection
        projection.register_forward_hook(self._mask_projection)
        self.layers[0].register_forward_pre_hook(_record_input, with_kwargs=True)
        for layer in self.layers:
            layer.register_forward_hook(_record_output)

    def _mask_projection(self, _: nn.Module, __: Any, output: Any) -> Any:
        features = output[0] if isinstance(output, tuple) else output  # HuBERT's is no tuple
        everything = torch.full((len(features),), features.shape[1], device=features.device)
        masked = self._masked(features, everything)
        return (masked, *output[1:]) if isinstance(output, tuple) else masked

    def _replace_group_norm(self) -> None:
        for layer in self.model.feature_extractor.conv_layers:
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                masked = _MaskedGroupNorm(norm.num_groups, norm.num_channels, norm.eps)
                masked.weight, masked.bias = norm.weight, norm.bias
                layer.layer_norm = masked

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks."""
        layers: nn.ModuleList = self.model.encoder.layers
        return layers

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """One frame every 320 samples (20 ms), without padding at the ends."""
        lengths = lengths.clamp(min=_RECEPTIVE_FIELD)
        config = self.model.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `SpeechEncoder.forward`."""
        waveform, lengths = _fill_up(waveform, lengths)
        mask = _mask(lengths, waveform.shape[1])
        if self.do_normalize:
            waveform = _standardise(waveform, mask, lengths)
        config = self.model.config
        states: list[Tensor] = []
        first_frames = (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1
        token, states_token = _frames_of_clips.set(first_frames), _hidden_states.set(states)
        try:
            output = self.model(waveform, attention_mask=mask.long())
        finally:
            _frames_of_clips.reset(token)
            _hidden_states.reset(states_token)
        states[-1] = output.last_hidden_state
        return torch.stack(states), self.frame_lengths(lengths)


def _standardise(waveform: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance a clip, as transformers' Wav2Vec2FeatureExtractor."""
    count = lengths[:, None]
    mean = waveform.sum(1, keepdim=True) / count
    centred = (waveform - mean) * mask
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)


class WhisperEncoder(SpeechEncoder):
    """Whisper's encoder with its context cropped to the clip, in place of 30 s of mostly padding.

    The waveform is scaled to a peak of 0.9 and turned into Whisper's log-mel spectrogram, whose
    frames past the clip are dropped; the positions are sliced. Twelve times cheaper on clips of
    a few seconds. A clip over 30 s is encoded in pieces of 30 s, whose frames are joined.
    """

    _PEAK = 0.9
    _N_FFT = 400
    _HOP = 160
    _FRAME = 320
    """Samples a frame: a hop of the mel and the second convolution's stride."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap transformers' WhisperEncoder, whose module names stay as they are."""
        super().__init__()
        self.model: Any = model
        config: Any = model.config
        self.n_layers, self.width = config.encoder_layers + 1, config.d_model
        self._window_samples: int = config.max_source_positions * self._FRAME
        filters = melscale_fbanks(
            self._N_FFT // 2 + 1, 0.0, 8000.0, config.num_mel_bins, _SAMPLE_RATE_HZ,
            norm="slaney", mel_scale="slaney",
        ).T.contiguous()  # fmt: skip
        self.mel_filters: Tensor
        self.hann_window: Tensor
        self.register_buffer("mel_filters", filters, persistent=False)
        self.register_buffer("hann_window", torch.hann_window(self._N_FFT), persistent=False)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks."""
        layers: nn.ModuleList = self.model.layers
        return layers

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """One frame every 320 samples (20 ms), the last one begun counted."""
        return (lengths.clamp(min=_RECEPTIVE_FIELD) + self._FRAME - 1) // self._FRAME

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `SpeechEncoder.forward`."""
        waveform, lengths = _fill_up(waveform, lengths)
        peak = waveform.abs().amax(dim=1, keepdim=True)
        waveform = waveform * (self._PEAK / peak.clamp(min=1e-8))
        window = self._window_samples
        pieces = [
            self._encode(waveform[:, start : start + window], (lengths - start).clamp(0, window))
            for start in range(0, waveform.shape[1], window)
        ]
        states = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)
        return states, self.frame_lengths(lengths)

    def _encode(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """At most one window a clip; a clip that ended in an earlier window has length 0 here."""
        n_frames = -(-waveform.shape[1] // self._FRAME)
        frames = (lengths + self._FRAME - 1) // self._FRAME
        mel = self._log_mel(waveform, frames * 2, n_frames * 2)
        mel = self._masked(mel.transpose(1, 2), frames * 2).transpose(1, 2)
        hidden = nn.functional.gelu(self.model.conv1(mel))
        hidden = nn.functional.gelu(self.model.conv2(hidden))
        hidden = hidden.transpose(1, 2)  # (batch, frames, width)
        hidden = hidden + self.model.embed_positions.weight[:n_frames]
        # a clip with no frames here attends to the first, so that nothing becomes NaN
        valid = _mask(frames.clamp(min=1), n_frames)
        mask = None if bool(valid.all()) else valid[:, None, None].expand(-1, 1, n_frames, -1)
        states = [hidden]
        for layer in self.layers:
            output = layer(states[-1], mask)
            states.append(output[0] if isinstance(output, tuple) else output)
        states[-1] = self.model.layer_norm(states[-1])
        return torch.stack(states)

    def _log_mel(self, waveform: Tensor, mel_frames: Tensor, n_mel_frames: int) -> Tensor:
        """(batch, samples) to (batch, mels, n_mel_frames), zero past each clip's frames.

        WhisperFeatureExtractor's numbers: log10 of the power, at most 8 below the clip's largest.
        """
        missing = n_mel_frames * self._HOP + self._N_FFT - waveform.shape[1]
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                nn.functional.pad(waveform.float(), (0, missing)), self._N_FFT, self._HOP,
                window=self.hann_window, return_complex=True,
            )[..., :n_mel_frames]  # fmt: skip
            power = torch.view_as_real(spectrum).square().sum(-1)
            log_mel = (self.mel_filters @ power).clamp(min=1e-10).log10()
            mask = _mask(mel_frames, n_mel_frames)[:, None]
            largest = log_mel.masked_fill(~mask, -10.0).amax(dim=(1, 2), keepdim=True)
            return ((torch.maximum(log_mel, largest - 8.0) + 4.0) / 4.0) * mask
