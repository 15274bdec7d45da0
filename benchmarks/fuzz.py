"""Damaged files: every reader takes small sound ones of ours that were changed at random, each in a process of its own.

    python benchmarks/fuzz.py --count 1000             # all readers, a table in Markdown
    python benchmarks/fuzz.py --only parquet --count 50 --keep failures

A reader may give what it read, or refuse it in one line that names the file. A traceback (an error of another kind, or
of several lines, or without the name), an end of the process by a signal, more than 10 s, more than 1 GiB of memory,
and other values than were written where a checksum promises these, are failures; their files go to the folder `--keep`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.io import wavfile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.edm_pickles import write_edm

from scorefield import VP, EDMPrecond, Optimisation, Preconditioned, ScoreModel, TrainState, interop
from scorefield._files import write_tensors
from scorefield.cli.parts import grids, measuring
from scorefield.cli.parts.losses import LossLog
from scorefield.cli.parts.sources import load_conditions
from scorefield.data import Affine, Audio, Images, Pages, Table, read
from scorefield.data.dataset import some_rows
from scorefield.evaluate.label_features import LabelFeatures
from scorefield.interop.edm import _lines as edm_lines
from scorefield.interop.translation import translated_back
from scorefield.metrics import FeatureStats
from scorefield.nn import MLP, NCSNpp, seeded
from scorefield.solvers import Heun
from scorefield.training.checkpoint import Checkpoints

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "score_sde"
SECONDS, MEMORY = 10, 1 << 30
OUTCOMES = "accepted", "refused", "traceback", "signal", "hang", "memory", "changed"
RNG = np.random.default_rng(0)
TOKENS = b'-1 0 1e999 NaN null true [] {} 99999999999999999999999 1_0 0x10 \xd9\xa3 , \n : { } [ ] " \\ \0'.split(b" ")
NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


@dataclass(frozen=True)
class Reader:
    """A reader and a sound file for it.

    Args:
        make: writes what is read into a folder, and says which file of it is changed.
        read: reads it, given that file; returns what a fingerprint is made of.
        promised: a checksum covers all values.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    promised: bool = False


# sound files


def saved(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return folder / name

    return make


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def picture(kind: str) -> bytes:
    values = RNG.integers(0, 256, (7, 6, 3)).astype("u1")
    return written(lambda file: Image.fromarray(values).save(file, kind))


def frames(kind: str) -> bytes:
    first, *rest = (Image.fromarray(RNG.integers(0, 256, (7, 6, 3)).astype("u1")) for _ in range(3))
    return written(lambda file: first.save(file, kind, save_all=True, append_images=rest))


def png16() -> bytes:
    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    rows = b"".join(b"\0" + RNG.integers(0, 256, 36).astype("u1").tobytes() for _ in range(7))
    head = struct.pack(">IIBBBBB", 6, 7, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bands() -> bytes:
    import tifffile

    values = RNG.integers(0, 65536, (7, 6, 5)).astype("u2")
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib", "metadata": None}
    return written(lambda file: tifffile.imwrite(file, values, **options))


def listed(name: str, content: str) -> Callable[[Path], Path]:
    """A list of classes beside pictures: one picture for each file of its own, else two."""

    def write(folder: Path) -> Path:
        for k in range(1 if name == "0.cls" else 2):
            saved(f"data/{k}.png", picture("PNG"))(folder)
        return saved(f"data/{name}", content.encode())(folder)

    return write


def arrays() -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=(6, 3)).astype("f4"), "labels": np.arange(6) % 2, "cond": RNG.normal(size=(6, 1))}


def idx() -> bytes:
    return struct.pack(">2xBB3I", 8, 3, 4, 5, 6) + RNG.integers(0, 256, 120).astype("u1").tobytes()


def zipped() -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
            for k in range(3):
                target.writestr(f"{'ab'[k % 2]}/{k}.png", picture("PNG"))

    return written(write)


def taped(mode: str) -> bytes:
    def write(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode=mode) as tape:
            for k in range(3):
                info, content = tarfile.TarInfo(f"{'ab'[k % 2]}/{k}.png"), picture("PNG")
                info.size = len(content)
                tape.addfile(info, io.BytesIO(content))

    return written(write)


