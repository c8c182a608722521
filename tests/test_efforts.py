"""The fast effort against the paper's, and what a GPU does against what a CPU does."""

import dataclasses as dc
import math

import pytest
import torch

import iagan
from helpers import dense
from iagan import measure
from iagan.methods import phase
from iagan.methods.presets import NOISE_SHARE, fast, paper
from iagan.operators import BicubicDownsample, Gaussian, Identity, UniformBlur
from toys import SHAPE, images, linear_generator, nonlinear_generator, observe, prior_called, run

X4 = BicubicDownsample(SHAPE, scale=4)


def test_iagan_stops_where_the_noise_begins_and_the_paper_does_not():
    """Morozov: ‖y - A x‖ ≤ τ σ √m at the end, and not before. σ is chosen to lie on the way."""
    generator = nonlinear_generator()
    clean = observe(1, Identity(SHAPE))
    options = {"csgm_steps": 0, "steps": 120}
    free = run(clean, generator, "iagan", **options)
    goal = float(free.trace[:, 60].max())
    sigma = math.sqrt(goal * (1 + 1e-9) / clean.y[0].numel()) / NOISE_SHARE
    observation = dc.replace(clean, noise_std=sigma)
    quick = run(observation, generator, "iagan", **options)
    end = int(quick.iterations)
    assert 50 < end <= 60
    at_end = float(NOISE_SHARE * observation.noise_floor) ** 2
    assert quick.trace[0, end + 1] <= at_end < quick.trace[0, end]
    fitted = run(observation, generator, "iagan", effort="paper", **options)
    assert (fitted.iterations == 120).all()
    assert fitted.residual < quick.residual


def test_batches_that_end_at_different_times_are_one_result():
    """One image is at its noise floor at once, the other never: a batch each, and together."""
    generator = nonlinear_generator()
    clean = observe(2)
    reached = run(clean, generator, "iagan", csgm_steps=20, steps=30)
    floor = float(reached.residual.mean())
    y = clean.y.clone()
    noise = torch.randn(y[1].shape, generator=torch.Generator().manual_seed(1))
    y[1] += 10 * floor * noise / noise.norm()
    noisy = dc.replace(clean, y=y, noise_std=2 * floor / math.sqrt(y[0].numel()))
    steps = {"csgm_steps": 20, "steps": 30}
    together, apart = (
        run(noisy, generator, "iagan", execution=iagan.Execution(batch_size=size), **steps)
        for size in (2, 1)
    )
    assert together.iterations[0] < together.iterations[1]
    assert together.trace.shape == apart.trace.shape
    torch.testing.assert_close(together.trace, apart.trace, rtol=1e-6, atol=1e-9)


def _as_on_a_gpu(monkeypatch):
    """Let a batch of problems share one stacked call."""
    init = phase.Phase.__init__

    def together(self, *given):
        init(self, *given)
        self.workers, self.size = 1, self.count

    monkeypatch.setattr(phase.Phase, "__init__", together)


