"""The encoder arm: its arithmetic against plain formulas, its fine-tuning by what it changes."""

import pytest
import torch
from arm_options import ARM, N_CLASSES, random_batch
from torch.nn import functional as F

from ser.batch import Batch
from ser.errors import SerError
from ser.models.encoder import RandomEncoder
from ser.models.wav2vec2 import LayerWeighting, Wav2Vec2Model


def test_layer_weights_start_equal_and_ignore_other_layers() -> None:
    model = Wav2Vec2Model(N_CLASSES, {"embedding": (3, 6)}, **{**ARM, "layers": [0, 2]}).eval()
    assert model.weightings[0].weight.softmax(0).tolist() == [0.5, 0.5]
    batch = random_batch(4, 0)
    other = batch._replace(embedding=batch.embedding.clone())
    other.embedding[:, 1] += 1.0
    assert torch.equal(model(batch), model(other))


def plain_logits(model: Wav2Vec2Model, batch: Batch) -> torch.Tensor:
    """Every head by itself: standardised, projected as one long vector, classified."""
    logits = []
    for head, weighting in enumerate(model.weightings):
        scaled = (batch.embedding[:, model.layers] - model.mean) / model.deviation
        share = weighting.weight.softmax(0) * len(model.layers)
        summary = torch.einsum("bli,hli,l->bh", scaled, weighting.projection, share)
        summary = F.gelu(summary + model.bias.chunk(len(model.weightings))[head])
        logits.append(model.heads[head](summary).log_softmax(1))
    return torch.stack(logits).mean(0).log_softmax(1)


def test_the_heads_and_their_gradients_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    model = Wav2Vec2Model(N_CLASSES, {"embedding": (3, 6)}, **{**ARM, "layers": [0, 2]})
    batch = random_batch(12, 0)
    model.fit(lambda: [batch])
    for weighting in model.weightings:
        torch.nn.init.normal_(weighting.weight)
    model.eval()
    found, expected = model(batch), plain_logits(model, batch)
    torch.testing.assert_close(found, expected)
    weights = [p for name, p in model.named_parameters() if "encoder" not in name]
    ours = torch.autograd.grad(F.cross_entropy(found, batch.target), weights)
    plain = torch.autograd.grad(F.cross_entropy(expected, batch.target), weights)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("part", ["voice", "masks"])
def test_what_changes_in_fine_tuning_alone_is_refused_without_it(part: str) -> None:
    options = {**ARM, part: torch.nn.Identity()}
    with pytest.raises(SerError, match=r"finetune=none with voice or masks: .*voice=null"):
        Wav2Vec2Model(N_CLASSES, {"embedding": (3, 6)}, **options)


def test_each_head_drops_inputs_of_its_own_and_keeps_their_mean() -> None:
    weighting = LayerWeighting([0, 1], 6, 4)
    torch.manual_seed(0)
    scaled = torch.ones(20_000, 2, 6)
    with torch.no_grad():
        first, second = weighting(scaled, 0.5), weighting(scaled, 0.5)
        assert not first.equal(second)
        whole = weighting.eval()(scaled[:1], 0.5)
    torch.testing.assert_close(first.mean(0, keepdim=True), whole, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("finetune", "trained"), [("last_n", "layers.1."), ("lora", "lora_"), ("full", "")]
)
def test_finetuning_trains_what_it_says(finetune: str, trained: str) -> None:
    encoder = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    options = {**ARM, "encoder": encoder, "finetune": finetune}
    model = Wav2Vec2Model(N_CLASSES, {"waveform": ()}, **options)
    assert model.reads == {"waveform"}
    names = {name for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert names
    assert all(trained in name for name in names)


def waveforms(n: int, seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    target = torch.arange(n) % N_CLASSES
    time = torch.arange(4000) / 16000
    tones = torch.sin(2 * torch.pi * 300.0 * (1 + target)[:, None] * time)
    waveform = tones + 0.1 * torch.randn(n, 4000, generator=draw)
    return Batch(torch.arange(n), target, waveform=waveform, waveform_length=torch.full((n,), 4000))


def test_the_heads_are_trained_before_the_encoder() -> None:
    torch.manual_seed(0)
    encoder = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    options = {**ARM, "encoder": encoder, "finetune": "full", "head_epochs": 60}
    model = Wav2Vec2Model(N_CLASSES, {"waveform": ()}, **options)
    batch = waveforms(30, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        untrained = F.cross_entropy(model.eval()(batch), batch.target)
    model.train().fit(lambda: [batch])
    assert model.training
    with torch.no_grad():
        trained = F.cross_entropy(model.eval()(batch), batch.target)
    assert trained < 0.8 * untrained
    after = model.state_dict()
    changed = {name for name in before if not after[name].equal(before[name])}
    assert changed and not any(name.startswith("encoder.") for name in changed)


def test_heads_and_encoder_learn_at_rates_of_their_own() -> None:
    encoder = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    model = Wav2Vec2Model(
        N_CLASSES, {"waveform": ()}, **{**ARM, "encoder": encoder, "finetune": "last_n"}
    )
    (rate, heads), (encoder_rate, trained) = model.learning_rates()
    assert (rate, encoder_rate) == (1.0, 0.1)
    assert {id(p) for p in trained} == {id(p) for p in model.encoder.layers[-1].parameters()}
    assert not {id(p) for p in heads} & {id(p) for p in model.encoder.parameters()}


class Nothing(torch.nn.Module):
    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return 0 * features


def test_masks_hide_the_encoders_input_in_training_only() -> None:
    encoder = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    options = {**ARM, "encoder": encoder, "finetune": "full", "masks": Nothing()}
    model = Wav2Vec2Model(N_CLASSES, {"waveform": ()}, **options)
    one, other = waveforms(1, 0), waveforms(1, 1)
    with torch.no_grad():
        model.eval()
        assert not torch.allclose(model.embed(one), model.embed(other))
        model.encoder.train()
        torch.testing.assert_close(model.embed(one), model.embed(other))


def test_finetuning_needs_an_encoder_and_enough_blocks() -> None:
    with pytest.raises(SerError, match="needs an encoder"):
        Wav2Vec2Model(N_CLASSES, {"waveform": ()}, **{**ARM, "finetune": "full"})
    encoder = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    options = {**ARM, "encoder": encoder, "finetune": "last_n", "last_n": 3}
    with pytest.raises(SerError, match="last_n=3: the encoder has blocks 1 to 2"):
        Wav2Vec2Model(N_CLASSES, {"waveform": ()}, **options)


@pytest.mark.parametrize(("finetune", "layers"), [("none", [1]), ("lora", [0, 1, 2])])
def test_auto_layers_leave_no_trained_block_unused(finetune: str, layers: list[int]) -> None:
    encoder = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    options = {**ARM, "encoder": encoder, "finetune": finetune, "layers": "auto"}
    model = Wav2Vec2Model(N_CLASSES, {"waveform": (), "embedding": (3, 6)}, **options)
    assert model.weightings[0].layers == layers
