"""What fine-tuning leaves out of the backward pass."""

import pytest
import torch

from ser.models.encoder import RandomEncoder
from ser.models.finetuning import add_lora, train_last
from ser.models.speech_encoder import SpeechEncoder


def tiny() -> SpeechEncoder:
    return RandomEncoder("tiny", n_blocks=3, width=16, seed=0, precision="float32").load().train()


def states_of(encoder: SpeechEncoder) -> torch.Tensor:
    torch.manual_seed(0)
    return encoder(torch.randn(2, 4000), torch.tensor([4000, 3000]))[0]


def test_nothing_below_the_trained_blocks_is_gone_through() -> None:
    encoder = tiny()
    train_last(encoder, 1)
    wanted = []
    encoder.layers[2].register_forward_pre_hook(
        lambda _, args: wanted.append(args[0].requires_grad)
    )
    assert states_of(encoder).requires_grad
    assert wanted == [False]


@pytest.mark.parametrize("how", ["last_n", "lora"])
def test_gradients_equal_those_of_the_whole_graph(how: str) -> None:
    gradients = []
    for whole in (False, True):
        encoder = tiny()
        torch.manual_seed(1)
        if how == "last_n":
            train_last(encoder, 1)
        else:
            add_lora(encoder, rank=2, alpha=4, dropout=0.0)
        trained = [p for p in encoder.parameters() if p.requires_grad]
        if whole:
            encoder.requires_grad_(True)
        states_of(encoder).square().mean().backward()
        gradients.append([p.grad for p in trained])
    assert gradients[0]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
