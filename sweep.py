"""Many training runs, compared: ablations and searches: `python sweep.py --help`."""

from omegaconf import DictConfig

from ser.config import command


@command("sweep")
def main(cfg: DictConfig) -> None:
    """Run what is missing of the sweep and print its table."""
    from ser.sweep import sweep

    sweep(cfg)


if __name__ == "__main__":
    main()
