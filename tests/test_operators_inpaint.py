"""Inpainting masks and denoising."""

import pytest
import torch

from helpers import COLOUR, as_users_run_it, random_mask
from iagan.errors import SettingError, ShapeError
from iagan.operators import Identity, Inpaint


def photo():
    return torch.rand(2, *COLOUR, generator=torch.Generator().manual_seed(0))


def test_kept_pixels_come_row_by_row_and_the_rest_is_zero():
    operator = Inpaint(COLOUR, random_mask(COLOUR, 0))
    x = photo()
    expected = torch.stack([torch.stack([c[operator.mask] for c in image]) for image in x])
    assert torch.equal(operator(x), expected)
    assert torch.equal(operator.naive(operator(x)), x * operator.mask)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 1.0])
def test_random_keeps_exactly_the_ratio_and_follows_its_seed(ratio):
    shape = (1, 30, 20)
    mask = Inpaint.random(shape, ratio, seed=3).mask
    assert int(mask.sum()) == round(ratio * 600)
    assert torch.equal(mask, Inpaint.random(shape, ratio, seed=3).mask)
    assert ratio == 1 or not torch.equal(mask, Inpaint.random(shape, ratio, seed=4).mask)


def test_random_pixels_are_spread_evenly():
    """Each quarter of the image keeps its share, within five standard deviations."""
    mask = Inpaint.random((1, 100, 100), 0.3, seed=0).mask.float()
    quarters = mask.unflatten(0, (2, 50)).unflatten(2, (2, 50)).mean(dim=(1, 3))
    assert (quarters - 0.3).abs().max() < 5 * (0.3 * 0.7 / 2500) ** 0.5


def test_a_box_loses_its_pixels_and_no_other():
    mask = Inpaint.box(COLOUR, left=1, top=2, width=3, height=4).mask
    lost = {(int(r), int(c)) for r, c in (~mask).nonzero()}
    assert lost == {(r, c) for r in range(2, 6) for c in range(1, 4)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Inpaint(COLOUR, torch.zeros(8, 6, dtype=torch.bool)), "all False"),
        (lambda: Inpaint(COLOUR, torch.ones(8, 6)), "torch.bool"),
        (lambda: Inpaint.random(COLOUR, 0.0, 0), r"ratio in \(0, 1\]"),
        (lambda: Inpaint.random(COLOUR, 0.001, 0), "keeps one of the 48 pixels"),
        (lambda: Inpaint.box(COLOUR, 0, 0, 6, 8), "all False"),
        (lambda: Inpaint.box(COLOUR, 4, 0, 3, 2), "inside the image of 6×8 pixels"),
        (lambda: Inpaint.box(COLOUR, -1, 0, 3, 2), "left as an integer of at least 0"),
        (lambda: Inpaint.box(COLOUR, 0, 0, 0, 2), "width as an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, words):
    with as_users_run_it(), pytest.raises(SettingError, match=words) as info:
        make()
    assert "\n" not in str(info.value)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ShapeError, match=r"\(8, 6\); got \(4, 4\)"):
        Inpaint(COLOUR, torch.ones(4, 4, dtype=torch.bool))


def test_denoising_measures_the_image_itself():
    operator, x = Identity(COLOUR), photo()
    for y in (operator(x), operator.adjoint(x), operator.pinv(x), operator.naive(x)):
        assert torch.equal(y, x)


def test_a_mask_that_keeps_little_is_a_caveat_also_in_a_composition():
    """A mask whose holes are true keeps the hole alone."""
    hole = ~Inpaint.box(COLOUR, 1, 2, 3, 3).mask
    (caveat,) = Inpaint(COLOUR, hole).caveats()
    assert "18.8% of the pixels" in caveat
    assert Inpaint(COLOUR, ~hole).caveats() == []
    nested = Inpaint(COLOUR, hole) @ (2.0 * Identity(COLOUR))
    assert nested.caveats() == (2.0 * Inpaint(COLOUR, hole)).caveats() == [caveat]
