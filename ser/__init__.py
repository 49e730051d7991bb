"""Speech emotion recognition: train, compare, explain and serve."""

__version__ = "0.1.0"
