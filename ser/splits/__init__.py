"""Who is trained on, who validates and who is tested: named policies and the leak check.

Each option of `conf/split/` builds one policy. A policy is a function of the table's content, the
split seed and the fold: never of the row order, of the training seed or of the test part's scores.
"""

from ser.splits.base import LeakError, Split, SplitPolicy, check_classes, check_leaks
from ser.splits.clips import ClipKFold, Random
from ser.splits.published import FixedSpeakers, SpeakerFolds
from ser.splits.speakers import LeaveOneCorpusOut, LeaveOneSpeakerOut, Speaker, SpeakerKFold

__all__ = [
    "ClipKFold",
    "FixedSpeakers",
    "LeakError",
    "LeaveOneCorpusOut",
    "LeaveOneSpeakerOut",
    "Random",
    "Speaker",
    "SpeakerFolds",
    "SpeakerKFold",
    "Split",
    "SplitPolicy",
    "check_classes",
    "check_leaks",
]
