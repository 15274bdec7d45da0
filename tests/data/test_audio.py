"""Recordings as people keep them: short ones, ends, numbers beyond full scale, capitals; what is left is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import wavfile

from scorefield.data import Audio, Broken, read

RAMP = (np.arange(1, 26) * 1000).astype("i2")  # 25 points


def write(folder, **waves):
    for name, wave in waves.items():
        path = folder / (name.replace("__", "/") + ".wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, 8000, wave)
    return folder


def test_what_is_left_is_said(tmp_path):
    write(tmp_path, a=RAMP, b=RAMP[:9], c=RAMP[:20])
    data = read(tmp_path, audio=Audio(length=10))
    assert len(data) == 4
    assert str(data.found) == (
        "4 signals of 1 x 10 from 2 recordings at 8000 Hz, 16 bits; no classes; left: 1 recording shorter than 10: "
        "take a smaller --reading.audio.length, or fill them with silence by --reading.audio.pad true; "
        "left: 0.000625 s at the ends of recordings: --reading.audio.pad true"
    )


def test_padding_keeps_every_point(tmp_path):
    write(tmp_path, a=RAMP, b=RAMP[:9], c=RAMP[:20])
    data = read(tmp_path, audio=Audio(length=10, pad=True))
    x = data.x.numpy()[:, 0] * 32768
    assert x.shape == (6, 10) and "left" not in str(data.found) and data.how == Audio(10, rate=8000, pad=True)
    assert np.array_equal(x[:3].ravel(), np.append(RAMP, np.zeros(5)))
    assert np.array_equal(x[3], np.append(RAMP[:9], 0)) and np.array_equal(x[4:].ravel(), RAMP[:20])


def test_a_class_that_loses_all_its_recordings_is_refused(tmp_path):
    write(tmp_path, long__a=RAMP, short__b=RAMP[:9], short__c=RAMP[:5])
    with pytest.raises(ValueError, match=r"all recordings of short are shorter .*, 10: .*pad true"):
        read(tmp_path, audio=Audio(length=10))
    data = read(tmp_path, audio=Audio(length=10, pad=True))
    assert data.class_names == ("long", "short") and "2 classes by folder: long, short" in str(data.found)
    assert len(read(tmp_path, audio=Audio(length=10, labels=False))) == 2
    assert len(read(tmp_path, audio=Audio(length=10), limit=2)) == 2  # the rest is not looked at
    write(tmp_path, short__d=RAMP)
    assert len(read(tmp_path, audio=Audio(length=10))) == 4


def test_nothing_but_short_recordings_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"2 recordings shorter than the length of an event, 30, and no other: take a"):
        read(write(tmp_path, a=RAMP, b=RAMP), audio=Audio(length=30))


def test_one_that_cannot_be_read_is_not_counted(tmp_path):
    write(tmp_path, a=RAMP)
    (tmp_path / "b.wav").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="skipped"):
        data = read(tmp_path, audio=Audio(length=25), broken=Broken.skip)
    assert str(data.found) == "1 signal of 1 x 25 from 1 recording at 8000 Hz, 16 bits; no classes"


@pytest.mark.parametrize("peak", [1.5, 32767.0])
def test_floating_point_beyond_full_scale_is_as_it_is_and_said(peak, tmp_path):
    wave = np.linspace(-1, 1, 25, dtype="f4") * np.float32(peak)
    data = read(write(tmp_path, a=wave, b=wave / 100000), audio=Audio(length=25))
    assert np.array_equal(data.x.numpy()[0, 0], wave)
    assert str(data.found).endswith(f"floating point; 1 recording beyond full scale, up to {peak:.4g}; no classes")


def test_two_scales_in_one_folder_are_refused(tmp_path):
    floats = RAMP.astype("f4")
    with pytest.raises(
        ValueError, match=r"b.wav holds floating-point numbers up to 2.5e\+04 where others hold integers"
    ):
        read(write(tmp_path, a=RAMP, b=floats), audio=Audio(length=10))
    data = read(write(tmp_path, a=RAMP, b=floats / 32768), audio=Audio(length=10))
    assert np.array_equal(data.x.numpy()[:2], data.x.numpy()[2:])
    assert "16 bits and floating point" in str(data.found)


def test_capitals_in_endings(tmp_path):
    write(tmp_path, a=RAMP)
    (tmp_path / "a.wav").rename(tmp_path / "A.WAV")
    assert len(read(tmp_path, audio=Audio(length=25))) == 1
