"""wav2vec 2.0, HuBERT and WavLM behind the forward of `SpeechEncoder`."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ser.models.dropout import attention, use_byte_masks
from ser.models.long_kernel import convolve
from ser.models.pooling import mask_of
from ser.models.speech_encoder import RECEPTIVE_FIELD, SpeechEncoder, fill_up, padding_mask
from ser.onednn import use_onednn


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
        self._normed_last = bool(config.do_stable_layer_norm)
        self._is_wavlm = config.model_type == "wavlm"
        if self._is_wavlm:
            # WavLM hands its projections' weights to a torch function and never calls the modules
            self.lora_targets = ("intermediate_dense", "output_dense")
            # ... with a boolean padding mask beside its float position bias
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
        else:
            _choose_attention(self.model)
        use_onednn(self)
        use_byte_masks(self)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks."""
        layers: nn.ModuleList = self.model.encoder.layers
        return layers

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """One frame every 320 samples (20 ms), without padding at the ends."""
        lengths = lengths.clamp(min=RECEPTIVE_FIELD)
        config = self.model.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def analyse(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutions, on a CPU each clip alone unless all have one length.

        With padding in its group norm, as transformers has it, a clip's features depend on its
        neighbours (transformers issue 21534); and a third of all operations is here, which no
        padding should cost. A GPU is rather kept busy: there the norm leaves the padding out.
        """
        waveform, lengths = fill_up(waveform, lengths)
        if self.do_normalize:
            waveform = _standardise(waveform, mask_of(lengths, waveform.shape[1]), lengths)
        sizes = lengths.tolist()
        if len(set(sizes)) == 1:
            return self._convolve(waveform[:, : sizes[0]]), self.frame_lengths(lengths)
        if waveform.is_cuda:
            return self.convolve_together(waveform, lengths), self.frame_lengths(lengths)
        clips = [self._convolve(clip[None, :n])[0] for clip, n in zip(waveform, sizes, strict=True)]
        return pad_sequence(clips, batch_first=True), self.frame_lengths(lengths)

    def _convolve(self, waveform: Tensor) -> Tensor:
        convolutions = self.model.feature_extractor.conv_layers
        hidden = waveform[:, None].to(convolutions[0].conv.weight.dtype)
        for layer in convolutions:
            hidden = layer(hidden)
        return hidden.transpose(1, 2)

    def convolve_together(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """The convolutions of a padded batch, the norm over each clip's own steps alone."""
        convolutions = self.model.feature_extractor.conv_layers
        hidden = waveform[:, None].to(convolutions[0].conv.weight.dtype)
        for layer in convolutions:
            lengths = (lengths - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                hidden = layer.activation(_normed(norm, layer.conv(hidden), lengths))
            else:
                hidden = layer(hidden)
        return hidden.transpose(1, 2)

    def enter(self, features: Tensor, frames: Tensor) -> Tensor:
        """Projection, masks and positions."""
        encoder = self.model.encoder
        output = self.model.feature_projection(features)
        hidden = output[0] if isinstance(output, tuple) else output  # HuBERT's is no tuple
        hidden = self._masked(hidden, frames)
        if (mask := padding_mask(frames, hidden.shape[1])) is not None:
            hidden = hidden * mask[..., None]
        hidden = hidden + self._positions(hidden)
        if not self._normed_last:
            hidden = encoder.layer_norm(hidden)
        entered: Tensor = encoder.dropout(hidden)
        return entered

    def _positions(self, hidden: Tensor) -> Tensor:
        embedding: Any = self.model.encoder.pos_conv_embed
        if getattr(embedding, "batch_norm", None) is not None:  # some of HuBERT's relatives
            return embedding(hidden)  # type: ignore[no-any-return]
        placed: Tensor = embedding.activation(convolve(embedding.conv, hidden))
        return placed

    def run_blocks(self, hidden: Tensor, frames: Tensor, first: int, last: int) -> list[Tensor]:
        """As `SpeechEncoder.run_blocks`."""
        mask = padding_mask(frames, hidden.shape[1])
        states = []
        extra: dict[str, Any] = {}
        if self._is_wavlm:  # its first block owns the bias of relative positions of all
            first_block: Any = self.layers[0]
            bias = first_block.attention.compute_bias(*[hidden.shape[1]] * 2)
            extra = {"position_bias": bias.repeat(len(hidden), 1, 1)}
        elif mask is not None:
            mask = mask[:, None, None].expand(-1, 1, hidden.shape[1], -1)
        for number in range(first, last):
            if self._is_wavlm:
                extra["index"] = number
            output = self.layers[number](hidden, attention_mask=mask, **extra)
            hidden = output[0] if isinstance(output, tuple) else output
            states.append(hidden)
        if self._normed_last and last == len(self.layers):
            states[-1] = self.model.encoder.layer_norm(states[-1])
        return states


def _choose_attention(model: Any) -> None:
    from transformers import AttentionInterface

    AttentionInterface.register("byte_masks", attention)
    model.set_attn_implementation("byte_masks")


def _normed(norm: nn.GroupNorm, hidden: Tensor, lengths: Tensor) -> Tensor:
    """A norm of every channel (batch, channels, steps) over the clip's own steps."""
    own = mask_of(lengths, hidden.shape[2])[:, None]
    count = lengths[:, None, None]
    mean = (hidden * own).sum(2, keepdim=True, dtype=torch.float32) / count
    centred = hidden - mean
    variance = (centred * own).square().sum(2, keepdim=True) / count
    scale = norm.weight[:, None] * (variance + norm.eps).rsqrt()
    return (centred * scale + norm.bias[:, None]).to(hidden.dtype)


def _standardise(waveform: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance a clip, as transformers' Wav2Vec2FeatureExtractor."""
    count = lengths[:, None]
    mean = waveform.sum(1, keepdim=True) / count
    centred = (waveform - mean) * mask
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)
