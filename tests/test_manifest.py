import logging
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import synthetic

from ser import probe_cache
from ser.corpora import CORPORA, find_corpora
from ser.corpora.base import CorpusNotFoundError
from ser.errors import SerError
from ser.manifest import COLUMNS, KNOWN, build_manifest, fingerprint, left_out, usable
from ser.probe import content_sha256, probe_file


def build(name, root, cache, **options):
    return build_manifest([CORPORA[name](root)], cache, progress=False, **options)


def test_columns_and_measures(tmp_path):
    wave = np.tile(np.float32([0.5, -0.5]), 4000)
    path = synthetic.write_clip(tmp_path / "r" / "03a01Fa.wav", wave)
    table = build("emodb", tmp_path / "r", tmp_path / "cache")
    assert tuple(table.columns) == COLUMNS
    row = table.iloc[0]
    assert (row["path"], row["duration_s"], row["sample_rate_hz"]) == (str(path), 0.5, 16000)
    assert (row["channels"], row["problem"], row["age"]) == (1, "", 31)
    assert row["rms_db"] == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    assert row["sha256"] == content_sha256(wave[:, None], 16000)


def test_problem_files_are_reported_left_out_or_refused(tmp_path, caplog):
    root = tmp_path / "r"
    paths = synthetic.write_corpus("emodb", root, takes=2)
    synthetic.write_pointer(paths[3])
    stray = synthetic.write_clip(root / "voice.wav", synthetic.tone("stray"))
    table = build("emodb", root, tmp_path / "cache")
    assert len(table) == len(paths) + 1 and len(usable(table)) == len(paths) - 1
    bad = table[table["problem"] != ""].set_index("path")["problem"]
    assert set(bad.index) == {str(paths[3]), str(stray)}
    assert "git-lfs pointer" in caplog.text and str(stray) in caplog.text
    told = ("emodb: 2 problem files left out (git-lfs pointer 1, unknown name 1)",)
    assert left_out(table) == told and left_out(usable(table)) == ()
    with pytest.raises(SerError, match=r"2 files of emodb .*dataset\.strict"):
        build("emodb", root, tmp_path / "cache", strict=True)


def test_nothing_usable_is_an_error_that_says_why(tmp_path):
    for path in synthetic.write_corpus("crema_d", tmp_path / "r"):
        synthetic.write_pointer(path)
    with pytest.raises(SerError, match=r"No clip of crema_d is usable: git-lfs pointer.*12 files"):
        build("crema_d", tmp_path / "r", tmp_path / "cache")


def test_duplicates_with_one_label_keep_the_first(tmp_path):
    root = tmp_path / "r"
    wave = synthetic.tone("same")
    for stem in ("03a02Fb", "03a01Fa", "08a01Fa"):
        synthetic.write_clip(root / f"{stem}.wav", wave)
    table = build("emodb", root, tmp_path / "cache").set_index("id")["problem"]
    assert table["emodb/03a01Fa"] == ""
    same = "the same samples as emodb/03a01Fa"
    assert table["emodb/03a02Fb"] == f"duplicate content: {same}"
    told = f"duplicate content under two speakers: {same}, by emodb_03 there and by emodb_08 here"
    assert table["emodb/08a01Fa"] == told


def test_a_recording_of_two_corpora_is_no_doubt_of_who_speaks(tmp_path):
    wave = synthetic.tone("same")
    synthetic.write_clip(tmp_path / "emodb" / "03a01Fa.wav", wave)
    synthetic.write_clip(tmp_path / "mine" / "happy" / "ann" / "x.wav", wave)
    corpora = [CORPORA["folder"](tmp_path / "mine"), CORPORA["emodb"](tmp_path / "emodb")]
    problems = list(build_manifest(corpora, tmp_path / "cache", progress=False)["problem"])
    assert problems == ["", "duplicate content: the same samples as emodb/03a01Fa"]


def test_each_duplicate_that_is_named_has_its_own_twin(tmp_path, caplog):
    root, stems = tmp_path / "r", [f"03a0{k}" for k in (1, 2, 4, 5)]
    for stem in stems:
        wave = synthetic.tone(stem)
        for take in "ab":
            synthetic.write_clip(root / f"{stem}F{take}.wav", wave)
    build("emodb", root, tmp_path / "cache")
    named = [f"{root / stem}Fb.wav (the same samples as emodb/{stem}Fa)" for stem in stems[:3]]
    assert f"): duplicate content (4 files: {', '.join(named)} and 1 more)" in caplog.text


