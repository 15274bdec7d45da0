"""Files are written whole or not at all, without touching what is not theirs, by any number of writers at once."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.limits import memory_left

from scorefield._files import (
    UNFINISHED,
    alone,
    discard,
    new_directory,
    not_a_link,
    read_json,
    read_tensors,
    sweep,
    tensor_heads,
    unfinished_directory,
    write_file,
    write_tensors,
    write_text,
)


def fill(path, text="new"):
    with new_directory(path) as folder:
        (folder / "inner").write_text(text)


WRITERS = {
    "text": (lambda path: write_text(path, "new"), lambda path: path.read_text()),
    "tensors": (lambda path: write_tensors(path, {"x": torch.ones(2)}), lambda path: str(read_tensors(path)[0]["x"])),
    "directory": (fill, lambda path: (path / "inner").read_text()),
}
STAND_INS = {
    "file": lambda path, _: path.write_text("mine"),
    "folder": lambda path, _: path.mkdir() or (path / "a").write_text("mine"),
    "link": lambda path, elsewhere: path.symlink_to(elsewhere),
    "link to nothing": lambda path, elsewhere: path.symlink_to(elsewhere.with_name("none")),
}


def tree(folder):
    """Every file's content and every link's target below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(folder))] = {
            "link": lambda p=path: p.readlink(),
            "folder": lambda: None,
            "file": lambda p=path: p.read_bytes(),
        }[kind]()
    return found


@pytest.mark.parametrize("kind", STAND_INS)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["out.part", ".out.part", ".out.0.part", "out.tmp"])
def test_what_lies_beside_a_file_is_not_touched(name, kind, writer, tmp_path):
    """Mutant: the unfinished file has a name that can be foretold."""
    (tmp_path / "elsewhere").write_text("mine")
    STAND_INS[kind](tmp_path / name, tmp_path / "elsewhere")
    before = tree(tmp_path)
    write, content = WRITERS[writer]
    write(tmp_path / "out")
    assert content(tmp_path / "out") in ("new", "tensor([1., 1.])")
    after = tree(tmp_path)
    assert {path: value for path, value in after.items() if Path(path).parts[0] != "out"} == before


