"""Fitting the ridge model, and its time by number of clips: `python -m bench.ridge`."""

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import GroupKFold, cross_val_predict

from bench.measure import compare, markdown, matmul_gflops, measure, parser, publish
from ser.batch import Batch
from ser.config import CONF
from ser.models.ridge import Ridge

SIZES = (1_000, 10_000, 100_000)
LAYERS, WIDTH, EMOTIONS, CLIPS_A_SPEAKER, CORPORA, BATCH = 7, 512, 7, 60, 4, 64
SCIKIT = "scikit-learn, answers to speakers left out by cross_val_predict"
FOLDS, PARTITIONS = 4, 10


def synthesise(n_clips: int) -> list[Batch]:
    """Embeddings of Whisper-base's shape with something of the class and of the speaker in each."""
    draw = torch.Generator().manual_seed(0)
    n_speakers = max(FOLDS, n_clips // CLIPS_A_SPEAKER)
    classes = torch.randn(EMOTIONS, LAYERS, 2 * WIDTH, generator=draw)
    voices = torch.randn(n_speakers, LAYERS, 2 * WIDTH, generator=draw)
    batches = []
    for part in torch.split(torch.arange(n_clips), BATCH):
        speaker = part % n_speakers
        target = torch.randint(0, EMOTIONS, part.shape, generator=draw)
        clip = 0.3 * classes[target] + 0.5 * voices[speaker]
        speech, whole = (clip + torch.randn(clip.shape, generator=draw) for _ in range(2))
        batches.append(
            Batch(
                part, target, embedding=speech.half(), embedding_whole=whole.half(),
                speaker=speaker, corpus=speaker % CORPORA,
            )
        )  # fmt: skip
    return batches


def model() -> Ridge:
    """The model at its own options."""
    shape = (LAYERS, 2 * WIDTH)
    with initialize_config_dir(str(CONF), version_base=None):
        options = compose("train", ["model=ridge"]).model
    del options.name
    made = instantiate(
        options, n_classes=EMOTIONS, streams={"embedding": shape, "embedding_whole": shape}
    )
    assert isinstance(made, Ridge)
    return made


def theirs(batches: list[Batch]) -> None:
    """The same views, targets and partitions; speakers' directions stay in."""
    of = model()
    inputs = torch.cat([of._inputs(batch) for batch in batches]).numpy()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    signs = 2.0 * np.eye(EMOTIONS)[torch.cat([batch.target for batch in batches])] - 1.0
    speaker = np.concatenate([batch.speaker for batch in batches])
    for columns, _ in of.views:
        view = inputs[:, columns.numpy()]
        ridge = SklearnRidge(alpha=of.penalty * len(columns))
        ridge.fit(view, signs)
        for seed in range(PARTITIONS):
            folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
            cross_val_predict(ridge, view, signs, groups=speaker, cv=folds)


def growth(sizes: list[int]) -> str:
    """A row a size."""
    rows = []
    for n_clips in sizes:
        batches = synthesise(n_clips)
        timing = measure(lambda batches=batches: model().fit(lambda: batches))
        ms = 1e3 * timing.seconds / n_clips
        held = sum(b.embedding.nbytes + b.embedding_whole.nbytes for b in batches) / 2**20
        rows.append(
            [f"{n_clips:,}", f"{timing.seconds:,.1f}", f"{timing.cpu_s:,.1f}", f"{ms:.2f}",
             f"{timing.peak_mib:,.0f}", f"{held:,.0f}"]
        )  # fmt: skip
        del batches
    head = ["clips", "s", "processor s", "ms a clip", "peak MiB", "MiB of embeddings"]
    return markdown(head, rows)


def limit(n_clips: int) -> str:
    """What inner products and inverses alone would take of a fit by an inverse over the clips."""
    sizes = [len(columns) for columns, _ in model().views]
    products = sum(n_clips**2 * size for size in sizes)  # one triangle, two operations each
    inverses = len(sizes) * n_clips**3  # Cholesky's factor, and the inverse from it
    rate = 1e9 * matmul_gflops() * torch.get_num_threads()
    seconds = products / rate + inverses / (rate / 2)
    return (
        f"Limit: of {n_clips:,} clips the inner products are {products / 1e12:.2g} T operations, "
        f"the inverses {inverses / 1e12:.2g} in float64: {seconds:.1f} s at the speed of a large "
        "product, float64's half of float32's."
    )


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--clips", type=int, default=SIZES[-1], help="the largest size")
    given = options.parse_args()
    batches = synthesise(SIZES[0])
    table = compare(
        lambda: model().fit(lambda: batches), {SCIKIT: lambda: theirs(batches)}, given.repeats
    )
    sizes = [size for size in SIZES if size < given.clips] + [given.clips]
    ratio = float(np.median(table.ratios(SCIKIT)))
    parts = [
        f"Embeddings of Whisper-base's shape, twice a clip ({LAYERS} × {2 * WIDTH} float16; "
        f"synthesised), {EMOTIONS} classes, {CLIPS_A_SPEAKER} clips a speaker, {CORPORA} corpora. "
        f"Four regressions, each solved on all clips and for answers to speakers left out, "
        f"{FOLDS} groups of them in {PARTITIONS} partitions. Of {SIZES[0]:,} clips:",
        table,
        f"{ratio:.1f} × scikit-learn, which solves every group anew and has no directions of "
        "speakers to take out.",
        growth(sizes),
        limit(SIZES[1]),
        "Up to 15,000 clips an inverse of clips × clips is what costs; beyond, and where there are "
        "three times as many clips as inputs, sums over the clips (linear in them), and fewer "
        "partitions the more clips there are.",
    ]
    publish("ridge", "Fitting the ridge model", parts, given, "numpy torch scikit-learn scipy")


if __name__ == "__main__":
    main()
