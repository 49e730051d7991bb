"""Score a finished run, on its own test part or on another corpus: `python evaluate.py --help`."""

from omegaconf import DictConfig

from ser.config import command, given_overrides
from ser.imports import quick_imports


@command("evaluate")
def main(cfg: DictConfig) -> float:
    """Score the run's kept checkpoint and give its UAR."""
    with quick_imports("ser.evaluate"):
        from ser.evaluate import evaluate

    return evaluate(cfg, given_overrides())


if __name__ == "__main__":
    main()
