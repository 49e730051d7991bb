"""Every model option obeys the contract."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from ser.batch import Batch
from ser.loss import Mixed, training_loss
from ser.models.base import EmotionModel

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
N_CLASSES, N_FEATURES, N_LAYERS, N_INPUTS = 3, 6, 4, 10
STREAMS = {
    "frames": (N_FEATURES,),
    "embedding": (N_LAYERS, N_INPUTS),
    "embedding_whole": (N_LAYERS, N_INPUTS),
    "waveform": (),
}
VARIANTS = [(option, ()) for option in OPTIONS] + [
    *(("ensemble", (f"model.fusion={f}",)) for f in ("concat", "gated", "stacked")),
    *(("wav2vec2", (f"model.finetune={f}",)) for f in ("last_n", "lora", "full")),
    ("ensemble", ("model.wav2vec2.finetune=lora", "model.fusion=concat")),
    ("tim", ("model.normalise=clip", "model.deviation=true", "model.width=12", "model.jitter=0.5")),
    ("tim", ("model.mixup=1",)),
    ("ensemble", ("model.tim.mixup=1",)),
    ("ridge", ("model.whole_share=0",)),
    ("linear", ("model.layers=[0,2]",)),
]


def options_of(option: str, overrides: tuple[str, ...]) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"model={option}", "encoder=tiny", *overrides])
    resolved = OmegaConf.to_container(cfg, resolve=True)["model"]
    resolved.pop("name")
    return resolved


def build(option: str, overrides: tuple[str, ...] = ()) -> EmotionModel:
    options = options_of(option, overrides)
    reads = get_class(options["_target_"]).reads_of(options)
    streams = {name: shape for name, shape in STREAMS.items() if name in reads}
    torch.manual_seed(0)
    return instantiate(options, n_classes=N_CLASSES, streams=streams, _convert_="all")


def make_batch(lengths: list[int], seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    n, longest = len(lengths), max(lengths)
    length = torch.tensor(lengths)
    frames = torch.full((n, longest, N_FEATURES), 1e3)  # padding that must not be seen
    waveform = torch.full((n, 100 * longest), 1e3)
    for row, size in enumerate(lengths):
        frames[row, :size] = torch.randn(size, N_FEATURES, generator=draw)
        waveform[row, : 100 * size] = torch.randn(100 * size, generator=draw)
    return Batch(
        index=torch.arange(n),
        target=torch.arange(n) % N_CLASSES,
        frames=frames,
        frames_length=length,
        embedding=torch.randn(n, N_LAYERS, N_INPUTS, generator=draw),
        embedding_whole=torch.randn(n, N_LAYERS, N_INPUTS, generator=draw),
        waveform=waveform,
        waveform_length=100 * length,
        speaker=torch.arange(n) % 3,
        corpus=torch.zeros(n, dtype=torch.long),
    )


def alone(batch: Batch, row: int) -> Batch:
    one = Batch(*(stream[row : row + 1] for stream in batch))
    return one._replace(
        frames=one.frames[:, : int(one.frames_length)],
        waveform=one.waveform[:, : int(one.waveform_length)],
    )


def loss_of(model: EmotionModel, batch: Batch) -> torch.Tensor:
    return training_loss(
        model.training_logits(batch), batch.target, torch.ones(len(batch.target)), 0
    )


def trained(option: str, overrides: tuple[str, ...]) -> EmotionModel:
    """A model after fit, two steps and calibrate: no state is at its first value."""
    model = build(option, overrides)
    batches = [make_batch([40, 25, 31, 28, 37, 22], seed) for seed in (1, 2)]
    model.fit(lambda: batches)
    if model.trainable:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=1e-3)
        model.train()
        for batch in batches:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
    model.calibrate(lambda: batches)
    return model.eval()


@pytest.mark.parametrize(("option", "overrides"), VARIANTS, ids=str)
def test_model_keeps_the_contract(
    option: str, overrides: tuple[str, ...], take_float64: Callable[[], None]
) -> None:
    model = trained(option, overrides)
    assert isinstance(model, EmotionModel)
    batch = make_batch([33, 21, 40])
    with torch.no_grad():
        logits = model(batch)
        assert logits.shape == (3, N_CLASSES)
        assert logits.isfinite().all()
        for row in range(3):
            torch.testing.assert_close(
                model(alone(batch, row))[0], logits[row], rtol=1e-4, atol=1e-4
            )
    first, *others = model.training_logits(batch)
    assert isinstance(first, torch.Tensor) and first.shape == logits.shape
    for each in others:
        assert (each.logits if isinstance(each, Mixed) else each).shape == logits.shape
    assert model.reads == get_class(options_of(option, overrides)["_target_"]).reads_of(
        options_of(option, overrides)
    )

    again = build(option, overrides).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(batch), logits)
        take_float64()
        again = build(option, overrides).float().eval()  # as load_recognizer
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(batch), logits)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_parameter_learns(option: str) -> None:
    model = build(option)
    if not model.trainable:
        assert not list(model.parameters())
        return
    model.fit(lambda: [make_batch([40, 25, 31])])
    model.train()
    batch = make_batch([30, 25, 31])
    loss_of(model, batch).backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not silent
