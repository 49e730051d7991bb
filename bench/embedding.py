"""Pooled embeddings of a frozen encoder, against transformers: `python -m bench.embedding`."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.encoders import Shape, wav2vec2_base, whisper_base
from bench.measure import Table, compare, matmul_gflops, parser, publish
from bench.speech import add_root, ravdess
from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.features import Embedding
from ser.onednn import use_blas

CHUNK = 4
ALONE, THEIRS = "ours, 1 thread", "transformers, one clip at a time"
HALF = "ours, 2 threads, encoder.precision=bfloat16"
GOALS = {"Whisper-base": (8.0, 25.0), "wav2vec2-base": (1.5, 0.0)}
"""Times transformers' speed, times real time."""


def pooled(states: tuple[torch.Tensor, ...]) -> np.ndarray:
    """(layers, mean ‖ deviation) of hidden states (1, frames, width), float16 as ours."""
    stacked = torch.stack(states)[:, 0]
    deviation, mean = torch.std_mean(stacked, dim=1, correction=0)
    return torch.cat([mean, deviation], dim=1).half().cpu().numpy()


def documented(shape: Shape, device: str = "cpu") -> Callable[[Waveform], np.ndarray]:
    """Feature extractor and model as transformers' documentation shows them."""
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    model: Any = shape.theirs().to(device)
    whisper = shape.name.startswith("Whisper")
    extractor = WhisperFeatureExtractor() if whisper else Wav2Vec2FeatureExtractor()

    def embed(waveform: Waveform) -> np.ndarray:
        inputs = extractor(waveform, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").to(device)
        with torch.no_grad():
            return pooled(model(**inputs, output_hidden_states=True).hidden_states)

    return embed


def ours(
    feature: Embedding, waveforms: list[Waveform], pool: ThreadPoolExecutor | None
) -> list[np.ndarray]:
    """As the cache does: chunks of clips of neighbouring length, a thread a core."""
    order = sorted(waveforms, key=len, reverse=True)
    chunks = [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)]

    def extract(chunk: list[Waveform]) -> list[np.ndarray]:
        return feature.extract(chunk, [""] * len(chunk))

    done = pool.map(extract, chunks) if pool else map(extract, chunks)
    return [values for part in done for values in part]


def in_bfloat16(shape: Shape) -> Shape:
    """The same weights with encoder.precision=bfloat16."""
    return dataclasses.replace(shape, precision="bfloat16", build=shape.theirs)


def single_threaded(feature: Embedding, waveforms: list[Waveform]) -> None:
    """Ours on the calling thread alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours(feature, waveforms, None)
    torch.set_num_threads(threads)


def timed(shape: Shape, waveforms: list[Waveform], repeats: int) -> Table:
    """Both on the same clips."""
    feature, embed = Embedding(shape), documented(shape)
    half = Embedding(in_bfloat16(shape))
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return compare(
            lambda: ours(feature, waveforms, pool),
            {
                ALONE: lambda: single_threaded(feature, waveforms),
                HALF: lambda: ours(half, waveforms, pool),
                THEIRS: lambda: [embed(waveform) for waveform in waveforms],
            },
            repeats,
            name="ours, 2 threads",
        )


def counted(shape: Shape) -> Callable[[Any], torch.nn.Module]:
    """How ours is made with products that torch's counter knows."""

    def wrap(model: Any) -> torch.nn.Module:
        module = shape.wrap(model)
        use_blas(module)
        return module

    return wrap


def operations(shape: Shape, waveform: Waveform) -> tuple[float, float]:
    """Floating-point operations (2 a multiplication) of ours and of theirs on one clip."""
    feature, embed = Embedding(dataclasses.replace(shape, wrap=counted(shape))), documented(shape)
    counts = []
    for call in (lambda: feature.extract([waveform], [""]), lambda: embed(waveform)):
        call()  # loads the weights, which is not to be counted
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


def difference(shape: Shape, waveform: Waveform) -> float:
    """Largest absolute difference of the pooled embeddings from transformers', over their range."""
    return _apart(ours(Embedding(shape), [waveform], None)[0], documented(shape)(waveform))


def bfloat16_difference(shape: Shape, waveform: Waveform) -> float:
    """What bfloat16 would change, over the range."""
    sources = in_bfloat16(shape), shape
    (half,), (full,) = (ours(Embedding(source), [waveform], None) for source in sources)
    return _apart(half, full)


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    wide = expected.astype(np.float32)
    return float(np.abs(found - wide).max() / np.ptp(wide))


def verdict(shape: Shape, table: Table, waveforms: list[Waveform]) -> str:
    """Speed against the goals and against the processor's peak."""
    duration_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    faster = float(np.median(table.ratios(THEIRS)))
    goal, real_time = GOALS[shape.name]
    middle = sorted(waveforms, key=len)[len(waveforms) // 2]
    mine, others = operations(shape, middle)
    peak = matmul_gflops()
    rate = mine * len(waveforms) / table.cpu_s(ALONE) / 1e9
    goals = f"goal {goal:g} ×" + (f" and {real_time:g} × real time" if real_time else "")
    both_s, one_s = table.seconds("ours, 2 threads"), table.seconds(ALONE)
    text = (
        f"{faster:.2f} × transformers ({goals}), {duration_s / both_s:.0f} × real time on 2 "
        f"threads, {duration_s / one_s:.0f} × on one. A clip of "
        f"{len(middle) / SAMPLE_RATE_HZ:.1f} s costs {mine / 1e9:.1f} G operations here and "
        f"{others / 1e9:.1f} there: with equal efficiency the ratio would be {others / mine:.2f}. "
        f"One core reaches about {rate:.0f} GFLOP/s, {100 * rate / peak:.0f} % of a large float32 "
        f"matrix product's {peak:.0f}."
    )
    text += (
        f" bfloat16 changes values by up to {bfloat16_difference(shape, middle):.1e} of the range."
    )
    if not real_time:
        text += f" Largest difference from transformers {difference(shape, middle):.1e}."
    return text


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=3)
    add_root(options)
    options.add_argument("--clips", type=int, default=16, help="clips, spread over the corpus")
    given = options.parse_args()
    paths = ravdess(given.root)
    chosen = paths[:: max(len(paths) // given.clips, 1)][: given.clips]
    waveforms = [load_waveform(path) for path in chosen]
    parts: list[object] = [
        f"{len(waveforms)} clips of RAVDESS, {sum(map(len, waveforms)) / SAMPLE_RATE_HZ:.0f} s; "
        "every layer's mean and deviation over time. Random weights of the published shapes. "
        "Whisper is padded to 30 s by transformers and not by us, which changes its embeddings "
        "(cosine .96 and more on real weights); wav2vec2's are the same."
    ]
    for shape in (whisper_base(), wav2vec2_base()):
        table = timed(shape, waveforms, given.repeats)
        parts += [f"{shape.name}:", table, verdict(shape, table, waveforms)]
    publish("embedding", "Embeddings of a frozen encoder", parts, given, "torch transformers")


if __name__ == "__main__":
    main()
