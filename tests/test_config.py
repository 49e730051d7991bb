"""What options are refused, in which words, and what is settled before a run."""

import logging

import pytest
from composing import checked, composed
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from ser.config import build, check, load_option, plain, settle_encoder
from ser.errors import SerError


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("dataset.labels", "nine", "is not known: choose native, eight, seven, six, four."),
        ("dataset.source", "web", "is not known: choose auto, combined, corpus, demo."),
        ("loss.imbalance", "some", "is not known: choose weights, sampler, none."),
        ("monitor.mode", "up", "is not known: choose max, min."),
        *(
            (option, value, ": it must be a whole number of at least 1.")
            for option in ("trainer.max_epochs", "loader.batch_size", "loader.pool_batches",
                           "early_stopping.patience")
            for value in (-1, 0, 2.5, "many")
        ),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(option, value, rule):
    cfg = composed()
    OmegaConf.update(cfg, option, value)
    with pytest.raises(SerError) as caught:
        check(cfg)
    between = "" if rule.startswith(":") else " "
    assert str(caught.value) == f"{option}={value}{between}{rule}"


DROP = (
    "Drop the feature= option if one was given: the class says in `reads_of` what it reads, and "
    "conf/model/{}.yaml picks the front-end, by `override /feature@_global_.feature`."
)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("model=wav2vec2 feature=mfcc",
         "model=wav2vec2 reads embedding, but feature=mfcc gives frames. "
         + DROP.format("wav2vec2")),
        ("model=tim feature=mfcc_embedding_speech",
         "model=tim reads frames, but feature=mfcc+embedding gives embedding and frames. "
         + DROP.format("tim")),
        ("model=ensemble feature=mfcc",
         "model=ensemble reads embedding and embedding_whole and frames, but feature=mfcc gives "
         "frames. "
         + DROP.format("ensemble")),
    ],
)  # fmt: skip
def test_a_front_end_that_does_not_fit_is_refused_by_name(words, text):
    with pytest.raises(SerError) as caught:
        checked(*words.split())
    assert str(caught.value) == text


def test_a_feature_gives_a_stream_that_there_is(monkeypatch):
    for wrong in ("frame", None):
        monkeypatch.setattr("ser.features.MfccProsody.stream", wrong)
        with pytest.raises(SerError) as caught:
            checked("model=tim")
        rule = f"its class attribute `stream` is {wrong!r}, but a feature gives one of the streams"
        streams = "frames, embedding, embedding_whole, waveform"
        assert str(caught.value).startswith(f"ser.features.MfccProsody: {rule} {streams}.")


def test_streams_to_augment_are_those_that_there_are_and_the_model_reads(caplog):
    with pytest.raises(SerError) as caught:
        checked("model=tim", "augment=waveform", "augment.streams=[frame]")
    assert str(caught.value) == (
        "augment.streams=['frame']: frame is no stream. Choose among frames, embedding, "
        "embedding_whole, waveform; model=tim reads frames."
    )
    checked("model=tim", "augment=waveform")
    checked("model=tim", "augment=robust")
    assert not caplog.messages
    checked("model=wav2vec2", "augment=waveform")
    told = "but model=wav2vec2 reads embedding: no augmented copies are made."
    assert caplog.messages == [f"augment.streams=['frames'], {told}"]


@pytest.mark.parametrize(
    ("key", "target", "told"),
    [
        ("model._target_", "ser.models.tim.TimNt",
         "ser.models.tim has no class or function TimNt. Did you mean TimNet? Mend it in the file "
         "of conf/model/ that was chosen; a class is named by its own module or by a package "
         "whose __init__ imports it."),
        ("feature.mfcc.feature._target_", "ser.features.Gammatone",
         "ser.features has no class or function Gammatone. Mend it in the file of conf/feature/"),
        ("scheduler._target_", "ser.schedule.cosine",
         "there is no module ser.schedule. Mend it in the file of conf/scheduler/"),
        ("split._target_", "ser.splits.speakers", "ser.splits has no class or function speakers."),
    ],
)  # fmt: skip
def test_a_target_that_names_nothing_is_refused_by_its_key(key, target, told):
    with pytest.raises(SerError) as caught:
        checked("model=tim", f"{key}={target}")
    assert str(caught.value).startswith(f"{key}={target}: {told}")


@pytest.mark.parametrize(
    ("word", "error", "text"),
    [
        ("model=bert", MissingConfigException, "\twav2vec2"),
        ("trainer.max_epoch=3", ConfigCompositionException, "trainer.max_epoch"),
        ("colour=red", HydraException, "colour"),
    ],
)
def test_hydra_names_what_it_does_not_know(word, error, text):
    with pytest.raises(error) as caught:
        composed(word)
    assert text in f"{caught.value} {caught.value.__cause__}"


