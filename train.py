"""Train one model and score it: `python train.py --help`."""

from omegaconf import DictConfig

from ser.config import command, given_overrides
from ser.imports import quick_imports


@command("train")
def main(cfg: DictConfig) -> float:
    """Check the configuration, train, and give the monitored validation metric."""
    with quick_imports("ser.run"):
        from ser.run import train

    return train(cfg, given_overrides())


if __name__ == "__main__":
    main()
