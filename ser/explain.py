"""`ser explain`: what a finished run learned and where it goes wrong, as figures and pages."""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from omegaconf import OmegaConf

from ser.assemble import compute_features, material_of_run
from ser.clips_page import N_MELS, clips_page, log_mel
from ser.comparison import model_names
from ser.data import EmotionDataset, in_order
from ser.embedding_map import (
    MIN_CLIPS,
    Hidden,
    Seen,
    map_clips,
    neighbours,
    purity,
    standardised,
)
from ser.errors import SerError
from ser.explain_index import write_index
from ser.explain_plots import Colouring, map_figure, saliency_figure
from ser.features import EncoderFrames, Feature, SpeechOnly
from ser.metrics import class_recall, counts_of
from ser.model_card import write_model_card
from ser.models.tim import TimNet
from ser.models.wav2vec2 import LayerWeighting
from ser.plots import layer_weights_figure, recall_figure, scale_weights_figure
from ser.predict import Recognizer
from ser.recognizer import load_recognizer
from ser.report import clips_and_speakers
from ser.run_folder import RunFolder, remove_parts, without_moment
from ser.saliency import saliency_of
from ser.whole_files import save_figure, write_text

log = logging.getLogger(__name__)

SYNTHETIC = " (SYNTHETIC SPEECH)"  # in titles
SEED = 0  # of the map's layout
_NAME_BYTES = 200  # of a recording's, in its figure's: file systems take 255


@dataclass(frozen=True)
class Explained:
    """A run, loaded."""

    folder: RunFolder
    recognizer: Recognizer
    name: str  # as titles bear it

    @property
    def out(self) -> Path:
        """Where everything is written."""
        return self.folder.path / "explain"


def explain(
    folders: Sequence[RunFolder], *, limit: int, encoder_path: str | None = None
) -> list[Path]:
    """Draw all figures and pages of the first run into its `explain` folder; gives their paths.

    Further runs are counted in the page of wrong clips and shown in the recall figure. What a
    model does not have is left out, with the reason in index.html and in the log.
    """
    predictions = {name: f.read_predictions() for name, f in _named(folders).items()}
    run = _open(folders[0], encoder_path)
    who = run.name if len(predictions) == 1 else f"{len(predictions)} runs"
    title = f"The clips most often wrong: {who}"
    parts: dict[str, Callable[[Path], None]] = {
        "embedding_map.png": lambda path: _draw_map(run, path),
        "layer_weights.png": lambda path: _draw_layers(run, path),
        "scale_weights.png": lambda path: _draw_scales(run, path),
        "recall.png": lambda path: _draw_recall(run, folders, predictions, path),
        "wrong_clips.html": lambda path: write_text(
            path, clips_page(predictions, limit, title, synthetic=run.recognizer.synthetic)
        ),
    }
    skipped = {}
    for file, write in parts.items():
        (run.out / file).unlink(missing_ok=True)
        try:
            write(run.out / file)
        except SerError as error:
            skipped[file] = " ".join(str(error).split())
            log.warning("%s is left out: %s", file, skipped[file])
    index = write_index(run.folder.path, run.out, run.name, skipped)
    return [*(run.out / file for file in parts if file not in skipped), index]


def explain_clip(folder: RunFolder, clip: Path, *, encoder_path: str | None = None) -> list[Path]:
    """Draw which moments of a recording the run's model heard; gives the figure and the index."""
    from librosa import mel_frequencies

    run = _open(folder, encoder_path)
    curve = saliency_of(run.recognizer, clip)
    heard = f"heard as {curve.emotion} ({100 * curve.probability:.0f} %)"
    figure = saliency_figure(
        curve.centres_s,
        curve.drop,
        curve.waveform,
        curve.sample_rate_hz,
        log_mel(curve.waveform),
        mel_frequencies(n_mels=N_MELS, fmax=curve.sample_rate_hz / 2).tolist(),
        curve.emotion,
        f"{clip.name}: {heard}\n{run.name}",
    )
    path = run.out / _figure_name(clip)
    save_figure(figure, path)
    return [path, write_index(run.folder.path, run.out, run.name, None)]


