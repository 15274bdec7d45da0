"""Pictures of any depth, of several frames, with transparency: their levels come back, or they are refused by name."""

from __future__ import annotations

import base64
import importlib.util
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, features

from scorefield.data import Alpha, Broken, Colour, Fit, Images, Pages, read

GENERATOR = np.random.default_rng(0)
KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's number for pictures of so many channels


def noise(*shape, most=65536):
    return GENERATOR.integers(0, most, shape)


def png16(values, interlaced=False):
    """A PNG of 16 bits a channel, which Pillow does not write in colour; interlaced as one pass if it is one pixel."""
    height, width, channels = values.shape

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    rows = b"".join(b"\0" + values[k].astype(">u2").tobytes() for k in range(height))
    head = struct.pack(">IIBBBBB", width, height, 16, KINDS[channels], 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def folder_of(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def x_of(path, **options):
    data = read(path, images=Images(**options))
    return data.rows(torch.arange(len(data))).x.numpy(), data


# bits


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_both_bytes(channels, tmp_path):
    """Mutants: Pillow's higher byte alone; the bytes exchanged."""
    values = noise(5, 7, channels)
    if channels in (2, 4):
        values[..., -1] = 65535
    x, data = x_of(folder_of(tmp_path / "d", a_png=png16(values)))
    kept = values[..., : channels - (channels in (2, 4))]
    assert np.array_equal(x[0], kept.transpose(2, 0, 1)) and (data.levels, x.dtype) == (65536, np.int32)
    assert data.found.taken.startswith(f"1 picture of 5 x 7, {'grey' if channels < 3 else 'in colour'}, 16 bits")


def test_a_camera_s_orientation_is_applied_to_16_bits(tmp_path):
    values, exif = noise(4, 6, 3), Image.Exif()
    exif[0x0112] = 6
    content = png16(values)
    data = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    x, _ = x_of(folder_of(tmp_path / "d", a_png=content[:33] + chunk + content[33:]))
    assert np.array_equal(x[0].transpose(1, 2, 0), np.rot90(values, -1))


PAGES = {
    "uint16": (noise(5, 7).astype("u2"), 65536),
    "big-endian": (noise(5, 7).astype(">u2"), 65536),
    "int16": (noise(5, 7).astype("i4").astype("i2"), None),
    "int32": (noise(5, 7, most=2**31).astype("i4"), None),
    "uint32": (noise(5, 7, most=2**32).astype("u4"), None),
    "float16": (GENERATOR.normal(size=(5, 7)).astype("f2"), None),
    "float32": (GENERATOR.normal(size=(5, 7)).astype("f4"), None),
    "float64": (GENERATOR.normal(size=(5, 7)), None),
    "colour of uint16": (noise(5, 7, 3).astype("u2"), 65536),
    "colour of float32": (GENERATOR.normal(size=(5, 7, 3)).astype("f4"), None),
    "5 bands of uint16": (noise(5, 7, 5).astype("u2"), 65536),
    "5 bands of uint8": (noise(5, 7, 5, most=256).astype("u1"), 256),
}


@pytest.mark.parametrize("name", PAGES)
def test_tiff_is_read_to_the_last_bit(name, tmp_path):
    """Mutants: float64 as float32; int16 as its 16 bits; the bands beyond the third left."""
    values, levels = PAGES[name]
    options = {"photometric": "rgb" if "colour" in name else "minisblack"}
    options |= {"planarconfig": "contig"} if values.ndim == 3 else {}
    x, data = x_of(folder_of(tmp_path / "d", a_tif=tiff(values, **options)))
    assert np.array_equal(x[0], values[None] if values.ndim == 2 else values.transpose(2, 0, 1))
    assert data.levels == levels and x.dtype == (
        ("u1" if levels == 256 else "i4") if levels else "f8" if name in ("int32", "uint32", "float64") else "f4"
    )


@pytest.mark.parametrize(
    "options",
    [{"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"bigtiff": True}, {"planarconfig": "separate"}],
    ids=str,
)
def test_tiff_of_16_bits_is_read_however_it_is_packed(options, tmp_path):
    values = noise(5, 7, 3).astype("u2")
    stored = np.moveaxis(values, 2, 0) if "planarconfig" in options else values
    x, _ = x_of(folder_of(tmp_path / "d", a_tif=tiff(stored, photometric="rgb", **options)))
    assert np.array_equal(x[0], values.transpose(2, 0, 1))


def test_white_that_is_zero_is_turned_about(tmp_path):
    values = noise(5, 7).astype("u2")
    x, _ = x_of(folder_of(tmp_path / "d", a_tif=tiff(values, photometric="miniswhite")))
    assert np.array_equal(x[0, 0], 65535 - values.astype("i4"))


@pytest.mark.parametrize("largest", [1, 100, 255, 1023, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6", "P2", "P3"])
def test_netpbm_keeps_its_levels(kind, largest, tmp_path):
    """Pillow stretches those of other than 255 to 255 or 65535."""
    values = noise(3, 4, 3 if kind in ("P3", "P6") else 1, most=largest + 1)
    values[0, 0, 0] = largest
    head = f"{kind}\n# a comment\n4 3\n{largest}\n".encode()
    plain = " ".join(map(str, values.ravel().tolist())).encode()
    body = plain if kind in ("P2", "P3") else values.astype(">u2" if largest > 255 else "u1").tobytes()
    x, data = x_of(folder_of(tmp_path / "d", a_ppm=head + body))
    assert np.array_equal(x[0], values.transpose(2, 0, 1)) and data.levels == largest + 1
    with pytest.raises(ValueError, match=r"a.ppm: cannot be read"):
        read(folder_of(tmp_path / "d", a_ppm=head + body[: len(body) // 2]))


def test_more_bits_are_resized_and_coloured_as_fewer_are(tmp_path):
    """Against the same picture in 8 bits, to its rounding: v 257 of 16 bits is v of 8."""
    small = noise(12, 18, 3, most=256)
    deep, flat = (folder_of(tmp_path / name) for name in ("deep", "flat"))
    (deep / "a.png").write_bytes(png16(small * 257))
    Image.fromarray(small.astype("u1")).save(flat / "a.png")
    for fit in Fit:
        for colour in Colour:
            options = {"size": (6, 5), "fit": fit, "colour": colour}
            x, y = x_of(deep, **options)[0] / 257, x_of(flat, **options)[0]
            assert x.shape == y.shape and np.abs(x - y).max() <= 1.5


def test_pictures_of_16_bits_are_laid_on_a_ground(tmp_path):
    values = np.full((2, 2, 4), (10000, 20000, 30000, 32768))
    folder = folder_of(tmp_path / "d", a_png=png16(values))
    with pytest.raises(ValueError, match=r"a.png: is transparent.*alpha"):
        read(folder)
    share = 32768 / 65535
    for alpha, ground in ((Alpha.black, 0), (Alpha.white, 65535)):
        x, _ = x_of(folder, alpha=alpha)
        assert x[0, :, 0, 0].tolist() == [round(v * share + ground * (1 - share)) for v in (10000, 20000, 30000)]
    x, data = x_of(folder, alpha=Alpha.channel)
    assert x[0, :, 1, 1].tolist() == [10000, 20000, 30000, 32768] and data.event_shape == (4, 2, 2)


# 8 x 8 pixels by libavif, as Pillow writes none
AVIF_OF_10_BITS = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0"
    "bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAZAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBy"
    "cAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAAgAAAABdpcG1h"
    "AAAAAAAAAAEAAQQBAoMEAAAAbG1kYXQSAAoIOAi/5wICAJAyVhAAAPYAxJMbQeq1P4rekq9q2Dl+41xI2JeQz9ovc6Cg9UEnBgLkimZyR7pWzIxY"
    "zjCBOcd3ajcKVK//38ra/PIn8joXkSwXa5/ZoVQa5t+fzyOFl56A"
)


def jp2(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG2000", irreversible=False)
    return file.getvalue()


def test_what_pillow_would_cut_is_refused_and_not_called_damaged(tmp_path):
    grey = folder_of(tmp_path / "a", a_jp2=jp2(noise(16, 16).astype("u2")))
    with pytest.raises(ValueError, match=r"a.jp2: .*JPEG 2000 picture of more than 8 bits") as said:
        read(grey, broken=Broken.skip)
    assert "skip" not in str(said.value)
    if features.check("avif"):
        with pytest.raises(ValueError, match=r"a.avif: it is an AVIF picture of 10 or 12 bits"):
            read(folder_of(tmp_path / "avif", a_avif=base64.b64decode(AVIF_OF_10_BITS)))
    keyed = png16(noise(4, 4, 3))
    key = b"tRNS" + struct.pack(">3H", 1, 2, 3)
    keyed = keyed[:33] + struct.pack(">I", 6) + key + struct.pack(">I", zlib.crc32(key)) + keyed[33:]
    with pytest.raises(ValueError, match=r"a.png: one of its colours of 16 bits stands for transparent"):
        read(folder_of(tmp_path / "b", a_png=keyed))
    with pytest.raises(ValueError, match=r"b.png: is grey, 8 bits where the first is grey, 16 bits"):
        small = io.BytesIO()
        Image.fromarray(noise(4, 4, most=256).astype("u1")).save(small, "PNG")
        read(folder_of(tmp_path / "c", a_png=png16(noise(4, 4, 1)), b_png=small.getvalue()))


def test_a_tiff_that_names_other_files_opens_none_of_them(tmp_path):
    """OME's metadata can say that pages lie elsewhere."""
    secret, values = noise(5, 7).astype("u2"), noise(5, 7, 5).astype("u2")
    (tmp_path / "elsewhere.tif").write_bytes(tiff(secret))
    pixels = (
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="7" SizeY="5" SizeZ="1" SizeC="1" SizeT="1">'
    )
    ome = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'{pixels}<TiffData IFD="0"><UUID FileName="../elsewhere.tif">urn:uuid:1</UUID></TiffData></Pixels>'
        "</Image></OME>"
    )
    content = tiff(values, photometric="minisblack", planarconfig="contig", description=ome.encode())
    x, _ = x_of(folder_of(tmp_path / "d", a_tif=content))
    assert np.array_equal(x[0], values.transpose(2, 0, 1))


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs decodes it")
def test_a_decoder_that_is_wanted_is_named(tmp_path):
    content = bytearray(tiff(noise(5, 7, 5).astype("u2"), photometric="minisblack", planarconfig="contig"))
    place = content.index(struct.pack("<HHI", 259, 3, 1))  # the compression, an integer of 16 bits
    content[place + 8] = 5
    with pytest.raises(ValueError, match=r"a.tif: decoding LZW in a TIFF of its kind takes imagecodecs") as said:
        read(folder_of(tmp_path / "d", a_tif=bytes(content)))
    assert "skip" not in str(said.value)


# frames


def frames_of(name, count=3, side=8):
    """An animation, and what it holds in the modes of Pillow: colours that GIF's palettes hold exactly."""
    frames = [np.full((side, side, 3), 40 * k + 20, "u1") for k in range(count)]
    for k, frame in enumerate(frames):
        frame[: k + 1] = (255, 0, 0)
    file = io.BytesIO()
    first, *rest = map(Image.fromarray, frames)
    options = {"lossless": True} if name.endswith("webp") else {}
    first.save(
        file,
        {"tif": "TIFF", "gif": "GIF", "webp": "WEBP", "png": "PNG"}[name],
        save_all=True,
        append_images=rest,
        **options,
    )
    return file.getvalue(), np.stack(frames).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["tif", "gif", "webp", "png"])
def test_frames_are_taken_as_asked(name, tmp_path):
    """Mutants: the first frame for all; a stack with its axes exchanged."""
    content, frames = frames_of(name)
    for kind in ("cat", "dog"):
        (tmp_path / "d" / kind).mkdir(parents=True)
        (tmp_path / "d" / kind / f"a.{name}").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"cat/a.{name}: has 3 pages or frames: say --reading.images.frames first, each"
    ):
        read(tmp_path / "d")
    first, data = x_of(tmp_path / "d", frames=Pages.first)
    assert np.array_equal(first, frames[[0, 0]])
    assert "left: 4 further pages or frames: --reading.images.frames" in str(data.found)
    each, data = x_of(tmp_path / "d", frames=Pages.each)
    assert np.array_equal(each, np.concatenate((frames, frames)))
    assert data.rows(torch.arange(6)).cond["label"].tolist() == [0, 0, 0, 1, 1, 1] and not data.found.left
    assert data.found.taken.startswith("6 pictures of 2 files of 8 x 8")
    stack, data = x_of(tmp_path / "d", frames=Pages.stack)
    assert np.array_equal(stack, np.stack((frames, frames)).swapaxes(1, 2)) and data.event_shape == (3, 3, 8, 8)
    assert data.found.taken.startswith("2 pictures of 3 frames of 8 x 8")


def test_pages_of_16_bits_are_a_volume(tmp_path):
    values = noise(4, 5, 7).astype("u2")
    x, data = x_of(folder_of(tmp_path / "d", a_tif=tiff(values, photometric="minisblack")), frames=Pages.stack)
    assert np.array_equal(x[0, 0], values) and (data.levels, data.event_shape) == (65536, (1, 4, 5, 7))


def test_a_grey_animation_is_of_one_colour(tmp_path):
    """Pillow gives a GIF's first frame in grey and the next ones in colour."""
    frames = [Image.fromarray(np.full((8, 8), 10 * k, "u1")) for k in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    x, _ = x_of(folder_of(tmp_path / "d", a_gif=file.getvalue()), frames=Pages.each, colour=Colour.grey)
    assert x[:, 0, 0, 0].tolist() == [0, 10, 20]
    assert x_of(tmp_path / "d", frames=Pages.each)[0].shape[0] == 3


def test_smaller_versions_of_a_page_are_no_pages(tmp_path):
    file, values = io.BytesIO(), noise(8, 8, most=256).astype("u1")
    with tifffile.TiffWriter(file) as target:
        target.write(values, photometric="minisblack", metadata=None)
        target.write(values[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    x, data = x_of(folder_of(tmp_path / "d", a_tif=file.getvalue()))
    assert np.array_equal(x[0, 0], values) and "left: 1 further page or frame" in str(data.found)


def test_stacks_are_of_one_length_and_of_bounded_size(tmp_path):
    folder = folder_of(tmp_path / "d", a_tif=frames_of("tif")[0], b_tif=frames_of("tif", 4)[0])
    with pytest.raises(ValueError, match=r"b.tif: has 4 frames where the first has 3"):
        read(folder, images=Images(frames=Pages.stack))
    many = folder_of(tmp_path / "e", a_gif=frames_of("gif", count=6, side=100)[0])
    for pages in Pages:
        with pytest.raises(
            ValueError, match=r"a.gif.*6 frames of 100 x 100 would take 234.4 KiB, more than the 195.3 KiB"
        ):
            read(many, images=Images(frames=pages), largest=2e5 / 2**30)


def test_an_imagej_stack_of_one_head_is_refused(tmp_path):
    said = "ImageJ=1.54f\nimages=100\nslices=100\nloop=false\n"
    file = io.BytesIO()
    tifffile.imwrite(file, noise(5, 7).astype("u2"), description=said, metadata=None)
    with pytest.raises(ValueError, match=r"a.tif: ImageJ wrote 100 pictures and 1 heads"):
        read(folder_of(tmp_path / "d", a_tif=file.getvalue()))


# transparency


def test_transparency_is_learnt_as_a_channel(tmp_path):
    """Opaque pictures among them get an alpha of 255; grey ones a second channel."""
    clear, solid = noise(4, 4, 4, most=256).astype("u1"), noise(4, 4, 3, most=256).astype("u1")
    folder = folder_of(tmp_path / "d")
    Image.fromarray(clear).save(folder / "a.png")
    Image.fromarray(solid).save(folder / "b.png")
    x, data = x_of(folder, alpha=Alpha.channel)
    assert np.array_equal(x[0], clear.transpose(2, 0, 1)) and np.array_equal(x[1, :3], solid.transpose(2, 0, 1))
    assert (x[1, 3] == 255).all() and "in colour with alpha" in data.found.taken
    grey = folder_of(tmp_path / "e")
    Image.fromarray(clear[..., :2]).save(grey / "a.png")
    assert np.array_equal(x_of(grey, alpha=Alpha.channel)[0][0], clear[..., :2].transpose(2, 0, 1))


# endings


@pytest.mark.parametrize("name", ["a.JPG", "a.jfif", "a.Jpeg", "a.JPE", "a.PNG", "a.Tiff", "a.jp2", "a.avif"])
def test_endings_of_pictures_in_any_case(name, tmp_path):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    kind = {"a.jfif": "JPEG", "a.JPE": "JPEG", "a.jp2": "JPEG2000", "a.avif": "AVIF"}.get(name)
    (tmp_path / "d").mkdir()
    Image.fromarray(np.full((16, 16, 3), (200, 100, 50), "u1")).save(tmp_path / "d" / name, kind)
    (tmp_path / "d" / "notes.TXT").write_text("x")
    (tmp_path / "d" / "drawing.svg").write_text("<svg/>")
    x, data = x_of(tmp_path / "d")
    assert np.abs(x[0, :, 8, 8] - np.array((200, 100, 50))).max() <= 4
    assert data.found.left == ("1 file (.svg)", "1 file (.txt)")
