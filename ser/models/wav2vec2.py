"""A speech encoder's layers, pooled over time, weighted and classified; frozen or fine-tuned."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser.batch import Batch
from ser.errors import SerError
from ser.models.base import (
    Batches,
    EmotionModel,
    check_choice,
    chosen_layers,
    moved,
    require,
    stream_shape,
)
from ser.models.dropout import nearest_rate, zeroed
from ser.models.encoder import EncoderWeights
from ser.models.encoder_form import EncoderForm
from ser.models.finetuning import add_lora, train_heads, train_last
from ser.models.frozen_part import FrozenPart
from ser.models.pooling import running_statistics
from ser.models.speech_encoder import SpeechEncoder
from ser.onednn import linear

FINETUNE = ("none", "last_n", "lora", "full")


class LayerWeighting(nn.Module):
    """Standardised layers, each through its own projection, summed by softmax weights.

    The weights start equal. `layers` restricts the sum.
    """

    def __init__(self, layers: Sequence[int], n_inputs: int, hidden: int) -> None:
        super().__init__()
        self.layers = list(layers)
        self.weight = nn.Parameter(torch.zeros(len(layers)))
        bound = n_inputs**-0.5
        self.projection = nn.Parameter(
            torch.empty(hidden, len(layers), n_inputs).uniform_(-bound, bound)
        )

    def forward(self, scaled: Tensor, dropout: float) -> Tensor:
        """(batch, layers, n_inputs) -> (batch, hidden)."""
        factor = float(len(self.layers))
        if self.training and dropout:
            scaled, factor = zeroed(scaled, dropout), factor / (1 - dropout)
        share = self.weight.softmax(0)[:, None] * factor
        weights = (share * self.projection).flatten(1)  # (hidden, layers * n_inputs)
        return linear(scaled.flatten(1), weights)


class Wav2Vec2Model(EmotionModel):
    """The arm named after its default encoder; any encoder serves.

    Args:
        n_classes: number of classes.
        streams: trailing shapes of the streams given.
        encoder: the weights to fine-tune, or their form alone where a checkpoint has them; read
            only where finetune is not none.
        finetune: `none` reads pooled embeddings; `last_n`, `lora` and `full` read waveforms and
            train the encoder's last blocks, low-rank additions to its projections, or all of it.
        last_n: blocks trained by finetune=last_n.
        lora_rank, lora_alpha, lora_dropout: of finetune=lora (Hu et al., ICLR 2022).
        layers: encoder layers used, 0 being the transformer's input; `all`, `inner` for all but
            the first and the last, or `auto`: inner where frozen, all where trained.
        heads: classifiers side by side, each with its own layer weights, projection and dropout;
            each has a loss of its own and the clip's logits are the mean of their log-probabilities
            (an ensemble within the model: Lee et al. 2015, arXiv 1511.06314).
        hidden: width of each head's summary of the clip.
        nonlinear: put a GELU on the summary; without it the arm is linear.
        input_dropout: of single values of the standardised embedding, to the nearest 1/256.
        dropout: of the summary.
        lr_factor: of the optimizer's learning rate, for this arm's heads.
        encoder_lr_factor: the same for the encoder's weights, where they are trained.
        head_epochs: passes that train the heads on the frozen encoder's embeddings before
            fine-tuning begins.
        voice: in fine-tuning another voice of the encoder's input features, (batch, frames,
            features) and lengths to the same; null for none.
        masks: of these features in fine-tuning, likewise, to the same shape; null for none.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        n_classes: int,
        streams: Mapping[str, tuple[int, ...]],
        encoder: EncoderWeights | EncoderForm | None,
        finetune: str,
        last_n: int,
        lora_rank: int,
        lora_alpha: int,
        lora_dropout: float,
        layers: Sequence[int] | str,
        heads: int,
        hidden: int,
        nonlinear: bool,
        input_dropout: float,
        dropout: float,
        lr_factor: float,
        encoder_lr_factor: float,
        head_epochs: int,
        voice: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
        masks: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> None:
        check_choice("finetune", finetune, FINETUNE)
        if layers == "auto":
            layers = "inner" if finetune == "none" else "all"
        super().__init__(n_classes, self.reads_of({"finetune": finetune}))
        self.encoder: SpeechEncoder | None = None
        self.frozen_part: FrozenPart | None = None
        if finetune == "none":
            if voice is not None or masks is not None:
                raise SerError(
                    "finetune=none with voice or masks: these change what an encoder hears in "
                    "fine-tuning. Set voice=null and masks=null, or choose finetune=full, lora or "
                    "last_n."
                )
            n_layers, n_inputs = stream_shape("Wav2Vec2Model", streams, "embedding")
        else:
            stream_shape("Wav2Vec2Model", streams, "waveform")
            self.encoder = _loaded(encoder, finetune)
            if finetune == "last_n":
                train_last(self.encoder, last_n)
            elif finetune == "lora":
                add_lora(self.encoder, lora_rank, lora_alpha, lora_dropout)
            self.encoder.voice, self.encoder.masks = voice, masks
            self.frozen_part = FrozenPart(self.encoder)
            n_layers, n_inputs = self.encoder.n_layers, 2 * self.encoder.width
        self.layers = chosen_layers(layers, n_layers)
        self.weightings = nn.ModuleList(
            LayerWeighting(self.layers, n_inputs, hidden) for _ in range(heads)
        )
        self.bias = nn.Parameter(torch.zeros(heads * hidden))
        self.register_buffer("mean", torch.zeros(len(self.layers), n_inputs))
        self.register_buffer("deviation", torch.ones(len(self.layers), n_inputs))
        self.nonlinear, self.input_dropout = nonlinear, nearest_rate(input_dropout)
        self.lr_factor, self.encoder_lr_factor = lr_factor, encoder_lr_factor
        self.head_epochs = head_epochs
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(hidden, n_classes) for _ in range(heads))
        self.n_outputs = heads * hidden

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Pooled embeddings of a frozen encoder, waveforms for one that is trained."""
        return frozenset({"embedding" if options["finetune"] == "none" else "waveform"})

    def learning_rates(self) -> list[tuple[float, list[nn.Parameter]]]:
        """The heads, then what is trained of the encoder, each at its own rate."""
        encoder = [] if self.encoder is None else list(self.encoder.parameters())
        trained = [weight for weight in encoder if weight.requires_grad]
        groups = [(self.lr_factor, self._above_encoder())]
        return [*groups, (self.encoder_lr_factor, trained)] if trained else groups

    def _above_encoder(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if not name.startswith("encoder.")]

    def fit(self, batches: Batches) -> None:
        """Take every layer's statistics over the train split; before fine-tuning train the heads.

        A GPU is used where there is one, as an encoder would take long without.
        """
        if self.encoder is not None and torch.cuda.is_available():
            self.cuda()
        training, device = self.training, self.bias.device
        self.eval()
        if self.frozen_part is not None:
            self.frozen_part.start()
        embeddings, targets = [], []
        with torch.no_grad():
            for batch in batches():
                embeddings.append(self.embed(moved(batch, device)).half())
                targets.append(batch.target)
        self.mean, self.deviation = running_statistics(
            part[:, self.layers].float() for part in embeddings
        )
        self.train()
        if self.encoder is not None:
            embedding, target = torch.cat(embeddings), torch.cat(targets).to(device)
            weights, n_classes = self._above_encoder(), self.n_classes
            train_heads(weights, self._heads_of, embedding, target, n_classes, self.head_epochs)
        self.train(training)

    def _heads_of(self, embedding: Tensor) -> list[Tensor]:
        return self.each_head(self._summary_of(embedding))

    def embed(self, batch: Batch) -> Tensor:
        """Mean and deviation over time of every layer: (batch, layers, 2 * width)."""
        if self.frozen_part is None:
            return require(batch.embedding, "embedding")
        return self.frozen_part.embed(
            require(batch.waveform, "waveform"), require(batch.waveform_length, "waveform_length")
        )

    def summary(self, batch: Batch) -> Tensor:
        """Every head's summary side by side: (batch, heads * hidden)."""
        return self._summary_of(self.embed(batch))

    def _summary_of(self, embedding: Tensor) -> Tensor:
        scaled = (embedding[:, _run(self.layers)] - self.mean) / self.deviation
        parts = [weighting(scaled, self.input_dropout) for weighting in self.weightings]
        summary = torch.cat(parts, dim=1) + self.bias
        return F.gelu(summary) if self.nonlinear else summary

    def each_head(self, summary: Tensor) -> list[Tensor]:
        """(batch, heads * hidden) -> each head's logits (batch, n_classes)."""
        parts = self.dropout(summary).chunk(len(self.heads), dim=1)
        return [head(part) for head, part in zip(self.heads, parts, strict=True)]

    def forward(self, batch: Batch) -> Tensor:
        """Mean log-probability of the heads: (batch, n_classes)."""
        return mean_log_probabilities(self.each_head(self.summary(batch)))

    def training_logits(self, batch: Batch) -> list[Tensor]:
        """The mean, without a gradient, then each head's own."""
        each = self.each_head(self.summary(batch))
        return [mean_log_probabilities(each).detach(), *each]


def _run(layers: list[int]) -> slice | list[int]:
    """Neighbouring layers as a slice, which copies nothing."""
    whole = layers == list(range(layers[0], layers[-1] + 1))
    return slice(layers[0], layers[-1] + 1) if whole else layers


def mean_log_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """Several logits (batch, n_classes) -> the mean of their log-probabilities."""
    mean = torch.stack([each.float().log_softmax(-1) for each in logits]).mean(0)
    return mean.log_softmax(-1)


def _loaded(encoder: EncoderWeights | EncoderForm | None, finetune: str) -> SpeechEncoder:
    if encoder is None:
        raise SerError(
            f"finetune={finetune} needs an encoder to train. Give encoder=NAME, or finetune=none."
        )
    return encoder.load()
