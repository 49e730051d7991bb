"""Options as given: values of the wrong kind, out of range, or beside others that exclude them."""

import subprocess
import sys

import pytest
from composing import OPTIONS
from hydra import compose
from hydra.errors import InstantiationException
from pipeline_runs import ROOT, options, run_script, train

from ser.config import CONF, build, check
from ser.errors import OptionError, SerError
from ser.evaluate import evaluate
from ser.explain import rewrite_card
from ser.options import check_kinds, check_name, check_values
from ser.run import prepare
from ser.run import train as train_run
from ser.run_folder import RunFolder
from ser.sweep import run_grid


def checked_kinds(*words: str, config: str = "train") -> None:
    check_kinds(compose(config, list(words)), words, CONF, config)


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("test=no", "it must be true or false (by default true)"),
        ("refit=no", "true or false"),
        ("test=1", "true or false"),
        ("dataset.strict=no", "true or false"),
        ("seed=abc", "it must be a whole number (by default 0)"),
        ("loader.batch_size=2.5", "a whole number"),
        ("optimizer.lr=fast", "it must be a number (by default 0.001)"),
        ("split.val_fraction=abc", "a number"),
        ("split.fold=one", "a whole number"),
        ("model.wav2vec2.dropout=high", "a number"),
        ("loss=focal", "given by its parts, such as loss.label_smoothing= (by default {"),
        ("monitor=val/war", "given by its parts, such as monitor.metric="),
        ("loss=null", "given by its parts, such as loss.label_smoothing="),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_default(hydra_ready, word, rule):
    with pytest.raises(OptionError) as caught:
        checked_kinds("dataset=demo", word)
    assert str(caught.value).startswith(f"{word}: it must be ") and rule in str(caught.value)


def test_the_defaults_are_those_of_the_groups_that_were_chosen(hydra_ready):
    checked_kinds("model=ridge", "model.enrolment=all", "model.silence_s=null", "test=false")
    checked_kinds("optimizer=sgd", "optimizer.lr=1", "trainer.devices=auto", "~experiment")
    checked_kinds("+trainer.profiler=simple", "loss.corpora={tess: 0.5}", "seed=3")
    checked_kinds("run=last", "dataset=demo", "severities.babble=[20]", config="evaluate")
    checked_kinds("sweep=folds", "+sweep.grid.seed=[0]", "sweep.name=x", config="sweep")


def test_a_key_that_nothing_reads_is_refused(hydra_ready):
    with pytest.raises(OptionError, match=r"^sed: there is no such option\. Did you mean seed\?"):
        checked_kinds("+sed=3")


