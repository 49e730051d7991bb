"""What a model card states, each as a sentence that follows from the run's own files and data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from ser.calibration import NEVER
from ser.corpora import CORPORA
from ser.errors import SerError
from ser.features import Embedding, EncoderFrames, Feature
from ser.models.base import EmotionModel
from ser.models.speech_encoder import SpeechEncoder
from ser.run_folder import RunFolder
from ser.splits import Split

LICENCES = {
    "openai/whisper-base": "MIT (OpenAI's release)",
    "facebook/wav2vec2-base": "Apache-2.0 (its page on the hub)",
    "facebook/wav2vec2-large-xlsr-53": "Apache-2.0 (its page on the hub)",
    "facebook/hubert-base-ls960": "Apache-2.0 (its page on the hub)",
}
"""Of the pretrained encoders of conf/encoder, as their publishers state them."""
NOT_MEASURED = "not measured for this model"
FEW_SENTENCES = 20
SEEN = "_seen"  # ends the folder of an evaluation with seen=keep


@dataclass(frozen=True, slots=True)
class Size:
    """How many numbers a network holds: weights, those that gradients train, and buffers."""

    parameters: int
    trainable: int
    stored: int


def size_of(model: EmotionModel) -> Size:
    """Count the network's weights and its stored floating-point values."""
    weights = list(model.parameters())
    trained = [w.numel() for w in weights if w.requires_grad] if model.trainable else []
    buffers = [b.numel() for b in model.buffers() if b.is_floating_point()]
    return Size(sum(w.numel() for w in weights), sum(trained), sum(buffers))


def encoder_facts(
    cfg: DictConfig, model: EmotionModel, features: Sequence[Feature]
) -> list[dict[str, str]]:
    """The pretrained encoder that the run reads or trains, if there is one."""
    frozen = [f.encoder for f in features if isinstance(f, Embedding | EncoderFrames)]
    inside = [m for m in model.modules() if isinstance(m, SpeechEncoder)]
    if not frozen and not inside:
        return []
    use = "frozen, outside the network"
    if inside:
        weights = list(inside[0].parameters())
        trained = sum(w.numel() for w in weights if w.requires_grad)
        count = f"{trained:,} of its {sum(w.numel() for w in weights):,} parameters trained"
        use = "trained further, inside the network"
        use += " (the embeddings read are those of the same, frozen)" if frozen else ""
    else:
        try:
            count = f"{sum(w.numel() for w in frozen[0].load().parameters()):,} parameters"
        except SerError:
            count = "parameters not counted (its weights are not at hand)"
    repo = cfg.encoder.get("repo")
    source = repo or ""
    if cfg.encoder.get("path"):
        source = f"read from the folder {cfg.encoder.path}, given as {repo}"
    licence = LICENCES.get(repo, f"see the page of {repo}") if repo else "none: random weights"
    return [
        {
            "name": cfg.encoder.name,
            "source": source,
            "use": use,
            "parameters": count,
            "licence": licence,
        }
    ]


def sharing_text(table: pd.DataFrame, split: Split) -> str:
    """Whether test speakers were heard in training, counted in the split itself."""
    heard = set(table.loc[table["id"].isin(split.train + split.val), "speaker"])
    tested = set(table.loc[table["id"].isin(split.test), "speaker"])
    shared = len(heard & tested)
    if not shared:
        told = "no test speaker is in train or validation"
        if split.val_shares_speakers:
            told += "; validation has other clips of the train speakers, there being too few"
        return f"{told}."
    return (
        f"{shared} of {len(tested)} test speakers are in train or validation too. The figures are "
        "those of known voices and say little of new ones; compare them with this protocol only."
    )


def limits_of(
    table: pd.DataFrame, split: Split, synthetic: bool, *, val_trained: bool
) -> list[str]:
    """What the training data leave open, each found in the manifest.

    `val_trained`: in the end the model, or a part of it, was fitted on validation too.
    """
    heard = table[table["id"].isin(split.train + (split.val if val_trained else ()))]
    limits = [] if synthetic else [_how_recorded(heard)]
    limits += _few(heard, table[table["id"].isin(split.test)])
    limits += _sex_limits(heard)
    if heard["corpus"].nunique() > 1:
        limits += _corpus_limits(heard)
    return limits


def _how_recorded(heard: pd.DataFrame) -> str:
    known = {CORPORA[name].title: CORPORA[name].recording for name in heard["corpus"].unique()}
    told = "; ".join(f"{title}: {how}" for title, how in known.items() if how)
    if not told:
        return "How the emotions in these recordings came about is not known to this program."
    return (
        f"The emotions are performed on request ({told}). Spontaneous speech is rarer in clear "
        "emotion and recorded in worse places; no figure here tells how the model does on it."
    )


def _few(heard: pd.DataFrame, tested: pd.DataFrame) -> list[str]:
    speakers = heard["speaker"].nunique()
    were = "speaker was" if speakers == 1 else "speakers were"
    limits = [f"{speakers} {were} heard in training{_ages(heard)}."]
    limits += _languages(*(sorted(part["language"].dropna().unique()) for part in (heard, tested)))
    for corpus, clips in heard.groupby("corpus"):
        sentences = set(clips["text"].dropna())
        if 0 < len(sentences) <= FEW_SENTENCES:
            said = set(tested.loc[tested["corpus"] == corpus, "text"].dropna())
            one = len(sentences) == 1
            again = f" Its test clips say the same {'one' if one else 'ones'}."
            limits.append(
                f"{CORPORA[str(corpus)].title} says {len(sentences)} "
                f"{'sentence' if one else 'sentences'} in training, over and over."
                f"{again if said and said <= sentences else ''} "
                "How the model does on other words is not known."
            )
    return limits


