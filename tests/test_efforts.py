"""The fast effort against the paper's, and what a GPU does against what a CPU does."""

import dataclasses as dc
import math

import pytest
import torch

import iagan
from helpers import dense
from iagan import measure
from iagan.cli.options import in_precision
from iagan.operators import BicubicDownsample, Gaussian, Identity, UniformBlur
from iagan.reconstruction import adapt, optimize
from iagan.reconstruction.csgm import heats, row_steps
from iagan.reconstruction.presets import NOISE_SHARE, fast_settings, paper_settings
from toys import SHAPE, images, linear_generator, nonlinear_generator, observe, prior_called

X4 = BicubicDownsample(SHAPE, scale=4)


def test_iagan_stops_where_the_noise_begins_and_the_paper_does_not():
    """Morozov: ‖y - A x‖ ≤ τ σ √m at the end, and not before. σ is chosen to lie on the way."""
    generator = nonlinear_generator()
    clean = observe(1, Identity(SHAPE))
    options = {"csgm_steps": 0, "steps": 120}
    free = iagan.reconstruct(clean, generator, "iagan", **options)
    goal = float(free.trace[:, 60].max())
    sigma = math.sqrt(goal * (1 + 1e-9) / clean.y[0].numel()) / NOISE_SHARE
    observation = dc.replace(clean, noise_std=sigma)
    fast = iagan.reconstruct(observation, generator, "iagan", **options)
    end = int(fast.iterations)
    assert 50 < end <= 60
    at_end = (NOISE_SHARE * observation.noise_floor) ** 2
    assert fast.trace[0, end + 1] <= at_end < fast.trace[0, end]
    fitted = iagan.reconstruct(observation, generator, "iagan", effort="paper", **options)
    assert (fitted.iterations == 120).all()
    assert fitted.residual < fast.residual


def test_batches_that_end_at_different_times_are_one_result():
    """One image is at its noise floor at once, the other never: a batch each, and together."""
    generator = nonlinear_generator()
    clean = observe(2)
    reached = iagan.reconstruct(clean, generator, "iagan", csgm_steps=20, steps=30)
    floor = float(reached.residual.mean())
    y = clean.y.clone()
    y[1] += 10 * floor * torch.randn(y[1].shape, generator=torch.Generator().manual_seed(1))
    noisy = dc.replace(clean, y=y, noise_std=2 * floor / math.sqrt(y[0].numel()))
    together, apart = (
        iagan.reconstruct(noisy, generator, "iagan", csgm_steps=20, steps=30, batch_size=size)
        for size in (2, 1)
    )
    assert together.iterations[0] < together.iterations[1]
    assert together.trace.shape == apart.trace.shape
    torch.testing.assert_close(together.trace, apart.trace, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["iagan", "dip"])
