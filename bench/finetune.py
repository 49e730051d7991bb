"""Fine-tuning steps against Hugging Face's Trainer, padded to the longest: `-m bench.finetune`.

wav2vec2-base's shape with random weights, clips of RAVDESS's spread of lengths. The Trainer draws
clips at random and pads each batch to its longest, as its documentation shows; ours cuts batches
of about one length, as training does. A run of ours begins with the statistics of every layer,
where it computes once a clip what it keeps of the frozen part.
"""

import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import ser.config  # noqa: F401 - the settings of threads and memory that every run has
from bench.encoders import wav2vec2_base
from bench.measure import Table, compare, measure, parser, publish
from ser.batch import Batch
from ser.models.encoder import EncoderWeights
from ser.models.speech_encoder import SpeechEncoder
from ser.models.wav2vec2 import Wav2Vec2Model
from ser.onednn import linear

RATE_HZ, EMOTIONS, BLOCKS, RANK, LR = 16_000, 8, 12, 16, 1e-4
SECONDS = (2.94, 3.70, 5.27)
"""The shortest, the mean and the longest RAVDESS clip."""
MODES = ("lora", "last_n", "full")
TRAINER, STATISTICS = "Hugging Face Trainer", "of ours, the statistics beforehand"


class BaseShape(EncoderWeights):
    """wav2vec2-base with random weights, as the arm asks for an encoder."""

    name, n_layers, width, precision = "wav2vec2_base", BLOCKS + 1, 768, "float32"

    def _identity(self) -> dict[str, str | int]:
        """Nothing is cached."""
        return {"random": self.name}

    def load(self) -> SpeechEncoder:
        """Layer drop and SpecAugment are off."""
        encoder = wav2vec2_base().load()
        assert isinstance(encoder, SpeechEncoder)
        return encoder


def synthesise(n_clips: int) -> list[np.ndarray]:
    """Noise of RAVDESS's lengths: a triangle with their ends and mean."""
    draw = np.random.default_rng(0)
    low, mean, high = SECONDS
    seconds = draw.triangular(low, max(low, 3 * mean - low - high), high, n_clips)
    return [draw.standard_normal(int(s * RATE_HZ), dtype=np.float32) for s in seconds]


def ours(
    mode: str,
    clips: list[np.ndarray],
    size: int,
    epochs: int,
    bfloat16: bool = False,
    device: str = "cpu",
) -> Callable[[], None]:
    """Epochs of the arm over the clips, in batches of about one length."""
    from ser.data import pad

    model = Wav2Vec2Model(
        EMOTIONS, {"waveform": ()}, encoder=BaseShape(), finetune=mode, last_n=2, lora_rank=RANK,
        lora_alpha=2 * RANK, lora_dropout=0.0, layers="inner", heads=4, hidden=64, nonlinear=True,
        input_dropout=0.5, dropout=0.5, lr_factor=1.0,
        encoder_lr_factor=1.0, head_epochs=0, voice=None, masks=None,
    ).to(device).train()  # fmt: skip
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, LR, fused=True)
    order = np.argsort([len(clip) for clip in clips])

    def batch_of(rows: torch.Tensor) -> Batch:
        waveform, length = pad([clips[int(row)] for row in rows])
        target = (rows % EMOTIONS).to(device)
        return Batch(rows, target, waveform=waveform.to(device), waveform_length=length.to(device))

    def step(rows: torch.Tensor) -> None:
        batch = batch_of(rows)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            every = model.training_logits(batch)[1:]
            loss = torch.stack([F.cross_entropy(y.float(), batch.target) for y in every]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    def run() -> None:
        parts = torch.from_numpy(order).split(size)
        model.fit(lambda: map(batch_of, parts))  # the statistics, and what is frozen once a clip
        for epoch in range(epochs):
            for part in np.random.default_rng(epoch).permutation(len(parts)):
                step(parts[part])

    return run


def classifier(mode: str) -> nn.Module:
    """transformers' classifier, what `mode` does not train frozen."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(num_labels=EMOTIONS, layerdrop=0.0, apply_spec_augment=False)
    model = Wav2Vec2ForSequenceClassification(config)
    if mode != "full":
        model.freeze_feature_encoder()
    if mode == "last_n":
        model.wav2vec2.requires_grad_(False)
        model.wav2vec2.encoder.layers[-2:].requires_grad_(True)
    elif mode == "lora":
        from peft import LoraConfig, get_peft_model

        targets, heads = ["q_proj", "k_proj", "v_proj"], ["projector", "classifier"]
        adapter = LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules=targets, modules_to_save=heads
        )
        model = get_peft_model(model, adapter)
    return model


def theirs(
    mode: str,
    clips: list[np.ndarray],
    size: int,
    epochs: int,
    folder: str,
    bfloat16: bool = False,
) -> Callable[[], None]:
    """The same clips through transformers' classifier and Trainer, as its example script."""
    from transformers import Trainer, TrainingArguments, Wav2Vec2FeatureExtractor

    extractor, model = Wav2Vec2FeatureExtractor(return_attention_mask=False), classifier(mode)

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        padded = extractor.pad(
            {"input_values": [row["input_values"] for row in rows]}, return_tensors="pt"
        )
        return {**padded, "labels": torch.tensor([row["labels"] for row in rows])}

    rows = [
        {"input_values": extractor(c, sampling_rate=RATE_HZ).input_values[0], "labels": i % 8}
        for i, c in enumerate(clips)
    ]
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=size, num_train_epochs=epochs, learning_rate=LR,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        remove_unused_columns=False, log_level="error", use_cpu=not torch.cuda.is_available(),
        bf16=bfloat16,
    )  # fmt: skip
    trainer = Trainer(model, arguments, collate, rows)
    return lambda: trainer.train()


