"""Many training runs, compared: ablations and searches: `python sweep.py --help`."""

from omegaconf import DictConfig

from ser.config import command
from ser.imports import quick_imports


@command("sweep")
def main(cfg: DictConfig) -> None:
    """Run what is missing of the sweep and print its table."""
    with quick_imports("ser.sweep"):
        from ser.sweep import sweep

    sweep(cfg)


if __name__ == "__main__":
    main()
