"""A protocol's results as a section of a Markdown document."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ser.corpora import corpus_class
from ser.metrics import METRIC_NAMES
from ser.protocol import AVERAGED, CHANCE, Protocol
from ser.published import PublishedFigure, published_for
from ser.report import UNKNOWN, counted, figure_cell, markdown, plus_minus
from ser.results_table import ALL, NLL, WITHOUT_TESS, Results
from ser.statistics import FEW_SPEAKERS, N_DRAWS

HASH_CHARACTERS = 12
PART_NAMES = {ALL: "all clips", WITHOUT_TESS: "all but TESS"}
INTERVALS = (
    "Each figure is the mean over the seeds ± sd, with its 95 % interval [low, high] from a "
    "bootstrap over speakers and their clips. UAR is the mean recall over the classes that have "
    "test clips, WAR the share of clips that are right, log loss (lower is better) the mean of -ln "
    "of the probability of the truth, calibrated on validation; test clips are pooled over the "
    "folds and scored once."
)


def section_text(protocol: Protocol, results: Results) -> str:
    """The section of a document that tells this protocol's results."""
    published = published_rows(protocol)
    figures = results.figures
    parts = [f"## {title_of(protocol)}", _facts(protocol), f"```sh\n{protocol.command}\n```"]
    parts += [_origin(protocol), markdown(overall_cells(figures, protocol, published))]
    parts += [INTERVALS + _few_speakers(protocol)]
    if published:
        parts.append(_sources(published))
    if len(protocol.folds) > 1:
        parts += ["Each fold scored by itself, mean ± sd over the folds:"]
        parts += [markdown(_fold_cells(figures))]
    parts += ["Recall by emotion:", markdown(_recall_cells(figures, protocol))]
    if figures["part"].nunique() > 1:
        parts += ["UAR by corpus:", markdown(_part_cells(figures))]
    if len(results.tests):
        cells = test_cells(results)
        of_loss = cells.columns.str.startswith("log loss")
        of_uar = ~of_loss
        of_loss[0] = True  # the arms name the rows of both
        parts += [_about_tests(results), markdown(cells.loc[:, of_uar])]
        parts += ["Of the log loss:", markdown(cells.loc[:, of_loss])]
    return "\n\n".join(parts) + "\n"


def overall_cells(
    figures: pd.DataFrame, protocol: Protocol, published: Sequence[PublishedFigure]
) -> pd.DataFrame:
    """The main table as text: arms, the best first, then chance and published rows."""
    rows = []
    for arm, of_arm in _ranked(figures):
        overall = of_arm[of_arm["part"] == ALL]
        row = {"arm": _arm_cell(arm), "seeds": str(of_arm["seeds"].iloc[0])}
        columns = METRIC_NAMES | {NLL: "log loss"}
        row |= {label: _cell(overall, "metric", key) for key, label in columns.items()}
        rows.append(row)
    if not any(arm.model == CHANCE for arm in protocol.arms):
        rows.append({"arm": "chance", "UAR": f"{protocol.chance:.3f}"})
    for figure in published:
        war = figure.printed or figure_cell(figure.war)
        name = f"{figure.name} ({figure.kind})" if figure.kind != figure.name else figure.name
        rows.append({"arm": f"*{name}*", "UAR": figure_cell(figure.uar), "WAR": war})
    return pd.DataFrame(rows).fillna(UNKNOWN)


def test_cells(results: Results) -> pd.DataFrame:
    """The paired tests as text; `(averaged)` are probabilities averaged over seeds."""
    tests = results.tests
    pairs = [
        [_arm_cell(name, "averaged") for name in pair]
        for pair in zip(tests["arm"], tests["against"], strict=True)
    ]
    return pd.DataFrame(
        {
            "arm": [" against ".join(pair) for pair in pairs],
            "UAR difference": _spans(tests[["uar_difference", "low", "high"]]),
            "p": tests["p"].map(_p),
            "p (Holm)": tests["p_holm"].map(_p),
            "McNemar p": tests["mcnemar"].map(_p),
            "McNemar p (Holm)": tests["mcnemar_holm"].map(_p),
            "log loss difference": _spans(tests.filter(regex="^nll_(difference|low|high)$")),
            "log loss p": tests["nll_p"].map(_p),
            "log loss p (Holm)": tests["nll_p_holm"].map(_p),
        }
    )