@pytest.mark.parametrize("method", ["csgm", "iagan", "dip"])
@pytest.mark.parametrize("effort", ["fast", "paper"])
def test_what_a_gpu_does_with_whole_batches_gives_the_same(method, effort, monkeypatch):
    observation = observe(3, noise_std=0.02)
    options = {"csgm_steps": 30, "steps": 20, "effort": effort, "restarts": 2}
    alone = run(observation, nonlinear_generator(), method, **options)
    _as_on_a_gpu(monkeypatch)
    together = run(observation, nonlinear_generator(), method, **options)
    torch.testing.assert_close(together.trace, alone.trace, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(together.image, alone.image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_prior_in_bfloat16_recovers_nearly_as_much(stacked, monkeypatch):
    """z, θ and the residual in float32: the steps add up though each is below bfloat16's."""
    if stacked:
        _as_on_a_gpu(monkeypatch)
    generator, truth = nonlinear_generator(torch.float32), images(2).float()
    observation = iagan.observe(truth, X4)
    method = iagan.IAGAN(iagan.CSGM(steps=60), steps=200)
    exact, quick = (
        iagan.reconstruct(observation, generator, method, execution=iagan.Execution(precision=each))
        for each in ("float32", "bfloat16")
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
        run(observation, generator, "csgm", effort=effort, csgm_steps=steps)
        for effort, steps in (("paper", 3000), ("fast", 100))
    )
    assert held.method.latent_prior_weight == 1 / operator.m
    assert free.method.latent_prior_weight == 0
    assert held.latent.norm() < free.latent.norm()

    def posterior(z):
        misfit = (operator(generator(z)) - observation.y).square().sum()
        return operator.m / 2 * misfit.log() + z.square().sum() / 2

    z = held.latent.double().requires_grad_()
    (slope,) = torch.autograd.grad(posterior(z), z)
    assert slope.abs().max() < 1e-2

    def weight(law):
        prior = iagan.Generator(generator.module, f"{law}:4")
        return fast("csgm", observation, prior).latent_prior_weight

    assert weight("uniform") == 1e-4
    assert weight("spherical") == 0


def test_halved_starts_end_where_the_best_of_them_would():
    """Rounds of 4, 2, 1 starts, 15, 15 and 30 iterations: one trace, no worse than what was given
    up.
    """
    observation, generator = observe(3), nonlinear_generator()
    halved = run(observation, generator, "csgm", csgm_steps=60, restarts=4)
    alone = run(observation, generator, "csgm", csgm_steps=60)
    rounds = [(each.starts, each.steps) for each in halved.method.rounds()]
    assert rounds == [(4, 15), (2, 15), (1, 30)]
    odd = iagan.CSGM(steps=60, restarts=5, halving_steps=15).rounds()
    assert [each.starts for each in odd] == [5, 3, 2, 1]
    assert halved.method.iterations() == {"csgm": 120}
    for begin, end in ((0, 16), (16, 32)):
        best = halved.trace[:, begin:end].min(1).values
        torch.testing.assert_close(
            halved.trace[:, end], best, msg="a round begins at the last one's best"
        )
    assert (halved.residual <= alone.residual * 1.01).all()
    one = iagan.Execution(batch_size=1)
    split = run(observation, generator, "csgm", execution=one, csgm_steps=60, restarts=4)
    torch.testing.assert_close(split.image, halved.image, rtol=0, atol=1e-7)


def test_the_fast_effort_never_takes_more_iterations_than_the_papers():
    for noise in (0, 10 / 255):
        task = (observe(1, X4, noise), prior_called("began"))
        quick, full = fast("iagan", *task), paper("iagan", *task)
        assert quick.start.steps < full.start.steps
        assert quick.steps <= full.steps
        assert fast("dip", *task) == paper("dip", *task)


def test_without_noise_the_fast_effort_minimises_the_back_projected_residual():
    """CSGM of a linear generator: the closed form, with the dense A†."""
    generator, basis = linear_generator()
    observation = observe(2)
    fitted = run(observation, generator, "csgm", csgm_steps=100)
    assert fitted.method.fidelity == "back-projection"
    system = dense(X4)
    seen = torch.linalg.pinv(system) @ system @ basis
    target = torch.linalg.pinv(system) @ observation.y.flatten(1).T
    z = fitted.latent.double()

    def posterior(z):
        misfit = (seen @ z.T - target).square().sum(0)
        return (misfit.log() * min(X4.m, 400) / 2 + z.square().sum(1) / 2).sum()

    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(posterior(leaf), leaf)
    assert slope.abs().max() < 1e-2
    bare = run(observation, generator, "csgm", csgm_steps=0)
    misfit = (seen @ bare.latent.double().T - target).square().sum(0)
    pull = (bare.latent.double().square().sum(1) * bare.method.latent_prior_weight).exp()
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
    observation = observe(1, operator, noise)
    method = fast("iagan", observation, prior_called("began"))
    assert (method.fidelity, method.start.fidelity, method.steps) == (fidelity, fidelity, steps)
    assert paper("iagan", observation, None).fidelity == "least-squares"


def test_in_mixed_precision_csgm_is_that_of_bfloat16_and_iagan_starts_exactly():
    """IAGAN's first objective is of the float32 network."""
    observation = observe(2)
    options = {"csgm_steps": 5, "steps": 0, "effort": "paper"}
    results = {}
    for precision in ("float32", "mixed", "bfloat16"):
        execution, generator = (
            iagan.Execution(precision=precision),
            nonlinear_generator(torch.float32),
        )
        results[precision] = run(observation, generator, "iagan", execution=execution, **options)
    mixed, rough = results["mixed"], results["bfloat16"]
    assert torch.equal(mixed.latent, rough.latent)
    assert torch.equal(mixed.trace[:, :6], rough.trace[:, :6])
    exact = nonlinear_generator(torch.float32)(mixed.latent)
    torch.testing.assert_close(mixed.image, exact)
    assert not torch.allclose(rough.image, exact)
    assert not torch.equal(results["float32"].latent, mixed.latent)


def test_a_line_search_gets_exact_objectives_from_a_prior_in_bfloat16():
    """L-BFGS took the rounding of objectives for the end of its way: 0.3 dB were lost."""
    generator, observation = nonlinear_generator(torch.float32), observe(2)
    exact, quick = (
        run(
            observation, generator, "csgm", execution=iagan.Execution(precision=each), csgm_steps=30
        )
        for each in ("float32", "bfloat16")
    )
    torch.testing.assert_close(quick.trace, exact.trace)
