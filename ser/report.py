"""Results as a person reads them: tables on a terminal, Markdown or tab-separated lines elsewhere.

Each table is built as text cells first, so what the terminal shows, what a pipe gets and what a
document quotes hold the same figures.
"""

from collections.abc import Hashable, Mapping, Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from ser.corpora.folder import UNKNOWN as UNKNOWN_SPEAKER
from ser.errors import SerError
from ser.metrics import METRIC_NAMES

GROUPS = ("corpus/", "sex/", "without_tess")  # key prefixes of ser.metrics.split_groups
GROUP_LABELS = {"without_tess": "all but TESS"}
WRONG_COLUMNS = ("id", "truth", "prediction", "confidence", "path")
UNKNOWN = "-"


def render_results(
    figures: Mapping[str, float], classes: pd.DataFrame, title: str, console: Console
) -> None:
    """Print one run's figures: overall, by corpus and sex, then by class.

    ``figures`` has the keys of ``ser.metrics.score_groups``; ``classes`` is the table of
    ``ser.metrics.class_report``.
    """
    show(_figure_cells(figures), title, console)
    show(_class_cells(classes), "by emotion", console)


def headline(metrics: Mapping[str, float]) -> str:
    """A run's figures overall, by corpus and sex in Markdown: of the test part, if it was scored.

    ``metrics`` has the keys of metrics.json: ``test/uar``, ``best/uar``, …
    """
    part = "test" if "test/uar" in metrics else "best"
    where = "Test part" if part == "test" else "Validation part, kept checkpoint"
    return f"{where}\n\n{part_markdown(metrics, part)}"


def part_markdown(metrics: Mapping[str, float], part: str) -> str:
    """The figures `<part>/…` overall, by corpus and sex in Markdown."""
    prefix = f"{part}/"
    figures = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
    return markdown(_figure_cells(figures))


def class_markdown(classes: pd.DataFrame) -> str:
    """The table by emotion of ``render_results`` in Markdown, to keep with the run."""
    return markdown(_class_cells(classes))


def compare_runs(runs: Sequence[Mapping[str, Hashable]], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over the runs (seeds) of each arm.

    ``runs`` holds one mapping a run with its ``arm`` and metrics; a run without a metric counts as
    unfinished for it. The result has the columns ``arm``, ``runs``, and for each metric
    ``<metric>``, ``<metric> sd`` (n - 1; NaN for one run) and ``<metric> n``; best first metric
    first. Raises SerError for no runs, or for a metric that no run has.
    """
    table = pd.DataFrame([dict(run) for run in runs])
    absent = [key for key in ("arm", *metrics) if key not in table]
    if absent:
        raise SerError(
            f"Cannot compare {len(table)} runs: none of them has {', '.join(absent)}. They have "
            f"{', '.join(map(str, table.columns)) or 'nothing'}."
        )
    result = table.groupby("arm", sort=False).size().rename("runs").to_frame()
    for metric in metrics:
        values = pd.to_numeric(table[metric]).groupby(table["arm"])
        result[metric], result[f"{metric} sd"] = values.mean(), values.std()
        result[f"{metric} n"] = values.count()
    return result.sort_values(metrics[0], ascending=False, kind="stable").reset_index()


def wrong_clips(predictions: pd.DataFrame) -> pd.DataFrame:
    """The clips that were not recognised, the surest mistakes first.

    ``predictions`` has the columns id, truth, prediction, confidence (0 to 1), path.
    """
    wrong = predictions[predictions["truth"] != predictions["prediction"]]
    ordered = wrong.sort_values(["confidence", "id"], ascending=[False, True])
    return ordered[list(WRONG_COLUMNS)].reset_index(drop=True)


def render_wrong(predictions: pd.DataFrame, limit: int, title: str, console: Console) -> None:
    """Print the ``limit`` surest mistakes; away from a terminal, all as tab-separated lines."""
    wrong = wrong_clips(predictions)
    cells = wrong.assign(confidence=wrong["confidence"].map("{:.2f}".format))
    if not console.is_terminal:
        _write("\n".join("\t".join(row) for row in (WRONG_COLUMNS, *_rows(cells))), console)
        return
    shown = f", the surest {limit} of them" if limit < len(wrong) else ""
    share = f"{title}: {len(wrong):,} of {len(predictions):,} clips wrong{shown}"
    console.print(Text(share, style="bold"))
    width = max(map(len, cells["truth"] + cells["prediction"]), default=0)
    for name, truth, prediction, confidence, path in _rows(cells.head(limit)):
        confused = f"{truth} → {prediction}".ljust(width + 3)
        console.print(Text(f"{confidence}  {confused}  {name}"), soft_wrap=True)
        console.print(Text(f"      {path}", style="dim"), soft_wrap=True)  # whole, to be copied


def counted(number: int, noun: str) -> str:
    """`1 clip`, `1,200 clips`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clips_and_speakers(table: pd.DataFrame) -> str:
    """`300 clips of 5 speakers`: how many rows there are, and of how many speakers.

    Whom a folder does not name is not counted.
    """
    clips, speakers = counted(len(table), "clip"), set(table["speaker"])
    known = speakers - {f"folder_{UNKNOWN_SPEAKER}"}
    if not known:
        return f"{clips} of unknown speakers"
    more = "" if known == speakers else " and unknown ones"
    return f"{clips} of {counted(len(known), 'speaker')}{more}"


def markdown(cells: pd.DataFrame) -> str:
    """A table of text as aligned Markdown; the first column to the left, figures to the right."""
    header, rows = [str(column) for column in cells.columns], _rows(cells)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    left = _to_the_left(cells)
    lines = [
        " | ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        )
        for row in escaped
    ]
    rule = " | ".join(
        "-" * width if is_left else "-" * (width - 1) + ":"
        for width, is_left in zip(widths, left, strict=True)
    )
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def _figure_cells(figures: Mapping[str, float]) -> pd.DataFrame:
    """One row for all clips and one a group (corpus, sex, without TESS), a column a figure.

    The only corpus and the only sex have no row where they are all clips again.
    """
    rows = {
        "all clips": {label: figure_cell(figures.get(key)) for key, label in METRIC_NAMES.items()}
    }
    for key, figure in figures.items():
        group, _, metric = key.rpartition("/")
        if group.startswith(GROUPS) and metric in METRIC_NAMES:
            label = GROUP_LABELS.get(group, group.replace("/", " "))
            rows.setdefault(label, {})[METRIC_NAMES[metric]] = figure_cell(figure)
    for kind in ("corpus ", "sex "):
        named = [label for label in rows if label.startswith(kind)]
        if len(named) == 1 and rows[named[0]].items() <= rows["all clips"].items():
            del rows[named[0]]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(METRIC_NAMES.values()))
    return table.fillna("").rename_axis("").reset_index()