def _spans(values: pd.DataFrame) -> list[str]:
    """Differences with their intervals."""
    return [
        f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" for d, low, high in values.round(3).to_numpy() + 0.0
    ]


def title_of(protocol: Protocol) -> str:
    """Corpora that are tested, classes, split, folds if only some were run, corpora that train."""
    tested = set(protocol.clips["corpus"])
    root = Path(protocol.root)
    titles = {name: corpus_class(name)(root).heading for name in protocol.corpora}
    corpora = " + ".join(title for name, title in titles.items() if name in tested)
    others = " + ".join(title for name, title in titles.items() if name not in tested)
    beside = f", trained on {others} too" if others else ""
    synthetic = " (SYNTHETIC SPEECH)" if protocol.synthetic else ""
    some = "" if protocol.whole else f", {_folds(protocol)}"
    return (
        f"{corpora}, {len(protocol.classes)} emotions, `{protocol.split}`{some}{beside}{synthetic}"
    )


def _folds(protocol: Protocol) -> str:
    """The number of folds, or which of them were run."""
    if protocol.whole:
        return counted(len(protocol.folds), "fold")
    named = ", ".join(map(str, protocol.folds))
    return f"fold{'s' if len(protocol.folds) > 1 else ''} {named} of 0 to {protocol.n_folds - 1}"


def _facts(protocol: Protocol) -> str:
    clips = protocol.clips
    seeds = protocol.seeds
    words = [
        f"{len(clips):,} test clips of {counted(clips['speaker'].nunique(), 'speaker')}",
        _folds(protocol),
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}{_fewer_seeds(protocol)}",
        f"label set `{protocol.labels}` ({', '.join(protocol.classes)})",
    ]
    if protocol.encoders:
        words.append(f"encoder {', '.join(f'`{name}`' for name in protocol.encoders)}")
    sharing = (
        "**Speakers are shared between train and test**: every figure flatters its model and only "
        "serves to be compared with work that shared them too."
        if protocol.shares_speakers
        else "No speaker is in both train and test."
    )
    lacking = f" Left out: {'; '.join(protocol.incomplete)}." if protocol.incomplete else ""
    failed = "".join(f"\n\n{told}" for told in protocol.failed)
    return f"{'; '.join(words)}. {sharing}{_enrolled(protocol)}{lacking}{failed}"


def _fewer_seeds(protocol: Protocol) -> str:
    """Arms that do not have every seed: controls, and those whose runs are lacking."""
    fewer = [arm for arm in protocol.arms if len(arm.seeds) < len(protocol.seeds)]
    told = "; ".join(f"`{arm.name}` {', '.join(arm.seeds)} only" for arm in fewer)
    return f" ({told})" if told else ""


def _enrolled(protocol: Protocol) -> str:
    """A warning where an arm was adapted to the speakers it is scored on."""
    named = [f"`{arm.name}` ({arm.enrolment})" for arm in protocol.arms if arm.enrolment != "0"]
    if not named:
        return ""
    return (
        f" **Adapted to each test speaker by unlabelled clips of theirs**, which are scored too: "
        f"{', '.join(named)}. That is a protocol of its own, not to be compared with other rows."
    )


def _few_speakers(protocol: Protocol) -> str:
    """A warning where intervals and tests over speakers rest on few of them."""
    speakers = protocol.clips.groupby("corpus")["speaker"].nunique()
    few = speakers[speakers <= FEW_SPEAKERS].items()
    named = [f"{corpus_class(str(name)).title} {n}" for name, n in few]
    if not named:
        return ""
    return (
        f" Few speakers ({', '.join(named)}): intervals are too narrow and p values too small, and "
        "with one speaker they are over that speaker's clips alone."
    )


