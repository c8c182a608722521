"""The methods, against closed forms; and that neither batch nor order of work changes a result."""

import copy
import math

import numpy as np
import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan.errors import SettingError, ShapeError
from iagan.methods import dip
from iagan.methods.networks import AdaptedNetworks
from iagan.methods.task import Task
from iagan.operators import (
    BicubicDownsample,
    Gaussian,
    Identity,
    Inpaint,
    SubsampledFourier,
    UniformBlur,
)
from iagan.priors import Began, Generator, UniformLatent
from iagan.priors.networks.tapered import Tapered
from toys import SHAPE, images, linear_generator, nonlinear_generator, observe, prior_called, run

QUICK = {"csgm_steps": 12, "steps": 6}
OPERATORS = [
    BicubicDownsample(SHAPE, scale=4),
    SubsampledFourier.random(SHAPE, 0.3, seed=0),
    Gaussian.from_ratio(SHAPE, 0.2, seed=0),
    Inpaint.random(SHAPE, 0.5, seed=0),
    UniformBlur(SHAPE, size=5),
    Identity(SHAPE),
]
ids = [type(operator).__name__ for operator in OPERATORS]


def test_csgm_reaches_the_least_squares_latent_of_a_linear_generator():
    """Independent: the normal equations of y = A B z, solved by lstsq."""
    generator, basis = linear_generator()
    operator = Gaussian.from_ratio(SHAPE, 0.05, seed=1)
    observation = iagan.observe(images(2), operator)
    result = iagan.reconstruct(observation, generator, iagan.CSGM(steps=1500, restarts=2))
    dense = operator(basis.T.reshape(4, *SHAPE)).T
    z = torch.linalg.lstsq(dense, observation.y.double().T).solution.T
    torch.testing.assert_close(result.latent.double(), z, rtol=0, atol=2e-3)


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_back_projection_fits_y_and_changes_only_what_was_measured(operator):
    """Eq. 9: A x_bp = y, and the step lies in the row space (orthogonal to the null space)."""
    observation = observe(2, operator)
    guess = images(2, seed=9)
    moved = iagan.back_project(guess, observation)
    gap = (operator(moved) - observation.y).abs().max()
    assert gap < 1e-5, "y is kept in single precision"
    step = moved - guess
    torch.testing.assert_close(operator.pinv(operator(step)), step, rtol=0, atol=1e-5)


def test_back_projection_twice_removes_what_an_iterated_pinv_leaves():
    """A camera's A† is computed to a relative tolerance of 1e-12; y is then fitted to rounding."""
    operator = BicubicDownsample(SHAPE, scale=2) @ UniformBlur(SHAPE, size=5)
    rng = torch.Generator().manual_seed(0)
    truth, guess = torch.rand(2, 1, *SHAPE, generator=rng, dtype=torch.float64)
    observation = iagan.observe(truth, operator)
    once = guess + operator.pinv(observation.y - operator(guess))
    assert (operator(once) - observation.y).abs().max() > 1e-13, "the test's A† must be inexact"
    moved = iagan.back_project(guess, observation)
    assert (operator(moved) - observation.y).abs().max() < 1e-14


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_every_method_runs_on_every_operator_and_reports_its_residual(operator):
    observation = observe(2, operator)
    generator = nonlinear_generator()
    names = [name for name in iagan.presets.NAMES if name != "dip"]
    methods = [
        iagan.presets.adjust(iagan.presets.fast(name, observation, generator), **QUICK)
        for name in names
    ]
    results = list(iagan.reconstruct_all(observation, generator, methods))
    assert [result.method.name for result in results] == names
    for result in results:
        assert result.image.shape == (2, *SHAPE)
        residual = operator(result.image.double()) - observation.y.to(
            torch.complex128 if observation.y.is_complex() else torch.float64
        )
        expected = torch.stack([torch.linalg.vector_norm(row) for row in residual])
        torch.testing.assert_close(result.residual.double(), expected, rtol=1e-5, atol=1e-6)
        if isinstance(result.method, iagan.BackProjected):
            assert result.relative_residual.max() < 1e-5


@pytest.mark.parametrize("method", ["csgm", "csgm-bp", "iagan", "iagan-bp"])
def test_a_result_does_not_depend_on_the_batch(method):
    """Three at once, in batches of two, and each alone."""
    generator = nonlinear_generator()
    observation = observe(3, noise_std=0.02)
    options = {**QUICK, "restarts": 2}
    together = run(observation, generator, method, **options)
    two = iagan.Execution(batch_size=2)
    split = run(observation, generator, method, execution=two, **options)
    alone = [run(observation[i : i + 1], generator, method, **options) for i in range(3)]
    torch.testing.assert_close(split.image, together.image, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        torch.cat([result.image for result in alone]), together.image, rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        torch.cat([result.trace for result in alone]), together.trace, rtol=1e-9, atol=1e-9
    )


