"""The files of a results page: CSV, LaTeX and figures."""

import re

import pandas as pd
import pytest
from protocol_runs import finished_children

from ser.plots import new_figure
from ser.protocol import AVERAGED, read_protocol
from ser.report import clips_and_speakers
from ser.results_files import PICTURES, write_page
from ser.results_plots import dot_figure
from ser.results_table import compute_results

ARMS = {"chance": 0.0, "tim": 0.4, "ensemble": 0.8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    corpora = {"ravdess": 4, "tess": 2}
    children = finished_children(root, ARMS, seeds=2, corpora=corpora, split="tess_x")
    protocol = read_protocol(children, "mine", "python sweep.py")
    target = root / "protocols" / "mine"
    assert write_page(protocol, compute_results(protocol, n_draws=20), target).startswith("## ")
    return target


def test_a_page_is_one_folder(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "results.md", "results.csv", "results.tex", "per_fold.csv", "tests.csv",
        "figures/arms.png", "figures/recall.png", "figures/corpora.png",
    }  # fmt: skip


def test_figures_of_an_earlier_page_do_not_stay(tmp_path):
    for corpora in ({"ravdess": 4, "tess": 2}, {"ravdess": 4}):
        children = finished_children(tmp_path, {"tim": 0.4}, corpora=corpora)
        protocol = read_protocol(children, "mine", "python sweep.py")
        write_page(protocol, compute_results(protocol, n_draws=20), tmp_path / "page")
    assert "corpora.png" not in (tmp_path / "page" / "results.md").read_text()


def test_a_page_of_another_command_is_not_replaced_in_silence(tmp_path, caplog):
    for command in ("sweep.py a", "sweep.py a", "sweep.py encoder=b"):
        caplog.clear()
        protocol = read_protocol(finished_children(tmp_path, {"tim": 0.4}), "mine", command)
        write_page(protocol, compute_results(protocol, n_draws=20), tmp_path / "page")
        assert ("is replaced" in caplog.text) == (command == "sweep.py encoder=b")


def test_a_page_that_was_cut_off_leaves_the_earlier_one_whole(tmp_path, monkeypatch):
    target = tmp_path / "page"
    for arms in ({"tim": 0.4}, ARMS):
        protocol = read_protocol(finished_children(tmp_path, arms), "mine", "python sweep.py")
        results = compute_results(protocol, n_draws=20)
        if arms == ARMS:
            before = {path: path.read_bytes() for path in target.rglob("*.*")}
            with monkeypatch.context() as cut:
                cut.setattr("ser.results_files.latex", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    write_page(protocol, results, target)
            assert {path: path.read_bytes() for path in target.rglob("*.*")} == before
        write_page(protocol, results, target)
    assert "ensemble" in (target / "results.tex").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.part"))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_every_picture_of_the_page_is_there_and_has_words_in_its_place(folder):
    pictures = re.findall(r"!\[(.*)\]\((.*)\)", (folder / "results.md").read_text())
    assert [path for _, path in pictures] == [f"figures/{name}" for name in PICTURES]
    assert all((folder / path).is_file() and len(words) > 30 for words, path in pictures)


def test_chance_alone_is_an_arm(tmp_path):
    protocol = read_protocol(finished_children(tmp_path, {"chance": 0.0}), "mine", "sweep.py")
    write_page(protocol, compute_results(protocol, n_draws=20), tmp_path / "page")
    assert (tmp_path / "page" / "figures" / "recall.png").is_file()


def test_the_csv_has_commit_manifest_and_command_in_every_row(folder):
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == 5 * (4 + 3 + 3 * 3)  # arms × (overall, recalls, three metrics a part)
    for column, value in {"commit": "0123456789ab", "manifest": "a" * 64}.items():
        assert set(table[column]) == {value}
    assert set(table["command"]) == {"python sweep.py"}
    assert len(pd.read_csv(folder / "per_fold.csv")) == 2 * (3 * 2 + 2)
    assert list(pd.read_csv(folder / "tests.csv")["against"]) == ["tim", "tim" + AVERAGED] * 1 + [
        "tim" + AVERAGED
    ]


def test_latex_is_booktabs_with_nothing_left_to_escape(folder):
    text = (folder / "results.tex").read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    for word in (
        "\\toprule",
        "\\midrule",
        "\\bottomrule",
        "$\\pm$",
        "tess\\_x",
        "\\label{tab:mine}",
    ):
        assert word in body
    assert body.isascii() and "`" not in body and "*" not in body
    assert body.count("\\\\\n") == 1 + 5  # the header and a row an arm
    assert body.replace("\\_", "").count("_") == 0


def test_dots_stand_in_one_order_with_their_intervals():
    table = pd.DataFrame(
        {
            "arm": ["a", "b" + AVERAGED], "average_of": ["", "b"], "value": [0.7, 0.5],
            "low": [0.6, 0.3], "high": [0.8, 0.6],
        }
    )  # fmt: skip
    figure = dot_figure({"UAR": table, "WAR": table}, "made up", {"UAR": {"chance": 0.25}})
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "b\nprobabilities averaged over seeds", "a",
    ]  # fmt: skip
    spans = [tuple(line.get_xdata()) for line in left.lines if len(line.get_xdata()) == 2]
    assert spans == [(0.3, 0.6), (0.6, 0.8), (0.25, 0.25)]
    assert [text.get_text() for text in right.texts] == ["0.500", "0.700"]
    assert left.get_legend().get_texts()[0].get_text() == "chance 0.250"
    assert right.get_legend() is None and isinstance(figure, type(new_figure(1, 1, "")))


def test_figures_say_on_what_they_rest_and_the_best_arm_comes_first(tmp_path, monkeypatch):
    drawn = {}

    def remembered(recalls, title):
        drawn["arms"], drawn["title"] = list(recalls), title
        return new_figure(1, 1, title)

    monkeypatch.setattr("ser.plots.recall_figure", remembered)
    protocol = read_protocol(finished_children(tmp_path, ARMS, seeds=2), "mine", "sweep.py")
    write_page(protocol, compute_results(protocol, n_draws=20), tmp_path / "page")
    assert drawn["arms"] == ["ensemble", "tim"]
    assert f"\n{clips_and_speakers(protocol.clips)}, mean over 2 seeds: recall" in drawn["title"]