@pytest.mark.parametrize("effort", ["fast", "paper"])
def test_what_a_gpu_does_with_whole_batches_gives_the_same(method, effort, monkeypatch):
    generator, observation = nonlinear_generator(), observe(3)

    def run():
        steps = {"csgm_steps": 30, "steps": 20, "effort": effort}
        return iagan.reconstruct(observation, generator, method, restarts=2, **steps)

    by_rows = run()
    monkeypatch.setattr(optimize, "by_rows", lambda device: False)
    batched, calls = adapt.all_together, []
    monkeypatch.setattr(adapt, "all_together", lambda *a: (calls.append(1), batched(*a))[1])
    together = run()
    assert len(calls) == 21
    torch.testing.assert_close(together.trace, by_rows.trace, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(together.image, by_rows.image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("by_rows", [True, False])
def test_a_prior_in_bfloat16_recovers_nearly_as_much(by_rows, monkeypatch):
    """z, θ and the residual in float32: the steps add up though each is below bfloat16's."""
    monkeypatch.setattr(optimize, "by_rows", lambda device: by_rows)
    generator, truth = nonlinear_generator(torch.float32), images(2).float()
    observation = iagan.observe(truth, X4)
    exact, quick = (
        iagan.reconstruct(observation, prior, "iagan", csgm_steps=60, steps=200, effort="paper")
        for prior in (generator, generator.in_bfloat16())
    )
    assert quick.image.dtype == quick.latent.dtype == torch.float32
    assert not torch.equal(quick.image, exact.image)
    fitted = float(exact.trace[:, 61].mean() - exact.residual.square().mean())
    assert float(quick.trace[:, 61].mean() - quick.residual.square().mean()) > 0.95 * fitted
    torch.testing.assert_close(
        measure.psnr(quick.image, truth), measure.psnr(exact.image, truth), rtol=0, atol=0.1
    )


def test_a_normal_law_holds_z_back_in_the_fast_effort_alone():
    """Where CSGM ends, the slope of the negative log posterior, written down here, vanishes."""
    generator, _ = linear_generator()
    operator = Gaussian.from_ratio(SHAPE, 0.05, seed=1)
    observation = iagan.observe(images(1), operator)
    free, held = (
        iagan.reconstruct(observation, generator, "csgm", effort=effort, csgm_steps=steps)
        for effort, steps in (("paper", 3000), ("fast", 100))
    )
    assert held.settings.latent_pull == 1 / operator.m
    assert free.settings.latent_pull == 0
    assert held.latent.norm() < free.latent.norm()

    def posterior(z):
        misfit = (operator(generator(z)) - observation.y).square().sum()
        return operator.m / 2 * misfit.log() + z.square().sum() / 2

    z = held.latent.double().requires_grad_()
    (slope,) = torch.autograd.grad(posterior(z), z)
    assert slope.abs().max() < 1e-2

    pull = lambda prior: fast_settings("csgm", operator, 0.0, prior).latent_pull  # noqa: E731
    assert 0 < pull(prior_called("began")) < 1 / operator.m
    assert pull(prior_called("pggan")) == 0


def test_raced_starts_end_where_the_best_of_them_would():
    """Heats 4, 2, 1 of 15, 15 and 30 iterations: one trace, no worse than what was given up."""
    observation, generator = observe(3), nonlinear_generator()
    raced = iagan.reconstruct(observation, generator, "csgm", csgm_steps=60, restarts=4)
    alone = iagan.reconstruct(observation, generator, "csgm", csgm_steps=60)
    assert [(h.starts, h.steps) for h in heats(raced.settings)] == [(4, 15), (2, 15), (1, 30)]
    assert row_steps(raced.settings) == 120
    for begin, end in ((0, 16), (16, 32)):
        best = raced.trace[:, begin:end].min(1).values
        torch.testing.assert_close(
            raced.trace[:, end], best, msg="a heat begins at the last's best"
        )
    assert (raced.residual <= alone.residual * 1.01).all()
    split = iagan.reconstruct(
        observation, generator, "csgm", csgm_steps=60, restarts=4, batch_size=1
    )
    torch.testing.assert_close(split.image, raced.image, rtol=0, atol=1e-7)


def test_the_fast_effort_never_takes_more_iterations_than_the_papers():
    for noise in (0, 10 / 255):
        task = (X4, noise, prior_called("began"))
        fast, paper = fast_settings("iagan", *task), paper_settings("iagan", *task)
        assert fast.csgm_steps < paper.csgm_steps
        assert fast.steps <= paper.steps
        assert fast_settings("dip", *task) == paper_settings("dip", *task)


def test_without_noise_the_fast_effort_minimises_the_back_projected_residual():
    """CSGM of a linear generator: the closed form, with the dense A†."""
    generator, basis = linear_generator()
    observation = observe(2)
    found = iagan.reconstruct(observation, generator, "csgm", csgm_steps=100)
    assert found.settings.fidelity == "back-projection"
    system = dense(X4)
    seen = torch.linalg.pinv(system) @ system @ basis
    target = torch.linalg.pinv(system) @ observation.y.flatten(1).T
    z = found.latent.double()

    def posterior(z):
        misfit = (seen @ z.T - target).square().sum(0)
        return (misfit.log() * min(X4.m, 400) / 2 + z.square().sum(1) / 2).sum()

    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(posterior(leaf), leaf)
    assert slope.abs().max() < 1e-2
    bare = iagan.reconstruct(observation, generator, "csgm", csgm_steps=0)
    misfit = (seen @ bare.latent.double().T - target).square().sum(0)
    pull = (bare.latent.double().square().sum(1) * bare.settings.latent_pull).exp()
    torch.testing.assert_close(bare.trace[:, 0], misfit * pull)


@pytest.mark.parametrize(
    ("operator", "noise", "fidelity", "steps"),
    [
        (X4, 0.0, "back-projection", 166),
        (X4, 0.01, "least-squares", 250),
        (UniformBlur(SHAPE, size=5), 0.0, "least-squares", 250),
        (Gaussian.from_ratio(SHAPE, 0.05, seed=1), 0.0, "least-squares", 300),
    ],
    ids=["x4", "noise", "ill-conditioned", "A† takes long"],
)
def test_what_the_fast_effort_minimises(operator, noise, fidelity, steps):
    """A† of a blur would amplify what y is rounded by."""
    settings = fast_settings("iagan", operator, noise, prior_called("began"))
    assert (settings.fidelity, settings.steps) == (fidelity, steps)
    assert paper_settings("iagan", operator, noise, None).fidelity == "least-squares"


def test_in_mixed_precision_csgm_is_that_of_bfloat16_and_iagan_starts_exactly():
    """Both from the command line's words; IAGAN's first objective is of the float32 network."""
    observation = observe(2)
    options = {"csgm_steps": 5, "steps": 0, "effort": "paper"}
    found = {}
    for precision in ("float32", "mixed", "bfloat16"):
        generator = in_precision(nonlinear_generator(torch.float32), precision)
        found[precision] = iagan.reconstruct(observation, generator, "iagan", **options)
    mixed, rough = found["mixed"], found["bfloat16"]
    assert torch.equal(mixed.latent, rough.latent)
    assert torch.equal(mixed.trace[:, :6], rough.trace[:, :6])
    exact = nonlinear_generator(torch.float32)(mixed.latent)
    torch.testing.assert_close(mixed.image, exact)
    assert not torch.allclose(rough.image, exact)
    assert not torch.equal(found["float32"].latent, mixed.latent)


def test_a_line_search_gets_exact_objectives_from_a_prior_in_bfloat16():
    """L-BFGS took the rounding of objectives for the end of its way: 0.3 dB were lost."""
    generator, observation = nonlinear_generator(torch.float32), observe(2)
    exact, quick = (
        iagan.reconstruct(observation, prior, "csgm", csgm_steps=30)
        for prior in (generator, generator.in_bfloat16())
    )
    torch.testing.assert_close(quick.trace, exact.trace)
