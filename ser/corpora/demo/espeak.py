"""espeak-ng through ctypes (speak_lib.h): text in, samples out. One per process, no threads."""

import ctypes
import os
import tempfile
from pathlib import Path

import numpy as np

from ser.errors import SerError

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback before the call returns
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: return an error instead of ending the process
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_LONGEST_PATH = 120  # bytes; espeak-ng 1.52 cannot use voices behind a path of more than about 160
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """The library, ready to speak. SerError where it or its voices cannot be used."""

    def __init__(self) -> None:
        """Load the library and the voices of espeakng-loader."""
        self._library, data_path = _load()
        if len(os.fsencode(data_path)) > _LONGEST_PATH:
            self._link = tempfile.TemporaryDirectory()  # kept: voices are read when they speak
            data_path = _link_to(data_path, Path(self._link.name))
        self.sample_rate_hz: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data_path.encode(), _DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise SerError(f"espeak-ng found no voices in {data_path}.")
        self._chunks: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library holds only the pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(
        self,
        text: str,
        *,
        voice: str,
        words_per_minute: int,
        pitch: int,
        pitch_range: int,
        seed: int,
    ) -> np.ndarray:
        """Samples (n,), float64 in [-1, 1).

        `pitch` and `pitch_range` go from 0 to 100, 50 being the voice's own; `seed` is for the
        noise in breathy voices.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SerError(f"espeak-ng has no voice {voice!r}.")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_ng_SetRandSeed(seed)
        self._chunks.clear()
        said = text.encode()
        self._library.espeak_Synth(said, len(said) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._chunks:
            raise SerError(f"espeak-ng gave no sound for {text!r}.")
        return np.concatenate(self._chunks) / 32768.0

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on


def _load() -> tuple[ctypes.CDLL, str]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise SerError("the package espeakng-loader is not installed.") from error
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        raise SerError(f"espeak-ng's library cannot be loaded ({error}).") from error
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
        ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    return library, str(espeakng_loader.get_data_path())


def _link_to(data_path: str, folder: Path) -> str:
    link = folder / "espeak-ng-data"
    link.symlink_to(data_path, target_is_directory=True)
    return str(link)