def operations(mode: str, lengths: Sequence[int]) -> tuple[float, float]:
    """Of clips of these samples, each alone: a step's operations; of them the frozen part's."""
    model = classifier(mode).to("meta").train()
    below = wav2vec2_base().build().to("meta")
    del below.encoder.layers[{"full": 0, "lora": 0, "last_n": BLOCKS - 2}[mode] :]
    every = frozen = 0
    for length in lengths:
        waveform = torch.empty(1, length, device="meta")
        with FlopCounterMode(display=False) as counter:
            model(waveform).logits.sum().backward()
        every += counter.get_total_flops()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            below(waveform)
        frozen += counter.get_total_flops()
    return every, 0 if mode == "full" else frozen


def limit(mode: str, clips: list[np.ndarray], epochs: int, table: Table, gflops: float) -> str:
    """What the products alone would take at a product's rate, nothing padded or repeated."""
    every, frozen = operations(mode, [len(clip) for clip in clips])
    least = (frozen + epochs * (every - frozen)) / 1e9
    mine, others = table.seconds("ours"), table.seconds(TRAINER)
    steps = mine - table.seconds(STATISTICS)
    return (
        f"The steps alone: {others / steps:.2f} × as fast as the Trainer's.\n\n"
        f"Limit: without padding, what is frozen once a clip, its products are {least:,.0f} GFLOP, "
        f"{least / gflops:.1f} s at {gflops:.0f} GFLOP/s: ours takes {mine * gflops / least:.2f} "
        f"times as long, and nothing could be more than {others * gflops / least:.2f} × the "
        "Trainer."
    )


def product_gflops(rows: int = 740, width: int = 768) -> float:
    """Of a block's products on all threads, by oneDNN where torch has it; best of five."""
    x, weight = torch.randn(rows, width), torch.randn(4 * width, width)
    call = lambda: [linear(x, weight) for _ in range(20)]  # noqa: E731
    return 20 * 8 * rows * width**2 / min(measure(call).seconds for _ in range(5)) / 1e9


def main() -> None:
    """Time a run of every way of fine-tuning, and with --write renew docs/performance.md."""
    options = parser(__doc__, repeats=2)
    options.add_argument("--clips", type=int, default=16, help="clips an epoch")
    options.add_argument("--batch", type=int, default=8, help="clips a batch; the Trainer's own 8")
    options.add_argument("--epochs", type=int, default=4, help="epochs a run")
    options.add_argument("--modes", default=",".join(MODES), help="ways of fine-tuning")
    options.add_argument("--bfloat16", action="store_true", help="both under autocast as well")
    given = options.parse_args()
    clips = synthesise(given.clips)
    parts: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in given.modes.split(","):
            run = mode, clips, given.batch, given.epochs
            others = {TRAINER: theirs(*run, folder), STATISTICS: ours(*run[:-1], epochs=0)}
            if given.bfloat16:
                others["ours, bfloat16"] = ours(*run, bfloat16=True)
                others[f"{TRAINER}, bfloat16"] = theirs(*run, folder, bfloat16=True)
            table: Table = compare(ours(*run), others, given.repeats)
            parts += [f"finetune={mode}:", table]
            parts.append(limit(mode, clips, given.epochs, table, product_gflops()))
    steps = -(-given.clips // given.batch)
    parts.append(
        f"A run of {given.epochs} epochs of {steps} steps of {given.batch} clips: forward, "
        "backward, AdamW. Ours takes the statistics of every layer beforehand, within the time "
        "given, where it runs the frozen part of lora and last_n once a clip, without the dropout "
        "that the Trainer's has; all of full is trained."
    )
    packages = "torch transformers accelerate peft"
    publish("finetune", "Fine-tuning", parts, given, packages)


if __name__ == "__main__":
    main()
