import pytest
import synthetic
from rich.console import Console

from ser.check import check_corpora, corpora_at, render
from ser.corpora import CORPORA
from ser.errors import SerError


def check(name, root, cache):
    (report,) = check_corpora([CORPORA[name](root)], cache, progress=False)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(report))
        return report, console.export_text()


def test_counts_against_the_published_ones(tmp_path):
    paths = synthetic.write_corpus("ravdess", tmp_path / "r", speakers=2, takes=2)
    synthetic.write_pointer(paths[0])
    report, text = check("ravdess", tmp_path / "r", tmp_path / "cache")
    assert (report.clips.found, report.clips.usable, report.clips.published) == (32, 31, 1440)
    assert (report.speakers.found, report.speakers.published) == (2, 24)
    neutral = report.by_emotion[0]
    assert (neutral.name, neutral.found, neutral.usable, neutral.published) == ("neutral", 4, 3, 96)
    assert [(s.name, s.found, s.usable) for s in report.by_speaker] == [
        ("ravdess_01", 16, 15),
        ("ravdess_02", 16, 16),
    ]
    assert not report.is_complete
    assert str(paths[0]) in text and "git lfs pull" in text and "1,440" in text


def test_all_pointers_are_reported_and_not_raised(tmp_path):
    paths = synthetic.write_corpus("crema_d", tmp_path / "r")
    for path in paths:
        synthetic.write_pointer(path)
    report, text = check("crema_d", tmp_path / "r", tmp_path / "cache")
    assert report.clips.usable == 0 and len(report.problems) == len(paths)
    assert text.count("git-lfs pointer") == len(paths)


def test_a_corpus_without_published_counts(tmp_path):
    synthetic.write_corpus("folder", tmp_path / "r")
    report, text = check("folder", tmp_path / "r", tmp_path / "cache")
    assert report.is_complete and "published" not in text and "0 problem files" in text


def test_corpora_at_a_data_folder_or_in_any_corpus_folder(tmp_path):
    synthetic.write_corpus("tess", tmp_path / "data" / "tess")
    synthetic.write_corpus("savee", tmp_path / "data" / "savee")
    synthetic.write_corpus("emodb", tmp_path / "whatever")
    assert [one.name for one in corpora_at(tmp_path / "data")] == ["savee", "tess"]
    assert [one.name for one in corpora_at(tmp_path / "data" / "tess")] == ["tess"]
    assert [one.name for one in corpora_at(tmp_path / "whatever")] == ["emodb"]
    with pytest.raises(SerError, match="No corpus was recognised"):
        corpora_at(tmp_path / "nowhere")
