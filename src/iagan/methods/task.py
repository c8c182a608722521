"""An observation at work: what a method is given."""

from __future__ import annotations

import dataclasses as dc
import time

import torch
from torch import Tensor

from iagan.engine import EventCallback, Execution
from iagan.engine.minimize import MinimizeResult
from iagan.engine.workers import Cancellation
from iagan.methods.base import Method
from iagan.methods.estimate import Estimate
from iagan.methods.phase import MakeBatch, Phase
from iagan.observation import Observation
from iagan.operators.base import squared_norms
from iagan.priors import Generator
from iagan.types import Image, PerImage


@dc.dataclass(eq=False)
class Task:
    """An observation to be recovered, with all that a method may need.

    **Arguments:**
    - `observation`: on the device and in the precision of the prior.
    - `seeds`: an image's each.
    """

    observation: Observation
    generator: Generator | None
    seeds: tuple[int, ...]
    execution: Execution = dc.field(default_factory=Execution)
    on_event: EventCallback | None = None
    cancellation: Cancellation = dc.field(default_factory=Cancellation)
    _estimates: dict[Method, tuple[Estimate, float]] = dc.field(default_factory=dict, repr=False)

    def with_seeds(self, seeds: tuple[int, ...]) -> Task:
        """The same task from other seeds, with nothing known yet."""
        return dc.replace(self, seeds=seeds, _estimates={})

    @property
    def prior(self) -> Generator:
        """The prior of a method that has one."""
        assert self.generator is not None
        return self.generator

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.observation)

    @property
    def dtype(self) -> torch.dtype:
        """Of images and latents."""
        return self.observation.y.real.dtype

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.observation.y.device

    def estimate(self, method: Method) -> Estimate:
        """What `method` makes of the observation; run once, and kept for the next call."""
        return self.timed(method)[0]

    def timed(self, method: Method) -> tuple[Estimate, float]:
        """The same, with the seconds that it took, those of the methods it starts from included."""
        if method not in self._estimates:
            known = sum(seconds for _, seconds in self._within(method))
            begun = time.perf_counter()
            estimate = method.run(self)
            self._estimates[method] = (estimate, known + time.perf_counter() - begun)
        return self._estimates[method]

    def _within(self, method: Method) -> list[tuple[Estimate, float]]:
        """What is known already of the method's own inner one."""
        inner = [getattr(method, field.name) for field in dc.fields(method)]  # type: ignore[arg-type]
        return [self._estimates[each] for each in inner if each in self._estimates]

    def misfit(self, image: Image, indices: Tensor, fidelity: str = "least-squares") -> PerImage:
        r"""$\|y - A x\|^2$ per row, summed over the measurements (eqs. 2 and 3).

        With `fidelity` `"back-projection"` $\|A^\dagger(y - A x)\|^2$, summed over the pixels
        (Tirer and Giryes, arXiv 1906.06794). `indices` says which image of the observation each row
        is of.
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
        """Minimise as many independent problems as `image_of` has entries.

        **Arguments:**
        - `make`: some of the problems as a batch.
        - `image_of`: which image of the observation each problem is of.
        - `together`: whether a CPU thread may take several at once; a GPU always does.

        All variables but the weights of adapted networks are returned. Batches for which the
        memory does not suffice are made smaller, and a single problem checkpoints its layers: the
        results are the same.

        **Raises:** `SettingError` where the memory does not suffice for a single problem.
        """

        def residual(image: Image, problems: Tensor) -> PerImage:
            return self.misfit(image, image_of[problems].to(image.device)).sqrt()

        run = Phase(phase, make, image_of, residual, self.device, self.execution, together)
        return run.minimize(self.cancellation, self.on_event)
