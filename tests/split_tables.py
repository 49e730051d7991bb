"""Small tables of clips, and policies of conf/split, for the tests of splits."""

from pathlib import Path

import pandas as pd
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ser.splits import Split, SplitPolicy

CONF = Path(__file__).resolve().parents[1] / "conf" / "split"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
SPEAKERS = {
    "ravdess": {f"{i:02d}": "male" if i % 2 else "female" for i in range(1, 25)},
    "tess": {"OAF": "female", "YAF": "female"},
    "crema_d": {str(i): "male" if i % 2 else "female" for i in range(1001, 1092)},
    "savee": {code: "male" for code in ("DC", "JE", "JK", "KL")},
    "emodb": {c: "male" if c in ("03", "10", "11", "12", "15") else "female"
              for c in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")},
}  # fmt: skip
PUBLISHED = {"luna5": ("ravdess", 5), "emobox_r6": ("ravdess", 6), "emobox_s4": ("savee", 4),
             "tfds_c": ("crema_d", 1), "emosuperb_c5": ("crema_d", 5),
             "tess_oaf2yaf": ("tess", 1), "tess_yaf2oaf": ("tess", 1)}  # fmt: skip


def table_of(*corpora: str, takes: int = 2) -> pd.DataFrame:
    rows = [
        (f"{corpus}/{code}_{label}_{take}", corpus, f"{corpus}_{code}", sex, label)
        for corpus in corpora
        for code, sex in SPEAKERS[corpus].items()
        for label in LABELS
        for take in range(takes)
    ]
    table = pd.DataFrame(rows, columns=["id", "corpus", "speaker", "sex", "label"])
    return table.assign(sha256="sha " + table["id"])


def policy_of(option: str, **changes: object) -> SplitPolicy:
    config = OmegaConf.load(CONF / f"{option}.yaml")
    policy = instantiate(OmegaConf.merge(config, changes), _convert_="all")
    assert isinstance(policy, SplitPolicy)
    return policy


def split_of(option: str, table: pd.DataFrame, **changes: object) -> Split:
    return policy_of(option, **changes).split(table)


def speakers_of(ids: tuple[str, ...], table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["id"].isin(ids), "speaker"])


def table_for(option: str) -> pd.DataFrame:
    if option in PUBLISHED:
        return table_of(PUBLISHED[option][0])
    return table_of("savee", "tess", "emodb", takes=3)
