"""Memory and time of extraction against the number of clips: `python -m bench.memory`.

Every size runs in a process of its own, so that its peak is its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from bench.measure import PeakMemory, markdown, parser, publish
from ser.audio import SAMPLE_RATE_HZ
from ser.cache import Clip, FeatureCache
from ser.features import Embedding, Feature, Mfcc
from ser.models.encoder import RandomEncoder

SIZES = (1_000, 10_000, 100_000)
CLIP_S = 3.0
FILES = 200
"""Different files; clips beyond share them, each under a hash of its own."""
BASE_LAYERS, BASE_WIDTH, BASE_FRAMES = 13, 768, 149


def synthesise(folder: Path) -> list[Path]:
    """Noise of 2 to 4 s, 16-bit at 16 kHz."""
    draw = np.random.default_rng(0)
    paths = []
    for i in range(FILES):
        n_samples = int(SAMPLE_RATE_HZ * draw.uniform(CLIP_S - 1, CLIP_S + 1))
        path = folder / f"{i}.wav"
        soundfile.write(path, draw.normal(0, 0.05, n_samples), SAMPLE_RATE_HZ, subtype="PCM_16")
        paths.append(path)
    return paths


def feature_of(name: str) -> Feature:
    """MFCC, or pooled layers of a tiny encoder: the memory is the cache's, not the encoder's."""
    if name == "mfcc":
        return Mfcc(39, 2048, 512, 128, 0, SAMPLE_RATE_HZ, None)
    return Embedding(RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="float32"))


def extract(feature: Feature, n_clips: int, files: Path, cache: Path) -> dict[str, float]:
    """Extract so many clips into a new cache: seconds, peak MiB, bytes on disk."""
    paths = sorted(files.glob("*.wav"))
    durations = [soundfile.info(path).duration for path in paths]
    clips = [Clip(paths[i % FILES], f"{i:064x}", durations[i % FILES]) for i in range(n_clips)]
    warm = FeatureCache(cache / "warm")
    warm.ensure(feature, clips[:64], workers=2, progress=False)
    with PeakMemory() as memory:
        start = time.perf_counter()
        store = FeatureCache(cache / "new").ensure(feature, clips, workers=2, progress=False)
        seconds = time.perf_counter() - start
    disk = sum(path.stat().st_size for path in store.folder.iterdir())
    return {
        "seconds": seconds, "peak_mib": memory.peak_mib, "added_mib": memory.added_mib,
        "disk": disk, "values": store.nbytes,
    }  # fmt: skip


def child(name: str, n_clips: int, files: Path) -> dict[str, float]:
    """`extract` in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", "--child", name, str(n_clips), str(files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def body(name: str, sizes: list[int], files: Path) -> list[list[str]]:
    """A row a size."""
    rows = []
    for n_clips in sizes:
        found = child(name, n_clips, files)
        rows.append(
            [
                f"{n_clips:,}",
                f"{found['seconds']:.1f}",
                f"{1e3 * found['seconds'] / n_clips:.2f}",
                f"{found['peak_mib']:.0f}",
                f"{found['added_mib']:.0f}",
                f"{1e6 * found['added_mib'] * 1.048576 / n_clips:,.0f}",
                f"{found['disk'] / n_clips:,.0f}",
                f"{(found['disk'] - found['values']) / n_clips:.0f}",
            ]
        )
    return rows


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=None)
    options.add_argument("--clips", type=int, default=100_000, help="the largest size")
    options.add_argument("--child", nargs=3, default=None, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        name, n_clips, files = given.child
        with tempfile.TemporaryDirectory() as cache:
            print(json.dumps(extract(feature_of(name), int(n_clips), Path(files), Path(cache))))
        return
    sizes = [size for size in SIZES if size < given.clips] + [given.clips]
    head = ["clips", "s", "ms a clip", "peak MiB", "added MiB", "added B a clip",
            "disk B a clip", "of it index"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        synthesise(Path(folder))
        mfcc = body("mfcc", sizes, Path(folder))
        pooled = body(
            "embedding", [size for size in sizes if 10 * size <= given.clips], Path(folder)
        )
    stored = 2 * BASE_LAYERS * 2 * BASE_WIDTH
    frames = 2 * BASE_LAYERS * BASE_FRAMES * BASE_WIDTH
    parts = [
        f"Noise of {CLIP_S - 1:g} to {CLIP_S + 1:g} s, {FILES} files under as many names as there "
        "are clips; 2 workers, one fresh process a size, the peak after a warm-up of 64 clips.",
        "MFCC, 39 coefficients:",
        markdown(head, mfcc),
        "Pooled layers of a tiny encoder (3 × 64 float16), to see what the cache itself costs:",
        markdown(head, pooled),
        f"Of wav2vec2-base a clip of {CLIP_S:g} s is stored in {stored:,} bytes ({BASE_LAYERS} × "
        f"{2 * BASE_WIDTH} float16); its frames would take {frames:,} ({frames // stored} times as "
        f"much): at 100,000 clips {stored * 1e5 / 1e9:.1f} GB against {frames * 1e5 / 1e9:.0f}. "
        "Values wait for a shard of at most 64 MiB or 5 s. What grows with the clips is their "
        "list, the index and the work list (added B a clip at the largest size), never the values.",
    ]
    publish("memory", "Memory and the number of clips", parts, given, "numpy torch")


if __name__ == "__main__":
    main()
