import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.corpora import CORPORA, find_corpora
from ser.corpora import demo as demo_module
from ser.corpora.base import Utterance
from ser.corpora.demo import MARKER, render_demo
from ser.corpora.demo.cast import plan_clips
from ser.errors import SerError

EXPECTED = {"ravdess": (240, 8, 48_000), "tess": (112, 2, 24_414), "crema_d": (230, 10, 16_000),
            "savee": (96, 4, 44_100)}  # fmt: skip

Clips = list[tuple[Utterance, np.ndarray, int]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_demo(tmp_path_factory.mktemp("demo") / "demo", seed=0)


@pytest.fixture(scope="module")
def clips(demo: Path) -> Clips:
    return [
        (utterance, *soundfile.read(utterance.path))
        for name, root in find_corpora(demo).items()
        for utterance in CORPORA[name](root).list().utterances
    ]


def mean_by_emotion(clips: Clips, values: list[float]) -> dict[str, float]:
    emotions = np.array([clip.emotion for clip, _, _ in clips])
    return {
        emotion: float(np.nanmean(np.array(values)[emotions == emotion]))
        for emotion in set(emotions)
    }


def pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    """The autocorrelation's peak between 60 and 450 Hz, in the loudest half second."""
    width = rate_hz // 2
    power = np.cumsum(samples**2)
    start = int(np.argmax(power[width:] - power[:-width]))
    loud = samples[start : start + width]
    spectrum = np.fft.rfft(loud, 1 << (2 * width).bit_length())
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    low, high = rate_hz // 450, rate_hz // 60
    return rate_hz / (low + int(np.argmax(correlation[low:high])))


def test_the_adapters_read_the_demo_without_a_complaint(demo: Path) -> None:
    roots = find_corpora(demo)
    assert set(roots) == set(EXPECTED)
    for name, (n_clips, n_speakers, rate_hz) in EXPECTED.items():
        listing = CORPORA[name](roots[name]).list()
        assert (listing.problems, listing.notes) == ((), ())
        assert len(listing.utterances) == n_clips
        assert len({clip.speaker for clip in listing.utterances}) == n_speakers
        assert {clip.emotion for clip in listing.utterances} == set(CORPORA[name].emotions)
        assert all(clip.sex for clip in listing.utterances)
        assert soundfile.info(listing.utterances[0].path).samplerate == rate_hz
        assert not set(CORPORA[name].known_twins) & {clip.id for clip in listing.utterances}
    assert "SYNTHETIC" in (demo / "README.txt").read_text()


def test_every_clip_is_a_second_or_two_of_sound_of_its_own(clips: Clips) -> None:
    assert len(clips) == len(plan_clips(0)) == sum(n for n, _, _ in EXPECTED.values())
    assert len({samples.tobytes() for _, samples, _ in clips}) == len(clips)
    for clip, samples, rate_hz in clips:
        assert 0.7 < len(samples) / rate_hz < 3.5, clip.id
        level_dbfs = 10 * np.log10(np.mean(samples**2))
        assert -65 < level_dbfs < -10, clip.id
        assert np.abs(samples).max() < 0.99, clip.id


def test_emotions_differ_as_in_acted_speech(clips: Clips) -> None:
    pitch = mean_by_emotion(clips, [pitch_hz(samples, rate) for _, samples, rate in clips])
    assert pitch["sad"] < pitch["neutral"] < pitch["happy"]
    assert pitch["sad"] < pitch["fearful"]
    level = mean_by_emotion(clips, [10 * np.log10(np.mean(s**2)) for _, s, _ in clips])
    assert level["sad"] + 3 < level["neutral"] < level["angry"] - 3
    duration_s = mean_by_emotion(clips, [len(samples) / rate for _, samples, rate in clips])
    assert duration_s["fearful"] < duration_s["neutral"] < duration_s["sad"]


def log_bands(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean and deviation over frames of the log power in 20 bands up to 8 kHz, and pitch."""
    width = rate_hz // 40
    frames = samples[: len(samples) // width * width].reshape(-1, width) * np.hanning(width)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(2, width // 2 * min(1, 16_000 / rate_hz), 21).astype(int))
    bands = np.log(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1) + 1e-10)
    features = np.interp(np.arange(40) / 40, np.arange(2 * bands.shape[1]) / 2 / bands.shape[1],
                         np.concatenate([bands.mean(axis=0), bands.std(axis=0)]))  # fmt: skip
    return np.append(features, np.log(pitch_hz(samples, rate_hz)))


def test_unheard_actors_are_neither_hopeless_nor_trivial(clips: Clips) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ravdess = [clip for clip in clips if clip[0].corpus == "ravdess"]
    features = np.array([log_bands(samples, rate) for _, samples, rate in ravdess])
    emotions = np.array([clip.emotion for clip, _, _ in ravdess])
    tested = np.array([clip.speaker in ("ravdess_07", "ravdess_08") for clip, _, _ in ravdess])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    guess = model.fit(features[~tested], emotions[~tested]).predict(features[tested])
    uar = recall_score(emotions[tested], guess, average="macro")
    assert 0.35 < uar < 0.95  # chance 0.125


def test_a_current_folder_is_returned_as_it_is(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "_speak_in_a_process", None)
    assert render_demo(demo, seed=0) == demo


def test_the_same_seed_speaks_the_same_samples(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ser.corpora.demo import cast;"
        "clips = cast.plan_clips(int(sys.argv[2]))[30:33] + cast.plan_clips(0)[-2:];"
        "cast.plan_clips = lambda seed: clips;"
        "(Path(sys.argv[1]) / 'crema_d').mkdir(parents=True);"
        "cast.write_corpora(Path(sys.argv[1]), seed=int(sys.argv[2]))"
    )
    digests = []
    for number, seed in enumerate(("0", "0", "1")):
        folder = tmp_path / str(number)
        subprocess.run([sys.executable, "-c", code, folder, seed], check=True)
        samples = [path.read_bytes() for path in sorted(folder.rglob("*.wav"))]
        digests.append([hashlib.sha256(one).hexdigest() for one in samples])
    assert len(digests[0]) == 5
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def write_note(folder: Path, seed: int) -> None:
    """In place of the speech, where a test is about folders."""
    folder.mkdir()
    (folder / "note").write_text(str(seed))


@pytest.fixture
def unspoken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    seeds: list[int] = []

    def speak(folder: Path, seed: int) -> None:
        seeds.append(seed)
        time.sleep(0.05)
        write_note(folder, seed)

    monkeypatch.setattr(demo_module, "_speak_in_a_process", speak)
    yield seeds


def test_another_seed_or_version_replaces_the_folder(
    tmp_path: Path, unspoken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "demo"
    render_demo(folder, seed=1)
    render_demo(folder, seed=2)
    assert (folder / "note").read_text() == "2"
    monkeypatch.setattr(demo_module, "VERSION", -1)
    render_demo(folder, seed=2)
    assert unspoken == [1, 2, 2]
    assert [path.name for path in sorted(folder.parent.iterdir())] == [".demo.lock", "demo"]


def test_runs_at_once_render_once(tmp_path: Path, unspoken: list[int]) -> None:
    runs = [
        threading.Thread(target=render_demo, args=(tmp_path / "demo",), kwargs={"seed": 3})
        for _ in range(4)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert unspoken == [3]
    assert (tmp_path / "demo" / MARKER).is_file()


def test_a_killed_run_leaves_no_half_corpus(tmp_path: Path, unspoken: list[int]) -> None:
    folder = tmp_path / "demo"
    code = (
        "import os, sys; from pathlib import Path; from ser.corpora import demo;"
        "speak = lambda folder, seed: (folder.mkdir(), os.kill(os.getpid(), 9));"
        "demo._speak_in_a_process = speak; demo.render_demo(Path(sys.argv[1]), seed=4)"
    )
    killed = subprocess.run([sys.executable, "-c", code, folder], check=False)
    assert killed.returncode == -9
    assert not folder.exists()
    assert list(tmp_path.glob(".demo.*.tmp/new"))
    render_demo(folder, seed=4)
    assert (folder / "note").read_text() == "4"
    assert not list(tmp_path.glob(".demo.*.tmp"))


def test_what_speaks_ends_with_the_run_that_asked_for_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ser.corpora.demo import render_demo;"
        "render_demo(Path(sys.argv[1]), seed=0)"
    )

    def n_spoken() -> int:
        return len(list(tmp_path.rglob("*.wav")))

    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "demo"]) as run:
        while n_spoken() < 3:
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
    time.sleep(0.5)
    spoken = n_spoken()
    time.sleep(1.0)  # in which dozens of clips would be spoken
    assert n_spoken() == spoken < len(plan_clips(0))


def test_what_speaks_being_killed_is_told_as_such(tmp_path: Path) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "__name__", "killed")
        (tmp_path / "killed.py").write_text(code)
        patch.syspath_prepend(tmp_path)
        with pytest.raises(SerError, match=r"spoken: its process ended \(Killed\)\. It needs"):
            demo_module._speak_in_a_process(tmp_path / "demo", seed=0)


def test_a_left_over_that_cannot_be_removed_is_no_error(
    tmp_path: Path, unspoken: list[int]
) -> None:
    (tmp_path / ".demo.killed.tmp").write_text("no folder, so not removed as one")
    render_demo(tmp_path / "demo", seed=7)
    assert (tmp_path / "demo" / "note").read_text() == "7"


def test_a_failed_render_keeps_the_old_folder(
    tmp_path: Path, unspoken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = render_demo(tmp_path / "demo", seed=5)

    def fail(folder: Path, seed: int) -> None:
        raise SerError("no voice")

    monkeypatch.setattr(demo_module, "_speak_in_a_process", fail)
    with pytest.raises(SerError, match="no voice"):
        render_demo(folder, seed=6)
    assert (folder / "note").read_text() == "5"
    assert not list(tmp_path.glob(".demo.*.tmp"))


def test_a_folder_of_the_users_is_refused(tmp_path: Path, unspoken: list[int]) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(SerError, match=r"the demo did not make.*empty folder"):
        render_demo(tmp_path, seed=0)
    assert (tmp_path / "thesis.txt").exists() and unspoken == []


@pytest.mark.parametrize(
    ("loader", "reason"),
    [
        ("raise ImportError('none')", "the package espeakng-loader is not installed"),
        ("def get_library_path(): return 'no.so'", "library cannot be loaded"),
    ],
)
def test_without_espeak_the_error_names_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, reason: str
) -> None:
    (tmp_path / "espeakng_loader.py").write_text(loader)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(SerError) as error:
        render_demo(tmp_path / "demo", seed=0)
    assert reason in str(error.value)
    assert "pip install --force-reinstall espeakng-loader" in str(error.value)


def test_voices_behind_a_long_path_are_found(tmp_path: Path) -> None:
    import espeakng_loader

    voices = tmp_path / ("long" * 50) / "espeak-ng-data"
    voices.parent.mkdir()
    voices.symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
    code = (
        "import sys, espeakng_loader; espeakng_loader.get_data_path = lambda: sys.argv[1];"
        "from ser.corpora.demo.espeak import Espeak;"
        "said = Espeak().speak('hello', voice='en-us+f1', words_per_minute=160, pitch=50,"
        "                      pitch_range=50, seed=1); assert len(said) > 5000"
    )
    subprocess.run([sys.executable, "-c", code, voices], check=True)
