"""Checkpoints: whatever happens to the newest, the last good one is found."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest

from scorefield._files import UNFINISHED
from scorefield.training import Checkpoints

pytestmark = pytest.mark.usefixtures("unchecked")

CONTENT = {"a.bin": bytes(range(256)) * 3, "b.txt": b"hello"}


def write(folder):
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)


def three(folder):
    kept = Checkpoints(folder, keep=3)
    for step in (1, 2, 30):
        kept.save(step, write)
    return kept


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_holds_its_files_and_a_manifest(tmp_path):
    path = Checkpoints(tmp_path / "new").save(7, write)
    assert names(path) == ["a.bin", "b.txt", "manifest.json"]
    assert all((path / name).read_bytes() == content for name, content in CONTENT.items())
    manifest = json.loads((path / "manifest.json").read_text())["files"]
    assert {name: entry["bytes"] for name, entry in manifest.items()} == {"a.bin": 768, "b.txt": 5}


def test_the_newest_ones_are_kept(tmp_path):
    kept = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 30, 40):
        kept.save(step, write)
    assert names(tmp_path) == ["000000030", "000000040"]
    assert kept.newest() == tmp_path / "000000040"


def test_one_that_a_run_has_gone_back_behind_makes_room_and_never_the_new_one(tmp_path):
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(30, write)
    (tmp_path / "000000030" / "a.bin").write_bytes(b"damaged")
    (tmp_path / ".000000050.0123456789abcdef.part").mkdir()  # by a run that was killed
    assert kept.save(25, write) == kept.newest()
    assert names(tmp_path) == ["000000025"]


DAMAGE = {
    "manifest gone": lambda path: (path / "manifest.json").unlink(),
    "manifest empty": lambda path: (path / "manifest.json").write_text(""),
    "manifest a list": lambda path: (path / "manifest.json").write_text("[]"),
    "manifest without files": lambda path: (path / "manifest.json").write_text("{}"),
    "manifest names outside": lambda path: (path / "manifest.json").write_text('{"files": {"../x": {}}}'),
    "file gone": lambda path: (path / "a.bin").unlink(),
    "file empty": lambda path: (path / "a.bin").write_bytes(b""),
    "file longer": lambda path: (path / "a.bin").write_bytes(CONTENT["a.bin"] + b"x"),
    "other file cut": lambda path: (path / "b.txt").write_bytes(b"hell"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_by_name(damage, tmp_path):
    kept = three(tmp_path)
    DAMAGE[damage](tmp_path / "000000030")
    with pytest.warns(UserWarning, match=r"000000030: passed over"):
        assert kept.newest() == tmp_path / "000000002"


def test_a_file_cut_at_any_byte_or_with_any_byte_flipped_is_noticed(tmp_path):
    kept = three(tmp_path)
    file, content = tmp_path / "000000030" / "a.bin", CONTENT["a.bin"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(len(content)):
            for damaged in (content[:k], content[:k] + bytes([content[k] ^ 0x10]) + content[k + 1 :]):
                file.write_bytes(damaged)
                assert kept.newest() == tmp_path / "000000002"
    file.write_bytes(content)
    assert kept.newest() == tmp_path / "000000030"


def test_all_damaged_is_an_error_and_none_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none").newest() is None
    kept = three(tmp_path)
    for path in tmp_path.iterdir():
        (path / "a.bin").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="all checkpoints are damaged"):
        kept.newest()


def test_a_failure_while_writing_leaves_the_older_ones(tmp_path):
    kept = three(tmp_path)

    def full(folder):
        write(folder)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        kept.save(40, full)
    assert names(tmp_path) == ["000000001", "000000002", "000000030"]
    (tmp_path / ".000000050.0123456789abcdef.part").mkdir()  # left by a crash
    assert kept.newest() == tmp_path / "000000030"
    assert kept.save(50, write) == kept.newest()


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1; got 0"):
        Checkpoints(tmp_path, keep=0)


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    flushed, real, rename = [], os.fsync, Path.rename

    def fsync(handle):
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    def renamed(path, target):
        flushed.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    Checkpoints(tmp_path).save(7, write)
    before = flushed.index("rename")
    assert {"a.bin", "b.txt", "manifest.json"} <= set(flushed[:before])
    assert any(UNFINISHED.fullmatch(name) for name in flushed[:before])
    assert tmp_path.name in flushed[before:]


def test_links_lead_to_nothing_elsewhere(tmp_path):
    """Mutants: the folder's own link is followed; a link of a checkpoint's name is one."""
    for name in ("elsewhere", "run"):
        three(tmp_path / name)
    (tmp_path / "run" / "000000030").rename(tmp_path / "thirtieth")
    (tmp_path / "run" / "000000030").symlink_to(tmp_path / "elsewhere" / "000000030")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="link: is a link"):
        Checkpoints(tmp_path / "link")
    kept = Checkpoints(tmp_path / "run", keep=1)
    assert kept.newest() == tmp_path / "run" / "000000002"
    assert kept.save(30, write) == kept.newest() == tmp_path / "run" / "000000030"
    assert names(tmp_path / "elsewhere") == ["000000001", "000000002", "000000030"]
    assert all(
        sorted(names(path)) == ["a.bin", "b.txt", "manifest.json"] for path in (tmp_path / "elsewhere").iterdir()
    )


def test_a_link_that_has_come_meanwhile_is_refused(tmp_path):
    """Of a run that goes on; and what has no checkpoint's name is none."""
    kept = three(tmp_path / "run")
    for name in ("20240101", "0000000001x", "1"):
        (tmp_path / "run" / name).mkdir()
    kept = Checkpoints(tmp_path / "run", keep=1)
    kept.save(31, write)
    assert {"20240101", "0000000001x", "1"} <= {*names(tmp_path / "run")}
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    before = names(tmp_path / "elsewhere")
    for change in (lambda: kept.save(40, write), lambda: kept.tidy(40)):
        with pytest.raises(ValueError, match="run: is a link"):
            change()
    assert names(tmp_path / "elsewhere") == before


def test_what_others_keep_among_the_checkpoints_stays(tmp_path):
    for name in ("000000050.part", "my.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("mine")
    Checkpoints(tmp_path, keep=1).save(50, write)
    assert names(tmp_path) == ["000000050", "000000050.part", "my.part"]


def test_a_checkpoint_that_is_removed_is_never_seen_in_part(tmp_path, monkeypatch):
    """Mutant: its files go one by one under its name, and a kill in between leaves a damaged checkpoint."""
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(1, write)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        kept.save(2, write)
    assert [path.name for path in kept.all()] == ["000000002"] and len(names(tmp_path)) == 2
    kept.tidy(2)
    assert names(tmp_path) == ["000000002"]


def test_what_a_kill_after_the_last_checkpoint_has_left_is_tidied(tmp_path):
    """Older ones than are kept, and those of a run that has gone back."""
    three(tmp_path)
    Checkpoints(tmp_path, keep=1).tidy(2)
    assert names(tmp_path) == ["000000002"]
