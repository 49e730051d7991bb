"""How an encoder is fine-tuned: what of it is trained, and a head that is ready when it begins."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser.errors import SerError
from ser.models.dropout import use_byte_masks
from ser.models.speech_encoder import SpeechEncoder
from ser.onednn import use_onednn

_BATCH = 64
_RATE = 5e-4  # of AdamW, down to zero by a cosine
_SMOOTHING = 0.1


def train_last(encoder: SpeechEncoder, n: int) -> None:
    """Freeze the encoder but for its last n blocks.

    Raises:
        SerError: the encoder has fewer blocks, or n is not positive.
    """
    if not 1 <= n <= len(encoder.layers):
        raise SerError(f"last_n={n}: the encoder has blocks 1 to {len(encoder.layers)}.")
    encoder.requires_grad_(False)
    for layer in encoder.layers[-n:]:
        layer.requires_grad_(True)


def add_lora(encoder: SpeechEncoder, rank: int, alpha: int, dropout: float) -> None:
    """Freeze the encoder and put trainable low-rank products beside its projections, in place."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(encoder.lora_targets),
    )
    encoder.requires_grad_(False)
    inject_adapter_in_model(config, encoder)
    use_onednn(encoder)
    use_byte_masks(encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name)


def train_heads(
    weights: Sequence[nn.Parameter],
    heads: Callable[[Tensor], Sequence[Tensor]],
    embedding: Tensor,
    target: Tensor,
    n_classes: int,
    epochs: int,
) -> None:
    """Train what lies above a frozen encoder on the embeddings that it gives.

    Untrained heads would spoil the pretrained weights by their first gradients (Kumar et al.,
    Fine-Tuning can Distort Pretrained Features, ICLR 2022, section 4).

    Args:
        weights: what is trained.
        heads: embeddings (batch, layers, width) -> logits (batch, n_classes) of every head.
        embedding: of every clip, (clips, layers, width).
        target: class of every clip (clips,).
        n_classes: number of classes; each weighs the same in the loss.
        epochs: passes over the clips.
    """
    counts = torch.bincount(target, minlength=n_classes)
    class_weight = len(target) / (n_classes * counts.clamp(min=1).float())
    optimizer = torch.optim.AdamW(weights, lr=_RATE)
    steps = epochs * -(-len(target) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(target), device=target.device), _BATCH):
            losses = [
                F.cross_entropy(logits, target[chosen], class_weight, label_smoothing=_SMOOTHING)
                for logits in heads(embedding[chosen].float())
            ]
            optimizer.zero_grad()
            torch.autograd.backward(torch.stack(losses).mean())
            optimizer.step()
            schedule.step()
