"""The section of a results document: facts, tables, tests; merging it into a file."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from protocol_runs import CLASSES, finished_children

from ser import results_page
from ser.errors import SerError
from ser.protocol import AVERAGED, Protocol, read_protocol
from ser.results_files import latex, merge_section
from ser.results_page import section_text, title_of
from ser.results_table import Results, compute_results

ARMS = {"linear": 0.5, "tim": 0.4, "ensemble": 0.8}
COMMAND = "python sweep.py sweep=protocol dataset=made_up"


def page(root, arms=ARMS, **settings) -> tuple[Protocol, Results, str]:
    children = finished_children(root, arms, **settings)
    protocol = read_protocol(children, "mine", COMMAND)
    results = compute_results(protocol, n_draws=50)
    return protocol, results, section_text(protocol, results)


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> tuple[Protocol, Results, str]:
    corpora = {"ravdess": 6, "tess": 2}
    root = tmp_path_factory.mktemp("runs")
    return page(root, seeds=2, corpora=corpora, split="deck_random")


def rows_of(text: str, first: str) -> list[list[str]]:
    """Cells of the table whose header begins with this word, header first."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"| {first}"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def test_a_section_says_what_was_run_and_from_what(several):
    _, _, text = several
    assert text.startswith("## RAVDESS speech + TESS, 3 emotions, `deck_random`\n")
    assert "nan" not in text
    assert "96 test clips of 8 speakers; 2 folds; seeds 0, 1; label set `seven`" in text
    assert f"```sh\n{COMMAND}\n```" in text
    assert "Commit 0123456789ab. Manifest aaaaaaaaaaaa; split by fold 000000000000, 1111" in text
    assert "No speaker is in both train and test." in text


def test_the_main_table_has_arms_averages_and_chance_with_intervals(several):
    _, results, text = several
    header, *rows = rows_of(text, "arm")
    assert header == ["arm", "seeds", "UAR", "WAR", "macro F1", "log loss"]
    names = [row[0] for row in rows]
    assert names[-1] == "chance" and rows[-1][2] == "0.333"
    averaged = f" ({AVERAGED.removeprefix(', ')})"
    assert set(names[:-1]) == {f"`{arm}`{end}" for arm in ARMS for end in ("", averaged)}
    uars = [float(row[2][:5]) for row in rows[:-1]]
    assert uars == sorted(uars, reverse=True)
    (cell,) = [row[2] for row in rows if row[0] == "`tim`"]
    figures = results.figures.query("arm == 'tim' and metric == 'uar' and part == 'all'").iloc[0]
    value, sd, low, high = figures[["value", "seed_sd", "low", "high"]]
    assert cell == f"{value:.3f} ± {sd:.3f} [{low:.3f}, {high:.3f}]"


def test_the_other_tables_are_by_fold_emotion_corpus_and_pair(several):
    _, results, text = several
    folds = text.split("mean ± sd over the folds:")[1]
    assert [len(row) for row in rows_of(folds, "arm")] == [4] * 7
    recall = rows_of(folds.split("Recall by emotion:")[1], "arm")
    assert recall[0] == ["arm", "neutral", "happy", "sad"]
    corpora = rows_of(folds.split("UAR by corpus:")[1], "arm")
    assert corpora[0] == ["arm", "all clips", "all but TESS", "RAVDESS speech", "TESS"]
    paired = folds.split("Paired tests of `ensemble`")[1]
    assert "`(averaged)` is one whose probabilities are averaged over its seeds" in paired
    of_uar, of_loss = (rows_of(part, "arm") for part in paired.split("Of the log loss:"))
    assert len(of_uar) == len(of_loss) == 1 + len(results.tests) == 7
    assert of_uar[0] == ["arm", "UAR difference", "p", "p (Holm)", "McNemar p", "McNemar p (Holm)"]
    assert of_loss[0] == ["arm", "log loss difference", "log loss p", "log loss p (Holm)"]
    assert of_uar[1][0] == "`ensemble` against `linear`" and of_uar[1][1].startswith("+0.")
    assert [row[0] for row in of_uar] == [row[0] for row in of_loss]
    assert "`ensemble` (averaged) against `tim` (averaged)" in [row[0] for row in of_uar]
    assert max(map(len, paired.splitlines()[2:-1])) < 140  # in an editor's window