@pytest.mark.parametrize(
    "word",
    ["seed=-1", "loss.label_smoothing=2", "trainer.gradient_clip_val=-1",
     "scheduler.warmup_fraction=2", "monitor.metric=bad"],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(hydra_ready, word):
    with pytest.raises(SerError, match=word.replace(".", r"\.")):
        check(compose("train", ["dataset=demo", word]))


@pytest.mark.parametrize(
    ("words", "mode"), [("monitor.metric=val/loss", "min"), ("monitor.mode=min", "max")]
)
def test_a_mode_that_keeps_the_worst_epoch_is_refused(hydra_ready, words, mode):
    with pytest.raises(SerError, match=rf"worst epoch .*Give monitor\.mode={mode}, too"):
        check(compose("train", ["dataset=demo", words]))


@pytest.mark.parametrize(
    "words",
    ["model.ridge_share=2", "model.tim_share=-1", "model.wav2vec2.heads=0",
     "model.wav2vec2.input_dropout=1", "model.wav2vec2.head_epochs=-1",
     "model.wav2vec2.lora_rank=0", "model.tim.lr_factor=-1", "model.wav2vec2.hidden=0",
     "augment=waveform augment.copies=-1", "augment=waveform augment.waveform.probability=2",
     "augment=mixup augment.batch.mixup_alpha=-1",
     "augment=specaugment augment.batch.specaugment.time_fraction=3",
     "experiment=finetune model.wav2vec2.masks.time_masks=-1"],
)  # fmt: skip
def test_a_number_of_the_model_or_of_augment_that_cannot_be_is_refused_by_its_key(
    hydra_ready, words
):
    with pytest.raises(SerError) as caught:
        check(compose("train", ["dataset=demo", *words.split()]))
    assert str(caught.value).startswith(f"{words.split()[-1]}: it must be ")


def test_options_of_a_model_of_ones_own_may_be_lists_by_the_same_names(hydra_ready):
    check_values(compose("train", ["dataset=demo", "model=chance", "+model.channels=[8,16]"]))


@pytest.mark.parametrize("name", OPTIONS["experiment"])
def test_numbers_that_an_experiment_sets_are_of_the_kind_of_their_defaults(hydra_ready, name):
    cfg = compose("train", [f"experiment={name}"])
    own = compose("train", [f"model={cfg.model.name}"]).model
    of_another_kind = [
        key for key in own if isinstance(own[key], float) and not isinstance(cfg.model[key], float)
    ]
    assert of_another_kind == []  # check_kinds would ask for whole numbers


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("optimizer.lr=-1", r"AdamW: Invalid learning rate: -1"),
        ("trainer.precision=foo", r"Trainer: .*foo"),
        ("model.dropout=2", r"model\.dropout=2: a probability"),
        ("feature.mfcc.feature.mfcc.hop_samples=0", r"mfcc: hop_samples=0"),
        (
            "augment=waveform augment.waveform.speed=[1]",
            r"^augment\.waveform\.speed=\[1\]: give \[",
        ),
        ("augment=waveform augment.waveform.speed=[-1,1]", r"waveform\.speed=.* within 0\.1 to 10"),
        ("augment=waveform augment.waveform.low_pass_hz=[4000,9000]", r"low_pass_hz=.* to 7999"),
    ],
)
def test_what_is_built_late_is_refused_before_a_run_begins(project, hydra_ready, word, told):
    cfg = compose("train", options(project, "model=tim", *word.split()))
    check(cfg)
    with pytest.raises(SerError, match=told):
        prepare(cfg)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("model=linear augment=specaugment", "augment.batch.specaugment: without effect, since "),
        ("model=linear augment.batch.margins=true", "augment.batch.margins: without effect"),
        ("model=linear", ""),
        ("model=tim augment=voice", ""),
    ],
)
def test_augmentation_that_was_asked_for_and_changes_nothing_is_told(
    project, hydra_ready, monkeypatch, caplog, words, told
):
    def stop(*given: object) -> None:
        raise SerError("enough")

    monkeypatch.setattr("ser.run.begun", stop)
    given = options(project, *words.split())
    with pytest.raises(SerError, match=r"^enough$"):
        train_run(compose("train", given), given)
    warned = [text for text in caplog.messages if "without effect" in text]
    assert len(warned) == bool(told) and (not told or told in warned[0])


def test_a_mistake_within_our_own_code_stays_a_traceback():
    with pytest.raises(InstantiationException):
        build({"_target_": "builtins.open", "file": "/nowhere/at/all"})


def test_options_beside_resume_are_refused_but_for_places(project, hydra_ready):
    words = options(project, "resume=last")
    with pytest.raises(SerError, match=r"^dataset=ravdess beside resume=: .* its own options"):
        train_run(compose("train", words), words)
    places = [word for word in words if "_root=" in word or word.startswith("resume")]
    with pytest.raises(SerError, match="no run under"):
        train_run(compose("train", places), places)


def test_a_run_whose_speech_was_moved_is_scored_and_explained_where_it_lies_now(
    project, hydra_ready
):
    run = train(project, "model=linear", "trainer.max_epochs=1")
    moved = project / "elsewhere"
    (project / "data").rename(moved)
    try:
        words = [f"run={run.path}", f"cache_root={project / 'cache'}"]
        with pytest.raises(SerError, match=r"not where it lay.* dataset_root=FOLDER"):
            evaluate(compose("evaluate", words), words)
        with pytest.raises(SerError, match=r"not where it lay.* dataset_root=FOLDER"):
            rewrite_card(run)
        words.append(f"dataset_root={moved / 'ravdess'}")
        before = run.config.read_text()
        (run.path / "same").hardlink_to(run.config)
        uar = evaluate(compose("evaluate", words), words)
        assert uar == run.metrics()["test/uar"]
        assert (run.path / "same").read_text() == before  # replaced as a whole: a disk may be full
        assert str(moved) in run.config.read_text()
        evaluate(compose("evaluate", words[:2]), words[:2])  # the run knows it now
        assert rewrite_card(run).is_file()
    finally:
        moved.rename(project / "data")


