"""The form of an encoder that was trained: with a checkpoint's weights all that it needs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_encoder import LARGE, _batch, _build, _clips, _encoder_at

from ser.config import build


@pytest.mark.parametrize(
    ("family", "sizes"),
    [("wav2vec2", {}), ("wav2vec2", LARGE), ("hubert", {}), ("wavlm", {}), ("whisper", {})],
)
def test_with_the_weights_it_is_the_encoder_though_the_folder_is_gone(
    tmp_path: Path, family: str, sizes: dict[str, object], take_float64: Callable[[], None]
) -> None:
    _build(family, **sizes).half().save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "preprocessor_config.json").write_text('{"do_normalize": false}')
    pretrained = _encoder_at(tmp_path / "a")
    options, encoder = pretrained.form.options(), pretrained.load()
    take_float64()
    in_float64 = pretrained.load()
    shutil.rmtree(tmp_path / "a")
    before = torch.random.get_rng_state()
    again = build(options).load()
    assert torch.equal(before, torch.random.get_rng_state()) and not again.training
    assert getattr(again, "do_normalize", False) is False
    again.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        first = encoder(*_batch(_clips()))
        for other in (again(*_batch(_clips())), in_float64(*_batch(_clips()))):
            torch.testing.assert_close(other, first, rtol=1e-5, atol=1e-6)


def test_its_options_are_plain_values(tmp_path: Path) -> None:
    _build("whisper").save_pretrained(tmp_path)
    options = _encoder_at(tmp_path).form.options()
    torch.save(options, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True) == options