def _figure_name(clip: Path) -> str:
    """One a recording: another of the same name has another folder, and so another hash."""
    place = hashlib.sha256(os.fsencode(clip.absolute())).hexdigest()[:6]
    name = clip.name.encode()[:_NAME_BYTES].decode(errors="ignore")
    return f"saliency_{name}_{place}.png"


def rewrite_card(folder: RunFolder, *, encoder_path: str | None = None) -> Path:
    """Write the run's MODEL_CARD.md anew, with what was measured since; gives its path."""
    recognizer = load_recognizer(folder.best, encoder_path)
    card = recognizer.card
    own, material = material_of_run(folder, card["split_hash"])
    remove_parts(folder.path, "MODEL_CARD.md.*")
    parts = (own, material, recognizer.model, recognizer.features)
    return write_model_card(*parts, folder, folder.metrics(), card)


def _open(folder: RunFolder, encoder_path: str | None) -> Explained:
    recognizer = load_recognizer(folder.best, encoder_path)
    run = Explained(folder, recognizer, _short(folder) + SYNTHETIC * recognizer.synthetic)
    run.out.mkdir(exist_ok=True)
    remove_parts(run.out)
    return run


def _short(folder: RunFolder) -> str:
    """The run's name without the moment it began."""
    return without_moment(folder.path.resolve().name)


