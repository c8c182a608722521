"""PSNR, SSIM and LPIPS against their definitions and other libraries."""

import math
import shutil
from pathlib import Path

import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan import measure
from iagan.errors import MissingDependencyError, SettingError, ShapeError

SQUEEZE = Path(__file__).parents[2] / "shared" / "weights" / "squeezenet1_1-fp16.pth"


def _pair(count=2, side=64):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, side, side, generator=rng)
    return x, (x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def test_psnr_averages_the_mse_first():
    """Two images of MSE 0.01 and 0.03: 10·log10(1 / 0.02), not the mean of 20 and 15.2 dB."""
    truth = torch.zeros(2, 3, 4, 4)
    image = torch.stack([truth[0] + 0.1, truth[1] + math.sqrt(0.03)])
    assert measure.psnr(image, truth) == pytest.approx(10 * math.log10(1 / 0.02), abs=1e-4)
    each = measure.psnr_per_image(image, truth)
    assert each.tolist() == pytest.approx([20, 10 * math.log10(1 / 0.03)], abs=1e-4)
    in_255 = measure.psnr(255 * image, 255 * truth, data_range=255)
    assert in_255 == pytest.approx(measure.psnr(image, truth), abs=1e-4)
    assert measure.psnr(truth, truth) == math.inf


def test_psnr_and_ssim_are_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    truth, image = _pair()
    for i, (ours_psnr, ours_ssim) in enumerate(
        zip(measure.psnr_per_image(image, truth), measure.ssim(image, truth), strict=True)
    ):
        a, b = (
            truth[i].permute(1, 2, 0).double().numpy(),
            image[i].permute(1, 2, 0).double().numpy(),
        )
        theirs = metrics.structural_similarity(
            a, b, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert float(ours_ssim) == pytest.approx(theirs, abs=1e-6)
        theirs = metrics.peak_signal_noise_ratio(a, b, data_range=1)
        assert float(ours_psnr) == pytest.approx(theirs, abs=1e-4)


def test_shapes_and_ranges_are_checked():
    with pytest.raises(ShapeError, match="Crop or resize"):
        measure.psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 5, 5))
    for wrong in (255 * _pair()[0], _pair()[0] - 0.5):
        for measured in (measure.psnr, measure.ssim):
            with pytest.raises(SettingError, match=r"in \[0, 1\]; got values from"):
                measured(_pair()[0], wrong)
    with pytest.raises(SettingError, match="Rescale"):
        measure.psnr(255 * _pair()[1], _pair()[0])
    for data_range in (0, None, "1"):
        with as_users_run_it(), pytest.raises(SettingError, match="data_range"):
            measure.psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), data_range=data_range)
    with pytest.raises(SettingError, match="squeeze"):
        measure.lpips(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64), net="resnet")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch.hub folder, and no LPIPS network remembered."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    measure._network.cache_clear()
    yield tmp_path / "hub" / "checkpoints"
    measure._network.cache_clear()


def test_a_missing_backbone_says_what_to_do(hub):
    with pytest.raises(MissingDependencyError, match=r"alexnet-owt-7be5be79\.pth") as caught:
        measure.lpips(*_pair())
    assert str(hub) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_a_broken_backbone_is_named(content, hub):
    hub.mkdir(parents=True)
    (hub / "squeezenet1_1-b8a52dc0.pth").write_bytes(content)
    with pytest.raises(
        MissingDependencyError, match=r"b8a52dc0\.pth; the file is damaged"
    ) as caught:
        measure.lpips(*_pair(), net="squeeze")
    assert "\n" not in str(caught.value)


def test_images_too_small_for_a_measure_are_refused(monkeypatch):
    monkeypatch.setattr(measure, "_network", lambda net: torch.nn.Identity())
    with pytest.raises(ShapeError, match="11×11"):
        measure.ssim(*_pair(1, 10))
    with pytest.raises(ShapeError, match="32×32"):
        measure.lpips(*_pair(1, 16))


def test_lpips_is_its_definition_on_any_backbone(hub):
    """Random weights for the backbone; features, normalisation and heads taken step by step."""
    torchvision = pytest.importorskip("torchvision")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = torchvision.models.squeezenet1_1()
    hub.mkdir(parents=True)
    torch.save(backbone.state_dict(), hub / "squeezenet1_1-b8a52dc0.pth")
    image, truth = _pair()
    distance = measure.lpips(image, truth, net="squeeze")
    heads = _heads()
    taps = (1, 4, 7, 9, 10, 11, 12)
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    features = []
    for x in (image, truth):
        h, kept = (2 * x - 1 - shift) / scale, []
        for index, layer in enumerate(backbone.eval().features):
            h = layer(h)
            if index in taps:
                kept.append(h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10))
        features.append(kept)
    expected = sum(
        ((a - b).square() * w).sum(1).mean((1, 2)) for a, b, w in zip(*features, heads, strict=True)
    )
    torch.testing.assert_close(distance, expected.detach(), rtol=1e-3, atol=1e-5)


def _heads():
    import torchmetrics

    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    heads = torch.load(folder / "squeeze.pth", map_location="cpu", weights_only=True)
    return [heads[f"lin{i}.model.1.weight"] for i in range(7)]


@pytest.mark.skipif(not SQUEEZE.exists(), reason="needs ../shared")
def test_lpips_on_the_real_backbone_orders_images_as_people_do(hub):
    """Zero for the same image; noise is worse than a slight blur of the same MSE or less."""
    hub.mkdir(parents=True)
    shutil.copyfile(SQUEEZE, hub / "squeezenet1_1-b8a52dc0.pth")
    from iagan.images import astronaut

    truth = astronaut()
    same, little, much = (
        (truth + sigma * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)))
        for sigma in (0.0, 0.05, 0.2)
    )
    distance = [float(measure.lpips(x, truth, net="squeeze")) for x in (same, little, much)]
    assert distance[0] == pytest.approx(0, abs=1e-6)
    assert distance[0] < distance[1] < distance[2]


def test_arrays_of_numpy_are_images_too(tmp_path):
    image, truth = _pair()
    for metric in (measure.psnr, measure.ssim, measure.haarpsi):
        ours = torch.as_tensor(metric(image, truth))
        assert torch.equal(torch.as_tensor(metric(image.numpy(), truth.numpy())), ours)
    iagan.save_image(truth[:1].numpy(), tmp_path / "a.png")
    y = iagan.observe(truth, iagan.operators.BicubicDownsample((3, 64, 64), 4))
    projected = iagan.back_project(image.numpy(), y)
    assert torch.equal(projected, iagan.back_project(image, y))
