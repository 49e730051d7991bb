"""A trained model from its checkpoint alone."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf
from torch import nn

from ser.assemble import build_features, build_model, check_front_end
from ser.checkpoint import load_checkpoint
from ser.errors import OptionError, SerError, made_by_other_code
from ser.features import Feature
from ser.models.encoder import EncoderWeights
from ser.models.encoder_form import EncoderForm
from ser.predict import Recognizer

PARTS = (Feature, EncoderWeights, EncoderForm, nn.Module)  # what a card may have built


def load_recognizer(path: str | Path, encoder_path: str | None = None) -> Recognizer:
    """Rebuild front-end and network from the checkpoint's card, then load the weights.

    `encoder_path` says where the pretrained encoder lies now, if it was moved.
    Raises SerError when the file is unreadable, its weights do not fit its card, or an
    `encoder_path` is given for a model that takes no encoder from a folder.
    """
    path = Path(path)
    checkpoint = load_checkpoint(path)
    card = checkpoint["ser"]
    _refuse_foreign(path, [card["feature"], card["model"]])
    if encoder_path is not None and not _takes_a_path(card):
        raise SerError(
            f"the encoder's path {encoder_path}: {path} ({card['model']['name']}) takes no encoder "
            "from a folder. Drop that option."
        )
    feature = {key: _moved(node, encoder_path) for key, node in card["feature"].items()}
    model_options = _moved(card["model"], encoder_path)
    try:
        features = build_features(OmegaConf.create({"feature": feature}))
        check_front_end(path, card, features)
        model = build_model(OmegaConf.create(model_options), features, card["classes"])
    except OptionError as error:
        raise made_by_other_code(path, error) from error
    weights = {
        key.removeprefix("model."): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith("model.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SerError(
            f"{path}: its weights do not fit the network that its card describes "
            f"({card['model']['name']}, {len(card['classes'])} classes). The file was mixed or "
            "made by other code: take that (run.json has its commit), train again, or take another "
            "checkpoint."
        ) from error
    return Recognizer(
        model.float().eval(),  # whatever torch's default type is
        tuple(features),
        tuple(card["classes"]),
        temperature=card.get("temperature", 1.0),  # absent where a run did not reach its scoring
        abstain_below=card.get("abstain_below"),
        synthetic=card.get("synthetic", False),
        card=card,
        again=partial(load_recognizer, path.absolute(), _absolute(encoder_path)),
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _refuse_foreign(path: Path, node: Any) -> None:
    """End unless everything that the card has built is a front-end or a part of a network of ours.

    A card is plain values, but what it names is called: a file from elsewhere could name anything,
    or have OmegaConf put a name together when it resolves `${…}`.
    """
    if isinstance(node, str) and "${" in node:
        raise SerError(
            f"{path}: its card holds {node!r}, which is to be put together when it is read, and no "
            "plain value. Nothing of it was run. Take a checkpoint that train.py wrote."
        )
    if isinstance(node, list | tuple):
        for value in node:
            _refuse_foreign(path, value)
    if not isinstance(node, dict):
        return
    _refuse_foreign(path, list(node.values()))
    target = node.get("_target_")
    if target is None:
        return
    found = None
    if str(target).startswith("ser."):
        with suppress(ImportError):
            found = hydra.utils.get_object(str(target))
    if not (isinstance(found, type) and issubclass(found, PARTS)):
        raise SerError(
            f"{path}: its card asks for {target}, which is no front-end, encoder or network of "
            "ser. Nothing of it was run. Take a checkpoint that train.py wrote."
        )


def _takes_a_path(node: Any) -> bool:
    """Whether an encoder that lies in a folder, or comes from the hub, stands anywhere in it."""
    if not isinstance(node, dict):
        return False
    return "path" in (node.get("encoder") or ()) or any(map(_takes_a_path, node.values()))


def _moved(node: Any, encoder_path: str | None) -> Any:
    if not isinstance(node, dict):
        return node
    node = {key: _moved(value, encoder_path) for key, value in node.items()}
    if (encoder := node.get("encoder")) and "config" not in encoder:  # a trained one's form
        # a card of before encoder.precision was an option does not have it
        node["encoder"] = {"precision": "float32", **encoder}
        if encoder_path is not None and "path" in encoder:
            node["encoder"]["path"] = encoder_path
    return node