def _class_cells(classes: pd.DataFrame) -> pd.DataFrame:
    """One row a class: precision, recall, F1, clips."""
    cells = {name: classes[name].map(figure_cell) for name in ("precision", "recall", "f1")}
    cells["clips"] = classes["support"].map("{:,}".format)
    return pd.DataFrame(cells).rename(columns={"f1": "F1"}).rename_axis("emotion").reset_index()


def comparison_cells(
    runs: Sequence[Mapping[str, Hashable]], metrics: Sequence[str]
) -> pd.DataFrame:
    """`compare_runs` as text: mean ± sd of a metric, "2/3" seeds when one run has none."""
    compared = compare_runs(runs, metrics)
    cells = compared[["arm"]].astype(str)
    finished = compared[f"{metrics[0]} n"]
    cells["seeds"] = [
        str(n) if n == of else f"{n}/{of}" for n, of in zip(finished, compared["runs"], strict=True)
    ]
    for metric in metrics:
        pairs = zip(compared[metric], compared[f"{metric} sd"], strict=True)
        cells[metric] = [plus_minus(mean, sd) for mean, sd in pairs]
    return cells


def show(cells: pd.DataFrame, title: str, console: Console) -> None:
    """Print text cells as a table on a terminal and as Markdown, unwrapped, elsewhere."""
    if not console.is_terminal:
        _write(f"{title}\n\n{markdown(cells)}\n", console)
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column, left in zip(cells.columns, _to_the_left(cells), strict=True):
        justify = "left" if left else "right"
        table.add_column(str(column), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in _rows(cells):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _write(text: str, console: Console) -> None:
    """Print text as it is: no wrapping, no markup, no colour, tabs kept."""
    console.print(Segments([Segment(f"{text}\n")]), soft_wrap=True, end="")


def _rows(cells: pd.DataFrame) -> list[list[str]]:
    """Rows of a table of text."""
    return [[str(cell) for cell in row] for row in cells.itertuples(index=False, name=None)]


def _to_the_left(cells: pd.DataFrame) -> list[bool]:
    """Each column's side: the first, which names the rows, and words to the left."""
    return [place == 0 or _is_text(cells[name]) for place, name in enumerate(cells.columns)]


def _is_text(column: "pd.Series[str]") -> bool:
    """Whether a column holds words (to the left) and not figures (to the right)."""
    return not all(cell.lstrip("<~+-")[:1].isdigit() or cell in ("", UNKNOWN) for cell in column)


def plus_minus(mean: float, spread: float) -> str:
    """A mean, and its deviation where there is one."""
    return figure_cell(mean) if pd.isna(spread) else f"{mean:.3f} ± {spread:.3f}"


def figure_cell(value: float | None) -> str:
    """Three decimals, or a dash for what has no value."""
    return UNKNOWN if value is None or pd.isna(value) else f"{value:.3f}"
