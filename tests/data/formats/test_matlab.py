"""MATLAB's files of both kinds, with the axes that MATLAB has."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers.formats import every, mat, mat_73, real, whole

from scorefield.data import read

WRITERS = {"a.mat": mat, "packed.mat": mat, "new.mat": mat_73}
OWN = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"  # files that MATLAB wrote


@pytest.mark.parametrize("name", WRITERS)
def test_axes_are_matlab_s(name, tmp_path):
    """Mutant: the axes of the HDF5 file, which are the other way round."""
    arrays = {"x": real(5, 3), "stack": whole(4, 6, 5, dtype="u1"), "colour": whole(4, 6, 3, 5), "on": real(5, 3) > 0}
    path = WRITERS[name](tmp_path / name, **arrays)
    assert np.array_equal(every(read(path)), arrays["x"])
    stack = read(path, array="stack")
    assert stack.levels == 256 and np.array_equal(every(stack)[:, 0], arrays["stack"].transpose(2, 0, 1))
    assert np.array_equal(every(read(path, array="colour")), arrays["colour"].transpose(3, 2, 0, 1))
    assert read(path, array="on").levels == 2 and np.array_equal(every(read(path, array="on")), arrays["on"])
    assert "MATLAB's 4 x 6 x 3 x 5, of which the last counts samples" in str(read(path, array="colour").found)


@pytest.mark.parametrize("name", WRITERS)
def test_complex_numbers_and_numbers_that_are_kept_in_few_bytes(name, tmp_path):
    """Mutants: SciPy's mat_dtype, which drops imaginary parts; doubles of whole numbers taken for uint8."""
    wave = real(4, 3) + 1j * real(4, 3)
    path = WRITERS[name](tmp_path / name, wave=wave, whole=np.arange(12.0).reshape(4, 3))
    found = every(read(path, array="wave"))
    assert np.array_equal(found[:, 0] + 1j * found[:, 1], wave)
    data = read(path, array="whole")
    assert data.levels is None and np.array_equal(every(data), np.arange(12.0).reshape(4, 3))


@pytest.mark.skipif(not OWN.is_dir(), reason="this SciPy comes without its tests' files")
@pytest.mark.parametrize("version", ["4.2c_SOL2", "6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_files_that_matlab_wrote(version):
    angle = np.linspace(0, 2 * np.pi, 9)
    found = every(read(OWN / f"testcomplex_{version}.mat"))[0]
    assert np.allclose(found[0] + 1j * found[1], np.exp(1j * angle), atol=1e-15)
    assert np.array_equal(every(read(OWN / f"testdouble_{version}.mat"))[0], angle * 0 + np.arange(9) * np.pi / 4)


def test_what_is_no_array_is_said(tmp_path):
    path = mat(tmp_path / "a.mat", x=real(3, 2), name="text", parts={"a": real(2, 2)}, cell=np.array([1, "a"], object))
    found = str(read(path).found)
    assert all(part in found for part in ("left: name: char", "left: parts: struct", "left: cell: cell"))


def test_a_type_that_does_not_exist_is_refused(tmp_path):
    """SciPy's own reader takes it for a place in a table, and may end with the process."""
    path = mat(tmp_path / "a.mat", x=real(6, 3))
    content = bytearray(path.read_bytes())
    at = content.index(b"x\0\0\0") + 4
    content[at] = 137
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.mat: .*x has 144 bytes of type 137 for the shape \(6, 3\)"):
        read(path)


def test_a_claim_of_a_large_matrix_is_refused(tmp_path):
    for name in ("a.mat", "packed.mat"):
        path = mat(tmp_path / name, x=np.zeros((64, 32)))
        content = path.read_bytes()
        sides = np.array([64, 32], "i4").tobytes(), np.array([1 << 20, 1 << 12], "i4").tobytes()
        if name == "packed.mat":
            inner = zlib.decompress(content[136:]).replace(*sides)
            packed = zlib.compress(inner)
            content = content[:128] + np.array([15, len(packed)], "u4").tobytes() + packed
        path.write_bytes(content.replace(*sides))
        with pytest.raises(ValueError, match=rf"{name}: .*x claims the shape \(1048576, 4096\) in \d+ bytes"):
            read(path)