def _languages(heard: Sequence[str], tested: Sequence[str]) -> Iterator[str]:
    """The languages of training and of the test clips, and which of them is in one part only."""
    if not heard and not tested:
        return
    lists = [", ".join(part) or "unknown" for part in (heard, tested)]
    told = "Languages heard: {}. Of the test clips: {}.".format(*lists)
    for one, other, where in ((heard, tested, "tested"), (tested, heard, "heard in training")):
        alone = [language for language in one if language not in other]
        if alone:
            told += f" Not known to be {where}: {', '.join(alone)}."
    yield f"{told} How the model does in others is not known."


def _ages(heard: pd.DataFrame) -> str:
    ages = heard["age"].dropna()
    if ages.empty:
        return ", of unknown age"
    youngest, oldest = int(ages.min()), int(ages.max())
    span = f"{youngest} to {oldest}" if oldest > youngest else f"{youngest}"
    return f", aged {span} where it is known"


def _sex_limits(heard: pd.DataFrame) -> list[str]:
    by_corpus = {str(name): set(clips["sex"].dropna()) for name, clips in heard.groupby("corpus")}
    everyone = set().union(*by_corpus.values())
    if len(everyone) == 1:
        (sex,) = everyone
        return [f"Every speaker in training whose sex is known is {sex}."]
    return [
        f"Every speaker of {CORPORA[name].title} is {next(iter(sexes))}: sex and corpus cannot be "
        "told apart there, so a gap by sex may be one by corpus."
        for name, sexes in by_corpus.items()
        if len(sexes) == 1
    ]


def _corpus_limits(heard: pd.DataFrame) -> list[str]:
    limits = []
    for emotion, clips in heard.groupby("label"):
        corpora = clips["corpus"].unique()
        if len(corpora) == 1:
            limits.append(
                f"{emotion} is in {CORPORA[corpora[0]].title} only: knowing the corpus by its room "
                "and microphone is half of knowing this emotion."
            )
    languages = heard.groupby("corpus")["language"].nunique()
    if heard["language"].nunique() > 1 and (languages == 1).all():
        limits.append("Each corpus is in one language: language and corpus cannot be told apart.")
    return limits


def abstention_text(card: Mapping[str, Any]) -> str:
    """When the model may be asked to abstain; empty where its checkpoint has no threshold."""
    below = card.get("abstain_below")
    if below is None:
        return ""
    if below < NEVER:
        return (
            f"Below a confidence of {below:.3f} it may be asked to abstain (threshold chosen on "
            "validation)."
        )
    target = card.get("abstain_target_accuracy")
    named = "the target accuracy" if target is None else f"the target accuracy of {target:.2f}"
    return f"No confidence gave {named} on validation: with `--abstain` every clip is `uncertain`."


def calibration_text(metrics: Mapping[str, float]) -> str:
    """The expected calibration error on test, where it was measured."""
    if "test/ece" not in metrics:
        return f"{NOT_MEASURED}."
    told = f"expected calibration error {metrics['test/ece']:.3f} on test"
    if "test/ece_uncalibrated" in metrics:
        told += f" ({metrics['test/ece_uncalibrated']:.3f} before temperature scaling)"
    if "test/brier" in metrics:
        told += f", Brier score {metrics['test/brier']:.3f}"
    return f"{told}."


def subgroups_text(folder: Path) -> str:
    """Where the gaps by sex, age, intensity and so on stand."""
    if (folder / "subgroups.md").is_file():
        return "see `subgroups.md` beside this card (test clips, gaps with intervals)."
    return f"{NOT_MEASURED}, beyond the rows by corpus and sex above."


def robustness_text(folder: Path) -> str:
    """Where the figures under degraded speech stand."""
    found = sorted(folder.glob("evaluations/*/robustness.md"))
    if found:
        return "; ".join(f"see `{path.relative_to(folder)}`" for path in found) + "."
    return f"{NOT_MEASURED}."


def is_own(evaluation: str) -> bool:
    """Whether an evaluation's folder of this name is of the run's own clips, or of robustness."""
    return evaluation in ("test", "val") or evaluation.startswith("robustness")


def transfer_text(folder: Path) -> str:
    """The figures on other corpora that evaluate.py has left in the folder."""
    told = []
    for path in sorted(folder.glob("evaluations/*/metrics.json")):
        metrics, name = RunFolder(path.parent).metrics(), path.parent.name.removesuffix(SEEN)
        if not is_own(name) and "test/uar" in metrics:
            clips = f"{metrics['test/clips']:,.0f} clips"
            if heard := metrics.get("test/heard"):
                clips += f", {heard:,.0f} of them of known speakers: too good to quote"
            if left := metrics.get("test/left_out/heard"):
                clips += f"; {left:,.0f} of known speakers left out"
            told.append(
                f"{name} UAR {metrics['test/uar']:.3f}, WAR {metrics['test/war']:.3f} ({clips})"
            )
    return f"{'; '.join(told)}." if told else f"{NOT_MEASURED}."
