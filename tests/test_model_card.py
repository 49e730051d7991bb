"""The card says what was measured, and says so where nothing was."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from arm_options import ARM
from bootstrap import bootstrap_interval
from jinja2 import ChainableUndefined, Environment, PackageLoader
from omegaconf import OmegaConf

from ser import card_facts as facts
from ser.calibration import NEVER
from ser.features import Embedding
from ser.metrics import confusion, uar
from ser.model_card import _enrolled, _notes, _validation, figures_table
from ser.models.chance import Chance
from ser.models.encoder import RandomEncoder
from ser.models.linear import Linear
from ser.models.pooling import FrameScaler
from ser.models.wav2vec2 import Wav2Vec2Model
from ser.splits import Split

CLASSES = ("neutral", "calm")


def clips(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    """(corpus, speaker, sex, language, label) a clip."""
    columns = ["corpus", "speaker", "sex", "language", "label"]
    table = pd.DataFrame(rows, columns=columns)
    ids = [f"{corpus}/{k}" for k, corpus in enumerate(table["corpus"])]
    unknown = pd.array([pd.NA] * len(table), dtype="Int64")
    return table.assign(id=ids, age=unknown, text=None, duration_s=1.0)


TWO_CORPORA = clips(
    ("ravdess", "r1", "male", "en", "calm"),
    ("ravdess", "r1", "male", "en", "neutral"),
    ("ravdess", "r2", "female", "en", "neutral"),
    ("emodb", "e1", "female", "de", "neutral"),
    ("emodb", "e2", "female", "de", "neutral"),
    ("emodb", "e2", "female", "de", "neutral"),
)


def split_of(train: pd.DataFrame, test: pd.DataFrame) -> Split:
    ids = tuple(train["id"]), (), tuple(test["id"])
    return Split("speaker", 0, 1, *ids, shares_speakers=False)


def limits(table: pd.DataFrame, synthetic: bool = False) -> str:
    split = split_of(table, table[:0])
    return "\n".join(facts.limits_of(table, split, synthetic, val_trained=False))


def test_confounds_are_found_in_the_manifest() -> None:
    told = limits(TWO_CORPORA)
    assert "Every speaker of EmoDB is female: sex and corpus cannot be told apart there" in told
    assert "Every speaker of RAVDESS" not in told
    assert "calm is in RAVDESS speech only" in told and "neutral is in" not in told
    assert "Each corpus is in one language" in told
    assert "Languages heard: de, en." in told
    assert "4 speakers were heard in training, of unknown age" in told
    assert "performed on request (RAVDESS speech: acted" in told


def test_one_corpus_has_no_confounds_between_corpora() -> None:
    told = limits(TWO_CORPORA[TWO_CORPORA["corpus"] == "emodb"])
    assert "Every speaker in training whose sex is known is female." in told
    assert "told apart" not in told and " only: knowing the corpus" not in told


def test_sentences_and_ages_are_counted() -> None:
    table = TWO_CORPORA.assign(age=pd.array([20, 20, 64, None, 30, 30], dtype="Int64"))
    told = limits(table.assign(text=["a", "b", "a", None, None, None]))
    assert "aged 20 to 64 where it is known" in told
    assert "RAVDESS speech says 2 sentences in training" in told and "EmoDB says" not in told
    assert "Its test clips say" not in told


def _one_sentence() -> tuple[pd.DataFrame, Split]:
    table = TWO_CORPORA[:3].assign(text="a")
    return table, split_of(table[:2], table[2:])


def test_sentences_of_the_test_clips_are_compared() -> None:
    table = TWO_CORPORA.assign(text=["a", "b", "a", None, None, None])
    same = facts.limits_of(table, split_of(table[:2], table[2:]), False, val_trained=False)
    assert any("Its test clips say the same ones." in limit for limit in same)
    other = table.assign(text=["a", "b", "c", None, None, None])
    apart = facts.limits_of(other, split_of(other[:2], other[2:]), False, val_trained=False)
    assert not any("Its test clips say" in limit for limit in apart)
    one = "\n".join(facts.limits_of(*_one_sentence(), False, val_trained=False))
    assert "says 1 sentence in training, over and over. Its test clips say the same one." in one


@pytest.mark.parametrize(
    ("heard", "tested", "told"),
    [
        (["en"], ["en"], "Languages heard: en. Of the test clips: en. How the model does"),
        (["en"], ["de", "en"],
         "Languages heard: en. Of the test clips: de, en. Not known to be heard in training: de. "
         "How the model does"),
        (["de", "en"], ["de"],
         "Languages heard: de, en. Of the test clips: de. Not known to be tested: en. "
         "How the model does"),
        (["en"], [None],
         "Languages heard: en. Of the test clips: unknown. Not known to be tested: en. "
         "How the model does"),
        ([None], ["en"],
         "Languages heard: unknown. Of the test clips: en. Not known to be heard in training: en. "
         "How the model does"),
    ],
)  # fmt: skip
def test_the_languages_heard_and_tested_are_those_of_the_clips(heard, tested, told) -> None:
    rows = [("ravdess", "r1", "male", language, "calm") for language in (*heard, *tested)]
    table = clips(*rows)
    split = split_of(table[: len(heard)], table[len(heard) :])
    limits = facts.limits_of(table, split, False, val_trained=False)
    assert f"{told} in others is not known." in limits


def test_validation_is_heard_only_by_what_was_fitted_on_it() -> None:
    ages = pd.array([20, 20, 64, 30, 30, 30], dtype="Int64")
    table = TWO_CORPORA.assign(age=ages, text=["a", "b", "c", None, None, None])
    ids = tuple(table["id"])
    split = Split("speaker", 0, 1, ids[:2], ids[2:4], ids[4:], shares_speakers=False)
    alone, joint = (
        "\n".join(facts.limits_of(table, split, False, val_trained=fitted))
        for fitted in (False, True)
    )
    assert "1 speaker was heard in training, aged 20 where" in alone
    assert "says 2 sentences in training" in alone and "Languages heard: en." in alone
    assert "whose sex is known is male" in alone and "EmoDB" not in alone
    assert "3 speakers were heard in training, aged 20 to 64" in joint
    assert "says 3 sentences in training" in joint and "Languages heard: de, en." in joint


def test_abstention_says_where_no_confidence_is_enough() -> None:
    assert facts.abstention_text({}) == ""
    told = facts.abstention_text({"abstain_below": 0.65, "abstain_target_accuracy": 0.9})
    assert told.startswith("Below a confidence of 0.650 it may be asked to abstain")
    never = facts.abstention_text({"abstain_below": NEVER, "abstain_target_accuracy": 0.9})
    assert never == (
        "No confidence gave the target accuracy of 0.90 on validation: with `--abstain` every "
        "clip is `uncertain`."
    )


def test_synthetic_speech_is_not_called_acted() -> None:
    assert "performed on request" not in limits(TWO_CORPORA, synthetic=True)


def test_shared_speakers_are_counted_and_not_believed() -> None:
    shared = split_of(TWO_CORPORA[:5], TWO_CORPORA[5:])  # e2 is in both
    assert "1 of 1 test speakers are in train" in facts.sharing_text(TWO_CORPORA, shared)
    apart = split_of(TWO_CORPORA[:4], TWO_CORPORA[4:])
    assert facts.sharing_text(TWO_CORPORA, apart) == "no test speaker is in train or validation."


def test_sizes_tell_weights_from_stored_values() -> None:
    linear = Linear(2, {"embedding": (3, 4)}, "all", 1.0, 10)
    assert facts.size_of(linear) == facts.Size(0, 0, 3 * 4 + 3 * 4 + 3 * 4 * 2 + 2)
    chance = Chance(2, {"frames": (4,)})
    assert facts.size_of(chance) == facts.Size(0, 0, 2)
    assert sum(b.numel() for b in FrameScaler(5, "train").buffers()) == 10


def test_figures_come_with_the_bootstrap_of_their_own_clips() -> None:
    rows = [("neutral", "neutral"), ("neutral", "calm"), ("calm", "calm"), ("calm", "calm")] * 3
    table = pd.DataFrame(rows, columns=["truth", "prediction"]).assign(
        corpus="ravdess", sex=["male", "female"] * 6, speaker=[f"r{k % 4}" for k in range(12)]
    )
    lines = figures_table(table, CLASSES).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "all clips", "sex female", "sex male",
    ]  # fmt: skip  # the only corpus is all clips
    low, high = bootstrap_interval(table, CLASSES, uar)
    measured = uar(confusion(table["truth"], table["prediction"], CLASSES))
    assert f"{measured:.3f} [{low:.3f}, {high:.3f}]" in lines[2]
    assert measured == 0.75


def test_notes_warn_of_few_speakers_and_of_no_mistakes() -> None:
    table = pd.DataFrame({"truth": ["calm"] * 4, "prediction": ["calm"] * 4, "corpus": "tess"})
    two = table.assign(sex="female", speaker=["OAF", "YAF"] * 2)
    told = " ".join(_notes(two))
    assert "10 speakers or fewer" in told and "no draw holds a mistake" in told
    many = pd.concat(
        [two.assign(speaker=f"s{k}", prediction=["calm", "calm", "neutral", "calm"])
         for k in range(11)]
    )  # fmt: skip
    assert len(_notes(many)) == 1
    assert "one test speaker" in " ".join(_notes(two.assign(speaker="OAF")))


def test_a_model_adapted_to_its_test_speakers_says_so() -> None:
    cfg = OmegaConf.create({"model": {"enrolment": "all"}})
    (told,) = _enrolled(cfg, SimpleNamespace(adapts=True))
    assert "`model.enrolment=all`" in told and "not to be compared" in told
    assert _enrolled(cfg, SimpleNamespace(adapts=False)) == []


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    for text in (
        facts.calibration_text({"test/uar": 0.5}),
        facts.subgroups_text(tmp_path),
        facts.robustness_text(tmp_path),
        facts.transfer_text(tmp_path),
    ):
        assert text.startswith("not measured for this model")


def test_what_was_measured_is_quoted(tmp_path: Path) -> None:
    calibration = {"test/ece": 0.04, "test/ece_uncalibrated": 0.11, "test/brier": 0.3}
    told = facts.calibration_text(calibration)
    assert "0.040 on test (0.110 before temperature scaling), Brier score 0.300" in told
    for name, uar_found in {"emodb": 0.4, "test": 0.9, "robustness": 0.9, "testers": 0.8}.items():
        folder = tmp_path / "evaluations" / name
        folder.mkdir(parents=True)
        figures = {"test/uar": uar_found, "test/war": 0.5, "test/clips": 60.0}
        (folder / "metrics.json").write_text(json.dumps(figures))
    told = facts.transfer_text(tmp_path)
    assert told.startswith("emodb UAR 0.400, WAR 0.500 (60 clips); testers UAR 0.800, WAR ")
    figures |= {"test/heard": 12.0, "test/uar": 0.7}
    (tmp_path / "evaluations" / "emodb" / "metrics.json").write_text(json.dumps(figures))
    (tmp_path / "evaluations" / "emodb").rename(tmp_path / "evaluations" / "emodb_seen")
    told = facts.transfer_text(tmp_path)
    assert told.startswith("emodb UAR 0.700")
    assert "(60 clips, 12 of them of known speakers: too good to quote)" in told
    (tmp_path / "evaluations" / "robustness" / "robustness.md").write_text("table")
    assert facts.robustness_text(tmp_path) == "see `evaluations/robustness/robustness.md`."
    (tmp_path / "subgroups.md").write_text("table")
    assert "see `subgroups.md`" in facts.subgroups_text(tmp_path)


@pytest.mark.parametrize("repo", sorted(facts.LICENCES))
def test_every_licence_is_of_an_encoder_option(repo: str) -> None:
    conf = Path(__file__).resolve().parent.parent / "conf" / "encoder"
    assert any(f"repo: {repo}\n" in path.read_text() for path in conf.glob("*.yaml"))


@pytest.mark.parametrize(("keep", "said"), [("best", True), ("last", False), (None, True)])
def test_validation_is_said_to_have_chosen_only_where_it_did(keep: str | None, said: bool) -> None:
    metrics = {"best/uar": 0.5, "best/war": 0.6, "best/clips": 10.0}
    cfg = OmegaConf.create({} if keep is None else {"keep": keep})
    text = _validation(cfg, SimpleNamespace(trainable=True), metrics)  # type: ignore[arg-type]
    assert "UAR 0.500, WAR 0.600 on 10 clips." in text
    assert ("Too good to quote" in text) == said


def test_a_fine_tuned_encoder_is_counted_by_what_of_it_was_trained() -> None:
    tiny = RandomEncoder("tiny", n_blocks=2, width=16, seed=0, precision="float32")
    tuned = Wav2Vec2Model(
        3, {"waveform": ()}, **{**ARM, "encoder": tiny, "finetune": "last_n", "layers": "all"}
    )
    cfg = OmegaConf.create({"encoder": {"name": "tiny"}})
    (alone,) = facts.encoder_facts(cfg, tuned, [])
    assert tuned.encoder is not None
    sizes = [w.numel() for w in tuned.encoder.parameters()]
    last = sum(w.numel() for w in tuned.encoder.layers[-1].parameters())
    assert alone["parameters"] == f"{last:,} of its {sum(sizes):,} parameters trained"
    assert alone["use"] == "trained further, inside the network"
    (beside,) = facts.encoder_facts(cfg, tuned, [Embedding(tiny)])
    assert "(the embeddings read are those of the same, frozen)" in beside["use"]


def test_weights_of_a_regression_beside_a_network_are_no_statistics() -> None:
    template = Environment(loader=PackageLoader("ser"), undefined=ChainableUndefined)
    card = template.get_template("model_card.md")
    joined = card.render(size=facts.Size(9, 9, 5), manifest="", refits=True)
    assert "taken from the data (statistics, fitted weights)" in joined
    assert "(statistics)" in card.render(size=facts.Size(9, 9, 5), manifest="", refits=False)


def usage(**facts_given: object) -> str:
    """The card's text but for its figures."""
    template = Environment(loader=PackageLoader("ser"), undefined=ChainableUndefined)
    size = facts.Size(1, 1, 0)
    return template.get_template("model_card.md").render(size=size, manifest="", **facts_given)


def test_a_card_says_what_else_is_answered_and_what_to_copy() -> None:
    encoder = {"name": "whisper_base", "source": "openai/whisper-base"}
    frozen = usage(adapts=True, encoders=[encoder | {"use": "frozen, outside the network"}])
    assert "Noise, two voices or a fragment of a word are answered too" in frozen
    assert "ask for each speaker apart" in frozen and "--encoder-path FOLDER" in frozen
    inside = usage(encoders=[encoder | {"use": "trained further, inside the network"}])
    assert "--encoder-path FOLDER" in inside  # it is built by its folder's config.json
    random = [encoder | {"use": "frozen, outside the network", "source": ""}]
    for encoders in ([], random):
        told = usage(adapts=False, encoders=encoders)
        assert "ask for each speaker apart" not in told and "--encoder-path" not in told
