"""Brain slices from volumes that packages install: a training set, and what scanners would measure of test slices.

    apt-get install mricron-data && pip install nibabel
    python benchmarks/brain_slices.py brain.npy [--count 16000] [--seed 0]

Trained on is Colin27, the mean of 27 scans of one man (T1-weighted, 1 mm, without the skull), which Debian's package
mricron-data installs. All training slices are of this one brain: planes through it at random heights, tilted, turned,
shifted, scaled and flipped, warped by smooth random fields as brains differ, with random gains and gammas.

A slice is 192 x 192 mm. `fine` ones have pixels of 1 mm; the model sees what a scanner of 64 x 64 frequencies makes of
them (`band_limited`), pixels of 3 mm with the ringing of a truncated transform. 1 is the 99th percentile of the brain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

COLIN27 = Path("/usr/share/mricron/templates/ch2bet.nii.gz")
FINE, COARSE = 192, 64  # pixels a side
HEIGHTS = (-30.0, 60.0)  # of the planes over the anterior commissure in mm
MIDDLE = (0.0, -18.0)  # of a slice, right and anterior of the anterior commissure in mm


class Volume:
    """A T1-weighted brain in stereotaxic space.

    Args:
        path: NIfTI, voxels along right, anterior, superior.
    """

    def __init__(self, path: str | Path) -> None:
        import nibabel  # not needed for the rest

        image = nibabel.load(path)
        self.values = np.asarray(image.dataobj, np.float32)
        self.values /= np.percentile(self.values[self.values > 0], 99)
        self.to_voxels = np.linalg.inv(image.affine)

    def at(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values at points (3, ...) in mm, by linear interpolation, 0 outside."""
        voxels = np.einsum("ij,j...->i...", self.to_voxels[:3, :3], points) + self.to_voxels[:3, 3:].reshape(3, 1, 1)
        return map_coordinates(self.values, voxels, order=1)


def plane() -> NDArray[np.floating]:
    """Places (x, y) of the fine pixels in mm from the middle of a slice, y up in pictures, (2, 192, 192)."""
    line = np.arange(FINE) - (FINE - 1) / 2
    return np.stack(np.broadcast_arrays(line, -line[:, None]))


def fine_slices(volume: Volume, heights: list[float]) -> Tensor:
    """Horizontal slices, (n, 1, 192, 192)."""
    (x, y) = plane()
    points = [np.stack((x + MIDDLE[0], y + MIDDLE[1], np.full_like(x, z))) for z in heights]
    return torch.from_numpy(np.stack([volume.at(p) for p in points]))[:, None]


def random_slice(volume: Volume, rng: np.random.Generator) -> NDArray[np.float32]:
    """A fine slice of a brain that is like the volume's, (192, 192)."""
    x, y = plane() / rng.uniform(0.85, 1.1) * rng.uniform(0.95, 1.05, (2, 1, 1))
    turn, pitch, roll = np.radians(rng.normal(0, (6, 8, 4)))
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    z = np.tan(pitch) * y + np.tan(roll) * x + rng.uniform(*HEIGHTS)
    points = np.stack((rng.choice((-1, 1)) * x, y + MIDDLE[1], z))
    points[:2] += rng.normal(0, 4, (2, 1, 1))
    for _ in range(6):  # waves of 50 mm and longer
        wave = rng.normal(0, 2 * np.pi / 80, 2)
        points += rng.normal(0, 1.5, (3, 1, 1)) * np.sin(wave[0] * x + wave[1] * y + rng.uniform(0, 2 * np.pi))
    return rng.uniform(0.9, 1.1) * volume.at(points) ** rng.uniform(0.8, 1.25)


def k_space(fine: Tensor) -> Tensor:
    """The lowest 64 x 64 frequencies of fine slices, (n, 64, 64) complex, as `FourierMask` has them of 64 x 64 pixels.

    The zero frequency is at [32, 32]. The first coarse pixel's centre lies on the second fine pixel's: the phase.
    """
    first = (FINE - COARSE) // 2
    k = torch.fft.fftshift(torch.fft.fft2(fine[:, 0].double(), norm="ortho"), dim=(-2, -1))
    k = k[:, first : first + COARSE, first : first + COARSE] * (COARSE / FINE)
    phase = torch.exp(2j * torch.pi / FINE * (torch.arange(COARSE) - COARSE // 2))
    return k * phase[:, None] * phase


def band_limited(fine: Tensor) -> Tensor:
    """What a scan of all 64 x 64 frequencies shows, (n, 1, 64, 64): the images that the model is of."""
    k = torch.fft.ifftshift(k_space(fine), dim=(-2, -1))
    return torch.fft.ifft2(k, norm="ortho").real[:, None].float()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    volume, rng = Volume(COLIN27), np.random.default_rng(options.seed)
    slices = np.empty((options.count, 1, COARSE, COARSE), np.float32)
    for k in range(options.count):
        slices[k] = band_limited(torch.from_numpy(random_slice(volume, rng))[None, None])[0].numpy()
    np.save(options.out, slices)


if __name__ == "__main__":
    main()
