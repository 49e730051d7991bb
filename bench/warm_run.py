"""A whole warm training run of 20 epochs against a bare PyTorch loop: `python -m bench.warm_run`.

Both start a Python, train the same network on the same features, validate and save every epoch and
score the test part. Ours also reads the corpus and the cache, keeps MLflow's record, draws the
figures and writes the predictions and the model card.
"""

import shlex
import sys
import tempfile
from pathlib import Path

from bench.measure import parser, publish
from bench.worker import compare_processes, time_process

EPOCHS = 20


def overrides_of(text: str, encoder_path: Path | None, runs: Path) -> list[str]:
    """The options of train.py, the same for both contestants."""
    given = ["model=ensemble", "augment=none", *shlex.split(text)]
    if encoder_path:
        given.append(f"encoder.path={encoder_path.absolute()}")
    return [*given, f"runs_root={runs}"]


def prepare(overrides: list[str], target: Path) -> None:
    """Put the network, its features and the recipe's numbers in a file for the bare loop."""
    import torch
    from hydra import compose, initialize_config_dir

    from ser.assemble import build_data
    from ser.batch import Batch
    from ser.config import CONF, check
    from ser.run import prepare as prepare_job

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    check(cfg)
    job = prepare_job(cfg)
    data = build_data(cfg, job.material, job.features)
    parts = {name: getattr(data, name) for name in ("train", "val", "test")}
    whole: dict[str, Batch] = {name: part[range(len(part))] for name, part in parts.items()}
    torch.save(
        {
            "model": job.model,
            "weights": data.loss_weights(len(job.material.speech.table)),
            "batch": cfg.loader.batch_size,
            "epochs": EPOCHS,
            "lr": cfg.optimizer.lr,
            **whole,
        },
        target,
    )


def main() -> None:
    """Warm the cache, then time both, in alternation."""
    options = parser(__doc__, repeats=2)
    options.add_argument("--overrides", default="dataset=demo", help="further options of train.py")
    options.add_argument("--encoder-path", type=Path, help="folder of the encoder's weights")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        overrides = overrides_of(given.overrides, given.encoder_path, folder / "runs")
        prepare(overrides, folder / "given.pt")
        time_process([sys.executable, "train.py", *overrides, "trainer.max_epochs=1"])
        bare = [sys.executable, "-m", "bench.bare_loop"]
        table = compare_processes(
            {
                "python train.py model=ensemble": [
                    sys.executable,
                    "train.py",
                    *overrides,
                    f"trainer.max_epochs={EPOCHS}",
                ],
                "bare PyTorch loop": [*bare, str(folder / "given.pt"), scratch],
            },
            given.repeats,
        )
    ours, theirs = table.timings
    ratios = sorted(table.ratios(ours, against=theirs))
    note = (
        f"Ours takes {ratios[len(ratios) // 2]:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] times the "
        "bare loop's wall time. The limit is the epochs themselves, of the same model and "
        "optimizer on either side. Peak MiB are of the whole process."
    )
    title = f"A whole warm run of {EPOCHS} epochs"
    publish("warm_run", title, [table, note], given, "torch pytorch-lightning mlflow")


if __name__ == "__main__":
    main()
