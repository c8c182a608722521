"""The input of a method's run."""

from __future__ import annotations

import dataclasses as dc
import time

import torch
from torch import Tensor

from iagan.engine import EventCallback, Execution
from iagan.engine.minimize import MinimizeResult
from iagan.engine.workers import Cancellation
from iagan.errors import SettingError, ShapeError
from iagan.methods.base import Method
from iagan.methods.estimate import Estimate
from iagan.methods.phase import MakeBatch, Phase
from iagan.observation import Observation
from iagan.operators.base import squared_norms
from iagan.priors import Generator, Prior
from iagan.types import Image, PerImage


@dc.dataclass(eq=False)
class Task:
    """An observation to recover, with everything a method may need.

    **Arguments:**
    - `observation`: the observation on the device and in the precision of the prior.
    - `prior`: the prior, or None.
    - `seeds`: one seed per image.
    - `execution`, `on_event`: those of `reconstruct`.
    - `cancellation`: a request to stop early, which long runs check.
    """

    observation: Observation
    prior: Prior | None
    seeds: tuple[int, ...]
    execution: Execution = dc.field(default_factory=Execution)
    on_event: EventCallback | None = None
    cancellation: Cancellation = dc.field(default_factory=Cancellation)
    _estimates: dict[Method, tuple[Estimate, float]] = dc.field(default_factory=dict, repr=False)

    def with_seeds(self, seeds: tuple[int, ...]) -> Task:
        """The same task with other seeds and no cached estimates."""
        return dc.replace(self, seeds=seeds, _estimates={})

    @property
    def generator(self) -> Generator:
        """The prior of a method that fits latents.

        **Raises:** `SettingError` if the prior is of another kind.
        """
        if not isinstance(self.prior, Generator):
            raise SettingError(
                "A method that fits latents expects an iagan.Generator as its prior; got "
                f"{type(self.prior).__name__}. Use another method, or another prior."
            )
        return self.prior

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.observation)

    @property
    def dtype(self) -> torch.dtype:
        """Real dtype of images and latents."""
        return self.observation.y.real.dtype

    @property
    def device(self) -> torch.device:
        """Device of the computation."""
        return self.observation.y.device

    def estimate(self, method: Method) -> Estimate:
        """The estimate of `method`, run once and cached."""
        return self.timed(method)[0]

    def timed(self, method: Method) -> tuple[Estimate, float]:
        """The estimate and its run time in seconds, including the methods that it starts from."""
        if method not in self._estimates:
            inner = [getattr(method, field.name) for field in dc.fields(method)]  # type: ignore[arg-type]
            cached = sum(self._estimates[each][1] for each in inner if each in self._estimates)
            begun = time.perf_counter()
            estimate = self._checked(method, method.run(self))
            self._estimates[method] = (estimate, cached + time.perf_counter() - begun)
        return self._estimates[method]

    def _checked(self, method: Method, estimate: object) -> Estimate:
        """The value returned by a method, checked to be an estimate of all images.

        **Raises:** `ShapeError` if not.
        """
        shape = (self.count, *self.observation.operator.image_shape)
        got = f"a {type(estimate).__name__}"
        if isinstance(estimate, Estimate):
            if tuple(estimate.image.shape) == shape:
                return estimate
            got = f"one of {tuple(estimate.image.shape)}"
        raise ShapeError(
            f"{type(method).__name__}.run is expected to return an Estimate with images of "
            f"{shape}; got {got}. Correct it."
        )

    def misfit(self, image: Image, indices: Tensor, fidelity: str = "least-squares") -> PerImage:
        r"""$\|y - A x\|^2$ of each image, summed over the measurements (eqs. 2 and 3).

        With `fidelity="back-projection"`, $\|A^\dagger(y - A x)\|^2$, summed over the pixels
        (Tirer and Giryes, arXiv 1906.06794). `indices` are the images' indices in the observation.
        """
        operator, y = self.observation.operator, self.observation.y[indices]
        if fidelity == "back-projection":
            return squared_norms(operator.pinv(operator(image) - y))
        return operator.misfit(image, y)

    def minimize(
        self,
        phase: str,
        make: MakeBatch,
        image_of: Tensor,
        together: bool,
    ) -> MinimizeResult:
        """Minimise independent problems, one per entry of `image_of`.

        **Arguments:**
        - `phase`: name of the phase in events and messages.
        - `make`: makes a batch of some of the problems.
        - `image_of`: `(problems,)`, index of each problem's image in the observation.
        - `together`: whether a CPU thread may run several problems at once; a GPU always does.

        All variables are returned, except a batch's weights. If memory runs out, batches are made
        smaller, and a single problem uses activation checkpointing, with the same results.

        **Raises:** `SettingError` if memory does not suffice for a single problem.
        """

        def residual(image: Image, problems: Tensor) -> PerImage:
            return self.misfit(image, image_of[problems].to(image.device)).sqrt()

        run = Phase(phase, make, image_of, residual, self.device, self.execution, together)
        return run.minimize(self.cancellation, self.on_event)
