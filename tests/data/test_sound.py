"""FLAC and Ogg: what soundfile gives, and the damage that it passes over in silence."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from helpers.formats import sound

from scorefield.data import Audio, Broken, read
from scorefield.data.sound import _checksum, read_sound

RAMP = (20_000 * np.sin(np.arange(4000) / 20)).astype("i2")
PLACES = [60, 500, 1500, 2500]


def folder(path, **contents):
    for name, content in contents.items():
        (path / name.replace("_", ".")).write_bytes(content)
    return path


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_S8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_flac_is_read_to_the_last_bit(subtype, bits, tmp_path):
    whole = np.random.default_rng(0).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (1000, 2))
    content = sound("FLAC", (whole << (32 - bits)).astype("i4"), subtype)
    data = read(folder(tmp_path, a_flac=content), audio=Audio(500))
    assert data.x.shape == (2, 2, 500) and data.how.rate == 8000
    assert np.array_equal(torch.cat(list(data.x), 1).numpy().T * 2.0 ** (bits - 1), whole)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_is_read_as_soundfile_decodes_it(subtype, tmp_path):
    import io

    import soundfile

    content = sound("OGG", RAMP, subtype)
    data = read(folder(tmp_path, a_ogg=content), audio=Audio(1000))
    wanted, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert np.array_equal(data.x[:, 0].flatten().numpy(), wanted[: data.x.numel()])
    assert np.abs(wanted[: len(RAMP)] - RAMP / 32768).max() < 0.2


def test_recordings_of_several_kinds_lie_together(tmp_path):
    folder(tmp_path, a_flac=sound("FLAC", RAMP), b_wav=sound("WAV", RAMP), c_ogg=sound("OGG", RAMP, "VORBIS"))
    data = read(tmp_path, audio=Audio(4000))
    assert torch.equal(data.x[0], data.x[1]) and not torch.equal(data.x[0], data.x[2])


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_damage_anywhere_is_refused(kind, tmp_path):
    """Mutant: without Ogg's checksums soundfile leaves damaged pages out, and all behind them comes too early."""
    content = sound(kind, RAMP, "VORBIS" if kind == "OGG" else "PCM_16")
    name = f"a.{kind.lower()}"
    damaged = [content[: len(content) * k // 9] for k in range(1, 9)] + [b"", b"RIFF", bytes(3000), content[100:]]
    for place in (len(content) * k // 9 for k in range(1, 9)):
        damaged.append(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
    assert len(damaged) == 20
    for k, some in enumerate(damaged):
        (tmp_path / name).write_bytes(some)
        try:
            read(tmp_path, audio=Audio(100))
        except ValueError as error:
            assert f"{name}: cannot be read" in str(error), (k, error)
        else:
            pytest.fail(f"{k} was read")
    with pytest.raises(ValueError, match="no sample is left"), pytest.warns(UserWarning, match="skipped"):
        read(tmp_path, audio=Audio(100), broken=Broken.skip)


def test_flac_s_checksum_is_of_its_values():
    """Mutant: not compared."""
    content = bytearray(sound("FLAC", RAMP))
    content[30] ^= 1  # of the MD5
    with pytest.raises(ValueError, match="its values are not those of its checksum"):
        read_sound(bytes(content))
    content[26:42] = bytes(16)  # its writer left it out
    assert len(read_sound(bytes(content))[1]) == len(RAMP)


def test_a_page_of_ogg_that_is_missing_is_seen():
    """Mutant: pages are not counted."""
    content = sound("OGG", np.tile(RAMP, 40), "VORBIS")
    places = [k for k in range(len(content)) if content.startswith(b"OggS", k)]
    assert len(places) > 4
    with pytest.raises(ValueError, match="page 3 is missing"):
        read_sound(content[: places[3]] + content[places[4] :])
    with pytest.raises(ValueError, match="the last page is missing"):
        read_sound(content[: places[-1]])


def test_ogg_s_checksum_is_that_of_its_standard():
    """CRC-32 of the polynomial 04c11db7, bits as they are, from 0: bit by bit."""
    page, value = bytes(range(200)), 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    assert _checksum(page) == value


def test_a_claim_of_a_long_recording_is_refused():
    content = bytearray(sound("FLAC", RAMP))
    content[22:26] = b"\xff\xff\xff\xff"  # of the count of values
    with pytest.raises(ValueError, match=r"would take .*, more than"):
        read_sound(bytes(content), 1 << 20)


def test_without_soundfile_it_is_said(tmp_path, monkeypatch):
    folder(tmp_path, a_flac=sound("FLAC", RAMP))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    for broken in Broken:
        with pytest.raises(ValueError, match=r"a.flac: reading FLAC and Ogg takes soundfile: .*scorefield\[audio\]"):
            read(tmp_path, broken=broken)