@pytest.mark.parametrize("writer", ["text", "tensors"])
def test_a_link_of_the_files_own_name_is_replaced_and_not_followed(writer, tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    WRITERS[writer][0](tmp_path / "out")
    assert (tmp_path / "elsewhere").read_text() == "mine" and not (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("kind", STAND_INS)
def test_a_new_directory_takes_no_name_that_is_in_use(kind, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    STAND_INS[kind](tmp_path / "out", tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=r"out: is (a file|not empty|a link): name another directory"):
        fill(tmp_path / "out")
    assert tree(tmp_path) == before


def test_of_two_that_make_a_directory_the_slower_one_is_refused(tmp_path):
    with pytest.raises(FileExistsError, match="is not empty"), new_directory(tmp_path / "out") as folder:
        (folder / "inner").write_text("slow")
        fill(tmp_path / "out", "fast")
    assert tree(tmp_path) == {"out": None, "out/inner": b"fast"}


def test_files_and_folders_are_as_readable_as_any(tmp_path):
    before = os.umask(0o027)
    try:
        WRITERS["text"][0](tmp_path / "file")
        WRITERS["directory"][0](tmp_path / "folder")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")] == [0o640, 0o750]


def test_names_as_long_as_there_are(tmp_path):
    name = "ü" * 127
    write_text(tmp_path / name, "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt()])
def test_a_failure_leaves_the_older_one(failure, tmp_path):
    def write(file):
        file.write(b"half of")
        raise failure

    write_text(tmp_path / "out", "old")
    with pytest.raises(type(failure)):
        write_file(tmp_path / "out", write)
    with pytest.raises(type(failure)), new_directory(tmp_path / "folder"):
        raise failure
    assert tree(tmp_path) == {"out": b"old"}


def test_a_file_for_which_there_is_no_memory_leaves_the_older_one(tmp_path):
    """safetensors would end the process. The file's copy of 64 MB fits; its buffers of 128 MB do not."""
    file, large = tmp_path / "a.safetensors", torch.zeros(1 << 24)
    write_tensors(file, {"x": torch.ones(3)})
    with memory_left(100 << 20), pytest.raises(MemoryError):
        write_tensors(file, {"x": large})
    assert torch.equal(read_tensors(file)[0]["x"], torch.ones(3)) and [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("place", ["none", "file"])
def test_errors_name_the_file_that_was_meant(place, tmp_path):
    """Mutants: that of the unfinished file; no name, as errors of writing have none."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=rf"Errno \d+\] [\w ]+: '{tmp_path}/{place}/out'$"):
        write_text(tmp_path / place / "out", "new")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for path in (tmp_path / "out", tmp_path / "folder" / "inner"):
        with pytest.raises(OSError, match=rf"No space left on device: '{path}'$"):
            if path.parent == tmp_path:
                write_file(path, full)
            else:
                with new_directory(path.parent) as folder:
                    write_file(folder / path.name, full)
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError, match=rf" '{tmp_path}/out'$"):
        write_text(tmp_path / "out", "new")
    with pytest.raises(FileNotFoundError, match=r"'elsewhere'$"), new_directory(tmp_path / "folder"):
        Path("elsewhere").read_text()


# what writers that were killed have left

KILLED = """
import os, sys
from pathlib import Path
from scorefield._files import new_directory, write_file

def end(file):
    file.write(b"half")
    file.flush()
    os._exit(9)

if sys.argv[1] == "file":
    write_file(Path("out"), end)
with new_directory(Path("out")) as folder:
    (folder / "inner").write_text("half")
    os._exit(9)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_has_left_is_removed_and_nothing_else(kind, tmp_path):
    """Mutants: those that are at work are not asked for their lock; any `.part` is removed."""
    done = subprocess.run([sys.executable, "-c", KILLED, kind], cwd=tmp_path)
    (left,) = tmp_path.iterdir()
    assert done.returncode == 9 and UNFINISHED.fullmatch(left.name)
    mine = [tmp_path / name for name in ("a.part", ".a.part", ".a.0123.part", ".out.0123456789abcdef.parts", "link")]
    for path in mine[:-1]:
        path.write_text("mine")
    mine[-1].symlink_to(tmp_path / "a.part")
    (tmp_path / ".link.0123456789abcdef.part").symlink_to(mine[0])
    with unfinished_directory(tmp_path / "b") as part:
        sweep(tmp_path)
        assert part.is_dir() and not left.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [p.name for p in mine] + [".link.0123456789abcdef.part"]
    )
    assert mine[0].read_text() == "mine"


def test_a_directory_goes_as_a_whole(tmp_path, monkeypatch):
    """Whatever ends the process while it is removed, nothing of it is left under its name."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        discard(tmp_path / "old")
    assert not (tmp_path / "old").exists()
    sweep(tmp_path)
    assert tree(tmp_path) == {}
    discard(tmp_path / "none")


@pytest.mark.parametrize("target", ["folder", "none"])
def test_a_link_in_the_place_of_a_folder_is_refused(target, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"link: is a link, and files elsewhere would be changed"):
        not_a_link(tmp_path / "link")
    assert not_a_link(tmp_path / "folder") == tmp_path / "folder"


# several at once


def at_once(*jobs):
    """Runs jobs in threads that begin together; locks of files keep threads apart as they do processes."""
    ready = threading.Barrier(len(jobs))
    threads = [threading.Thread(target=lambda job=job: (ready.wait(), job())) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_two_writers_one_has_its_file_and_no_mixture_is_left(tmp_path):
    """Mutant: both write to one unfinished file."""

    def write(letter, file):
        for _ in range(200):
            file.write(letter * 50)
            file.flush()

    for _ in range(20):
        at_once(*(partial(write_file, tmp_path / "out", partial(write, letter)) for letter in (b"a", b"b")))
        assert (tmp_path / "out").read_bytes() in (b"a" * 10_000, b"b" * 10_000)
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_many_that_change_a_file_nobodys_change_is_lost(tmp_path):
    """Mutant: without the lock."""
    file = tmp_path / "a.json"
    file.write_text("{}")

    def change(name):
        for k in range(10):
            with alone(file):
                write_text(file, json.dumps({**json.loads(file.read_text()), f"{name}{k}": k}))

    at_once(*(partial(change, name) for name in "abcd"))
    assert len(json.loads(file.read_text())) == 40 and [*tmp_path.iterdir()] == [file]


def test_the_lock_of_one_that_was_killed_hinders_nobody(tmp_path):
    (tmp_path / ".a.json.lock").write_bytes(b"")
    with alone(tmp_path / "a.json"):
        pass
    (tmp_path / ".a.json.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"), alone(tmp_path / "a.json"):
        pass
    assert not (tmp_path / "elsewhere").exists()


# digests


def test_any_bit_of_what_a_file_of_tensors_says_is_under_its_digest(tmp_path):
    """Mutant: the tensors alone are."""
    file, tensors, about = tmp_path / "a.safetensors", {"x": torch.arange(3.0)}, {"step": 40, "widths": [0.05, 0.1]}
    write_tensors(file, tensors, about)
    data = file.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    read = 0
    for bit in range(8 * head):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            found, told = read_tensors(file)
        except ValueError:
            continue
        read += 1  # where a name has changed: of the tensor, of the digest, or of all that is said
        assert told in ({}, {**about, **told}) and torch.equal(*found.values(), tensors["x"])
    assert read < head  # of eight times as many


def test_files_from_before_the_digest_of_what_they_say_are_read(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, {"step": 1})
    data = (tmp_path / "a.safetensors").read_bytes()
    older = re.sub(rb', ."description_sha256.": ."[0-9a-f]{64}."', lambda found: b" " * len(found[0]), data)
    assert b"description" in data and b"description" not in older and len(older) == len(data)
    (tmp_path / "a.safetensors").write_bytes(older)
    assert read_tensors(tmp_path / "a.safetensors")[1] == {"step": 1}


def test_equal_tensors_make_equal_files(tmp_path):
    """Mutant: two entries in the head of a file, whose order changes."""
    for k in range(8):
        write_tensors(tmp_path / f"{k}", {"x": torch.ones(2)}, {"step": 1})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_name_that_is_given_twice_is_refused():
    with pytest.raises(ValueError, match="has the name 'b' twice"):
        read_json('{"a": {"b": 1, "c": 2, "b": 1}}')
    assert read_json('{"a": {"b": 1}, "b": 2}') == {"a": {"b": 1}, "b": 2}


def test_heads_are_those_of_the_tensors(tmp_path):
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]
    tensors = {str(kind): torch.ones(2, k, dtype=kind) for k, kind in enumerate(kinds)}
    write_tensors(tmp_path / "a.safetensors", tensors)
    heads = tensor_heads(tmp_path / "a.safetensors")
    assert {n: (v.shape, v.dtype) for n, v in heads.items()} == {n: (v.shape, v.dtype) for n, v in tensors.items()}
    assert all(v.is_meta for v in heads.values())


def test_a_number_that_is_too_large_is_not_taken_for_infinity():
    with pytest.raises(ValueError, match="1e999 is larger than any number here"):
        read_json('{"a": 1e999}')
    assert read_json('{"a": -1e999}', infinite=True) == {"a": -math.inf}
