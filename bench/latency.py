"""One clip from file to emotion, arm by arm, against transformers: `python -m bench.latency`.

Arms are trained runs: their UAR, parameters, milliseconds and megabytes side by side.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

from bench.compact import Compact, stored_mb
from bench.embedding import operations
from bench.encoders import wav2vec2_base, whisper_base
from bench.measure import Table, compare, fail, markdown, matmul_gflops, parser, publish
from bench.speech import add_root, ravdess
from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.features import Embedding, SpeechEmbedding
from ser.metrics import confusion, uar
from ser.models.wav2vec2 import Wav2Vec2Model
from ser.predict import Recognizer
from ser.recognizer import load_recognizer

CLIP_S = 3.0
KINDS = {"int8": "torch int8", "onnx": "ONNX Runtime", "onnx_int8": "ONNX Runtime int8"}
FIRST = "wav2vec2"


@dataclasses.dataclass
class Row:
    """A line of the table."""

    recognizer: Recognizer
    uar: float = float("nan")
    mb: float = float("nan")
    parameters: float = float("nan")


def arms(runs: list[Path], encoder: Path | None) -> dict[str, Row]:
    """Trained runs by the model's name."""
    found = {}
    for run in runs:
        checkpoint = run / "checkpoints" / "best.ckpt"
        if not checkpoint.is_file():
            fail(f"{run} holds no checkpoints/best.ckpt. Give folders of finished runs.")
        recognizer = load_recognizer(checkpoint, str(encoder) if encoder else None)
        found[run.name.split("_")[2].split("-")[0]] = Row(recognizer)
    return found


def untrained() -> Row:
    """The arm on wav2vec2-base's shape with random weights: its time, and no UAR."""
    shape = wav2vec2_base()
    torch.manual_seed(0)
    model = Wav2Vec2Model(
        8, {"embedding": (13, 1536)}, None, finetune="none", last_n=2, lora_rank=16, lora_alpha=32,
        lora_dropout=0.05, layers="inner", heads=4, hidden=64, nonlinear=True, input_dropout=0.5,
        dropout=0.5, lr_factor=0.5,
        encoder_lr_factor=0.1, head_epochs=0, voice=None, masks=None,
    ).eval()  # fmt: skip
    classes = tuple(f"class_{k}" for k in range(8))
    return Row(Recognizer(model, (Embedding(shape),), classes))


def smaller(row: Row, kind: str) -> Row:
    """The same arm on another form of its encoder."""
    features = tuple(
        compacted(feature, kind) if isinstance(feature, Embedding) else feature
        for feature in row.recognizer.features
    )
    return Row(dataclasses.replace(row.recognizer, features=features))


def compacted(feature: Embedding, kind: str) -> Embedding:
    """The same statistics of another form of the encoder."""
    encoder = Compact(feature.encoder, kind)
    if isinstance(feature, SpeechEmbedding):
        return SpeechEmbedding(encoder, feature.statistics, feature.speeds)
    return Embedding(encoder)


def weigh(row: Row) -> None:
    """Fill in parameters and megabytes of head and encoder."""
    row.parameters = float(sum(p.numel() for p in row.recognizer.model.parameters()))
    row.mb = stored_mb(row.recognizer.model)
    encoders = [f for f in row.recognizer.features if isinstance(f, Embedding)]
    for feature in encoders[:1]:  # one encoder, however often it is read
        compact = isinstance(feature.encoder, Compact)
        module = feature.encoder.load()
        plain = feature.encoder.source.load() if compact else module
        row.parameters += sum(p.numel() for p in plain.parameters())
        row.mb += feature.encoder.size_mb if compact else stored_mb(module)


def judge(row: Row, clips: pd.DataFrame) -> float:
    """UAR on these clips."""
    answers = row.recognizer.predict_files([Path(path) for path in clips["path"]])
    classes = row.recognizer.classes
    return float(uar(confusion(clips["truth"], answers["prediction"], classes)))


def documented(shape: str, clip: Path) -> Callable[[], object]:
    """transformers' pipeline on the samples of the file (by name it would start ffmpeg)."""
    import transformers

    torch.manual_seed(0)
    model: Any
    if shape == "Whisper-base":
        config = transformers.WhisperConfig(
            d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048,
            decoder_layers=1, num_labels=8,
        )  # fmt: skip
        model = transformers.WhisperForAudioClassification(config)
        extractor: Any = transformers.WhisperFeatureExtractor()
    else:
        model = transformers.Wav2Vec2ForSequenceClassification(
            transformers.Wav2Vec2Config(num_labels=8)
        )
        extractor = transformers.Wav2Vec2FeatureExtractor()
    pipe = transformers.pipeline(
        "audio-classification", model=model.eval(), feature_extractor=extractor, device="cpu"
    )

    def run() -> object:
        samples, rate = soundfile.read(clip, dtype="float32")
        return pipe({"raw": samples, "sampling_rate": rate})

    return run


