"""Your own method: a class, registered so that its spec can be read back.

python docs/examples/own_method.py
"""

import dataclasses as dc

import torch

import iagan
from iagan.methods import Estimate, Method, Task, from_spec, register


@register
@dc.dataclass(frozen=True)
class MeanOf(Method):
    """The mean of the results of several seeds; fields are settings."""

    kind = "mean-of"
    inner: Method
    runs: int = 4

    def iterations(self):
        return {phase: self.runs * steps for phase, steps in self.inner.iterations().items()}

    def run(self, task: Task) -> Estimate:
        shifted = [tuple(seed + i for seed in task.seeds) for i in range(self.runs)]
        tasks = [task.with_seeds(seeds) for seeds in shifted]
        return Estimate.direct(torch.stack([t.estimate(self.inner).image for t in tasks]).mean(0))


prior = iagan.load_prior("faces-64")
x = prior(prior.latent.sample(1, torch.Generator().manual_seed(5)))
y = iagan.observe(x, iagan.operators.BicubicDownsample(prior.image_shape, scale=8))
result = iagan.reconstruct(y, prior, MeanOf(iagan.CSGM(steps=30, optimizer="lbfgs"), runs=3))
assert from_spec(result.method.spec()) == result.method
print(f"{result.method.name}: PSNR {iagan.measure.psnr(result.image, x):.1f} dB")