def test_dip_learns_and_does_not_depend_on_the_batch():
    """At rate 0 the same perturbed inputs give next to nothing."""
    operator = Identity((3, 32, 32))
    truth = torch.nn.functional.interpolate(images(2), size=(32, 32), mode="bilinear").float()
    observation = iagan.observe(truth, operator)
    few, many, never = (
        iagan.reconstruct(observation, method=method)
        for method in (iagan.DIP(1), iagan.DIP(12), iagan.DIP(12, rate=0.0))
    )
    assert (many.residual < 0.7 * never.residual).all()
    alone = [iagan.reconstruct(observation[i : i + 1], method=iagan.DIP(1)) for i in range(2)]
    torch.testing.assert_close(
        torch.cat([result.image for result in alone]), few.image, rtol=0, atol=1e-4
    )


def test_dips_network_and_input_are_the_authors():
    """Five scales, fewer of a small image; 32 channels of input, uniform in [0, 0.1]."""
    for side, scales in ((64, 5), (16, 3)):
        y = iagan.Observation(torch.zeros(1, 3, side, side), Identity((3, side, side)))
        task = Task(y, None, (0,))
        assert len(dip._network(task, 0).module.down) == scales
        u = dip._uniform_input(task, 0)
        assert u.shape == (1, 32, side, side)
        assert 0 <= u.min() < 1e-4 and 0.0999 < u.max() <= 0.1
        assert float(u.mean()) == pytest.approx(0.05, rel=0.02)


