"""What a person reads: the right figures, in the right order, that fit and can be copied."""

import io

import pandas as pd
import pytest
from rich.console import Console

from ser import metrics, report
from ser.errors import SerError

CLASSES = ("neutral", "happy", "sad")
DEEP = "/data/t/" + 9 * "deep/folder/" + "c.wav"


def console(*, terminal: bool, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, no_color=True)


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def predictions() -> pd.DataFrame:
    rows = [
        ("ravdess/a", "sad", "happy", "ravdess", "male", 0.55, "/data/r/a.wav"),
        ("ravdess/b", "sad", "sad", "ravdess", "female", 0.99, "/data/r/b.wav"),
        ("tess/[c]", "happy", "sad", "tess", "female", 0.9, DEEP),
        ("tess/d", "happy", "happy", "tess", "female", 0.8, "/data/t/d.wav"),
    ]  # fmt: skip
    columns = ["id", "truth", "prediction", "corpus", "sex", "confidence", "path"]
    return pd.DataFrame(rows, columns=columns)


def results() -> tuple[dict[str, float], pd.DataFrame]:
    table = predictions()
    counts = metrics.confusion(table["truth"], table["prediction"], CLASSES)
    return metrics.score_groups(table, CLASSES), metrics.class_report(counts, CLASSES)


RUNS = [
    {"arm": "tim", "seed": 0, "test/uar": 0.5, "test/war": 0.52},
    {"arm": "tim", "seed": 1, "test/uar": 0.6, "test/war": 0.62},
    {"arm": "tim", "seed": 2},
    {"arm": "linear", "seed": 0, "test/uar": 0.75, "test/war": 0.76},
]


def test_results_away_from_a_terminal_are_markdown() -> None:
    figures, classes = results()
    on = console(terminal=False, width=20)  # narrower than the table: nothing may wrap
    report.render_results(figures, classes, "tim, test", on)
    lines = printed(on).splitlines()
    assert lines[0] == "tim, test"
    assert lines[2] == "|                |   UAR |   WAR | macro F1 |"
    assert lines[3] == "| -------------- | ----: | ----: | -------: |"
    assert lines[4] == "| all clips      | 0.500 | 0.500 |    0.500 |"
    assert lines[5] == "| corpus ravdess | 0.500 | 0.500 |          |"
    assert "| sex male       | 0.000 | 0.000 |          |" in lines
    assert "| all but TESS   | 0.500 | 0.500 |          |" in lines
    assert "| neutral |         - |      - |     - |     0 |" in lines
    assert "| happy   |     0.500 |  0.500 | 0.500 |     2 |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert report.class_markdown(classes).splitlines() == tables[-1 - len(classes) - 1 :]


@pytest.mark.parametrize("width", [80, 120])
def test_results_on_a_terminal_fit_its_width(width: int) -> None:
    on = console(terminal=True, width=width)
    report.render_results(*results(), "tim, test", on)
    report.show(report.comparison_cells(RUNS, ["test/uar", "test/war"]), "arms", on)
    text = printed(on)
    assert max(map(len, text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines())) <= width
    for piece in ("tim, test", "all but TESS", "corpus ravdess", "by emotion", "macro F1", "arms"):
        assert piece in text


def test_headline_is_of_the_test_part_where_it_was_scored() -> None:
    validation = {"best/uar": 0.5, "best/kept_epoch": 3.0, "best/recall/sad": 1.0, "epochs": 4.0}
    lines = report.headline(validation).splitlines()
    assert lines[0] == "Validation part, kept checkpoint"
    assert [cell.strip() for cell in lines[-1].split("|")] == [
        "",
        "all clips",
        "0.500",
        "-",
        "-",
        "",
    ]
    scored = {**validation, "test/uar": 0.25, "test/war": 0.3, "test/sex/male/uar": 0.2}
    lines = report.headline(scored).splitlines()
    assert lines[0] == "Test part" and "0.250" in lines[-2] and "sex male" in lines[-1]


def test_comparison_gives_mean_and_sample_deviation_best_first() -> None:
    table = report.compare_runs(RUNS, ["test/uar", "test/war"])
    assert table["arm"].tolist() == ["linear", "tim"]
    tim = table.iloc[1]
    assert tim["test/uar"] == pytest.approx(0.55)
    assert tim["test/uar sd"] == pytest.approx(0.0707107, abs=1e-6)  # n - 1
    assert (tim["runs"], tim["test/uar n"]) == (3, 2)
    assert pd.isna(table.iloc[0]["test/uar sd"])