def rows_of(given: Any) -> dict[str, Row]:
    """Every arm in every form, with UAR on the clips tested."""
    rows = arms(given.runs, given.encoder)
    for kind, label in KINDS.items():
        if FIRST in rows:
            rows[f"{FIRST}, {label}"] = smaller(rows[FIRST], kind)
    tested = pd.read_parquet(given.runs[0] / "predictions.parquet")
    tested = tested.iloc[:: max(len(tested) // given.test_clips, 1)]
    for row in rows.values():
        row.uar = judge(row, tested)
    base = untrained()
    rows["wav2vec2-base shape"] = base
    for kind, label in KINDS.items():
        rows[f"wav2vec2-base shape, {label}"] = smaller(base, kind)
    for row in rows.values():
        weigh(row)
    return rows


def lines(rows: dict[str, Row], table: Table) -> list[list[str]]:
    """The table's body: UAR × parameters × ms × MB."""
    body = []
    for name, timings in table.timings.items():
        row = rows.get(name)
        spread = [1e3 * timing.seconds for timing in timings]
        head = ["", "", ""]
        if row:
            known = "" if np.isnan(row.uar) else f"{row.uar:.3f}".lstrip("0")
            head = [known, f"{row.parameters / 1e6:.2f} M", f"{row.mb:.1f}"]
        body.append(
            [name, *head, f"{np.median(spread):.1f} [{min(spread):.1f}, {max(spread):.1f}]"]
        )
    return body


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=10)
    add_root(options)
    options.add_argument("--runs", type=Path, nargs="+", required=True, help="run folders")
    options.add_argument("--encoder", type=Path, help="folder of the encoder's weights")
    options.add_argument("--test-clips", type=int, default=100, help="clips that UAR is of")
    given = options.parse_args()
    rows = rows_of(given)
    paths = ravdess(given.root)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.wav"
        samples = load_waveform(paths[len(paths) // 2])[: int(CLIP_S * SAMPLE_RATE_HZ)]
        soundfile.write(clip, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        calls = {
            name: lambda r=row: r.recognizer.predict_files([clip]) for name, row in rows.items()
        }
        others = {
            f"transformers pipeline, {shape} shape": documented(shape, clip)
            for shape in ("Whisper-base", "wav2vec2-base")
        }
        first, *rest = calls
        table = compare(
            calls[first], {**{k: calls[k] for k in rest}, **others}, given.repeats, name=first,
            unit_s=1e-3,
        )  # fmt: skip
    head = ["arm", "UAR", "parameters", "MB", "ms [min, max]"]
    parts: list[object] = [
        f"A clip of {CLIP_S:g} s at 16 kHz, from the file on disk to probabilities, models loaded. "
        f"UAR is of {given.test_clips} test clips of the run, the same for every form (too few to "
        "rank arms; docs/results.md ranks them). The trained arms read Whisper-base; "
        "wav2vec2-base has random weights and no UAR. MB: weights as stored, head and encoder.",
        markdown(head, lines(rows, table)),
        verdict(table),
        limit(samples),
    ]
    publish("latency", "Latency of one clip", parts, given, "torch transformers onnxruntime")


def limit(samples: Waveform) -> str:
    """What an encoder's products alone would take."""
    rate = matmul_gflops() * torch.get_num_threads()
    counts = {
        shape.name: operations(shape, samples)[0] / 1e9
        for shape in (whisper_base(), wav2vec2_base())
    }
    least = "; ".join(
        f"of {name} {count:.1f} G, {1e3 * count / rate:.0f} ms" for name, count in counts.items()
    )
    return (
        f"Limit: a reading of the clip costs these operations, at {rate:.0f} GFLOP/s of a large "
        f"product on {torch.get_num_threads()} threads: {least}. ridge and ensemble read it twice."
    )


def verdict(table: Table) -> str:
    """Ours against the pipeline, and what each form buys."""
    text = []
    for ours, shape in ((FIRST, "Whisper-base"), ("wav2vec2-base shape", "wav2vec2-base")):
        if ours not in table.timings:
            continue
        pipe = f"transformers pipeline, {shape} shape"
        ratio = float(np.median(table.ratios(pipe, ours)))
        forms = ", ".join(
            f"{label} {float(np.median(table.ratios(ours, f'{ours}, {label}'))):.2f} ×"
            for label in KINDS.values()
        )
        text.append(
            f"On {shape} the pipeline takes {ratio:.2f} × our time; against our own float32 in "
            f"torch, {forms} as fast."
        )
    return " ".join(text)


if __name__ == "__main__":
    main()
