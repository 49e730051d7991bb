"""Encoders: exact under padding, equal to transformers, trainable, and loud when weights lack."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import pad_sequence

from ser.errors import SerError
from ser.features.frozen import halve
from ser.models.encoder import PretrainedEncoder, RandomEncoder
from ser.models.speech_encoder import SpeechEncoder
from ser.models.wav2vec2_encoder import Wav2Vec2Encoder
from ser.models.whisper_encoder import WhisperEncoder

LENGTHS = (9000, 16_000, 5001, 200)
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER_SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_ffn_dim": 32,
    "decoder_attention_heads": 4,
    "vocab_size": 51_865,
}


def _build(family: str, **options: Any) -> nn.Module:
    from transformers import AutoModel, HubertConfig, Wav2Vec2Config, WavLMConfig, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as HubWhisper

    torch.manual_seed(0)
    if family == "whisper":
        return HubWhisper(WhisperConfig(**WHISPER_SIZES)).eval()
    kinds = {"wav2vec2": Wav2Vec2Config, "hubert": HubertConfig, "wavlm": WavLMConfig}
    return AutoModel.from_config(kinds[family](**SIZES, **options)).eval()


ENCODERS = {
    "wav2vec2_base": lambda: Wav2Vec2Encoder(_build("wav2vec2"), True),
    "wav2vec2_xlsr53": lambda: Wav2Vec2Encoder(_build("wav2vec2", **LARGE), True),
    "hubert_base": lambda: Wav2Vec2Encoder(_build("hubert"), True),
    "wavlm_base_plus": lambda: Wav2Vec2Encoder(_build("wavlm"), False),
    "whisper_base": lambda: WhisperEncoder(_build("whisper")),
}


def _clips() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, generator=generator) / 10 for length in LENGTHS]


def _batch(clips: list[Tensor], padding: float = 0.0) -> tuple[Tensor, Tensor]:
    padded = pad_sequence(clips, batch_first=True, padding_value=padding)
    return padded, torch.tensor([len(clip) for clip in clips])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_clip_is_the_same_alone_and_in_a_padded_batch(name: str) -> None:
    encoder: SpeechEncoder = ENCODERS[name]().eval()
    assert encoder.exact_when_padded
    clips = _clips()
    with torch.inference_mode():
        states, frames = encoder(*_batch(clips, padding=3.0))
        assert states.shape == (encoder.n_layers, len(clips), int(frames.max()), encoder.width)
        for i, clip in enumerate(clips):
            alone, alone_frames = encoder(*_batch([clip]))
            assert alone_frames.tolist() == [frames[i]] == [alone.shape[2]]
            torch.testing.assert_close(
                states[:, i, : int(frames[i])], alone[:, 0], atol=2e-5, rtol=1e-4
            )


@pytest.mark.parametrize("options", [{}, LARGE])
def test_layers_equal_transformers(options: dict[str, Any]) -> None:
    model = _build("wav2vec2", **options)
    (clip,) = _clips()[:1]
    with torch.inference_mode():
        expected = model(clip[None], output_hidden_states=True)
        states, _ = Wav2Vec2Encoder(model, do_normalize=False)(*_batch([clip]))
    torch.testing.assert_close(states[0], expected.hidden_states[0])
    torch.testing.assert_close(states[1], expected.hidden_states[1])
    torch.testing.assert_close(states[-1], expected.last_hidden_state)


def test_normalisation_equals_transformers() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    model = _build("wav2vec2")
    clip = _clips()[0] + 0.5
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    given = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        expected = model(given).last_hidden_state
        states, _ = Wav2Vec2Encoder(model, do_normalize=True)(*_batch([clip]))
    torch.testing.assert_close(states[-1], expected, atol=1e-5, rtol=1e-4)


def test_whisper_log_mel_equals_transformers() -> None:
    from transformers import WhisperFeatureExtractor

    encoder = WhisperEncoder(_build("whisper"))
    clip = torch.cat([_clips()[1], 0.003 * _clips()[0]])
    expected = WhisperFeatureExtractor()(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
    n_frames = 2 * -(-len(clip) // 320)
    log_mel = encoder._log_mel(clip[None], torch.tensor([n_frames]), n_frames)
    torch.testing.assert_close(
        log_mel, expected.input_features[..., :n_frames], atol=1e-4, rtol=1e-4
    )


def test_whisper_joins_windows_of_a_long_clip() -> None:
    encoder = ENCODERS["whisper_base"]().eval()
    clip = torch.randn(31 * 16_000, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        states, frames = encoder(*_batch([clip, clip[:8000]]))
        short, _ = encoder(*_batch([clip[:8000]]))
    assert frames.tolist() == [1550, 25] and states.shape[2] == 1550
    torch.testing.assert_close(states[:, 1, :25], short[:, 0], atol=2e-5, rtol=1e-4)
    assert torch.isfinite(states).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_every_block_can_be_trained_also_in_half_precision(name: str) -> None:
    encoder: SpeechEncoder = ENCODERS[name]().train()
    for precision in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            states, frames = encoder(*_batch(_clips()))
            loss = sum(states[:, i, : int(n)].float().square().mean() for i, n in enumerate(frames))
        assert isinstance(loss, Tensor)
        loss.backward()
        assert len(encoder.layers) == encoder.n_layers - 1
        for block in encoder.layers:
            gradients = [p.grad for p in block.parameters() if p.requires_grad]
            assert all(g is not None and torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", ENCODERS)
def test_lora_targets_reach_the_output(name: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    encoder: SpeechEncoder = ENCODERS[name]().eval()
    targets = [
        path for path, _ in encoder.named_modules() if path.split(".")[-1] in encoder.lora_targets
    ]
    assert targets
    inject_adapter_in_model(LoraConfig(r=2, target_modules=targets), encoder)
    states, frames = encoder(*_batch(_clips()[:1]))
    states[:, 0, : int(frames[0])].square().mean().backward()
    updated = [p for path, p in encoder.named_parameters() if "lora_B" in path]
    assert updated and all(p.grad is not None and p.grad.abs().sum() > 0 for p in updated)


def test_tiny_is_seeded_and_leaves_the_global_random_state() -> None:
    before = torch.random.get_rng_state()
    first = RandomEncoder("tiny", 2, 32, seed=0, precision="float32").load().state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    second = RandomEncoder("tiny", 2, 32, seed=0, precision="float32").load().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def _save(folder: Path, family: str = "wav2vec2") -> Path:
    model = _build(family)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    return folder


def _encoder_at(path: Path | None) -> PretrainedEncoder:
    text = None if path is None else str(path)
    return PretrainedEncoder("wav2vec2_base", "facebook/wav2vec2-base", text, "main", "float32")


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_a_saved_encoder_is_read_back(tmp_path: Path, family: str) -> None:
    weights = _encoder_at(_save(tmp_path / "a", family))
    assert (weights.n_layers, weights.width) == (3, 32)
    encoder = weights.load()
    assert isinstance(encoder, Wav2Vec2Encoder) and not encoder.do_normalize
    expected = Wav2Vec2Encoder(_build(family), False).eval()
    with torch.inference_mode():
        ours, theirs = encoder(*_batch(_clips()))[0], expected(*_batch(_clips()))[0]
    torch.testing.assert_close(ours, theirs)


def test_identity_follows_the_content_and_not_the_folder(tmp_path: Path) -> None:
    first = _save(tmp_path / "a")
    second = Path(shutil.copytree(first, tmp_path / "b"))
    assert _encoder_at(first).identity() == _encoder_at(second).identity()
    state = _build("hubert").state_dict()
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in state.items()}, second / "model.safetensors")
    assert _encoder_at(first).identity() != _encoder_at(second).identity()


@pytest.mark.parametrize("fault", ["missing", "unexpected"])
def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path, fault: str) -> None:
    folder = _save(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 3 if fault == "missing" else 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SerError, match=rf"{fault} \(such as encoder\.layers\."):
        _encoder_at(folder).load()


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SerError, match=r"nowhere holds no config\.json"):  # of fine-tuned ones
        _encoder_at(tmp_path / "nowhere").load()
    with pytest.raises(SerError, match=r"nowhere holds no config\.json.*--encoder-path … to ser"):
        _ = _encoder_at(tmp_path / "nowhere").width
    (tmp_path / "config.json").write_text('{"model_type": "wav2v')
    with pytest.raises(SerError, match=r"config\.json is damaged \(Unterminated string.* again"):
        _ = _encoder_at(tmp_path).width
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(SerError, match="is a bert checkpoint"):
        _ = _encoder_at(tmp_path).width
    (tmp_path / "config.json").write_text('{"model_type": "hubert", "hidden_size": 4}')
    with pytest.raises(SerError, match=r"none of model\.safetensors"):
        _encoder_at(tmp_path).identity()


def test_a_hub_that_cannot_be_reached_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    named = r"HF_HOME.*encoder\.path=….*encoder_path=….*--encoder-path.*encoder=tiny"
    with pytest.raises(SerError, match=named):
        _encoder_at(None).identity()


def test_a_hub_cache_is_enough_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--facebook--wav2vec2-base"
    _save(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    weights = _encoder_at(None)
    assert weights.identity() == {"repo": "facebook/wav2vec2-base", "commit": commit}
    assert weights.load().n_layers == weights.n_layers


def test_sizes_and_identity_need_no_transformers(tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = _save(tmp_path / "a")
    code = (
        "import sys; from ser.features import Embedding; "
        "from ser.models.encoder import PretrainedEncoder; "
        f"f = Embedding(PretrainedEncoder('n', 'r', {str(folder)!r}, 'main', 'float32')); "
        "assert f.shape() == (3, 64) and f.settings(); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("everything", [False, True])
def test_every_family_runs_in_bfloat16(name: str, everything: bool) -> None:
    encoder = ENCODERS[name]().eval()
    with torch.inference_mode():
        expected, _ = encoder(*_batch(_clips()[:2]))
        for part in encoder.modules():
            if isinstance(part, nn.Linear | nn.Conv1d) and not is_parametrized(part):
                part.to(torch.bfloat16)
        if everything:  # as on a GPU
            halve(encoder)
        with torch.autocast("cpu", torch.bfloat16, enabled=not everything):
            states, _ = encoder(*_batch(_clips()[:2]))
    error = (states[:, 0].float() - expected[:, 0]).norm() / expected[:, 0].norm()
    assert 0 < error < 0.05