def _origin(protocol: Protocol) -> str:
    """Commit, manifest and split, short; one commit an arm where they differ."""
    per_arm = {arm.name: ", ".join(arm.commits) for arm in protocol.arms}
    commits = set(per_arm.values())
    told = (
        f"Commit {commits.pop()}"
        if len(commits) == 1
        else "Commits " + "; ".join(f"`{arm}` {commit}" for arm, commit in per_arm.items())
    )
    if "+" in told:
        told += " (+: with changes that were not committed)"
    splits = ", ".join(digest[:HASH_CHARACTERS] for digest in protocol.split_hashes)
    return f"{told}. Manifest {protocol.manifest[:HASH_CHARACTERS]}; split by fold {splits}."


def published_rows(protocol: Protocol) -> list[PublishedFigure]:
    """What others published that may stand beside this protocol, if all of it was run."""
    if not protocol.whole:
        return []
    return published_for(protocol.corpora, protocol.split, protocol.classes)


def _sources(published: Sequence[PublishedFigure]) -> str:
    by_source: dict[str, list[str]] = {}
    for figure in published:
        by_source.setdefault(figure.source, []).append(figure.name)
    lines = [f"- *{', '.join(names)}*: {source}." for source, names in by_source.items()]
    return "Rows in italics were not run here:\n\n" + "\n".join(lines)


def _about_tests(results: Results) -> str:
    chosen = (
        " (taken because its UAR is the highest, so its p values are flattered)"
        if results.chosen
        else ""
    )
    averaged = (
        " An arm that is `(averaged)` is one whose probabilities are averaged over its seeds."
        if results.tests["against"].str.endswith(AVERAGED).any()
        else ""
    )
    return (
        f"Paired tests of `{results.reference}`{chosen} on the same clips. The differences of UAR "
        "and log loss, their intervals and p are from a bootstrap over speakers; McNemar's exact "
        "test compares the clips that are right, takes clips as independent, and has the largest p "
        f"over the seeds. Of {N_DRAWS:,} draws none tells a p below {2 / N_DRAWS:g}. "
        f"Holm's correction is over the column.{averaged}"
    )


def _fold_cells(figures: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for arm, of_arm in _ranked(figures):
        by_metric = of_arm[of_arm["part"] == ALL].set_index("metric")
        pairs = {
            label: by_metric.loc[key, ["fold_mean", "fold_sd"]]
            for key, label in METRIC_NAMES.items()
        }
        cells = {label: plus_minus(*pair) for label, pair in pairs.items()}
        rows.append({"arm": _arm_cell(arm)} | cells)
    return pd.DataFrame(rows)


def _recall_cells(figures: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    rows = []
    for arm, of_arm in _ranked(figures):
        recall = of_arm[of_arm["part"] == ALL].set_index("metric")["value"]
        cells = {c: figure_cell(recall.get(f"recall/{c}")) for c in protocol.classes}
        rows.append({"arm": _arm_cell(arm)} | cells)
    return pd.DataFrame(rows)


def _part_cells(figures: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for arm, of_arm in _ranked(figures):
        uars = of_arm[of_arm["metric"] == "uar"]
        cells = {part_name(str(part)): _cell(uars, "part", str(part)) for part in uars["part"]}
        rows.append({"arm": _arm_cell(arm)} | cells)
    return pd.DataFrame(rows)


def part_name(part: str) -> str:
    """A part of the clips in words."""
    return PART_NAMES.get(part) or corpus_class(part.removeprefix("corpus/")).title


def _ranked(figures: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each arm's rows, the highest UAR first."""
    overall = figures[(figures["part"] == ALL) & (figures["metric"] == "uar")]
    order = overall.sort_values("value", ascending=False, kind="stable")["arm"]
    return [(str(arm), figures[figures["arm"] == arm]) for arm in order]


def _arm_cell(name: str, averaged: str = AVERAGED.removeprefix(", ")) -> str:
    """The arm's options as code, and in brackets that it is an average."""
    option = name.removesuffix(AVERAGED)
    return f"`{option}`" if option == name else f"`{option}` ({averaged})"


def _cell(rows: pd.DataFrame, column: str, key: str) -> str:
    """The one row with this key: mean ± sd over seeds [interval]."""
    (row,) = rows[rows[column] == key].to_dict("records")
    value = plus_minus(row["value"], row["seed_sd"])
    return f"{value} [{row['low']:.3f}, {row['high']:.3f}]"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
