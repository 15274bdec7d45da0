"""Models for the Hugging Face Hub, by way of folders: nothing is sent."""

from __future__ import annotations

import shutil

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file

from scorefield import VP, EDMPrecond, Preconditioned, ScoreModel
from scorefield.interop import hub
from scorefield.interop.hub import HubModel
from scorefield.nn import MLP, seeded


def model() -> ScoreModel:
    with seeded(0):
        return ScoreModel(Preconditioned(MLP((2,), features=8), VP(), EDMPrecond(0.5)), (2,), about={"step": 3})


def same(one: ScoreModel, other: ScoreModel) -> bool:
    weights = one.denoiser.state_dict(), other.denoiser.state_dict()
    return all(torch.equal(weights[1][name], value) for name, value in weights[0].items()) and one.about == other.about


def test_a_folder_holds_the_model_and_its_card(tmp_path):
    HubModel(model(), license="cc-by-4.0").save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = HubModel.from_pretrained(tmp_path)
    assert same(again.model, model()) and again.license == "cc-by-4.0"
    assert same(ScoreModel.load(tmp_path), model())  # it is nothing but a model's directory
    card = (tmp_path / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "library_name: scorefield" in card and "VP process" in card


def test_a_card_is_not_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").symlink_to(tmp_path / "mine")
    HubModel(model(), license="cc-by-4.0").save_pretrained(tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "mine" and HubModel.from_pretrained(
        tmp_path / "out"
    ).license == "cc-by-4.0"


def test_pushing_sends_that_folder_and_reading_fetches_it(tmp_path, monkeypatch):
    class Repo:
        repo_id = "me/points"

    def upload(self, *, repo_id, folder_path, **_):
        shutil.copytree(folder_path, tmp_path / repo_id)
        return "commit"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, **_: Repo())
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    HubModel(model(), license="mit").push_to_hub("me/points")

    fetched = tmp_path / "fetched"

    def download(repo_id, filename, **_):
        fetched.mkdir(exist_ok=True)
        if not (tmp_path / repo_id / filename).is_file():
            raise EntryNotFoundError(filename)
        return str(shutil.copy(tmp_path / repo_id / filename, fetched / filename))

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download", lambda repo_id, filename, **_: download(repo_id, filename)
    )
    again = HubModel.from_pretrained("me/points")
    assert same(again.model, model()) and again.license == "mit"
    shutil.rmtree(fetched)
    (tmp_path / "me/points/README.md").unlink()
    assert HubModel.from_pretrained("me/points").license == "unknown"


def test_a_damaged_card_is_refused_by_name(tmp_path):
    HubModel(model(), license="mit").save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\n[: {\n---\n")
    with pytest.raises(ValueError, match=r"README\.md: not a card"):
        HubModel.from_pretrained(tmp_path)


def test_reading_is_strict(tmp_path):
    HubModel(model(), license="mit").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(iter(weights))
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"missing {name}"):
        HubModel.from_pretrained(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    HubModel(model(), license="mit").save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        HubModel.from_pretrained(tmp_path)
