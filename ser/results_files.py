"""A protocol's results as files: Markdown, CSV, LaTeX and figures, and a section elsewhere."""

import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from ser.errors import SerError
from ser.metrics import METRIC_NAMES
from ser.protocol import CHANCE, Protocol
from ser.report import clips_and_speakers, counted
from ser.results_page import (
    HASH_CHARACTERS,
    overall_cells,
    part_name,
    published_rows,
    section_text,
    title_of,
)
from ser.results_table import ALL, Results
from ser.run_folder import remove_parts
from ser.whole_files import save_figure, write_text

log = logging.getLogger(__name__)

PICTURES = {
    "arms.png": "UAR, WAR and macro F1 of each arm as a dot with its interval",
    "corpora.png": "UAR of each arm on each corpus as a dot with its interval",
    "recall.png": "Recall of each emotion as bars, one colour an arm",
}
"""What stands for a figure where it cannot be seen."""


def write_page(protocol: Protocol, results: Results, folder: Path) -> str:
    """Write results.md, .csv, .tex, per_fold.csv, tests.csv and figures; gives the section.

    They are written beside the folder and moved there once all are whole: a kill leaves no half
    file, and an earlier page of this name stands until then.
    """
    section, part = section_text(protocol, results), folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed sweep
    figures = part / "figures"
    figures.mkdir(parents=True)
    _write_figures(protocol, results, figures)
    drawn = [name for name in PICTURES if (figures / name).is_file()]
    pictures = [f"![{PICTURES[name]}](figures/{name})" for name in drawn]
    page = "\n\n".join([section.rstrip(), *pictures]) + "\n"
    figures_table = results.figures.assign(command=protocol.command)
    write_text(part / "results.csv", figures_table.to_csv(index=False))
    write_text(part / "per_fold.csv", results.folds.to_csv(index=False))
    write_text(part / "tests.csv", results.tests.to_csv(index=False))
    write_text(part / "results.tex", latex(protocol, results))
    write_text(part / "results.md", page)
    _tell_replaced(folder / "results.md", protocol.command)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for path in (path for path in part.rglob("*") if path.is_file()):
        path.replace(folder / path.relative_to(part))
    for name in PICTURES.keys() - drawn:  # of an earlier page
        (folder / "figures" / name).unlink(missing_ok=True)
    shutil.rmtree(part)
    return section


def merge_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of `name` in a Markdown file, in place of what stood there.

    A new section goes to the end of the file; a file that is not there is made. Raises SerError
    when the markers are broken.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    remove_parts(path.parent, f"{path.name}.*")  # of a killed sweep
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    counts = old.count(begin), old.count(end)
    if counts == (0, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{old.rstrip()}\n\n{section}\n".lstrip())
        return
    if counts != (1, 1) or old.index(end) < old.index(begin):
        raise SerError(
            f"{path}: the section {name} must stand once between `{begin}` and `{end}`, in this "
            f"order; there are {counts[0]} and {counts[1]} of them. Mend the file by hand."
        )
    before, rest = old.split(begin)
    write_text(path, before + section + rest.split(end)[1])


def latex(protocol: Protocol, results: Results) -> str:
    """The overall table for a paper that loads booktabs."""
    cells = overall_cells(results.figures, protocol, published_rows(protocol))
    cells = cells.map(lambda cell: cell.replace("`", "").strip("*"))
    title = re.sub(r"([_%&#$])", r"\\\1", title_of(protocol).replace("`", ""))
    style = cells.style.hide(axis="index").format(escape="latex")
    style = style.format_index(escape="latex", axis=1)
    table: str = style.to_latex(
        hrules=True,
        column_format="l" + "r" * (len(cells.columns) - 1),
        caption=f"{title}. Mean over seeds, standard deviation, and 95~\\% interval over speakers.",
        label=f"tab:{protocol.name}",
        position_float="centering",
    )
    for character, command in {"±": "$\\pm$", "–": "--", "×": "$\\times$"}.items():
        table = table.replace(character, command)
    facts = f"manifest {protocol.manifest[:HASH_CHARACTERS]}, {protocol.command}"
    return f"% generated: {facts}\n{table}"


def _tell_replaced(page: Path, command: str) -> None:
    """Say that the page of other arms, another encoder or other speech is about to go."""
    if page.is_file() and command not in page.read_text(encoding="utf-8", errors="replace"):
        log.warning(
            "%s was the page of another command, and is replaced (its runs are kept). "
            "Another sweep.name=NAME keeps both.", page,
        )  # fmt: skip


def _write_figures(protocol: Protocol, results: Results, folder: Path) -> None:
    from ser.plots import recall_figure
    from ser.results_plots import dot_figure

    figures, title = results.figures, title_of(protocol).replace("`", "")
    if (trained := figures["model"] != CHANCE).any():
        figures = figures[trained]
    arms = figures[figures["average_of"] == ""]
    overall = figures[(figures["part"] == ALL) & figures["metric"].isin(METRIC_NAMES)]
    panels = {label: overall[overall["metric"] == key] for key, label in METRIC_NAMES.items()}
    lines, told = _lines(protocol), f"{title}\n{clips_and_speakers(protocol.clips)}, "
    told += f"mean over {counted(len(protocol.seeds), 'seed')}"
    dots = f"{told}; bars: 95 % intervals over speakers"
    save_figure(dot_figure(panels, dots, lines), folder / "arms.png")
    recall = arms[arms["metric"].str.startswith("recall/")]
    wide = recall.pivot(index="metric", columns="arm", values="value")
    order = [f"recall/{c}" for c in protocol.classes if f"recall/{c}" in wide.index]
    best_first = overall[overall["metric"] == "uar"].sort_values("value", ascending=False)["arm"]
    wide = wide.loc[order, [arm for arm in best_first if arm in wide]]
    wide.index = wide.index.str.removeprefix("recall/")
    save_figure(recall_figure(wide, f"{told}: recall by emotion"), folder / "recall.png")
    uars = figures[figures["metric"] == "uar"]
    if uars["part"].nunique() > 1:
        by_part = {part_name(str(p)): rows for p, rows in uars.groupby("part", sort=False)}
        save_figure(dot_figure(by_part, f"{dots}\nUAR by corpus", {}), folder / "corpora.png")


def _lines(protocol: Protocol) -> Mapping[str, Mapping[str, float]]:
    """What stands in each panel as a vertical line: chance and the published figures."""
    published = published_rows(protocol)
    uar = {figure.name: figure.uar for figure in published if figure.uar is not None}
    war = {figure.name: figure.war for figure in published if figure.war is not None}
    return {"UAR": {"chance": protocol.chance} | uar, "WAR": war}
