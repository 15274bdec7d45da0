"""Foreign files that try to run code, or to make us read what they should not hold: refused, and nothing is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edm_pickles import Persistent, module, nvidias_modules, write_edm
from helpers.limits import memory_left

from scorefield import _skeleton, _torch_files
from scorefield.cli import main
from scorefield.interop import load_diffusers, load_edm, load_ncsn, load_ncsnv2, load_score_sde
from scorefield.interop.configuration import Configuration
from scorefield.interop.pickles import read_pickle

FIXTURE = Path(__file__).parents[1] / "fixtures" / "score_sde" / "ve_ncsnpp_continuous.pth"
CONFIG = FIXTURE.with_suffix(".json")
UNET = {
    "sample_size": 8,
    "block_out_channels": [32],
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
}


class Call:
    """Pickled as a call of a function that takes one argument."""

    def __init__(self, function: Any, argument: Any) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> Any:
        return self.call


def attacks(canary: Path) -> dict[str, Any]:
    """Objects that would make a file, were they read as pickle reads them."""
    return {
        "os.system": Call(os.system, f"touch {canary}"),
        "builtins.eval": Call(eval, f"open({str(canary)!r}, 'w')"),
        "builtins.exec": Call(exec, f"open({str(canary)!r}, 'w')"),
        "pathlib": Call(Path.touch, canary),
        "getattr": Call(getattr, "x"),
        "nested torch.load": Call(torch.load, io.BytesIO(pickle.dumps(Call(os.system, f"touch {canary}")))),
        "nested pickle": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {canary}"))),
        "nested storage": Call(torch.storage._load_from_bytes, zipped(Call(os.system, f"touch {canary}"))),
    }


def zipped(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


ATTACKS = list(attacks(Path("canary")))


def folder_of_diffusers(folder: Path) -> Path:
    (folder / "unet").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    (folder / "unet" / "config.json").write_text(json.dumps(UNET))
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    return folder


def read(kind: str, folder: Path, value: Any, data: bytes | None = None) -> None:
    """Has a value, or bytes, read as a checkpoint of a kind."""
    if kind == "diffusers":
        file = folder_of_diffusers(folder / "pipeline") / "unet" / "diffusion_pytorch_model.bin"
    else:
        file = folder / "checkpoint.pth"
    if data is not None:
        file.write_bytes(data)
    elif kind == "edm":
        file.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, file)
    if kind == "diffusers":
        load_diffusers(folder / "pipeline")
    elif kind == "edm":
        load_edm(file)
    elif kind == "score_sde":
        load_score_sde(file, CONFIG)
    else:
        (folder / "config.json").write_text('{"data": {"image_size": 8, "channels": 3}, "model": {"num_classes": 10}}')
        (load_ncsn if kind == "ncsn" else load_ncsnv2)(file, folder / "config.json")


KINDS = ["score_sde", "ncsn", "ncsnv2", "diffusers", "edm"]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_could_run_code_is_refused_and_not_run(kind, attack, tmp_path):
    canary = tmp_path / "canary"
    evil = attacks(canary)[attack]
    weights = {"module.all_modules.0.W": evil, "conv_in.weight": evil}
    held = {"score_sde": {"model": weights}, "diffusers": weights, "edm": {"ema": evil}}.get(kind, [weights])
    with pytest.raises(ValueError, match=r"could run code|damaged"):
        read(kind, tmp_path, held)
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_is_watched(protocol, tmp_path):
    canary = tmp_path / "canary"
    data = pickle.dumps({"ema": Call(os.system, f"touch {canary}")}, protocol)
    with pytest.raises(ValueError, match="system, which could run code"):
        read("edm", tmp_path, None, data)
    assert not canary.exists()


def test_the_source_text_of_a_pickle_is_not_run(tmp_path):
    """`edm_pickles.SOURCE` would end the process; a class of another name is refused for its name."""
    net = Persistent("Backdoor", {"_modules": OrderedDict(model=module("Backdoor", {}))})
    with nvidias_modules():
        data = pickle.dumps({"ema": net})
    with pytest.raises(ValueError, match="holds a Backdoor"):
        read("edm", tmp_path, None, data)
    write_edm(tmp_path / "edm.pkl", {}, {"img_resolution": 8})
    with pytest.raises(ValueError, match="in_channels"):
        load_edm(tmp_path / "edm.pkl")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (5, "wanted a network of EDM"),
        ({"ema": {}}, "wanted a network of EDM"),
        ({"ema": torch.nn.Linear(1, 1)}, "wanted a network of EDM"),
    ],
)
def test_pickles_of_something_else_are_refused(held, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read("edm", tmp_path, held)


def test_attributes_of_readers_cannot_be_set(tmp_path):
    """BUILD with a second state sets attributes: of what is made by a file alone, never of a class or a module."""
    for target in (b"ccollections\nOrderedDict\n", b"ctorch\nSize\n", b"cdnnlib.util\nEasyDict\n"):
        data = b"\x80\x02" + target + b"N}X\x04\x00\x00\x00evilK\x01s\x86b."
        with pytest.raises(ValueError, match=r"damaged|wanted a network"):
            read("edm", tmp_path, None, data)
    assert not hasattr(OrderedDict, "evil") and not hasattr(torch.Size, "evil")


def test_functions_of_the_reader_cannot_be_changed(tmp_path):
    """BUILD on what a name stands for: by a state, and by attributes."""
    for target in (b"c_codecs\nencode\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cnumpy\ndtype\n"):
        for state in (b"N}X\x04\0\0\0callK\x01s\x86b", b"}X\x04\0\0\0callK\x01sb"):
            with pytest.raises(ValueError, match="changes what reads it"):
                read("edm", tmp_path, None, b"\x80\x02" + target + state + b".")


@pytest.mark.parametrize(
    "data",
    [
        # an object in the eight bytes of an array of objects
        b"\x80\x03cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\0\0\0O\x89\x88\x87R(J\x03\0\0\0X\x01\0\0\0|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffJ\0\0\0\0tbC\x08AAAAAAAA\x86R.",
        b"\x80\x03cnumpy\nndarray\nK\x01\x85X\x01\0\0\0OC\x08AAAAAAAA\x87R.",
        b"\x80\x03Nr" + struct.pack("<I", 2_000_000_000) + b".",  # a number of its own for an object
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 45) + b".",  # a length
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 45) + b".",
    ],
)
def test_pickles_that_would_take_memory_or_give_it_away_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"damaged|wanted a network of EDM"):
        read("edm", tmp_path, None, data)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # at the first use in a process
def test_numbers_of_packed_archives_are_not_unpacked(tmp_path):
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(zipped(torch.zeros(1 << 20).storage()))) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        for member in old.infolist():
            packed(new, member, old.read(member))
    with pytest.raises(ValueError, match="has a packed member"):
        read("edm", tmp_path, Call(torch.storage._load_from_bytes, buffer.getvalue()))


def test_parts_that_hold_each_other_are_met_once(tmp_path):
    """Forty levels of a part held twice by the one above are 2^40 names; the last holds the first."""
    part = last = torch.nn.Module()
    for _ in range(40):
        above = torch.nn.Module()
        above._modules = {"a": part, "b": part}
        part = above
    last._modules = {"again": part}
    model = module("SongUNet", {}, {"_init_kwargs": {"img_resolution": 8}})
    model.state["_modules"] = {"deep": part}
    net = Persistent("EDMPrecond", {"_modules": {"model": model}, "_init_kwargs": {}})
    with nvidias_modules(), (tmp_path / "edm.pkl").open("wb") as file:
        pickle.dump({"ema": net}, file)
    with pytest.raises(ValueError, match="wanted in_channels"):
        load_edm(tmp_path / "edm.pkl")
    held = read_pickle(tmp_path / "edm.pkl")["ema"]
    assert held.tensors() == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04.", b"\x00" * 100, b"not a file of any kind"])
def test_damaged_files_are_refused(kind, data, tmp_path):
    with pytest.raises(ValueError, match=r"damaged|could run code|wanted"):
        read(kind, tmp_path, None, data)


def rewritten(change: Any) -> bytes:
    """The fixture with its members changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(FIXTURE) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            change(new, member, old.read(member))
    return buffer.getvalue()