def parquet(**options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"a": RNG.normal(size=50), "b": np.arange(50), "kind": ["x", "y"] * 25}
    return written(lambda file: pq.write_table(pa.table(columns), file, row_group_size=20, **options))


def table_text() -> bytes:
    rows = "".join(f"{a!r},{b!r},{'xy'[k % 2]}\n" for k, (a, b) in enumerate(RNG.normal(size=(20, 2)).tolist()))
    return f"a,b,kind\n{rows}".encode()


def hugging(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import datasets

        features = datasets.Features({"v": datasets.List(datasets.Value("float32")), "k": datasets.ClassLabel(2)})
        made = datasets.Dataset.from_dict({"v": RNG.normal(size=(8, 3)).tolist(), "k": [0, 1] * 4}, features)
        datasets.disable_progress_bars()
        made.save_to_disk(folder / "data")
        return next((folder / "data").glob(name))

    return make


def network() -> MLP:
    with seeded(0):
        return MLP((2,), features=8, blocks=1)


def denoiser() -> Preconditioned:
    return Preconditioned(network(), VP(), EDMPrecond(1.0))


def model(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        ScoreModel(denoiser(), (2,), Affine(), about={"step": 3}).save(folder)
        return folder / name

    return make


def trained(folder: Path) -> Path:
    TrainState(denoiser(), Optimisation(), seed=0).save(folder / "state.safetensors")
    return folder / "state.safetensors"


def checkpoints(folder: Path) -> Path:
    Checkpoints(folder).save(3, lambda part: (part / "state").write_bytes(b"x" * 40))
    return folder / "000000003" / "manifest.json"


def losses(folder: Path) -> Path:
    rows = "".join(f"{k},{0.5 + k},1.5,0.001,{0.25 if k == 4 else ''}\n" for k in range(1, 5))
    return saved("loss.csv", f"step,loss,gradient_norm,lr,validation_loss\n{rows}".encode())(folder)


def read_losses(file: Path) -> Any:
    log = LossLog(file)
    log.load(4)
    return log.losses


def pipeline(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with seeded(0):
            net = NCSNpp((3, 8, 8), width=32, channels=(32,), blocks=1, attention=(False,), fourier_scale=None,
                         resample_blocks=False, fir=False, rescale=False, pyramid_in=SIMPLE, attention_each=True,
                         group_width=1, centred=True)  # fmt: skip
        whole = ScoreModel(Preconditioned(net, VP(), DDPM), (3, 8, 8), CENTRED)
        shutil.rmtree(folder / "pipeline", ignore_errors=True)
        interop.save_diffusers(whole, folder / "pipeline")
        if name.endswith(".bin"):
            from safetensors.torch import load_file

            file = folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
            torch.save(load_file(file), file.with_suffix(".bin"))
            file.unlink()
        return folder / "pipeline" / name

    return make


def nvidia(folder: Path) -> Path:
    with seeded(0):
        net = NCSNpp((3, 8, 8), width=8, channels=(8, 16), blocks=1, attention=(False, True), dropout=0.0)
    told = {"img_resolution": 8, "in_channels": 3, "out_channels": 3, "model_channels": 8, "channel_mult": [1, 2],
            "channel_mult_emb": 4, "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.0, "label_dim": 0,
            "embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual",
            "resample_filter": [1, 3, 3, 1]}  # fmt: skip
    write_edm(folder / "edm.pkl", translated_back(net.state_dict(), edm_lines(net)), told, sigma_data=0.5)
    return folder / "edm.pkl"


def song(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for file in ("vp_ddpm_continuous.pth", "vp_ddpm_continuous.json"):
            shutil.copyfile(FIXTURES / file, folder / file)
        told = json.loads((FIXTURES / "vp_ddpm_continuous.json").read_text())
        (folder / "vp_ddpm_continuous.yml").write_text(yaml.safe_dump(told))
        return folder / name

    return make


def read_song(suffix: str) -> Callable[[Path], Any]:
    def load(file: Path) -> Any:
        whole = interop.load_score_sde(file.with_suffix(".pth"), file.with_suffix(suffix))
        return whole.denoiser.state_dict()

    return load


def old(folder: Path) -> Path:
    """The same checkpoint in torch's older format."""
    file = song("vp_ddpm_continuous.pth")(folder)
    torch.save(torch.load(file, weights_only=True), file, _use_new_zipfile_serialization=False)
    return file


def features(folder: Path) -> Path:
    LabelFeatures((2,), 2, data="x", fitted=5).save(folder / "extractor.safetensors")
    return folder / "extractor.safetensors"


def moments(folder: Path) -> Path:
    with (folder / "stats.npz").open("wb") as file:
        FeatureStats.of(torch.from_numpy(RNG.normal(size=(9, 3))), "pixels").write(file)
    return folder / "stats.npz"


def kept_grids(folder: Path) -> Path:
    whole = ScoreModel(denoiser(), (2,), Affine(), about={"spectrum": [1.0, 0.5]})
    whole.save(folder)
    grids.times_of_run(folder, whole, Heun(), 4, grids.Grid.optimised)
    return folder / grids.FILE


def read_grids(file: Path) -> Any:
    return grids.times_of_run(file.parent, WHOLE, Heun(), 4, grids.Grid.optimised)


def tensors(folder: Path) -> Path:
    write_tensors(folder / "part.safetensors", {"x": torch.arange(12.0)}, {"step": 3})
    return folder / "part.safetensors"


def data(folder_of: bool = False, **options: Any) -> Callable[[Path], Any]:
    """Reads a file, or the folder that it lies in, as data."""

    def load(file: Path) -> Any:
        found = read(file.parent if folder_of else file, **options)
        return some_rows(found), found.class_names, [*found._cond.items()]

    return load


from scorefield.interop.pixels import CENTRED  # noqa: E402
from scorefield.nn import Pyramid  # noqa: E402
from scorefield.score import DDPMPrecond  # noqa: E402

SIMPLE, DDPM = Pyramid.NONE, DDPMPrecond()
WHOLE = ScoreModel(denoiser(), (2,), Affine(), about={"spectrum": [1.0, 0.5]})
KIND = Table(label="kind")
WAVE = (20_000 * np.sin(np.arange(400) / 20)).astype("i2")
READERS: dict[str, Reader] = {
    "npy": Reader(saved("x.npy", written(lambda f: np.save(f, arrays()["x"]))), data()),
    "npz": Reader(saved("x.npz", written(lambda f: np.savez(f, **arrays()))), data(), promised=True),
    "npz, packed": Reader(saved("x.npz", written(lambda f: np.savez_compressed(f, **arrays()))), data(), promised=True),
    "csv": Reader(saved("x.csv", table_text()), data(table=KIND)),
    "tsv": Reader(saved("x.tsv", table_text().replace(b",", b"\t")), data(table=KIND)),
    "parquet": Reader(saved("x.parquet", parquet()), data(table=KIND)),
    "parquet, plain": Reader(saved("x.parquet", parquet(use_dictionary=False, compression="none")), data(table=KIND)),
    "parquet, zstd": Reader(saved("x.parquet", parquet(compression="zstd")), data(table=KIND)),
    "parquet, checksums": Reader(
        saved("x.parquet", parquet(write_page_checksum=True, compression="none")), data(table=KIND)
    ),
    "idx": Reader(saved("x-images-idx3-ubyte", idx()), data()),
    "idx.gz": Reader(saved("x-images-idx3-ubyte.gz", gzip.compress(idx())), data(), promised=True),
    "cifar": Reader(saved("data_batch_1.bin", RNG.integers(0, 10, 3 * 3073).astype("u1").tobytes()), data()),
    **{
        kind.lower(): Reader(saved(f"data/0.{kind.lower()}", picture(kind)), data(folder_of=True))
        for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
    },
    "jpeg 2000": Reader(saved("data/0.jp2", picture("JPEG2000")), data(folder_of=True)),
    "png of 16 bits": Reader(saved("data/0.png", png16()), data(folder_of=True)),
    "ppm of 10 bits": Reader(
        saved("data/0.ppm", b"P5 6 7 1023\n" + RNG.integers(0, 1024, 42).astype(">u2").tobytes()), data(folder_of=True)
    ),
    "tiff of 5 bands": Reader(saved("data/0.tif", bands()), data(folder_of=True)),
    **{
        f"{kind.lower()}, frames": Reader(
            saved(f"data/0.{kind.lower()}", frames(kind)), data(folder_of=True, images=Images(frames=Pages.stack))
        )
        for kind in ("PNG", "WEBP", "TIFF", "GIF")
    },
    "dataset.json": Reader(listed("dataset.json", '{"labels": [["0.png", 1], ["1.png", 0]]}'), data(folder_of=True)),
    "metadata.csv": Reader(listed("metadata.csv", "file_name,label\n0.png,a\n1.png,b\n"), data(folder_of=True)),
    "metadata.jsonl": Reader(
        listed("metadata.jsonl", '{"file_name": "0.png", "label": 1}\n{"file_name": "1.png", "label": 0}\n'),
        data(folder_of=True),
    ),
    ".cls": Reader(listed("0.cls", "1"), data(folder_of=True)),
    "zip": Reader(saved("x.zip", zipped()), data(), promised=True),
    "tar": Reader(saved("x.tar", taped("w")), data()),
    "tar.gz": Reader(saved("x.tar.gz", taped("w:gz")), data()),
    "tar.xz": Reader(saved("x.tar.xz", taped("w:xz")), data()),
    "wav": Reader(
        saved("data/0.wav", written(lambda f: wavfile.write(f, 8000, WAVE))), data(True, audio=Audio(length=50))
    ),
    "datasets: arrow": Reader(hugging("*.arrow"), data(folder_of=True)),
    "datasets: state.json": Reader(hugging("state.json"), data(folder_of=True)),
    "datasets: dataset_info.json": Reader(hugging("dataset_info.json"), data(folder_of=True)),
    "config.json": Reader(model("config.json"), lambda f: ScoreModel.load(f.parent).denoiser.state_dict()),
    "model.safetensors": Reader(
        model("model.safetensors"), lambda f: ScoreModel.load(f.parent).denoiser.state_dict(), promised=True
    ),
    "state.safetensors": Reader(trained, lambda f: TrainState(denoiser(), Optimisation(), seed=0).load(f)),
    "manifest.json": Reader(checkpoints, lambda f: Checkpoints(f.parents[1]).newest()),
    "a part of a report": Reader(tensors, lambda f: interop_tensors(f)),
    "loss.csv": Reader(losses, read_losses),
    "grids.json": Reader(kept_grids, read_grids),
    "extractor.safetensors": Reader(features, lambda f: LabelFeatures.load(f).state_dict(), promised=True),
    "statistics": Reader(moments, lambda f: FeatureStats.read(f).covariance, promised=True),
    "score_sde": Reader(song("vp_ddpm_continuous.pth"), read_song(".json"), promised=True),
    "score_sde, older torch": Reader(old, read_song(".json")),
    "score_sde: JSON": Reader(song("vp_ddpm_continuous.json"), read_song(".json")),
    "score_sde: YAML": Reader(song("vp_ddpm_continuous.yml"), read_song(".yml")),
    "diffusers: safetensors": Reader(
        pipeline("unet/diffusion_pytorch_model.safetensors"), lambda f: interop.load_diffusers(f.parents[1])
    ),
    "diffusers: bin": Reader(
        pipeline("unet/diffusion_pytorch_model.bin"), lambda f: interop.load_diffusers(f.parents[1])
    ),
    "diffusers: config.json": Reader(pipeline("unet/config.json"), lambda f: interop.load_diffusers(f.parents[1])),
    "diffusers: scheduler": Reader(
        pipeline("scheduler/scheduler_config.json"), lambda f: interop.load_diffusers(f.parents[1])
    ),
    "edm": Reader(nvidia, lambda f: interop.load_edm(f)),
    "y.png": Reader(saved("y.png", picture("PNG")), measuring.load_values),
    "y.tif": Reader(saved("y.tif", picture("TIFF")), measuring.load_values),
    "y.npy": Reader(saved("y.npy", written(lambda f: np.save(f, arrays()["x"]))), measuring.load_values),
    "mask": Reader(saved("mask.png", picture("PNG")), measuring.load_mask),
    "cond": Reader(saved("c.npy", written(lambda f: np.save(f, arrays()["x"]))), lambda f: load_conditions(f, 6)),
}


def interop_tensors(file: Path) -> Any:
    from scorefield._files import read_tensors

    return read_tensors(file)


# changes


def changed(content: bytes, rng: np.random.Generator, name: str) -> bytes:
    """A sound file's bytes, changed: as they are, or what is packed in them with right checksums."""
    if rng.random() < 0.4:
        with contextlib.suppress(Exception):
            if inside := _inside(content, rng, name):
                return inside
    return _bytes(content, rng)


def _bytes(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        place, length = int(rng.integers(0, max(1, len(data)))), int(rng.integers(1, 64))
        match int(rng.integers(0, 9)):
            case 0 | 1:
                for at in rng.integers(0, max(1, len(data)), int(rng.integers(1, 9))):
                    if at < len(data):
                        data[at] ^= 1 << int(rng.integers(0, 8))
            case 2:
                del data[place:]
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length]
            case 5:
                data[place:place] = rng.integers(0, 256, length).astype("u1").tobytes()
            case 6:
                size = int(rng.choice([1, 2, 4, 8]))
                value = int(rng.choice(NUMBERS[:13], replace=True) if size == 8 else rng.choice(NUMBERS[:11]))
                order = "little" if rng.random() < 0.5 else "big"
                data[place : place + size] = (value % 256**size).to_bytes(size, order)
            case 7:
                token = TOKENS[int(rng.integers(len(TOKENS)))]
                data[place : place + int(rng.integers(0, 4))] = token
            case _:
                other = int(rng.integers(0, max(1, len(data))))
                data[place : place + length], data[other : other + length] = (
                    data[other : other + length],
                    data[place : place + length],
                )
    return bytes(data)


def _inside(content: bytes, rng: np.random.Generator, name: str) -> bytes | None:
    if content[:2] == b"PK":
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
            infos = source.infolist()
            chosen = next((i for i in infos if i.filename.endswith("data.pkl")), None)
            if chosen is None or rng.random() < 0.3:
                chosen = infos[int(rng.integers(len(infos)))]
            for info in infos:
                member = source.read(info)
                target.writestr(
                    info.filename, _bytes(member, rng) if info is chosen else member, compress_type=info.compress_type
                )
        return buffer.getvalue()
    if content[:2] == b"\x1f\x8b":
        return gzip.compress(_bytes(gzip.decompress(content), rng))
    if content[:4] == b"\x89PNG":
        place, out = 8, bytearray(content[:8])
        while place < len(content):
            (size,) = struct.unpack_from(">I", content, place)
            kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
            if rng.random() < 0.4:
                body = _bytes(body, rng)
            out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            place += 12 + size
        return bytes(out)
    if name.endswith(".safetensors"):
        size = int.from_bytes(content[:8], "little")
        head = _bytes(content[8 : 8 + size], rng)
        return len(head).to_bytes(8, "little") + head + content[8 + size :]
    return None


# processes


def fingerprint(value: Any) -> str:
    """Of tensors, arrays and what holds them."""
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            found.update(str(part.shape).encode() + part.detach().contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            add(sorted(part.items()))
        elif isinstance(part, tuple | list):
            for inner in part:
                add(inner)
        else:
            found.update(repr(part).encode())

    add(value)
    return found.hexdigest()


def peak(begin: bool = False) -> int:
    """Bytes of memory that this process has had at most since the last time that it began anew."""
    if begin:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def attempt(reader: Reader, file: Path, wanted: str) -> tuple[str, str]:
    """(outcome, what was said) of a file."""
    before, outcome, said = peak(begin=True), "accepted", ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = reader.read(file)
        if wanted and fingerprint(value) != wanted:
            outcome = "changed"
    except (ValueError, OSError) as error:
        said = str(error)
        names = (file.name, *(folder.name for folder in file.parents[:2]), "config.json")
        sound = "\n" not in said and len(said) < 1500 and any(name in said for name in names)
        outcome, said = "refused" if sound else "traceback", f"{type(error).__name__}: {said}"
    except BaseException as error:
        outcome, said = "traceback", f"{type(error).__name__}: {error}"
    return ("memory" if peak() - before > MEMORY else outcome), said


def in_children(reader: Reader, file: Path, jobs: Sequence[Callable[[], str]]) -> Iterator[tuple[str, str]]:
    """(outcome, what was said) of files that jobs write, in children for some of them each, which may end for one.

    A job gives the fingerprint that the file must have if it is accepted, or none.
    """
    done = 0
    while done < len(jobs):
        get, put = os.pipe()
        if not (child := os.fork()):
            os.close(get)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            with os.fdopen(put, "w") as answers:
                for job in jobs[done : done + 20]:
                    answers.write(json.dumps(attempt(reader, file, job())) + "\n")
                    answers.flush()
            os._exit(0)
        os.close(put)
        waiting = b""
        while True:
            late = not select.select([get], [], [], SECONDS)[0]
            more = b"" if late else os.read(get, 1 << 16)
            if not more:
                if late:
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if status:
                    done += 1
                    yield ("hang", "") if late else ("signal", str(os.waitstatus_to_exitcode(status)))
                break
            *lines, waiting = (waiting + more).split(b"\n")
            for line in lines:
                done += 1
                yield tuple(json.loads(line))
        os.close(get)


def fuzz(name: str, reader: Reader, count: int, folder: Path, keep: Path | None, seed: int, show: int) -> Counter[str]:
    """How many of the changed files had which outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = reader.make(folder)
        content = file.read_bytes()
        wanted = fingerprint(reader.read(file)) if reader.promised else ""
        reader.read(file)

    def new(k: int) -> bytes:
        return changed(content, np.random.default_rng([seed, zlib.crc32(name.encode()), k]), file.name)

    def job(k: int) -> str:
        file.write_bytes(new(k))
        return wanted if _sealed(content, new(k)) else ""  # of what is packed again the values may differ

    outcomes: Counter[str] = Counter()
    seen: set[str] = set()
    for k, (outcome, said) in enumerate(in_children(reader, file, [partial(job, k) for k in range(count)])):
        outcomes[outcome] += 1
        if k < show:
            print(f"  {name} {k}: {outcome}: {said[:300]}", file=sys.stderr)
        if outcome not in ("accepted", "refused"):
            kind = f"{outcome} {said[:60]}"
            if kind not in seen:
                print(f"  {name} {k}: {outcome}: {said[:400]!r}", file=sys.stderr, flush=True)
            seen.add(kind)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name.replace('/', '_')}_{k}_{outcome}_{file.name}").write_bytes(new(k))
    return outcomes


def _sealed(content: bytes, new: bytes) -> bool:
    """Whether the checksums are still those of the sound file, as far as one can tell from outside."""
    if content[:2] == b"PK":
        with contextlib.suppress(Exception):
            sums = [[(i.filename, i.CRC) for i in zipfile.ZipFile(io.BytesIO(c)).infolist()] for c in (content, new)]
            return sums[0] == sums[1]
        return False
    if content[:2] == b"\x1f\x8b":
        return content[-8:] == new[-8:]
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="changed files for each reader")
    parser.add_argument("--only", nargs="*", help="readers by their names")
    parser.add_argument("--keep", type=Path, help="folder for the files of failures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="say what the first so many files of a reader gave")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| reader | {' | '.join(OUTCOMES)} | s |\n|---|{'--:|' * (len(OUTCOMES) + 1)}")
    whole: Counter[str] = Counter()
    begun = time.monotonic()
    for name, reader in READERS.items():
        if options.only and name not in options.only:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcomes = fuzz(
                name, reader, options.count, Path(folder).resolve(), options.keep, options.seed, options.show
            )
        whole += outcomes
        print(row(name, outcomes, time.monotonic() - start), flush=True)
    print(row("all", whole, time.monotonic() - begun))


def row(name: str, outcomes: Counter[str], seconds: float) -> str:
    return f"| {name} | {' | '.join(str(outcomes[kind]) for kind in OUTCOMES)} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
