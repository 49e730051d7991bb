"""The clips that models get wrong, as one HTML page to listen to: no server, no other file.

Audio and pictures are inside the page, so it opens from a disk or an e-mail alike.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.confidence import PREFIX, classes_in
from ser.corpora import CORPORA
from ser.errors import SerError
from ser.features import LogMel

SYNTHETIC = "SYNTHETIC SPEECH, rendered by espeak-ng: it says nothing about people."
AUDIO_LIMIT_BYTES = 25_000_000  # of FLAC in a page: what browsers and mail still take
PEAK = 0.9  # of full scale: RAVDESS at its own level is too quiet to hear
N_MELS, N_FFT, HOP_SAMPLES = 64, 512, 160
RANGE_DB = 70  # below the loudest point; the rest is the room
FACTS = ("corpus", "speaker", "sex", "intensity", "text", "duration_s", "path", "truth")


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip as the page holds it: data addresses, or why there is no player."""

    audio: str
    picture: str
    silence: str
    level: str
    n_bytes: int


def count_wrong(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The clips that a run got wrong, those most often wrong first; then the surest mistakes.

    ``runs`` maps a run's name to its predictions table. A row has the clip's facts, ``scored`` and
    ``wrong`` (runs), ``prediction`` (the commonest wrong answer), ``gave_it`` (runs), and over
    these the means of ``confidence`` and ``probability_<class>``: over all runs another emotion
    could be the likeliest.
    Raises SerError when the runs name different classes.
    """
    tables = [table.assign(run=name) for name, table in runs.items()]
    shares = {name: classes_in(table) for name, table in runs.items()}
    first = next(iter(shares))
    for name, classes in shares.items():
        if classes != shares[first]:
            raise SerError(
                f"{name} knows {', '.join(classes)}, but {first} knows {', '.join(shares[first])}. "
                "Their mistakes can be counted together only on the same classes: give runs of one "
                "label set."
            )
    answers = pd.concat(tables, ignore_index=True)
    by_clip = answers.groupby("id", sort=True)
    facts = by_clip[list(FACTS)].first()
    facts["scored"] = by_clip.size()
    mistakes = answers[answers["truth"] != answers["prediction"]]
    probabilities = [f"{PREFIX}{name}" for name in shares[first]]
    facts = facts.join(_commonest(mistakes, probabilities), how="inner")
    ordered = facts.sort_values(["wrong", "confidence"], ascending=False, kind="stable")
    return ordered.reset_index()


def _commonest(mistakes: pd.DataFrame, probabilities: list[str]) -> pd.DataFrame:
    """By id: ``wrong`` answers, the commonest, how many runs gave it, and the means over these."""
    pairs = mistakes.groupby(["id", "prediction"])
    means = pairs[["confidence", *probabilities]].mean().assign(gave_it=pairs.size())
    ordered = means.sort_values(["gave_it", "confidence"], ascending=False).reset_index(
        "prediction"
    )
    best = ordered[~ordered.index.duplicated()]
    return best.assign(wrong=mistakes.groupby("id").size())


def clips_page(runs: Mapping[str, pd.DataFrame], limit: int, title: str, *, synthetic: bool) -> str:
    """The page of the ``limit`` clips most often wrong, as HTML.

    A page of synthetic speech says so, in place of the corpora's licences.
    A clip whose file is gone keeps its card and says so; so does one past AUDIO_LIMIT_BYTES.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    wrong = count_wrong(runs)
    shown = wrong.head(limit)
    left = AUDIO_LIMIT_BYTES
    cards = []
    for row in shown.to_dict("records"):
        sound = _sound(row["path"], left)
        left -= sound.n_bytes
        cards.append(_card(row, sound, runs))
    scored = len({clip for table in runs.values() for clip in table["id"]})
    environment = Environment(
        loader=PackageLoader("ser"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("wrong_clips.html").render(
        title=title,
        summary=_summary(len(wrong), len(cards), scored, len(runs)),
        notices=[SYNTHETIC] if synthetic else _licences(shown),
        runs=list(runs),
        filters=_filters(shown),
        clips=cards,
    )


def _summary(n_wrong: int, n_shown: int, n_scored: int, n_runs: int) -> str:
    if not n_wrong:
        who = "" if n_runs == 1 else f" by any of {n_runs} runs"
        return f"None of the {n_scored:,} test clips was recognised wrongly{who}."
    often = "" if n_runs == 1 else f" by at least one of {n_runs} runs"
    these = f"the {n_shown} worst" if n_shown < n_wrong else "they"
    return (
        f"{n_wrong:,} of {n_scored:,} test clips were recognised wrongly{often}; these are {these}."
    )


def _filters(shown: pd.DataFrame) -> list[tuple[str, str, list[str]]]:
    labels = {"truth": "acted", "prediction": "taken for", "speaker": "speaker"}
    return [(key, label, sorted(shown[key].unique())) for key, label in labels.items()]


def _licences(shown: pd.DataFrame) -> list[str]:
    """Whose recordings the page holds, and under what licence."""
    known = [CORPORA[name] for name in sorted(shown["corpus"].unique()) if name in CORPORA]
    return [
        f"This page holds recordings of {corpus.title} ({corpus.licence}): what its licence asks "
        "holds for this page too."
        for corpus in known
    ]


def _card(row: Mapping[Any, Any], sound: Sound, runs: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    answers = [
        (name, answer.prediction, answer.confidence)
        for name, table in runs.items()
        for answer in table[table["id"] == row["id"]].itertuples()
    ]
    shares = [(k.removeprefix(PREFIX), v) for k, v in row.items() if k.startswith(PREFIX)]
    facts = {key: "" if pd.isna(value) else value for key, value in row.items()}
    return facts | asdict(sound) | {"answers": answers, "probabilities": shares}


def _sound(path: str, left_bytes: int) -> Sound:
    """A clip's player and picture, if its file is there and the page has room."""
    try:
        waveform = load_waveform(Path(path), SAMPLE_RATE_HZ)
    except SerError:
        return Sound("", "", f"The file cannot be read any more: {path}", "", 0)
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    level = f"{20 * np.log10(max(rms, 1e-6)):.0f} dBFS"
    picture = data_address("image/png", spectrogram_png(waveform))
    flac = flac_bytes(waveform)
    if len(flac) > left_bytes:
        silence = f"Left out to keep the page under {AUDIO_LIMIT_BYTES / 1e6:.0f} MB: {path}"
        return Sound("", picture, silence, level, 0)
    return Sound(data_address("audio/flac", flac), picture, "", level, len(flac))


def flac_bytes(waveform: Waveform) -> bytes:
    """16-bit FLAC at 16 kHz, its peak brought to PEAK."""
    import soundfile

    loudest = float(np.abs(waveform).max())
    levelled = waveform * (PEAK / loudest) if loudest > 0 else waveform
    stream = io.BytesIO()
    soundfile.write(stream, levelled, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def spectrogram_png(waveform: Waveform) -> bytes:
    """The log-mel spectrogram as a picture of one pixel a frame and band, low bands below."""
    from matplotlib.image import imsave

    logmel_db = log_mel(waveform)
    top_db = float(logmel_db.max())
    stream = io.BytesIO()
    imsave(
        stream, logmel_db.T, format="png", origin="lower", cmap="magma", vmin=top_db - RANGE_DB,
        vmax=top_db,
    )  # fmt: skip
    return stream.getvalue()


def log_mel(waveform: Waveform) -> np.ndarray:
    """(frames, N_MELS) in decibels, a frame every 10 ms, of a waveform at SAMPLE_RATE_HZ."""
    feature = LogMel(
        n_mels=N_MELS, n_fft=N_FFT, hop_samples=HOP_SAMPLES, sample_rate_hz=SAMPLE_RATE_HZ
    )
    (frames,) = feature.extract([waveform], [""])
    return np.asarray(frames)


def data_address(kind: str, content: bytes) -> str:
    """A file inside a page: `data:<kind>;base64,…`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
