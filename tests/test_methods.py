"""A method is a value; running one leaves nothing behind, tells what it does, and can be ended."""

import dataclasses as dc
import json
import pickle
import threading

import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan.errors import SettingError
from iagan.methods import METHODS, Estimate, Method, from_spec, presets, register
from iagan.operators import BicubicDownsample
from toys import SHAPE, images, nonlinear_generator, observe, prior_called, run

VALUES = [
    iagan.Naive(),
    iagan.PseudoInverse(),
    iagan.CSGM(steps=160, optimizer="lbfgs", restarts=3, halving_steps=15, plateau=1e-3),
    iagan.BackProjected(iagan.CSGM(bounded=True)),
    iagan.IAGAN(iagan.CSGM(first_start="encoder"), 250, weight_rate=1e-3, noise_share=0.98),
    iagan.BackProjected(iagan.IAGAN(fidelity="back-projection")),
    iagan.DIP(steps=2000, input_noise=0.03),
]
names = [method.name for method in VALUES]


@pytest.mark.parametrize("method", VALUES, ids=names)
def test_a_spec_is_json_and_gives_the_same_method(method):
    spec = json.loads(json.dumps(method.spec(), allow_nan=False))
    assert from_spec(spec) == method
    assert hash(from_spec(spec)) == hash(method)
    assert pickle.loads(pickle.dumps(method)) == method
    for field in dc.fields(method):
        value = getattr(method, field.name)
        if isinstance(value, float) and value != 0:
            assert from_spec({**spec, field.name: value / 2}) != method