def test_every_cell_is_the_figure_that_its_row_and_column_say(several):
    _, results, text = several
    figures = results.figures[results.figures["arm"] == "tim"].set_index(["part", "metric"])
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    overall, folds, recall, parts = (line[2:-1] for line in lines if line[1:2] == ["`tim`"])

    def told(part: str, metric: str) -> str:
        value, sd, low, high = figures.loc[(part, metric), ["value", "seed_sd", "low", "high"]]
        return f"{value:.3f} ± {sd:.3f} [{low:.3f}, {high:.3f}]"

    assert overall == ["2", *(told("all", key) for key in ("uar", "war", "macro_f1", "nll"))]
    means = figures.loc["all"].loc[["uar", "war", "macro_f1"], ["fold_mean", "fold_sd"]]
    assert folds == [f"{mean:.3f} ± {sd:.3f}" for mean, sd in means.to_numpy()]
    assert recall == [f"{figures.loc[('all', f'recall/{c}'), 'value']:.3f}" for c in CLASSES]
    assert parts == [
        told(part, "uar") for part in ("all", "without_tess", "corpus/ravdess", "corpus/tess")
    ]


def test_every_cell_of_the_paired_tests_is_the_figure_of_its_column(several):
    _, results, _ = several
    figures = {
        "uar_difference": -0.2, "low": -0.3, "high": 0.1, "p": 0.0009, "p_holm": 0.001,
        "mcnemar": 0.02, "mcnemar_holm": 0.03,
        "nll_difference": 0.4, "nll_low": -0.0001, "nll_high": 0.6, "nll_p": 0.04, "nll_p_holm": 1,
    }  # fmt: skip
    tests = results.tests.iloc[:1].assign(**figures)
    (cells,) = results_page.test_cells(replace(results, tests=tests)).to_numpy().tolist()
    assert cells[1:] == [
        "-0.200 [-0.300, +0.100]", "<0.001", "0.001", "0.020", "0.030",
        "+0.400 [+0.000, +0.600]", "0.040", "1.000",
    ]  # fmt: skip


def test_a_single_fold_and_corpus_need_no_such_tables(tmp_path):
    _, _, text = page(tmp_path, {"tim": 0.5}, folds=1)
    assert "72 test clips of 6 speakers; 1 fold; seed 0;" in text
    assert not any(part in text for part in ("Each fold scored", "by corpus", "Paired tests"))


def test_few_speakers_are_warned_of_and_many_are_not(tmp_path):
    _, _, few = page(tmp_path / "few", {"tim": 0.5}, corpora={"ravdess": 11, "tess": 1})
    assert "Few speakers (TESS 1): intervals are too narrow and p values too small" in few
    _, _, many = page(tmp_path / "many", {"tim": 0.5}, corpora={"ravdess": 11})
    assert "Few speakers" not in many


def test_arms_of_fewer_seeds_are_named_with_theirs(tmp_path):
    children = finished_children(tmp_path, {"tim": 0.5, "linear": 0.5}, seeds=3)
    linear = children["model"] == "linear"
    protocol = read_protocol(children[~linear | (children["seed"] != "1")], "mine", COMMAND)
    text = section_text(protocol, compute_results(protocol, n_draws=9))
    assert "; seeds 0, 1, 2 (`linear` 0, 2 only); label set" in text


def test_an_arm_that_was_adapted_to_the_test_speakers_is_said_to_be(tmp_path):
    _, _, text = page(tmp_path, {"ridge_enrolled": 0.9, "ridge": 0.6})
    assert "clips of theirs**, which are scored too: `ridge_enrolled` (all). That is" in text
    _, _, plain = page(tmp_path / "plain", {"ridge": 0.6})
    assert "Adapted" not in plain


def test_shared_speakers_synthetic_speech_and_lacking_folds_are_said(tmp_path):
    children = finished_children(tmp_path, ARMS)
    children = children.assign(shares_speakers="true", synthetic="true")
    protocol = read_protocol(children.iloc[:-1], "mine", COMMAND)
    text = section_text(protocol, compute_results(protocol, n_draws=20))
    assert "**Speakers are shared between train and test**" in text
    assert "(SYNTHETIC SPEECH)" in title_of(protocol)
    assert "Left out: ensemble seed 0 lacks fold 1." in text
    assert "(taken because its UAR is the highest, so its p values are flattered)" in text


