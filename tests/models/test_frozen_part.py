"""What is kept of an encoder's frozen part is what it gives."""

from typing import Any

import pytest
import torch

from ser.augment import SpecAugment
from ser.models.encoder import RandomEncoder
from ser.models.finetuning import add_lora, train_last
from ser.models.frozen_part import FrozenPart, first_trained
from ser.models.speech_encoder import SpeechEncoder

LENGTHS = (4000, 3000)


def encoder_of(how: str) -> SpeechEncoder:
    encoder = RandomEncoder("tiny", n_blocks=3, width=16, seed=0, precision="float32").load()
    if how == "last_n":
        train_last(encoder, 1)
    elif how == "lora":
        add_lora(encoder, rank=2, alpha=4, dropout=0.0)
        for name, weight in encoder.named_parameters():
            if "lora_B" in name:  # 0 at first, and nothing reaches lora_A
                torch.nn.init.constant_(weight, 0.1)
    return encoder


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(len(LENGTHS), max(LENGTHS)), torch.tensor(LENGTHS)


def masks() -> SpecAugment:
    return SpecAugment(time_masks=1, time_fraction=0.2, feature_masks=1, feature_width=2)


@pytest.mark.parametrize("how", ["last_n", "lora"])
@pytest.mark.parametrize("masked", [False, True])
def test_embeddings_and_gradients_equal_those_of_the_whole(how: str, masked: bool) -> None:
    outcomes: list[list[Any]] = []
    for keep in (False, True):
        torch.manual_seed(1)
        encoder = encoder_of(how)
        encoder.masks = masks() if masked else None
        part = FrozenPart(encoder)
        if keep:
            part.start()
            with torch.no_grad():
                part.embed(*batch())
        waveform, lengths = batch()
        embedding = part.embed(waveform.requires_grad_(not keep), lengths)
        embedding.square().mean().backward()
        trained = [p.grad for p in encoder.parameters() if p.requires_grad]
        outcomes.append([embedding, *trained])
    torch.testing.assert_close(outcomes[1], outcomes[0], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("masked", "first_runs"), [(False, 0), (True, 2)])
def test_a_known_clip_passes_through_the_trained_part_alone(masked: bool, first_runs: int) -> None:
    encoder = encoder_of("last_n").train()
    encoder.masks = masks() if masked else None
    part = FrozenPart(encoder)
    part.start()
    encoder.eval()
    part.embed(*batch())
    encoder.train()
    runs = []
    encoder.layers[0].register_forward_hook(lambda *_: runs.append(0))
    encoder.layers[2].register_forward_hook(lambda *_: runs.append(2))
    encoder.model.feature_extractor.conv_layers[0].register_forward_hook(lambda *_: runs.append(9))
    for _ in range(2):
        part.embed(*batch())
    assert runs.count(0) == first_runs and runs.count(2) == 2 and runs.count(9) == 0
    waveform, lengths = batch()
    part.embed(waveform + 1e-3, lengths)
    assert runs.count(9) == 2 and encoder.training


def test_what_is_past_the_limit_is_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser.models.frozen_part.LIMIT_BYTES", 1000)
    part = FrozenPart(encoder_of("last_n"))
    part.start()
    one, other = part.embed(*batch()), part.embed(*batch())
    torch.testing.assert_close(one, other)
    assert part._kept == {}


def test_of_what_only_training_meets_no_more_is_kept_than_comes_again() -> None:
    part = FrozenPart(encoder_of("last_n").train())
    part.start()
    for turn in range(3):  # as margins cut at random are: other samples each time
        part.embed(batch()[0] + turn, batch()[1])
    assert part._kept == {}
    part.embed(*batch())
    assert part._kept is not None and len(part._kept) == len(LENGTHS)


@pytest.mark.parametrize(("how", "first"), [("last_n", 2), ("lora", 0), ("full", None)])
def test_first_trained(how: str, first: int | None) -> None:
    assert first_trained(encoder_of(how)) == first