@pytest.mark.parametrize("name", presets.NAMES)
@pytest.mark.parametrize("effort", presets.EFFORTS)
def test_presets_are_methods_of_their_name(name, effort):
    for observation in (observe(), observe(noise_std=0.1)):
        method = presets.EFFORTS[effort](name, observation, prior_called("began"))
        assert method.name == name
        assert from_spec(method.spec()) == method


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "one of naive, pinv|one of csgm"),
        ("csgm", "expects 'method'"),
        ({"method": "magic"}, "got .*'magic'"),
        ({"method": "csgm", "speed": 3}, "got speed"),
        ({"method": "csgm", "steps": "many"}, "steps as an integer of at least 0; got 'many'"),
        ({"method": "csgm", "rate": float("nan")}, "rate as a number"),
        ({"method": "csgm", "optimizer": "sgd"}, "one of adam, lbfgs; got 'sgd'"),
        ({"method": "iagan", "start": 7}, "start as a method"),
        ({"method": "back-projected"}, "it is missing"),
        ({"method": "dip", "steps": True}, "integer"),
        ({"method": "csgm", "bounded": 1}, "True or False"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(spec, words):
    with as_users_run_it(), pytest.raises(SettingError, match=words) as caught:
        from_spec(spec)
    assert "\n" not in str(caught.value)


def test_a_spec_that_is_nested_without_end_is_refused():
    spec = {"method": "naive"}
    for _ in range(500):
        spec = {"method": "back-projected", "inner": spec}
    with pytest.raises(SettingError, match="at most 8 nested"):
        from_spec(spec)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: iagan.CSGM(steps=-1), "CSGM expects steps"),
        (lambda: iagan.CSGM(restarts=0), "restarts"),
        (lambda: iagan.CSGM(restarts=10**9), "from 1 to 10000"),
        (lambda: iagan.CSGM(rate=10**400), "rate as a number"),
        (lambda: iagan.CSGM(rate=float("nan")), "rate as a number"),
        (lambda: iagan.IAGAN(weight_rate=-1.0), "weight_rate"),
        (lambda: iagan.IAGAN(start="csgm"), "such as CSGM"),
        (lambda: iagan.DIP(rate=float("inf")), "rate"),
        (lambda: iagan.BackProjected("iagan"), "inner"),
        (lambda: iagan.Execution(precision="half"), "precision"),
        (lambda: iagan.Execution(threads=0), "threads"),
        (lambda: iagan.Execution(batch_size=-3), "batch_size"),
        (lambda: iagan.Execution(device="tpu"), "device"),
    ],
)
def test_settings_are_checked_when_they_are_made(make, words):
    with as_users_run_it(), pytest.raises(SettingError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_iagan_needs_a_start_with_a_latent():
    with pytest.raises(SettingError, match="fits a latent"):
        iagan.reconstruct(observe(), nonlinear_generator(), iagan.IAGAN(iagan.Naive()))


def test_adjusting_reaches_what_is_nested_and_nothing_else():
    method = iagan.BackProjected(iagan.IAGAN(iagan.CSGM(steps=100), steps=40))
    adjusted = presets.adjust(method, csgm_steps=7, restarts=2, share=0.25)
    assert adjusted == iagan.BackProjected(iagan.IAGAN(iagan.CSGM(steps=7, restarts=2), steps=10))
    assert presets.adjust(method) == method
    assert presets.adjust(iagan.DIP(steps=2), share=0.001) == iagan.DIP(steps=1)


def test_a_method_of_ones_own_runs_and_comes_back_from_its_spec():
    """One class outside the package: the mean of two starts."""

    @register
    @dc.dataclass(frozen=True)
    class Averaged(Method):
        kind = "averaged"
        inner: Method
        other: Method

        def iterations(self):
            return self.inner.iterations() | self.other.iterations()

        def run(self, task):
            estimates = [task.estimate(each) for each in (self.inner, self.other)]
            return Estimate.direct(sum(each.image for each in estimates) / 2)

    try:
        method = Averaged(iagan.CSGM(steps=3), iagan.Naive())
        result = iagan.reconstruct(observe(2), nonlinear_generator(), method)
        assert from_spec(result.method.spec()) == method
        each = iagan.reconstruct_all(observe(2), nonlinear_generator(), [method.inner, "naive"])
        torch.testing.assert_close(result.image, sum(r.image for r in each) / 2)
        with pytest.raises(SettingError, match="not in use"):
            register(dc.make_dataclass("Other", [], bases=(Method,), namespace={"kind": "csgm"}))
    finally:
        METHODS.pop("averaged")


def test_events_tell_step_objective_residual_and_image():
    """The image on demand is the best so far: its residual falls; the last one is the result's."""
    events = []
    observation = observe(2)
    method = iagan.IAGAN(iagan.CSGM(steps=9), steps=5)
    result = iagan.reconstruct(
        observation,
        nonlinear_generator(),
        method,
        execution=iagan.Execution(batch_size=2, threads=1),
        on_event=lambda e: events.append((e, e.image(), e.residual())),
    )
    csgm = [each for each in events if each[0].phase == "csgm"]
    adapted = [each for each in events if each[0].phase == "iagan"]
    assert [e.step for e, _, _ in csgm] == list(range(2, 21, 2))
    assert [(e.step, e.total) for e, _, _ in adapted][-1] == (12, 12)
    assert {e.indices for e, _, _ in csgm} == {(0, 1)}
    for (_, _, before), (_, image, after) in zip(csgm, csgm[1:], strict=False):
        assert (after <= before + 1e-12).all()
        assert image.shape == (2, *SHAPE)
    _, last, residual = adapted[-1]
    torch.testing.assert_close(last, result.image[1:])
    torch.testing.assert_close(residual.double(), result.residual[1:].double())


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_of_the_callback_delivers_the_best_so_far(threads):
    def on_event(event):
        if event.phase == "iagan" and event.step >= 6:
            raise ValueError("enough")

    method = iagan.BackProjected(iagan.IAGAN(iagan.CSGM(steps=20), steps=10**6))
    observation = observe(3)
    with pytest.raises(iagan.Cancelled, match="ValueError") as caught:
        iagan.reconstruct(
            observation,
            nonlinear_generator(),
            method,
            execution=iagan.Execution(threads=threads),
            on_event=on_event,
        )
    result = caught.value.result
    assert isinstance(caught.value.__cause__, ValueError)
    assert not isinstance(caught.value, KeyboardInterrupt)
    assert result.image.shape == (3, *SHAPE)
    assert result.relative_residual.max() < 1e-5, "back-projected all the same"
    csgm = iagan.reconstruct(observation, nonlinear_generator(), iagan.CSGM(steps=20))
    assert (result.trace.amin(1) <= csgm.trace.amin(1) + 1e-12).all()


def test_ctrl_c_delivers_the_best_so_far_and_is_a_keyboard_interrupt():
    def on_event(event):
        if event.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        iagan.reconstruct(
            observe(), nonlinear_generator(), iagan.CSGM(steps=10**6), on_event=on_event
        )
    assert isinstance(caught.value, iagan.Interrupted)
    assert torch.isfinite(caught.value.result.image).all()


def test_a_prior_is_never_lent_to_another_thread():
    """Other threads use the prior, for the first time and again, while its copies are adapted."""
    prior = nonlinear_generator()
    z = torch.zeros(1, 6, dtype=torch.float64)
    expected, stop, wrong = prior(z), threading.Event(), []

    def use():
        while not stop.is_set():
            thread = threading.Thread(
                target=lambda: wrong.append(not torch.equal(prior(z), expected))
            )
            thread.start()
            thread.join()

    other = threading.Thread(target=use)
    other.start()
    run(observe(), prior, "iagan", csgm_steps=5, steps=60)
    stop.set()
    other.join()
    assert len(wrong) > 10
    assert not any(wrong)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_inside_no_grad_and_inference_mode_it_is_the_same(guard):
    method = iagan.BackProjected(iagan.IAGAN(iagan.CSGM(steps=8), steps=4))
    expected = iagan.reconstruct(observe(3), nonlinear_generator(), method)
    with guard():
        result = iagan.reconstruct(observe(3), nonlinear_generator(), method)
    assert torch.equal(result.image, expected.image)


def test_the_number_of_threads_is_passed_and_left_alone():
    before, steps = torch.get_num_threads(), {"csgm_steps": 5, "steps": 5}
    torch.set_num_threads(2)
    try:
        results = [
            run(
                observe(4),
                nonlinear_generator(),
                execution=iagan.Execution(threads=n),
                **steps,
            )
            for n in (1, 3, None)
        ]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result.image, results[0].image, rtol=0, atol=1e-9)