def test_duplicates_with_contradicting_labels_are_all_left_out(tmp_path):
    root = tmp_path / "r"
    synthetic.write_corpus("emodb", root)
    wave = synthetic.tone("same")
    synthetic.write_clip(root / "03b01Fa.wav", wave)
    synthetic.write_clip(root / "03b01Wa.flac", wave)
    table = build("emodb", root, tmp_path / "cache").set_index("id")["problem"]
    assert table["emodb/03b01Fa"].endswith("contradicting labels: also emodb/03b01Wa (angry)")
    assert table["emodb/03b01Wa"].endswith("contradicting labels: also emodb/03b01Fa (happy)")


def test_known_faults_of_crema_d_and_ravdess(tmp_path):
    root = tmp_path / "r"
    for kept, twin in (
        ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
        ("1013_WSI_SAD_XX", "1013_WSI_DIS_XX"),
        ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
    ):
        for stem in (kept, twin):
            synthetic.write_clip(root / f"{stem}.wav", synthetic.tone(kept))
    synthetic.write_clip(root / "1076_MTI_SAD_XX.wav", np.zeros(800))
    synthetic.write_demographics(root)
    table = build("crema_d", root, tmp_path / "cache", strict=True)
    assert list(usable(table)["id"]) == [
        "crema_d/1006_TIE_HAP_XX",
        "crema_d/1013_WSI_SAD_XX",
        "crema_d/1017_IWW_ANG_XX",
    ]
    assert all(table[table["problem"] != ""]["problem"].str.startswith(KNOWN))
    for take in (1, 2):
        path = tmp_path / "s" / f"03-01-03-01-02-0{take}-07.wav"
        synthetic.write_clip(path, synthetic.tone("one take"))
    table = build("ravdess", tmp_path / "s", tmp_path / "cache", strict=True)
    assert list(usable(table)["id"]) == ["ravdess/03-01-03-01-02-01-07"]


def test_a_known_twin_with_samples_of_its_own_is_kept(tmp_path):
    for stem in ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"):
        synthetic.write_clip(tmp_path / "r" / f"{stem}.wav", synthetic.tone(stem))
    assert len(usable(build("crema_d", tmp_path / "r", tmp_path / "cache"))) == 2


def test_copies_of_the_tree_give_no_rows(tmp_path):
    paths = synthetic.write_corpus("tess", tmp_path / "r", layout="twice")
    table = build("tess", tmp_path / "r", tmp_path / "cache")
    assert len(table) == len(usable(table)) == len(paths) // 2
    assert "14 further copies" in table.attrs["notes"][0]


def test_a_broken_clip_is_replaced_by_its_whole_copy_and_reported(tmp_path):
    paths = synthetic.write_corpus("tess", tmp_path / "r", layout="twice")
    synthetic.truncate(paths[0])
    table = build("tess", tmp_path / "r", tmp_path / "cache")
    assert len(usable(table)) == len(paths) // 2
    bad = table[table["problem"] != ""]
    assert list(bad["path"]) == [str(paths[0])]


def test_a_copy_with_other_samples_is_a_problem(tmp_path):
    paths = synthetic.write_corpus("tess", tmp_path / "r", layout="twice")
    synthetic.write_clip(paths[-1], synthetic.tone("something else"))
    table = build("tess", tmp_path / "r", tmp_path / "cache")
    (reason,) = table[table["problem"] != ""]["problem"]
    assert reason.startswith("another recording under the same name")


def test_a_copy_in_another_format_is_only_a_note(tmp_path):
    synthetic.write_corpus("crema_d", tmp_path / "r")
    synthetic.write_corpus("crema_d", tmp_path / "r" / "AudioMP3", suffix=".mp3")
    table = build("crema_d", tmp_path / "r", tmp_path / "cache", strict=True)
    assert len(table) == 12 and all(table["path"].str.endswith(".wav"))