def test_a_folder_of_ones_own_must_be_named():
    cfg = composed("dataset=folder")
    with pytest.raises(MissingMandatoryValue, match=r"dataset\.root"):
        plain(cfg)


def test_an_option_that_the_class_does_not_take_is_named():
    cfg = checked("model=wav2vec2", "+model.dropuot=0.2", "encoder=tiny")
    options = {key: value for key, value in plain(cfg.model).items() if key != "name"}
    with pytest.raises(SerError) as caught:
        build(options, n_classes=7, streams={"embedding": (3, 64)})
    text = str(caught.value)
    assert text.startswith("ser.models.wav2vec2.Wav2Vec2Model: ") and "'dropuot'" in text
    assert "Its YAML under conf/ must give each parameter that the class takes, and no " in text


def test_an_option_that_is_left_out_is_named():
    with pytest.raises(SerError, match=r"ser\.features\.Mfcc: .*'hop_samples'"):
        build(OmegaConf.create({"_target_": "ser.features.Mfcc", "n_mfcc": 13}))


def test_what_a_class_refuses_reaches_the_user_as_it_was_said():
    cfg = composed("model=tim", "feature.mfcc.feature.mfcc.deltas=7")
    with pytest.raises(SerError, match=r"^feature mfcc: deltas=7, but only 0, 1 and 2"):
        build(cfg.feature.mfcc)


def test_the_voices_follow_the_front_end():
    bands = composed("model=tim", "feature.mfcc.feature.mfcc.n_mels=64").augment.batch.voice
    assert (bands.n_mfcc, bands.n_mels, bands.sample_rate_hz) == (39, 64, 16_000)
    none = composed("model=tim", "feature=mfcc_timnet").augment.batch.voice
    assert (none.n_mfcc, none.n_mels, none.sample_rate_hz) == (None, None, None)


def test_what_is_no_mistake_of_the_user_stays_as_it_is():
    with pytest.raises(HydraException, match=r"Error locating target 'ser\.nowhere\.Nothing'"):
        build(OmegaConf.create({"_target_": "ser.nowhere.Nothing"}))


def test_no_fused_optimizer_in_mixed_precision():
    assert checked("model=tim").optimizer.fused
    assert not checked("model=tim", "trainer=gpu").optimizer.fused
    assert "fused" not in checked("model=tim", "trainer=gpu", "optimizer=sgd").optimizer


@pytest.mark.parametrize(("synthetic", "name"), [(True, "tiny"), (False, "wav2vec2_base")])
def test_auto_encoder_is_settled_wherever_it_is_referred_to(synthetic, name, caplog):
    caplog.set_level(logging.INFO, logger="ser")
    cfg = checked("model=ensemble")
    settle_encoder(cfg, synthetic)
    wanted = OmegaConf.to_container(load_option("encoder", name))
    values = OmegaConf.to_container(cfg, resolve=False)
    assert values["encoder"] == wanted
    assert values["feature"]["embedding"]["encoder"] == wanted
    assert values["model"]["wav2vec2"]["encoder"] == wanted
    assert any(message.startswith(f"encoder=auto: {name} (") for message in caplog.messages)


def test_auto_encoder_is_not_mentioned_where_none_is_read(caplog):
    caplog.set_level(logging.INFO, logger="ser")
    cfg = checked("model=tim")
    settle_encoder(cfg, synthetic=False)
    assert cfg.encoder.name == "wav2vec2_base" and caplog.messages == []


def test_an_encoder_that_was_chosen_stays(caplog):
    cfg = checked("model=wav2vec2", "encoder=hubert_base", "encoder.path=/weights")
    settle_encoder(cfg, synthetic=True)
    assert cfg.encoder.name == "hubert_base" and cfg.encoder.path == "/weights"
    assert cfg.feature.embedding.encoder == cfg.encoder


