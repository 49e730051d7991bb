"""What goes wrong with recordings: noise, rooms, telephones, codecs, overload, level and speed.

Each is a function of a mono waveform (samples,) to another one; what is random is drawn from the
generator given. The sum of speech and noise is not clipped: samples may exceed 1. Babble is made
in ser.babble.
"""

import io

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import torchaudio.functional as F

from ser.audio import Waveform, resample
from ser.errors import SerError

FRAME_S = 0.02
ACTIVE_DB = 30.0
"""A frame is active when its power is at most this far below the loudest frame's."""
PINK_FROM_HZ = 20.0  # the lower end of hearing; below it 1/f would be a drift, not a noise
DIRECT_TO_REVERBERANT_DB = 0.0  # a talker at the room's critical distance
PHONE_RATE_HZ, PHONE_BAND_HZ = 8000, (300.0, 3400.0)  # ITU-T G.712
PHONE_LEVEL_DB = -26.0  # active speech re full scale: the nominal level of ITU-T P.56 and P.830
PHONE_STEPS = 256  # µ-law of ITU-T G.711
MP3_RATE_HZ = 16_000  # MPEG-2 layer III, which has 8 to 160 kbit/s
MP3_KBIT_S = (8, 160)
MP3_DELAY_SAMPLES = 1105  # of LAME's encoder (576) and any decoder (529), where no tag tells it
PCM_STEPS = 32768  # 16 bits

Power = npt.NDArray[np.float64]