def test_the_title_names_the_folder_that_is_no_known_corpus(tmp_path):
    children = finished_children(tmp_path, ARMS, corpora={"folder": 6})
    protocol = read_protocol(children, "mine", COMMAND)
    assert title_of(protocol) == "Folder of speech 50%_calls, 3 emotions, `luna5`"
    assert r"\caption{Folder of speech 50\%\_calls, 3 emotions, luna5. " in latex(
        protocol, compute_results(protocol, n_draws=9)
    )


def test_some_folds_are_named_and_nothing_published_stands_beside_them(tmp_path):
    children = finished_children(tmp_path, ARMS).assign(n_folds="5")
    protocol = read_protocol(children, "mine", COMMAND)
    assert title_of(protocol).endswith("`luna5`, folds 0, 1 of 0 to 4")
    text = section_text(protocol, compute_results(protocol, n_draws=9))
    assert "; folds 0, 1 of 0 to 4; " in text
    assert results_page.published_rows(protocol) == [] and protocol.n_folds == 5
    whole = read_protocol(children.assign(n_folds="2"), "mine", COMMAND)
    assert title_of(whole).endswith("`luna5`")


def test_chance_is_over_the_classes_that_have_test_clips(tmp_path):
    children = finished_children(tmp_path, {"tim": 0.8})
    for folder in children["run_folder"]:
        path = Path(folder, "predictions.parquet")
        table = pd.read_parquet(path)
        table[table["truth"] != "sad"].to_parquet(path)
    protocol = read_protocol(children, "mine", COMMAND)
    assert len(protocol.classes) == 3 and protocol.chance == 1 / 2


def test_corpora_that_only_train_are_told_apart_in_the_title(tmp_path):
    children = finished_children(tmp_path, ARMS)
    children["corpora"] = children["corpora"] + ",emodb"
    title = title_of(read_protocol(children, "mine", COMMAND))
    assert title.endswith(", trained on EmoDB too") and "EmoDB +" not in title


def test_arms_of_several_commits_are_told_apart(tmp_path):
    children = finished_children(tmp_path, ARMS)
    children.loc[children["model"] == "tim", "git_commit"] = "ffff+"
    protocol = read_protocol(children, "mine", COMMAND)
    text = section_text(protocol, compute_results(protocol, n_draws=20))
    assert "`tim` ffff+; `ensemble` 0123456789ab (+: with changes that were not committed)" in text


def test_published_rows_stand_in_italics_with_their_source(several, monkeypatch):
    from ser.labels import LABEL_SETS
    from ser.published import published_for

    def on_seven(corpora, split, classes):
        return published_for(corpora, split, LABEL_SETS["seven"])

    monkeypatch.setattr(results_page, "published_for", on_seven)
    protocol, results, _ = several
    text = section_text(protocol, results)
    rows = [row for row in rows_of(text, "arm") if row[0].startswith("*")]
    assert [row[:4] for row in rows] == [
        ["*the slides: TIM alone (published)*", "-", "-", "~0.51"],
        ["*the slides: ensemble (published)*", "-", "-", "~0.70-0.71"],
    ]
    assert "Not the same clips, split or seed" in text


def test_merging_replaces_the_old_section_and_nothing_else(tmp_path):
    path = tmp_path / "docs" / "results.md"
    merge_section(path, "one", "## One\n\nold\n")
    path.with_name("results.md.123.part").touch()  # by a killed sweep
    merge_section(path, "two", "## Two")
    path.write_text("# Results\n\nby hand\n\n" + path.read_text(encoding="utf-8") + "\nend\n")
    merge_section(path, "one", "## One\n\nnew\n")
    assert path.read_text(encoding="utf-8") == (
        "# Results\n\nby hand\n\n<!-- begin one -->\n## One\n\nnew\n<!-- end one -->\n\n"
        "<!-- begin two -->\n## Two\n<!-- end two -->\n\nend\n"
    )
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin one -->\n",
        "<!-- end one -->\n<!-- begin one -->\n",
        "<!-- begin one --><!-- end one -->" * 2,
    ],
)
def test_broken_markers_are_refused_and_the_file_is_kept(tmp_path, text):
    path = tmp_path / "results.md"
    path.write_text(text)
    with pytest.raises(SerError, match="the section one must stand once between"):
        merge_section(path, "one", "## One")
    assert path.read_text() == text