@pytest.mark.parametrize("key", ["data_root", "cache_root", "runs_root", "encoder.path", "resume"])
def test_paths_may_begin_at_home(key, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    cfg = composed("dataset=emodb", f'{key}="~/x"', "encoder=whisper_base")
    check(cfg)
    assert OmegaConf.select(cfg, key) == "/home/me/x"
    assert cfg.dataset.root.startswith("/home/me/x/") == (key == "data_root")


def test_a_path_given_to_auto_goes_to_the_default_encoder():
    cfg = checked("model=wav2vec2", "encoder.path=/weights")
    settle_encoder(cfg, synthetic=False)
    assert cfg.feature.embedding.encoder.path == "/weights"


@pytest.mark.parametrize(
    ("model", "option", "finetune", "before", "after"),
    [
        ("wav2vec2", "model.finetune", "lora", ["embedding"], ["waveform"]),
        (
            "ensemble",
            "model.wav2vec2.finetune",
            "last_n",
            ["mfcc", "embedding", "embedding_whole"],
            ["mfcc", "embedding", "waveform", "embedding_whole"],
        ),
        (
            "ensemble",
            "model.wav2vec2.finetune",
            "full",
            ["mfcc", "embedding", "embedding_whole"],
            ["mfcc", "embedding", "waveform", "embedding_whole"],
        ),
    ],
)
def test_a_trained_encoder_reads_waveforms(model, option, finetune, before, after, caplog):
    caplog.set_level(logging.INFO, logger="ser")
    assert list(checked(f"model={model}").feature) == before and caplog.messages == []
    cfg = checked(f"model={model}", f"{option}={finetune}")
    assert list(cfg.feature) == after
    assert cfg.feature.waveform == load_option("feature", "waveform").waveform
    how = "beside" if "embedding" in after else "in place of"
    assert caplog.messages == [f"model={model} reads waveform here {how} embedding"]


def test_a_front_end_that_fits_stays_as_it_was_chosen(caplog):
    caplog.set_level(logging.INFO, logger="ser")
    cfg = checked("model=wav2vec2", "model.finetune=lora", "feature=waveform")
    assert list(cfg.feature) == ["waveform"] and caplog.messages == []


def test_tim_on_frames_reads_the_encoders_frames():
    cfg = checked("model=ensemble", "model.fusion=tim_on_frames")
    assert set(cfg.feature) == {"embedding", "embedding_whole", "encoder_frames"}
    settle_encoder(cfg, synthetic=True)
    assert cfg.feature.encoder_frames.encoder == cfg.encoder
    assert cfg.encoder.name == "tiny"


def test_an_ensemble_without_tim_net_reads_no_frames(caplog):
    caplog.set_level(logging.INFO, logger="ser")
    both = {"embedding", "embedding_whole"}
    assert set(checked("model=ensemble", "model.tim_share=0").feature) == both
    assert caplog.messages == ["model=ensemble reads no mfcc here: tim_share=0 leaves TIM-Net out"]
    assert set(checked("experiment=finetune").feature) == both | {"waveform"}
    assert "mfcc" in checked("experiment=finetune", "model.tim_share=0.25").feature


@pytest.mark.parametrize(
    ("model", "copies"), [("ridge", 0), ("linear", 0), ("wav2vec2", 4), ("tim", 4)]
)
def test_models_that_are_fitted_at_once_say_that_they_hear_no_copies(model, copies, caplog):
    caplog.set_level(logging.INFO, logger="ser")
    assert checked(f"model={model}", "augment=robust").augment.copies == copies
    assert ("copies are left out" in caplog.text) == (copies == 0)


def test_factors_of_corpora_want_weights():
    with pytest.raises(SerError, match=r"loss.corpora=\{'tess': 0.5\}: with loss.imbalance=none"):
        checked("loss.corpora={tess:0.5}", "loss.imbalance=none")


def test_a_schedule_that_follows_validation_is_not_for_training_on_it() -> None:
    checked("refit=true")
    with pytest.raises(SerError, match="refit=true with scheduler=plateau"):
        checked("refit=true", "scheduler=plateau")


def test_whole_clips_bring_an_embedding_of_their_own() -> None:
    cfg = checked("model=ridge")
    assert set(cfg.feature) == {"embedding", "embedding_whole"}
    assert cfg.feature.embedding_whole._target_ == "ser.features.WholeEmbedding"
    assert set(checked("model=ridge", "model.whole_share=0").feature) == {"embedding"}
    for words, silence_s in (
        (["model=ridge"], 0.5),
        (["model=ridge", "model.silence_s=1"], 1),
        (["model=ridge", "model.silence_s=null"], None),
        (["model=ridge_enrolled"], None),
        (["model=ensemble"], 0.5),
        (["model=ensemble", "model.ridge.silence_s=null"], None),
    ):
        assert checked(*words).feature.embedding_whole.silence_s == silence_s
    alone = checked("model=ensemble", "model.ridge.whole_share=0")
    assert set(alone.feature) == {"mfcc", "embedding"}