@pytest.mark.parametrize("name", ["", "..", "../page", "a/b", "it's", "-m", 'say "so"'])
def test_a_name_that_makes_no_folder_or_cannot_be_looked_up_is_refused(hydra_ready, name):
    with pytest.raises(SerError, match=r"^sweep\.name=.*it names a folder"):
        check_name("sweep.name", name)
    check_name("sweep.name", "emodb, lr=1e-3")
    check_name("dataset.name", 2024)  # what Hydra makes of such a word
    cfg = compose("train", ["dataset=demo"])
    cfg.dataset.name = name
    with pytest.raises(SerError, match=r"^dataset\.name=.*it names a folder"):
        check(cfg)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("part=train", r"^part=train is no option\. Choose one of: test, val\."),
        ("seen=all", r"^seen=all is no option\. Choose one of: drop, keep\."),
        ("device=tpu", r"^device=tpu is no option\. Choose one of: auto, cpu, cuda\."),
        ("device=cuda", r"^device=cuda: torch finds no such GPU"),
        ("batch_size=0", r"^batch_size=0: it must be 1 or more"),
        ("part=val", r"^part=val beside dataset=demo: it is for the run's own clips"),
        ("dataset_root=/x", r"^dataset_root=/x beside dataset=demo: it is for the run's own"),
        ("dataset.name=a/b", r"^dataset\.name=a/b: it names a folder"),
        ("dataset.name=test", r"^dataset\.name=test: .* the run's own clips\. Give .* another"),
        ("dataset.name=robustness_val", r"^dataset\.name=robustness_val: .* own clips"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(hydra_ready, monkeypatch, word, told):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["run=nowhere", "dataset=demo", word]
    with pytest.raises(SerError, match=told):
        evaluate(compose("evaluate", words), words)


def test_a_sweep_says_that_its_own_grid_would_win(project, hydra_ready):
    cfg = compose("sweep", ["dataset=demo"])
    grid = {"grid": {"model": ["tim"]}, "all_folds": False}
    with pytest.raises(SerError, match=r'^model=linear: .* Write "sweep\.grid\.model=\[linear\]"'):
        run_grid(cfg, grid, ["model=linear"], None, "")


def test_a_run_that_failed_before_its_first_epoch_is_not_the_last_to_go_on_with(
    project, hydra_ready, monkeypatch
):
    def refuse(*given: object) -> None:
        raise SerError("no")

    monkeypatch.setattr("ser.run._train_and_score", refuse)
    before = set((project / "mlruns" / "runs").glob("*"))
    words = options(project, "model=linear")
    with pytest.raises(SerError, match=r"^no$"):
        train_run(compose("train", words), words)
    (new,) = set((project / "mlruns" / "runs").glob("*")) - before
    assert RunFolder(new).state()["status"] == "failed"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("sed=3", "sed: there is no such option. Did you mean seed?"),
        ("trainer.max_epoch=3", "no such option. Did you mean trainer.max_epochs?"),
        ("model=liner", "model=liner is not known: choose chance, "),
        ("model=[tim", "no viable alternative at input '[tim'"),
        ("dataset.root=~/clips", "dataset.root=~/clips: Hydra cannot read it (LexerNoViableAlt"),
        ("dataset.root=a & b", "dataset.root=a & b: Hydra cannot read it (LexerNoViableAlt"),
        ("dataset.root=größe", "anything but English letters, digits, spaces and . / - _ + : $"),
        ("loss=[3]", "loss=[3]: a list cannot take the place of parts. Give each part by its name"),
        ("loss={warmth: 1}", "loss has no part warmth. +loss=… adds to the parts that there are"),
    ],
)
def test_what_hydra_refuses_is_told_as_any_mistake(tmp_path, word, told):
    done = run_script("train.py", tmp_path, word)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("\nerror: ") and done.stderr.count("\n") == 2
    assert told in done.stderr and "+sed" not in done.stderr and "provider" not in done.stderr


def test_help_that_nobody_reads_to_its_end_is_no_error(tmp_path):
    command = f"{sys.executable} {ROOT / 'train.py'} --help | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("train.py: ") and done.stderr == ""