def frame_power(waveform: Waveform, sample_rate_hz: int) -> Power:
    """Mean square of each 20 ms frame, (frames,); what is left over at the end is dropped."""
    length = min(len(waveform), int(FRAME_S * sample_rate_hz))
    frames = waveform[: len(waveform) // length * length].reshape(-1, length)
    return np.asarray(np.mean(np.square(frames, dtype=np.float64), axis=1))


def active_frames(power: Power) -> npt.NDArray[np.bool_]:
    """Which frames hold speech, (frames,): those at most 30 dB below the loudest one."""
    return np.asarray(power >= power.max() * 10 ** (-ACTIVE_DB / 10))


def active_level_db(waveform: Waveform, sample_rate_hz: int) -> float:
    """Level of the speech in a clip, dB re full scale, pauses left out.

    The mean power of the active frames. Clips begin and end with up to a second of silence; over
    all samples, a ratio asked for would come out several decibels noisier. (ITU-T P.56 has the
    same purpose and a finer threshold.)
    Raises SerError for silence, which has no level.
    """
    power = frame_power(waveform, sample_rate_hz)
    if power.max() <= 0:
        raise SerError(
            "The clip is silent, so no noise has a ratio to its speech. `ser data check` lists "
            "silent files; leave the clip out."
        )
    return float(10 * np.log10(power[active_frames(power)].mean()))


def add_noise(speech: Waveform, noise: Waveform, snr_db: float, sample_rate_hz: int) -> Waveform:
    """Speech plus noise of the same length, `snr_db` below the active speech level.

    The noise's own level is that of all its samples. Raises SerError where either is silent.
    """
    wanted = 10 ** ((active_level_db(speech, sample_rate_hz) - snr_db) / 20)
    rms = np.sqrt(np.mean(np.square(noise, dtype=np.float64)))
    if not rms > 0:
        raise SerError(f"A noise of {len(noise)} samples is silent, so it can have no ratio.")
    return np.asarray(speech + noise * (wanted / rms), dtype=np.float32)


def white_noise(n_samples: int, sample_rate_hz: int, draw: np.random.Generator) -> Waveform:
    """Gaussian noise, equal power at every frequency."""
    return draw.standard_normal(n_samples, dtype=np.float32)


def pink_noise(n_samples: int, sample_rate_hz: int, draw: np.random.Generator) -> Waveform:
    """Gaussian noise of equal power in every octave above 20 Hz, and nothing below."""
    spectrum = np.fft.rfft(draw.standard_normal(n_samples))
    hertz = np.fft.rfftfreq(n_samples, 1 / sample_rate_hz)
    shape = np.where(hertz >= PINK_FROM_HZ, 1 / np.sqrt(np.maximum(hertz, PINK_FROM_HZ)), 0)
    return np.fft.irfft(spectrum * shape, n_samples).astype(np.float32)


def room_response(rt60_s: float, sample_rate_hz: int, draw: np.random.Generator) -> Waveform:
    """The direct sound and an exponentially decaying Gaussian tail, of unit energy together.

    The statistical model of a room's late response (Polack 1988): no early reflections, the same
    decay at every frequency. It lasts `rt60_s` seconds, in which it falls by 60 dB.
    """
    time_s = np.arange(1, max(2, int(rt60_s * sample_rate_hz))) / sample_rate_hz
    tail = draw.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    tail *= 10 ** (-DIRECT_TO_REVERBERANT_DB / 20) / np.linalg.norm(tail)
    response = np.concatenate([[1.0], tail])
    return np.asarray(response / np.linalg.norm(response), dtype=np.float32)


def reverberate(
    waveform: Waveform, sample_rate_hz: int, rt60_s: float, draw: np.random.Generator
) -> Waveform:
    """The clip in a room of this reverberation time; as long as before, about as loud."""
    from scipy.signal import fftconvolve

    heard = fftconvolve(waveform, room_response(rt60_s, sample_rate_hz, draw))
    return np.asarray(heard[: len(waveform)], dtype=np.float32)


def telephone(waveform: Waveform, sample_rate_hz: int) -> Waveform:
    """300 to 3400 Hz at 8 kHz with µ-law, brought to the network's nominal level and back."""
    from scipy.signal import butter, sosfiltfilt

    gain = 10 ** ((PHONE_LEVEL_DB - active_level_db(waveform, sample_rate_hz)) / 20)
    narrow = resample(waveform, sample_rate_hz, PHONE_RATE_HZ)
    band = butter(4, PHONE_BAND_HZ, "bandpass", fs=PHONE_RATE_HZ, output="sos")
    sent = sosfiltfilt(band, narrow, padlen=min(len(narrow) - 1, 200)) * gain
    sent = torch.from_numpy(np.clip(sent, -1, 1).astype(np.float32))
    heard = F.mu_law_decoding(F.mu_law_encoding(sent, PHONE_STEPS), PHONE_STEPS).numpy() / gain
    return _same_length(resample(heard, PHONE_RATE_HZ, sample_rate_hz), len(waveform))


def mp3(waveform: Waveform, sample_rate_hz: int, kbit_s: float) -> Waveform:
    """Through an MP3 encoder at a constant rate and back, in time with the original.

    Coded at 16 kHz whatever the rate of the waveform. Raises SerError outside 8 to 160 kbit/s.
    """
    low, high = MP3_KBIT_S
    if not low <= kbit_s <= high:
        raise SerError(f"MP3 at 16 kHz has {low} to {high} kbit/s, and {kbit_s} is asked for.")
    narrow = resample(waveform, sample_rate_hz, MP3_RATE_HZ)
    file = io.BytesIO()
    soundfile.write(
        file, narrow, MP3_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=(high - kbit_s) / (high - low),
    )  # fmt: skip
    file.seek(0)
    heard = soundfile.read(file, dtype="float32")[0]
    if len(heard) != len(narrow):  # at low rates no frame has room for the tag with the delay
        heard = heard[MP3_DELAY_SAMPLES:]
    heard = resample(_same_length(heard, len(narrow)), MP3_RATE_HZ, sample_rate_hz)
    return _same_length(heard, len(waveform))


def clip_peaks(waveform: Waveform, share: float) -> Waveform:
    """Flatten all beyond `share` of the clip's peak, as an overdriven input does."""
    ceiling = share * np.abs(waveform).max()
    return np.asarray(np.clip(waveform, -ceiling, ceiling))


def change_level(waveform: Waveform, gain_db: float) -> Waveform:
    """Quieter or louder by `gain_db`, then in 16 bits, as a recording made so would be."""
    steps = np.round(waveform * (10 ** (gain_db / 20) * PCM_STEPS))
    return np.asarray(np.clip(steps, -PCM_STEPS, PCM_STEPS - 1) / PCM_STEPS, dtype=np.float32)


def change_speed(waveform: Waveform, sample_rate_hz: int, factor: float) -> Waveform:
    """Played `factor` times as fast: the clip is shorter, and pitch and formants are higher."""
    played: Waveform = F.speed(torch.tensor(waveform), sample_rate_hz, factor)[0].float().numpy()
    return played


def _same_length(waveform: Waveform, n_samples: int) -> Waveform:
    return np.pad(waveform, (0, max(0, n_samples - len(waveform))))[:n_samples]