def _named(folders: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """Each run by its short name, or by its whole one where two share the short one."""
    unique = {folder.path.resolve(): folder for folder in folders}
    short = [_short(folder) for folder in unique.values()]
    return {
        name if short.count(name) == 1 else path.name: folder
        for name, (path, folder) in zip(short, unique.items(), strict=True)
    }


def _draw_map(run: Explained, path: Path) -> None:
    clips, seen = hidden_values(run.folder, run.recognizer)
    if len(clips) < MIN_CLIPS:
        raise SerError(f"{len(clips)} test clips make no neighbourhoods: it takes {MIN_CLIPS}.")
    values = standardised(seen.values)
    if (n := values.shape[1]) < 2:
        raise SerError(f"Of {seen.what} {n} differ from clip to clip: a map takes 2 or more.")
    near = neighbours(values)
    colourings, shared = colourings_of(clips, near)
    if not colourings:
        raise SerError(f"The test clips are all of {shared}: there is nothing to tell apart.")
    points = map_clips(values, seed=SEED)
    title = f"{run.name}: {clips_and_speakers(clips)} by {seen.what}"
    if shared:
        log.info("%s: no panel for what all test clips share: %s", path.name, shared)
        title += f"\nall of {shared}"
    save_figure(map_figure(points, colourings, near.shape[1], title), path)


def colourings_of(clips: pd.DataFrame, near: npt.NDArray[np.int64]) -> tuple[list[Colouring], str]:
    """By emotion, by corpus or else sex, and by speaker; and in words what all clips share.

    ``near: (clips, k)`` are their neighbours. What is shared has no colouring: it would have one
    colour.
    """
    second = "corpus" if clips["corpus"].nunique() > 1 else "sex"
    columns = {"emotion": clips["label"], second: clips[second], "speaker": clips["speaker"]}
    colourings, shared = [], []
    for what, column in columns.items():
        names = column.fillna("unknown").tolist()
        if len(set(names)) > 1:
            colourings.append(Colouring(what, names, *purity(near, names)))
        else:
            shared.append(f"one {what} ({names[0]})")
    return colourings, ", ".join(shared)


def hidden_values(folder: RunFolder, recognizer: Recognizer) -> tuple[pd.DataFrame, Seen]:
    """The run's test clips (rows of its manifest), and what the model makes of them.

    Raises SerError when the speech has changed, or the model has nothing hidden to show.
    """
    own, material = material_of_run(folder, recognizer.card["split_hash"])
    table = material.speech.table
    clips = table[table["id"].isin(material.split.test)]
    stores = compute_features(Path(own.cache_root), recognizer.features, clips)
    dataset = EmotionDataset(clips, recognizer.classes, stores)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = recognizer.model.to(device)
    found = Hidden(model).of(in_order(dataset, own.loader.batch_size))
    if found is None:
        raise SerError(
            f"{type(model).__name__} has no hidden values and reads no embedding: there is "
            "nothing to map."
        )
    return clips.loc[found.rows], found


def _draw_layers(run: Explained, path: Path) -> None:
    model = run.recognizer.model
    found = [m for m in model.modules() if isinstance(m, LayerWeighting)]
    if not found:
        raise SerError(f"{type(model).__name__} learns no weighting of encoder layers.")
    if len(found[0].layers) == 1:
        raise SerError(
            f"{type(model).__name__} reads one encoder layer, number {found[0].layers[0]}: its "
            "weight is 1 whatever was learned."
        )
    shares = torch.stack([m.weight.detach().softmax(0) for m in found]).cpu().numpy()
    title = f"{run.name}: learned layer weights"
    if len(found) > 1:
        title += f" (bars: mean of {len(found)} heads)"
    save_figure(layer_weights_figure(shares, found[0].layers, title), path)


def _draw_scales(run: Explained, path: Path) -> None:
    model = run.recognizer.model
    found = [m for m in model.modules() if isinstance(m, TimNet)]
    if not found:
        raise SerError(f"{type(model).__name__} has no TIM-Net, and so no temporal scales.")
    (frames,) = [f for f in run.recognizer.features if f.stream == "frames"]
    weights = found[0].fusion.detach().cpu().tolist()
    title = f"{run.name}: learned weight of each temporal scale"
    save_figure(scale_weights_figure(weights, title, hop_ms(frames)), path)


def hop_ms(feature: Feature) -> float:
    """Milliseconds from one frame of a stream `frames` to the next; SerError if it is not told."""
    if isinstance(feature, SpeechOnly):
        feature = feature.feature
    if isinstance(feature, EncoderFrames):
        return 1000 / feature.encoder.frame_rate_hz
    hop_samples = feature.settings().get("hop_samples")
    if not isinstance(hop_samples, int):
        raise SerError(
            f"{type(feature).__name__} ({type(feature).__module__}) does not tell how long a frame "
            "lasts: let its settings() give `hop_samples`, a whole number."
        )
    return 1000 * hop_samples / feature.sample_rate_hz


def _draw_recall(
    run: Explained,
    folders: Sequence[RunFolder],
    predictions: dict[str, pd.DataFrame],
    path: Path,
) -> None:
    classes = run.recognizer.classes
    by_model: dict[str, list[pd.DataFrame]] = {}
    configs = {name: OmegaConf.load(folder.config) for name, folder in _named(folders).items()}
    models = model_names([cfg.model for cfg in configs.values()])
    for name, model in zip(configs, models, strict=True):
        by_model.setdefault(model, []).append(predictions[name])
    recalls = {}
    for model, tables in by_model.items():
        counts = counts_of(pd.concat(tables), classes)
        label = model if len(tables) == 1 else f"{model}, {len(tables)} runs"
        recalls[label] = class_recall(counts)
    table = pd.DataFrame(recalls, index=pd.Index(classes))
    title = run.name
    if len(configs) > 1:
        told = sorted({f"{cfg.dataset.name}, {cfg.split.name}" for cfg in configs.values()})
        title = f"{len(configs)} runs of {'; '.join(told)}" + SYNTHETIC * run.recognizer.synthetic
    clips = clips_and_speakers(pd.concat(predictions.values()).drop_duplicates("id"))
    save_figure(recall_figure(table, f"{title}: recall {where_tested(by_model)}, {clips}"), path)


def where_tested(by_model: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Whether the models' predictions are of the same clips, in words."""
    clips = {frozenset(pd.concat(tables)["id"]) for tables in by_model.values()}
    return "on the test part" if len(clips) == 1 else "of each model on other test clips"