def test_the_second_call_reads_only_what_changed(tmp_path, monkeypatch, caplog):
    root, cache = tmp_path / "r", tmp_path / "cache"
    paths = synthetic.write_corpus("emodb", root, takes=2)
    first = build("emodb", root, cache)
    read = []
    monkeypatch.setattr(probe_cache, "probe_file", lambda p: read.append(p) or probe_file(p))
    with caplog.at_level(logging.INFO):
        pd.testing.assert_frame_equal(build("emodb", root, cache), first)
    assert read == [] and "0 decoded and 28 from the cache" in caplog.text
    synthetic.write_clip(paths[0], synthetic.tone("another take"))
    os.utime(paths[0], ns=(1, 1))
    again = build("emodb", root, cache)
    assert read == [paths[0]] and fingerprint(again) != fingerprint(first)


def test_a_corrupt_cache_is_rebuilt(tmp_path, caplog):
    synthetic.write_corpus("emodb", tmp_path / "r")
    first = build("emodb", tmp_path / "r", tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.parquet")
    file.write_bytes(b"killed while writing")
    pd.testing.assert_frame_equal(build("emodb", tmp_path / "r", tmp_path / "cache"), first)
    assert "cannot be read" in caplog.text
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_a_cache_with_one_flipped_bit_gives_no_other_figures(tmp_path, monkeypatch):
    cache, path = probe_cache.ProbeCache(tmp_path / "cache"), tmp_path / "a.wav"
    synthetic.write_clip(path, synthetic.tone("a"))
    probes, _ = cache.probe([path], progress=False)
    whole, decoded = cache.path.read_bytes(), []
    monkeypatch.setattr(probe_cache, "probe_file", lambda p: decoded.append(p) or probes[p])
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")  # pages end where it begins
    for place in [*range(0, footer, 17), *range(footer, len(whole), 59)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        cache.path.write_bytes(damaged)
        found, _ = cache.probe([path], progress=False)  # of the footer, whatever it says, no error
        assert found == probes or place >= footer
    assert len(decoded) > footer // 34


def _build_part(root, cache):
    return len(build("emodb", root, cache))


def test_two_runs_at_once_lose_nothing(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    roots = [tmp_path / "one", tmp_path / "two"]
    for seed, root in enumerate(roots):
        synthetic.write_corpus("emodb", root, takes=2, seed=seed)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert list(pool.map(_build_part, roots, [cache, cache])) == [28, 28]
    monkeypatch.setattr(probe_cache, "probe_file", lambda path: pytest.fail(f"{path} was read"))
    for root in roots:
        build("emodb", root, cache)


def test_fingerprint_is_of_the_speech_and_not_of_the_place(tmp_path):
    synthetic.write_corpus("savee", tmp_path / "a")
    synthetic.write_corpus("savee", tmp_path / "b", layout="flat", suffix=".FLAC")
    tables = [build("savee", tmp_path / part, tmp_path / f"cache_{part}") for part in "ab"]
    same = fingerprint(tables[0])
    assert fingerprint(tables[1]) == fingerprint(tables[1].iloc[::-1]) == same
    for column in ("id", "speaker", "emotion", "sha256"):
        changed = tables[0].copy()
        changed.loc[0, column] = "another"
        assert fingerprint(changed) != same, column
    assert fingerprint(tables[0].assign(problem=["", *["broken"] * (len(tables[0]) - 1)])) != same


def test_corpora_must_be_there_and_come_once(tmp_path):
    with pytest.raises(CorpusNotFoundError):
        build("emodb", tmp_path / "nowhere", tmp_path / "cache")
    twice = [CORPORA["emodb"](tmp_path)] * 2
    with pytest.raises(SerError, match="emodb came twice"):
        build_manifest(twice, tmp_path / "cache")


def test_real_speech(shared, tmp_path):
    found = find_corpora(shared / "data")
    assert sorted(found) == ["crema_d", "emodb", "ravdess", "tess"]
    table = build_manifest(
        [CORPORA[name](root) for name, root in found.items()], tmp_path, progress=False
    )
    assert len(table) == 1440 + 535 + 587 + 39
    assert list(table[table["problem"] != ""]["id"]) == ["ravdess/03-01-03-01-02-02-07"]
    stereo = table[table["channels"] == 2]
    assert sorted(stereo["speaker"].value_counts().items()) == [
        ("ravdess_01", 2),
        ("ravdess_05", 1),
        ("ravdess_20", 2),
    ]
    assert list(table[table["sample_rate_hz"] == 96_000]["id"]) == ["tess/OAF_food_fear"]
