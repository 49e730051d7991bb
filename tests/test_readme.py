"""What README.md tells the reader to type, to open and to write is there and works."""

import importlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from composing import composed
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig

import ser.corpora
import ser.models
from ser.batch import Batch
from ser.cli import build_parser
from ser.config import CONF, check, plain

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
FILES = dict(re.findall(r"^`([\w/]+\.(?:py|yaml))`\n```\w+\n(.*?)^```$", TEXT, re.M | re.S))
LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
INLINE = re.findall(r"`((?:python \w+\.py|make|ser) [^`…]+)`", TEXT)
COMMANDS = [shlex.split(line, comments=True) for line in [*LINES, *INLINE] if line.strip()]
SCRIPTS = [words[1:] for words in COMMANDS if words[0] == "python"]
OURS = {"helpdesk", "mean_frames"}  # the worked examples
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/design.md", "docs/log.md")


def points(words: list[str]) -> Iterator[list[str]]:
    """The jobs that between them give each value of a multirun; else the words as they are."""
    parsed = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    values = [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [one.input_line or ""]
        for one in parsed
    ]
    for number in range(max(map(len, values), default=1)):
        yield [choices[min(number, len(choices) - 1)] for choices in values]


def test_there_is_something_to_test():
    assert len(SCRIPTS) > 10 and len(FILES) == 4
    assert {words[0] for words in COMMANDS} == {"make", "ser", "python"}


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_a_script_command_composes(words):
    script, *options = words
    assert (ROOT / script).is_file()
    if options == ["--help"] or OURS & {word.split("=")[-1] for word in options}:
        return
    assert ("-m" in options) == any("," in word for word in options)
    for job in points(options):
        cfg = composed(*job, config=script.removesuffix(".py"))
        if script == "train.py":
            check(cfg)


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] == "ser"], ids=" ".join)
def test_a_ser_command_parses(words):
    if words[1:] == ["--help"]:
        return
    assert callable(build_parser().parse_args(words[1:]).run_command)


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {words[1] for words in COMMANDS if words[0] == "make"}
    assert {"demo", "test", "ui"} <= named
    assert not named - set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_the_file_tree_exists():
    (tree,) = (block for kind, block in BLOCKS if kind == "text" and "train.py  " in block)
    named = [path for line in tree.splitlines() for path in line.split("   ")[0].split()]
    assert len(named) > 15
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_resolve(document):
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http:", "https:"))]
    assert not [target for target in local if not (path.parent / target).exists()]


@pytest.mark.parametrize("group", ["model", "split"])
def test_every_arm_and_split_has_its_line(group):
    rows = re.findall(r"^\| (`[^|]+) \|", TEXT, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    unnamed = {path.stem for path in (CONF / group).glob("*.yaml")} - named
    assert not unnamed, f"give them a row in README's table of model= or split=: {unnamed}"


def load_example(
    package: ModuleType, path: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The example's module under the name that it would have; forgotten at the end of the test."""
    target = folder / Path(path).name
    target.write_text(FILES[path], encoding="utf-8")
    name = f"{package.__name__}.{target.stem}"
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that it is undone
    del sys.modules[name]
    return importlib.import_module(name)


def compose_example(path: str, folder: Path, words: list[str]) -> DictConfig:
    """The options of a run, in a copy of conf/ that has the example's file."""
    shutil.copytree(CONF, folder / "conf")
    (folder / path).write_text(FILES[path], encoding="utf-8")
    with initialize_config_dir(str(folder / "conf"), version_base="1.3"):
        return compose("train", words)


def test_the_corpus_example_works(tmp_path, monkeypatch):
    module = load_example(ser.corpora, "ser/corpora/helpdesk.py", tmp_path, monkeypatch)
    cfg = compose_example("conf/dataset/helpdesk.yaml", tmp_path, ["dataset=helpdesk", "model=tim"])
    check(cfg)
    other = composed("dataset=emodb").dataset
    assert set(cfg.dataset) == set(other) and cfg.dataset.corpora == ["helpdesk"]
    for name in ("ann_joy_03.wav", "bob_anger_01.flac", "my_voice.wav"):
        (tmp_path / name).touch()
    listing = module.Helpdesk(tmp_path).list()
    assert [(u.id, u.speaker, u.emotion) for u in listing.utterances] == [
        ("helpdesk/ann_joy_03", "helpdesk_ann", "happy"),
        ("helpdesk/bob_anger_01", "helpdesk_bob", "angry"),
    ]
    assert [problem.path.name for problem in listing.problems] == ["my_voice.wav"]
    assert "ann_joy_03" in listing.problems[0].reason


def test_the_model_example_works(tmp_path, monkeypatch):
    load_example(ser.models, "ser/models/mean_frames.py", tmp_path, monkeypatch)
    words = ["model=mean_frames", "dataset=demo"]
    cfg = compose_example("conf/model/mean_frames.yaml", tmp_path, words)
    check(cfg)
    options = {key: value for key, value in plain(cfg.model).items() if key != "name"}
    model = instantiate(options, n_classes=4, streams={"frames": (39,)}).eval()
    zeros, frames = torch.zeros(2, dtype=torch.long), torch.randn(2, 9, 39)
    together = model(Batch(zeros, zeros, frames=frames, frames_length=torch.tensor([9, 5])))
    alone = model(Batch(zeros[1:], zeros[1:], frames=frames[1:, :5], frames_length=zeros[1:] + 5))
    assert together.shape == (2, 4)
    torch.testing.assert_close(together[1:], alone)
