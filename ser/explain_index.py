"""index.html of an explanation: each figure and page with one line on how to read it."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from ser.embedding_map import NEIGHBOURS
from ser.whole_files import write_text

SKIPPED = "skipped.json"

READINGS = {
    "embedding_map.png": (
        "Map of the test clips",
        "Each point is a clip, placed by t-SNE of what the title names: near means alike to the "
        "model, distances between far groups mean nothing. Islands of one emotion are what one "
        "wants; islands of one speaker are what leaks. The percentages are taken in the values "
        f"themselves: of a clip's {NEIGHBOURS} nearest, how many are of its group. What all clips "
        "share has no panel.",
    ),
    "layer_weights.png": (
        "Layer weights",
        "The share of each encoder layer in the clip's summary, after training. Weights start "
        "equal, and each layer also has a projection of its own, so equal bars do not say that "
        "the layers are equally useful.",
    ),
    "scale_weights.png": (
        "Scale weights",
        "How much TIM-Net's fusion draws on each temporal scale, short on the left. A block's "
        "summary shrinks with depth (each block gates the one before), so deep blocks need larger "
        "weights for the same effect.",
    ),
    "recall.png": (
        "Recall by emotion",
        "Of the test clips of each emotion, the share that was recognised; their mean is the UAR.",
    ),
    "wrong_clips.html": (
        "The clips most often wrong",
        "Listen to them: a mistake that you would make too is another matter than one that you "
        "would not.",
    ),
}
SALIENCY_READING = (
    "Above 0, muting the 200 ms around that moment makes the answer less likely: the moment speaks "
    "for it. A flat curve means that the cue is spread over the clip, not that nothing was used. "
    "Digital silence is itself odd to the model, and front-ends that level a whole clip carry an "
    "effect beyond its window: trust the large peaks."
)


def write_index(run_folder: Path, out: Path, name: str, skipped: Mapping[str, str] | None) -> Path:
    """Write `out`/index.html on the files that lie there; gives its path.

    ``skipped`` maps a file that was left out to the reason; None keeps the reasons of last time.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    record = out / SKIPPED
    if skipped is not None:
        write_text(record, json.dumps(dict(skipped), indent=2))
    reasons = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    items = []
    for file, (heading, reading) in READINGS.items():
        if (out / file).is_file():
            items.append(_item(file, heading, reading))
        elif file in reasons:
            items.append(_item("", heading, f"Left out: {reasons[file]}"))
    for path in sorted(out.glob("saliency_*.png")):
        clip = path.stem.removeprefix("saliency_")
        items.append(_item(path.name, f"What was heard when: {clip}", SALIENCY_READING))
    environment = Environment(
        loader=PackageLoader("ser"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("explain_index.html").render(
        title=f"What {name} learned",
        folder=run_folder.resolve(),
        command=f"ser explain {shlex.quote(str(run_folder))} --clip FILE",
        items=items,
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def _item(file: str, heading: str, reading: str) -> dict[str, str | bool]:
    picture = file.endswith(".png")
    return {"file": file, "heading": heading, "reading": reading, "picture": picture}