def test_stacked_weights_give_the_same_as_a_module_an_image():
    """What a GPU runs against what a CPU runs, values and gradients."""
    generator = nonlinear_generator()
    z = torch.rand(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stacked = AdaptedNetworks([generator] * 3, iagan.Execution())
    alone = [AdaptedNetworks([generator], iagan.Execution()) for _ in range(3)]
    for i, one in enumerate(alone):
        for name, weight in one.leaves.items():
            weight.data += 0.1 * i
            stacked.leaves[name].data[i] = weight.data
    leaves = {name: weight.requires_grad_() for name, weight in stacked.leaves.items()}
    together = stacked(leaves, z)
    each = [one(one.leaves, z[i : i + 1]) for i, one in enumerate(alone)]
    torch.testing.assert_close(together, torch.cat(each))
    by_vmap = torch.autograd.grad(together.square().sum(), list(leaves.values()))
    for i, (one, x) in enumerate(zip(alone, each, strict=True)):
        own = torch.autograd.grad(x.square().sum(), list(one.leaves.values()))
        for whole, mine in zip(by_vmap, own, strict=True):
            torch.testing.assert_close(whole[i], mine)


def test_image_adaptation_fits_better_than_the_range_of_the_generator():
    observation = observe(2)
    start = iagan.CSGM(steps=150)
    methods = [start, iagan.IAGAN(start, steps=60)]
    csgm, iagan_ = iagan.reconstruct_all(observation, nonlinear_generator(), methods)
    assert (iagan_.residual < csgm.residual).all()
    assert iagan_.trace.shape == (2, 151 + 61)
    torch.testing.assert_close(iagan_.trace[:, :151], csgm.trace)


def test_methods_that_share_csgm_run_it_once():
    done = []
    csgm = iagan.CSGM(steps=12)
    adapted = iagan.IAGAN(csgm, steps=6)
    results = iagan.reconstruct_all(
        observe(),
        nonlinear_generator(),
        [csgm, iagan.BackProjected(csgm), adapted, iagan.BackProjected(adapted)],
        on_event=lambda event: done.append(event.phase),
    )
    seconds = [result.seconds for result in results]
    assert done.count("csgm") == 13
    assert done.count("iagan") == 7
    assert seconds == sorted(seconds), "each counts what it starts from"


def test_more_restarts_only_add_starts():
    observation = observe(2)
    one, four = (
        run(observation, nonlinear_generator(), "csgm", csgm_steps=12, restarts=k) for k in (1, 4)
    )
    # the kept start is the one of smallest objective, which the law of z has its say in
    assert (four.trace.amin(1) <= one.trace.amin(1) + 1e-12).all()
    seeded = run(observation, nonlinear_generator(), "csgm", csgm_steps=12, seed=[0, 5])
    torch.testing.assert_close(seeded.image[0], one.image[0], rtol=0, atol=1e-9)
    assert not torch.allclose(seeded.image[1], one.image[1])


def test_the_callers_generator_is_not_changed():
    generator = nonlinear_generator()
    before = {name: value.clone() for name, value in generator.parameters().items()}
    run(observe(), generator, "iagan", **QUICK)
    for name, value in generator.parameters().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_nan_while_optimizing_is_survived_and_said(caplog):
    """A generator that gives NaN outside |z| < 1: z walks there at the paper's rate."""
    generator = nonlinear_generator()
    forward = generator.module.forward

    def brittle(z):
        return forward(z) + torch.where(z.abs().amax(1) > 1.05, torch.nan, 0.0)[:, None, None, None]

    generator.module.forward = brittle
    result = run(observe(), generator, "csgm", csgm_steps=80)
    assert torch.isnan(result.trace).any(), "the test's generator must break"
    assert torch.isfinite(result.image).all()
    assert "earlier iterate" in result.messages[0]
    assert "earlier iterate" in caplog.text


def test_the_default_method_follows_the_noise():
    clean = run(observe(), nonlinear_generator(), **QUICK)
    noisy = run(observe(noise_std=0.1), nonlinear_generator(), **QUICK)
    assert (clean.method.name, noisy.method.name) == ("iagan-bp", "iagan")
    assert noisy.noise_floor.tolist() == pytest.approx([0.1 * math.sqrt(3 * 4 * 4)])


def test_back_projection_under_noise_is_done_and_warned_of():
    """The warning's number is the root mean square of A†e, here by the dense pseudo-inverse."""
    operator = UniformBlur(SHAPE, size=5)
    observation = observe(operator=operator, noise_std=10 / 255)
    result = run(observation, nonlinear_generator(), "csgm-bp", **QUICK)
    assert result.relative_residual.max() < 1e-5
    basis = torch.eye(operator.n, dtype=torch.float64).reshape(-1, *SHAPE)
    dagger = torch.linalg.pinv(operator(basis).flatten(1).T, rtol=1e-10)
    expected = 10 / 255 * math.sqrt(float(dagger.square().sum()) / operator.n)
    assert f"{expected:.3g}" in result.messages[0]


@pytest.mark.parametrize(
    ("operator", "noise", "architecture", "expected"),
    [
        (OPERATORS[0], 0, "began", (1600, 500, 1e-4, 1e-4)),
        (OPERATORS[0], 10, "began", (1600, 250, 1e-4, 1e-4)),
        (OPERATORS[1], 10, "began", (1600, 300, 1e-4, 1e-4)),
        (OPERATORS[2], 0, "began", (1600, 600, 1e-4, 1e-4)),
        (OPERATORS[4], 10, "began", (1600, 250, 1e-4, 1e-4)),
        (OPERATORS[0], 0, "pggan", (1800, 300, 1e-4, 1e-3)),
        (OPERATORS[1], 10, "pggan", (1800, 250, 1e-4, 1e-3)),
    ],
)
def test_presets_are_the_papers(operator, noise, architecture, expected):
    """arXiv 1906.05284, Experiments: iterations and rates; half of them with noise."""
    y = iagan.Observation(operator(torch.zeros(1, *SHAPE)), operator, noise / 255)
    method = iagan.presets.paper("iagan", y, prior_called(architecture))
    csgm = method.start
    assert (csgm.steps, method.steps, method.latent_rate, method.weight_rate) == expected
    assert csgm == iagan.CSGM(steps=csgm.steps, rate=0.1, optimizer="adam", restarts=1)


def test_dip_takes_a_quarter_of_its_iterations_under_noise():
    clean = iagan.presets.paper("dip", observe())
    noisy = iagan.presets.paper("dip", observe(noise_std=0.1))
    assert noisy.steps * 4 == clean.steps == 2000
    assert (clean.rate, clean.input_noise) == (0.01, 0.03)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "magic"}, SettingError, "csgm-bp"),
        ({"prior": None}, SettingError, "needs a prior"),
        ({"seed": [1, 2]}, SettingError, "one per image"),
        ({"seed": -1}, SettingError, "seeds"),
        ({"effort": "slow"}, SettingError, "fast, paper"),
        ({"prior": "wrong size"}, ShapeError, "Build the operator"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, error, words):
    prior = options.pop("prior", nonlinear_generator())
    observation = observe()
    if prior == "wrong size":
        prior = nonlinear_generator()
        observation = iagan.observe(images(1)[..., :8, :8], BicubicDownsample((3, 8, 8), scale=2))
    with pytest.raises(error, match=words) as caught:
        iagan.reconstruct(observation, prior, **{"method": "csgm", **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_a_bounded_latent_stays_inside_its_law_and_a_free_one_does_not(law):
    """Adam's rate of 0.1 carries some entry of z beyond both bounds within 60 steps."""
    generator = iagan.Generator(nonlinear_generator().module, iagan.priors.parse_latent(f"{law}:6"))
    observation = observe(2)
    size = math.prod(generator.latent.shape)

    def reach(bounded):
        z = iagan.reconstruct(observation, generator, iagan.CSGM(60, bounded=bounded)).latent
        return float(z.abs().max()) if law == "uniform" else float(z.norm(dim=1).max())

    bound = 1 if law == "uniform" else math.sqrt(size)
    assert reach(False) > bound
    assert reach(True) <= bound + 1e-5


def test_the_nearest_latent_is_the_projection():
    """By the definition: inside it changes nothing; outside, no sampled point is nearer."""
    for law in ("uniform", "normal"):
        latent = iagan.priors.parse_latent(f"{law}:6")
        rng = torch.Generator().manual_seed(5)
        z = latent.project(4 * torch.randn(3, 6, generator=rng))
        torch.testing.assert_close(latent.project(z), z)
        far = 4 * torch.randn(1, 6, generator=rng)
        inside = latent.project(torch.randn(4000, 6, generator=rng))
        gap = (far - inside).norm(dim=1).min()
        assert (far - latent.project(far)).norm() <= gap + 1e-6


@pytest.mark.parametrize("network", ["began", "tapered"])
def test_iagan_is_bit_for_bit_a_plain_loop_of_torchs_adam(network):
    """Independent: eleven lines. Convolutions here mix the layouts of weights and gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Began(16, 32, 8) if network == "began" else Tapered((16, 8, 8, 4), 8)
    generator = Generator(module, UniformLatent((8,)))
    operator = BicubicDownsample((3, 32, 32), scale=2)
    rng = torch.Generator().manual_seed(0)
    y = operator(torch.rand(1, 3, 32, 32, generator=rng))
    method = iagan.IAGAN(iagan.CSGM(steps=0), steps=20)
    result = iagan.reconstruct(iagan.Observation(y, operator), generator, method)
    z = UniformLatent((8,)).sample(1, torch.Generator().manual_seed(0)).requires_grad_()
    copied = copy.deepcopy(generator.module).requires_grad_()
    adam = torch.optim.Adam([z, *copied.parameters()], lr=1e-4, fused=True)
    trace, images = [], []
    for _ in range(21):
        x = (copied(z) + 1) / 2
        objective = (operator(x) - y).square().sum()
        trace.append(objective.item())
        images.append(x.detach())
        adam.zero_grad()
        objective.backward()
        adam.step()
    assert result.trace[0, 1:].tolist() == trace
    assert torch.equal(result.image, images[min(range(21), key=trace.__getitem__)])


def test_nothing_that_a_caller_can_write_to_is_shared():
    """y with its result and with the image it was made of; methods with one another; weights."""
    prior = nonlinear_generator()
    x = images(1)
    y = iagan.observe(x, iagan.operators.Identity(SHAPE))
    before = y.y.clone()
    x.zero_()
    assert torch.equal(y.y, before)
    iagan.reconstruct(y, None, "naive").image.zero_()
    assert torch.equal(y.y, before)
    methods = [iagan.CSGM(steps=3), iagan.IAGAN(iagan.CSGM(steps=3), steps=2)]
    expected = [result.image for result in iagan.reconstruct_all(y, prior, methods)]
    for result, image in zip(iagan.reconstruct_all(y, prior, methods), expected, strict=True):
        assert torch.equal(result.image, image)
        result.image.zero_()
        result.latent.zero_()
    weights = prior.parameters()
    z = prior.latent.sample(1, torch.Generator().manual_seed(0)).double()
    image = prior(z)
    for weight in weights.values():
        weight.zero_()
    assert torch.equal(prior(z), image)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"seed": "12"}, "seed as an integer"),
        ({"seed": None}, "seed as an integer"),
        ({"seed": [1.7]}, "seed as an integer"),
        ({"seed": 2**64}, "2\\^63"),
        ({"execution": {"threads": 2}}, "an iagan.Execution; got dict"),
        ({"on_event": 3}, "a function of an Event; got int"),
        ({"prior": torch.nn.Linear(2, 2)}, "a name or a path; got Linear"),
        ({"observation": torch.zeros(1)}, "an iagan.Observation; got Tensor"),
    ],
)
def test_arguments_of_another_type_are_refused(wrong, word):
    given = {"observation": observe(), "prior": nonlinear_generator(), "method": "naive"} | wrong
    with as_users_run_it(), pytest.raises(SettingError, match=word):
        iagan.reconstruct(**given)


def test_seeds_of_numpy_are_integers_too():
    given = (observe(2), nonlinear_generator(), iagan.CSGM(steps=2))
    plain = iagan.reconstruct(*given, seed=[3, 4])
    with as_users_run_it():
        assert torch.equal(iagan.reconstruct(*given, seed=np.array([3, 4])).image, plain.image)
        assert iagan.reconstruct(*given, seed=np.int64(3)).seeds == (3, 3)
