"""Front-ends: waveform to stream."""

from ser.features.base import Feature
from ser.features.embedding import Embedding, WholeEmbedding
from ser.features.encoder_frames import EncoderFrames
from ser.features.logmel import LogMel
from ser.features.mfcc import Mfcc
from ser.features.prosody import MfccProsody
from ser.features.speech import SpeechOnly
from ser.features.speech_embedding import SpeechEmbedding
from ser.features.waveform import RawWaveform

__all__ = [
    "Embedding",
    "EncoderFrames",
    "Feature",
    "LogMel",
    "Mfcc",
    "MfccProsody",
    "RawWaveform",
    "SpeechEmbedding",
    "SpeechOnly",
    "WholeEmbedding",
]