def test_images_of_different_noise_are_recovered_together():
    """Each ends at a floor of its own, as it would alone."""
    clean = observe(2)
    noise = torch.randn(clean.y.shape, generator=torch.Generator().manual_seed(0)).double()
    sigma = [0.05, 0.005]
    y = clean.y + torch.tensor(sigma).double().view(2, 1, 1, 1) * noise
    both = iagan.Observation(y, clean.operator, sigma)
    together = run(both, nonlinear_generator(), "iagan", csgm_steps=20, steps=60)
    alone = [
        run(both[i : i + 1], nonlinear_generator(), "iagan", csgm_steps=20, steps=60)
        for i in (0, 1)
    ]
    for i in range(2):
        torch.testing.assert_close(together.image[i], alone[i].image[0])
        assert together.iterations[i] == alone[i].iterations[0]
    assert together.noise_floor.tolist() == pytest.approx([0.05 * 48**0.5, 0.005 * 48**0.5])


def test_a_result_is_told_in_a_few_lines_and_shown_in_a_notebook():
    result = run(observe(3, noise_std=0.1), nonlinear_generator(), "csgm-bp", csgm_steps=3)
    text = repr(result)
    assert text.splitlines()[0].startswith("Reconstruction of 3 images (3, 16, 16) by csgm-bp")
    assert "noise floor 0.693" in text
    assert result.messages[0] in text
    assert len(text.splitlines()) == 3
    import io

    from PIL import Image

    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert picture.size == (48, 16)


def test_the_device_and_precision_of_the_prior_are_taken():
    observation = iagan.observe(images(1).float(), BicubicDownsample(SHAPE, 4))
    result = run(observation, nonlinear_generator(), "csgm", csgm_steps=2)
    assert result.image.dtype == result.latent.dtype == torch.float64
    assert run(observation, None, "pinv").image.dtype == torch.float32


def test_settings_that_cannot_work_are_refused_before_any_work():
    prior, y = nonlinear_generator(), observe()
    with pytest.raises(SettingError, match="start as a method that fits a latent"):
        iagan.IAGAN(start=iagan.DIP(steps=2))
    with pytest.raises(SettingError, match="a prior with an encoder"):
        iagan.reconstruct(y, prior, iagan.CSGM(steps=2, first_start="encoder"))
    with as_users_run_it(), pytest.raises(SettingError, match="effort as one of"):
        iagan.reconstruct(y, prior, iagan.CSGM(steps=2), effort="slow")
    with as_users_run_it(), pytest.raises(SettingError, match="compile as True or False"):
        iagan.Execution(compile="yes")
    with pytest.raises(SettingError, match="expects a kind"):
        register(type("Nameless", (iagan.CSGM,), {"kind": ""}))


def test_a_spec_nested_too_deeply_is_refused_in_one_line():
    spec = {"method": "iagan"}
    for _ in range(3000):
        spec = {"method": spec}
    with as_users_run_it(), pytest.raises(SettingError, match="expects 'method'") as caught:
        iagan.methods.from_spec(spec)
    assert "\n" not in str(caught.value)