def test_comparison_as_markdown() -> None:
    text = report.markdown(report.comparison_cells(RUNS, ["test/uar"]))
    assert text.splitlines() == [
        "| arm    | seeds |      test/uar |",
        "| ------ | ----: | ------------: |",
        "| linear |     1 |         0.750 |",
        "| tim    |   2/3 | 0.550 ± 0.071 |",
    ]


def test_comparison_names_what_no_run_has() -> None:
    with pytest.raises(SerError, match=r"Cannot compare 4 runs: none of them has test/f1\."):
        report.compare_runs(RUNS, ["test/f1"])
    with pytest.raises(SerError, match="They have nothing"):
        report.compare_runs([], ["test/uar"])


def test_wrong_clips_come_surest_first() -> None:
    wrong = report.wrong_clips(predictions())
    assert wrong["id"].tolist() == ["tess/[c]", "ravdess/a"]
    assert list(wrong.columns) == ["id", "truth", "prediction", "confidence", "path"]


def test_wrong_clips_in_a_pipe_are_tab_separated_and_complete() -> None:
    on = console(terminal=False)
    report.render_wrong(predictions(), 1, "tim", on)
    header, first, second = (line.split("\t") for line in printed(on).splitlines())
    assert header == ["id", "truth", "prediction", "confidence", "path"]
    assert first == ["tess/[c]", "happy", "sad", "0.90", DEEP]
    assert second[0] == "ravdess/a"


def test_wrong_clips_on_a_terminal_keep_paths_whole() -> None:
    on = console(terminal=True)
    report.render_wrong(predictions(), 1, "tim", on)
    text = printed(on)
    assert "tim: 2 of 4 clips wrong, the surest 1 of them" in text
    assert "0.90  happy → sad  tess/[c]" in text
    assert DEEP in text
    assert "ravdess/a" not in text


def test_no_wrong_clip_is_told_so() -> None:
    on = console(terminal=True)
    report.render_wrong(predictions().iloc[[1, 3]], 5, "tim", on)
    assert "tim: 0 of 2 clips wrong" in printed(on)


def test_markdown_escapes_bars() -> None:
    assert report.markdown(pd.DataFrame({"a": ["x|y"]})).splitlines()[2] == "| x\\|y |"


def test_numbers_agree_with_their_nouns():
    assert (
        report.counted(1, "clip") == "1 clip"
        and report.counted(1200, "speaker") == "1,200 speakers"
    )
    table = pd.DataFrame({"speaker": ["a", "a", "a"]})
    assert report.clips_and_speakers(table) == "3 clips of 1 speaker"


@pytest.mark.parametrize(
    ("speakers", "told"),
    [
        (["unknown", "unknown"], "2 clips of unknown speakers"),
        (["ann", "unknown", "ann"], "3 clips of 1 speaker and unknown ones"),
    ],
)
def test_a_speaker_who_is_not_known_is_not_counted(speakers: list[str], told: str) -> None:
    table = pd.DataFrame({"speaker": [f"folder_{name}" for name in speakers]})
    assert report.clips_and_speakers(table) == told


def test_names_of_rows_stand_to_the_left_even_if_they_begin_with_figures():
    cells = pd.DataFrame({"group": ["3 to 4 s", "4 s on"], "clips": ["258", "42"]})
    assert report.markdown(cells).splitlines()[1:] == [
        "| -------- | ----: |",
        "| 3 to 4 s |   258 |",
        "| 4 s on   |    42 |",
    ]


@pytest.mark.parametrize("corpora", [("tess",), ("ravdess", "tess")])
def test_a_corpus_alone_is_not_all_clips_once_more(corpora: tuple[str, ...]) -> None:
    table = predictions()
    table = table[table["corpus"].isin(corpora)]
    figures = {f"test/{k}": v for k, v in metrics.score_groups(table, CLASSES).items()}
    rows = [line.split("|")[1].strip() for line in report.headline(figures).splitlines()[4:]]
    assert rows[0] == "all clips"
    assert ("corpus tess" in rows) == (len(corpora) > 1)
    assert ("sex female" in rows) == (len(corpora) > 1)


def test_the_only_sex_has_its_row_where_others_are_not_known() -> None:
    table = predictions().assign(sex=["male", None, None, None])
    figures = {f"test/{k}": v for k, v in metrics.score_groups(table, CLASSES).items()}
    assert "| sex male " in report.headline(figures)
