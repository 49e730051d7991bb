"""`ser data plot`: the speech of a folder as figures."""

from pathlib import Path

import numpy as np
import pandas as pd

from ser.audio import SAMPLE_RATE_HZ, load_waveform
from ser.check import corpora_at
from ser.corpora.folder import UNKNOWN
from ser.features import LogMel, Mfcc
from ser.labels import classes_of
from ser.manifest import build_manifest, usable
from ser.report import clips_and_speakers
from ser.run_folder import remove_parts
from ser.speech_plots import SpeechPicture, balance_figure, durations_figure, speech_figure
from ser.whole_files import save_figure

N_FFT, HOP_SAMPLES, N_MELS, N_MFCC = 1024, 256, 64, 20


def draw_gallery(root: Path, out: Path, cache_root: Path) -> list[Path]:
    """Draw class balance, durations, and for each corpus one speaker's emotions; gives the PNGs.

    Raises SerError where no corpus is recognised under `root`.
    """
    corpora = corpora_at(root)
    table = usable(build_manifest(corpora, cache_root / "manifests"))
    corpora = [corpus for corpus in corpora if (table["corpus"] == corpus.name).any()]
    table = table.assign(label=table["emotion"])
    classes = classes_of("native", table["emotion"])
    out.mkdir(parents=True, exist_ok=True)
    from librosa import mel_frequencies

    titles = {corpus.name: corpus.heading for corpus in corpora}
    names = f"{', '.join(titles.values())}: {clips_and_speakers(table)}"
    titled = table.assign(corpus=table["corpus"].map(titles))
    figures = {
        "class_balance": balance_figure(titled, classes, f"{names}, by emotion"),
        "durations": durations_figure(titled, classes, f"{names}, durations"),
    }
    mel_hz = mel_frequencies(n_mels=N_MELS, fmax=SAMPLE_RATE_HZ / 2).tolist()
    for corpus in corpora:
        clips = choose_clips(table[table["corpus"] == corpus.name])
        speaker = clips["speaker"].iloc[0]
        pairs = zip(clips["emotion"], clips["path"], strict=True)
        pictures = {emotion: _picture(Path(path)) for emotion, path in pairs}
        ordered = {emotion: pictures[emotion] for emotion in classes if emotion in pictures}
        whose = "" if speaker == f"{corpus.name}_{UNKNOWN}" else f" by {speaker}"
        title = f"{corpus.heading}: {_shown(clips)}{whose}, emotion by emotion"
        lacking = [emotion for emotion in classes if emotion not in pictures]
        if lacking:
            title += f"\n(no clips: {', '.join(lacking)})"
        figures[f"{corpus.name}_by_emotion"] = speech_figure(ordered, title, mel_hz)
    paths = []
    for name, figure in figures.items():
        paths.append(out / f"{name}.png")
        remove_parts(out, f"{name}.png.*")
        save_figure(figure, paths[-1])
    return paths


def choose_clips(clips: pd.DataFrame) -> pd.DataFrame:
    """One clip for each emotion, of the speaker and sentence that show the most emotions.

    Clips whose sentence is not known share none; where none is known the speaker alone counts.
    """
    keys = ["speaker", "text"] if clips["text"].notna().any() else ["speaker"]
    counts = clips.groupby(keys)["emotion"].nunique()
    best = counts.reset_index().iloc[int(counts.to_numpy().argmax())]
    mine = clips[clips["speaker"] == best["speaker"]]
    best_first = mine.assign(other=mine["text"] != best.get("text"))
    chosen: pd.DataFrame = best_first.sort_values(["other", "id"]).drop_duplicates("emotion")
    return chosen


def _shown(clips: pd.DataFrame) -> str:
    """What the chosen clips say, as far as it is known."""
    if clips["text"].isna().any():
        return "clips (sentences not known)"
    return "one sentence" if clips["text"].nunique() == 1 else "clips (several sentences)"


def _picture(path: Path) -> SpeechPicture:
    waveform = load_waveform(path, SAMPLE_RATE_HZ)
    logmel = LogMel(
        n_mels=N_MELS, n_fft=N_FFT, hop_samples=HOP_SAMPLES, sample_rate_hz=SAMPLE_RATE_HZ
    )
    mfcc = Mfcc(
        n_mfcc=N_MFCC,
        n_fft=N_FFT,
        hop_samples=HOP_SAMPLES,
        n_mels=N_MELS,
        deltas=0,
        sample_rate_hz=SAMPLE_RATE_HZ,
        n_samples=None,
    )
    return SpeechPicture(
        waveform=waveform,
        logmel_db=logmel.extract([waveform], [""])[0].astype(np.float32),
        mfcc=mfcc.extract([waveform], [""])[0].astype(np.float32),
        sample_rate_hz=SAMPLE_RATE_HZ,
        hop_ms=1000 * HOP_SAMPLES / SAMPLE_RATE_HZ,
    )
