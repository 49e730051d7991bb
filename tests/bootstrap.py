"""An interval and a difference of two arms as the tables have them, from one call."""

from collections.abc import Sequence

import pandas as pd

from ser.metrics import counts_of
from ser.statistics import (
    N_DRAWS,
    WHOLE_FROM,
    Difference,
    Interval,
    Metric,
    align,
    difference_of,
    draw_clips,
    interval_of,
    metric_draws,
)


def bootstrap_interval(
    table: pd.DataFrame, classes: Sequence[str], metric: Metric, n_draws: int = N_DRAWS
) -> Interval:
    weights = draw_clips(table, n_draws=n_draws)
    return interval_of(metric_draws(weights, table, classes, metric))


def bootstrap_difference(
    a: pd.DataFrame,
    b: pd.DataFrame,
    classes: Sequence[str],
    metric: Metric,
    n_draws: int = N_DRAWS,
) -> Difference:
    b = align(a, b)
    weights = draw_clips(a, n_draws=n_draws, whole_from=WHOLE_FROM)
    draws = metric_draws(weights, a, classes, metric) - metric_draws(weights, b, classes, metric)
    return difference_of(metric(counts_of(a, classes)) - metric(counts_of(b, classes)), draws)