def plain(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
    new.writestr(member.filename, data)


def outside(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
    plain(new, member, data)
    if member.filename.endswith("data.pkl"):
        new.writestr("../../outside", b"x")


def absolute(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
    plain(new, member, data)
    if member.filename.endswith("data.pkl"):
        new.writestr("/etc/outside", b"x")


def packed(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
    new.writestr(member.filename, data, compress_type=zipfile.ZIP_DEFLATED)


def bomb(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
    plain(new, member, data)
    if member.filename.endswith("data.pkl"):
        new.writestr("ve/data/999", bytes(1 << 24), compress_type=zipfile.ZIP_DEFLATED)


def test_archives_that_are_only_written_again_are_read(tmp_path):
    read("score_sde", tmp_path, None, rewritten(plain))


@pytest.mark.parametrize("change", [outside, absolute, packed, bomb])
def test_members_that_torch_does_not_write_are_refused(change, tmp_path):
    with pytest.raises(ValueError, match=r"which torch\.save does not write"):
        read("score_sde", tmp_path, None, rewritten(change))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pth"]


def test_descriptions_of_tensors_that_would_take_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_torch_files, "LARGEST_PICKLE", 1000)
    with pytest.raises(ValueError, match=r"describes its tensors in \d+ bytes, of which 1000 are allowed"):
        read("score_sde", tmp_path, None, FIXTURE.read_bytes())


@pytest.mark.parametrize("length", [1 << 30, (1 << 63) - 1, 10])
def test_safetensors_with_a_false_header_are_refused(length, tmp_path):
    folder = folder_of_diffusers(tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        load_diffusers(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, r"wanted a configuration|nested"),
        ("{" + " " * (1 << 17) + "}", "no more than 131072"),
        ('{"sample_size": 1e999, "beta_start": 1e999}', r"wanted"),
    ],
)
def test_configurations_that_would_take_too_much_are_refused(file, text, message, tmp_path):
    folder = folder_of_diffusers(tmp_path)
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / file).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_diffusers(folder)


def test_yaml_makes_plain_values_alone(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "config.yml").write_text(f"!!python/object/apply:os.system ['touch {canary}']\n")
    with pytest.raises(ValueError, match="wanted a configuration in JSON or YAML"):
        load_score_sde(FIXTURE, tmp_path / "config.yml")
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    (tmp_path / "config.yml").write_text(bomb + "model: {nf: *j, name: *j}\n")
    with pytest.raises(ValueError, match=r"wanted model\.name"):
        load_score_sde(FIXTURE, tmp_path / "config.yml")
    assert not canary.exists()


def test_the_command_line_writes_nothing_of_a_refused_file(tmp_path, capsys):
    file, canary = tmp_path / "checkpoint.pth", tmp_path / "canary"
    torch.save({"model": {"x": Call(os.system, f"touch {canary}")}}, file)
    words = ["import", str(file), "--format", "score_sde", "--config", str(CONFIG), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "could run code" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pth"]


def test_a_checkpoint_of_which_a_bit_has_changed_is_refused(tmp_path):
    data = bytearray(FIXTURE.read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="is not what was written"):
        read("score_sde", tmp_path, None, bytes(data))


def bomb_of_tuples(depth: int = 40) -> Any:
    """Each holds the one before twice: 2^depth objects to a hash, in a few bytes."""
    value: Any = ("x", "x")
    for _ in range(depth):
        value = (value, value)
    return value


class Named:
    """Pickled as a call with some arguments of a function that every reader knows."""

    def __init__(self, *arguments: Any) -> None:
        self.call = OrderedDict, arguments

    def __reduce__(self) -> Any:
        return self.call


ENDLESS = {
    "a key": b"\x80\x02}(X\x01\0\0\0aq\0" + b"h\0h\0\x86q\0" * 40 + b"h\0K\x01u.",
    "a key of one": b"\x80\x02}X\x01\0\0\0aq\0" + b"h\0h\0\x86q\0" * 40 + b"K\x01s.",
    "a key of a whole": b"\x80\x02(X\x01\0\0\0aq\0" + b"h\0h\0\x86q\0" * 40 + b"K\x01d.",
    "a set": pickle.dumps({1, 2}, 4).replace(b"K\x01K\x02", b"X\x01\0\0\0aq\0" + b"h\0h\0\x86q\0" * 40),
    "a function": b"\x80\x02X\x01\0\0\0aq\0" + b"h\0h\0\x86q\0" * 40 + b")R.",
    "arguments": pickle.dumps(Named([[bomb_of_tuples(), 1]]), 2),
    "many objects": b"\x80\x02(" + b"N" * 20_001 + b"t.",
    "long number": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "a length": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
}


@pytest.mark.parametrize("kind", ["edm", "score_sde"])
@pytest.mark.parametrize("name", ENDLESS)
def test_small_files_that_would_never_end_are_refused(kind, name, tmp_path, monkeypatch):
    """In an archive of torch, and as a pickle. Mutants: keys that are not looked at; calls that are not."""
    monkeypatch.setattr(_skeleton, "MOST_READS", 20_000)
    data = ENDLESS[name]
    if kind == "score_sde":
        data = rewritten(lambda new, member, old: plain(new, member, data_of(member, old, ENDLESS[name])))
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"(edm|checkpoint)\.p\w+: (damaged|describes)") as said:
        read(kind, tmp_path, None, data)
    assert time.perf_counter() - begun < 2 and "\n" not in str(said.value)


def data_of(member: zipfile.ZipInfo, old: bytes, new: bytes) -> bytes:
    return new if member.filename.endswith("data.pkl") else old


def test_tensors_have_the_numbers_that_they_claim(tmp_path):
    """A storage that is shorter than it says; a large tensor of one number, in an archive and in the older format."""

    def longer(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
        plain(new, member, data[:-4] if "/data/" in member.filename else data)

    with pytest.raises(ValueError, match=r"a tensor of \d+ bytes has \d+"):
        read("score_sde", tmp_path, None, rewritten(longer))
    wide = {"conv_in.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}
    for new in (True, False):
        torch.save(wide, tmp_path / "wide.bin", _use_new_zipfile_serialization=new)
        data = (tmp_path / "wide.bin").read_bytes()
        with memory_left(1 << 28), pytest.raises(ValueError, match=r"conv_in.weight has (4 bytes|shape)"):
            read("diffusers", tmp_path / str(new), None, data)
    torch.save({"a": torch.zeros(9)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.bin").read_bytes()[:-20]
    with pytest.raises(ValueError, match=r"its tensors have 36 bytes, of which it holds"):
        read("diffusers", tmp_path / "old", None, data)


def test_two_members_of_one_name_are_refused(tmp_path):
    def twice(new: zipfile.ZipFile, member: zipfile.ZipInfo, data: bytes) -> None:
        for _ in range(1 + member.filename.endswith("data.pkl")):
            plain(new, member, data)

    with pytest.warns(UserWarning, match="Duplicate name"):  # of zipfile, while it is written
        data = rewritten(twice)
    with pytest.raises(ValueError, match="two members of the name"):
        read("score_sde", tmp_path, None, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a {x: 1}\nb: {<<: *a}\n", "merged"),
        ("a: " + "1:" * 5000 + "1\n", "a number has 10001 digits"),
        ("a: 0x" + "f" * 5000 + "\n", "a number has 5002 digits"),
        ("a: " + "[" * 5000 + "\n", "wanted a configuration"),
        ("x: " + "a" * (1 << 17), "has 131075 bytes"),
    ],
)
def test_yaml_that_would_take_long_is_refused(text, message, tmp_path):
    (tmp_path / "config.yml").write_text(text)
    with pytest.raises(ValueError, match=f"config.yml: .*{message}") as said:
        load_score_sde(FIXTURE, tmp_path / "config.yml")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**4000])
def test_numbers_beyond_all_floats_are_refused(value):
    told = Configuration({"a": value, "b": [1, value]}, "config.json")
    for ask in (lambda: told.get("a", float), lambda: told.get("a", int), lambda: told.numbers("b", 2)):
        with pytest.raises(ValueError, match=r"config.json: wanted [ab] to be"):
            ask()
