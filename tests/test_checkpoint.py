"""Checkpoints: replaced whole, and read without executing what a file may carry."""

import pickle
import resource
import zipfile
from pathlib import Path

import pytest
import torch

from ser.checkpoint import SafeCheckpointIO, load_checkpoint
from ser.errors import SerError

OURS = {"ser": {"classes": ["sad", "happy"]}, "state_dict": {"weight": torch.arange(3.0)}}


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.victim), "w")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "best.ckpt"
    SafeCheckpointIO().save_checkpoint(OURS, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(SerError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message and "checkpoints/best.ckpt" in message
    return message


def test_what_is_written_is_read(written):
    loaded = load_checkpoint(written)
    assert loaded["ser"] == OURS["ser"]
    torch.testing.assert_close(loaded["state_dict"]["weight"], torch.arange(3.0))
    assert [path.name for path in written.parent.iterdir()] == ["best.ckpt"]


def test_a_write_that_fails_leaves_the_old_file_whole_and_no_other(written, monkeypatch):
    def die_half_way(checkpoint: object, stream: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", die_half_way)
    with pytest.raises(OSError, match="disk full"):
        SafeCheckpointIO().save_checkpoint({"ser": {}}, written)
    assert load_checkpoint(written)["ser"] == OURS["ser"]
    assert [path.name for path in written.parent.iterdir()] == ["best.ckpt"]


def test_pickled_objects_are_refused_and_not_executed(tmp_path):
    victim, path = tmp_path / "executed", tmp_path / "trap.ckpt"
    torch.save({"ser": {}, "callback": Trap(victim)}, path)
    for load in (load_checkpoint, lambda p: SafeCheckpointIO().load_checkpoint(p, None, False)):
        with pytest.raises(SerError, match="holds pickled objects: a checkpoint must be"):
            load(path)
        assert not victim.exists()
    torch.load(path, weights_only=False)["callback"].close()
    assert victim.exists()  # the trap is live: whoever unpickles it runs it


def test_a_bare_pickle_is_not_executed_either(tmp_path):
    victim, path = tmp_path / "executed", tmp_path / "trap.ckpt"
    path.write_bytes(pickle.dumps(Trap(victim), protocol=2))
    refused(path)
    assert not victim.exists()


def test_lightning_reads_through_the_same_gate(written):
    loaded = SafeCheckpointIO().load_checkpoint(str(written), map_location=None, weights_only=False)
    assert loaded["ser"] == OURS["ser"]
    with pytest.raises(SerError, match="no such checkpoint"):
        SafeCheckpointIO().load_checkpoint(str(written.with_name("other.ckpt")))


DAMAGED = "is damaged or incomplete: it is no whole zip file"


@pytest.mark.parametrize("content", [b"", b"garbage of some length", b"PK\x03\x04 and no more"])
def test_garbage_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    told = refused(path)
    assert f"{path} {DAMAGED}" in told and "pickl" not in told


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_called_incomplete(written, keep):
    content = written.read_bytes()
    written.write_bytes(content[: int(keep * len(content))])
    assert f"{written} {DAMAGED}" in refused(written)


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path):
    path, weight = tmp_path / "x.ckpt", torch.full((1000,), 0.123)
    torch.save({"ser": {}, "state_dict": {"weight": weight}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 2001] ^= 1
    path.write_bytes(content)
    assert f"{path} is damaged or incomplete: not all of it can be read" in refused(path)


def test_a_zip_file_of_other_things_is_called_damaged(tmp_path):
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", "")
    assert f"{path} is damaged or incomplete: not all of it can be read" in refused(path)


def test_a_file_that_may_not_be_opened(written, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", denied)
    assert f"{written} cannot be opened (Permission denied)" in refused(written)


def test_a_run_without_its_best_checkpoint_was_cut_off(written):
    run = written.parent.parent
    written.unlink()
    assert "no such checkpoint" in refused(written)  # no run folder
    (run / "config.yaml").touch()
    told = f"{run} has no checkpoints/best.ckpt: the run was cut off before its end. Go on with it:"
    with pytest.raises(SerError) as caught:
        load_checkpoint(written)
    assert str(caught.value) == f"{told} python train.py resume={run}"
    assert "no such checkpoint" in refused(written.with_name("kept.ckpt"))


def test_a_missing_file_and_a_folder(tmp_path):
    assert "no such checkpoint" in refused(tmp_path / "none.ckpt")
    assert "no such checkpoint" in refused(tmp_path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, torch.ones(2), [1, 2]])
def test_a_foreign_checkpoint_is_named_as_such(tmp_path, content):
    path = tmp_path / "foreign.ckpt"
    torch.save(content, path)
    assert "is not a checkpoint of this project: the entry `ser`" in refused(path)


def test_what_the_disk_says_is_not_hidden_by_an_error_of_torch(written: Path) -> None:
    """A full disk was torch's `unexpected pos`; a limit on file sizes stands for it here."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            SafeCheckpointIO().save_checkpoint({"weight": torch.zeros(50_000)}, written)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(written)["ser"] == OURS["ser"]
    assert [path.name for path in written.parent.iterdir()] == ["best.ckpt"]
