"""Your own executor: any object whose `submit` returns futures can run iagan's jobs.

python docs/examples/own_executor.py
"""

import subprocess
import sys
from concurrent.futures import Future

import torch

import iagan

WORKER = """import sys, iagan
sys.stdout.buffer.write(iagan.jobs.run_job(sys.stdin.buffer.read()))"""


class Commands:
    """A separate Python process for every job; prefix it with ssh to use another machine."""

    def __init__(self, *command):
        self.command = command

    def submit(self, function, job):
        future = Future()  # function is iagan.jobs.run_job, job is bytes
        answer = subprocess.run(self.command, input=job, stdout=subprocess.PIPE, check=True)
        future.set_result(answer.stdout)
        return future


prior = iagan.load_prior("faces-64")
A = iagan.operators.BicubicDownsample(prior.image_shape, scale=4)
x = prior(prior.latent.sample(1, torch.Generator().manual_seed(5)))
iagan.save_image(A(x), "small.png")
options = {"methods": ["csgm"], "executor": Commands(sys.executable, "-c", WORKER)}
for outcome in iagan.jobs.recover(["small.png"], "out/", prior="faces-64", operator=A, **options):
    print(f"{outcome.output}: PSNR {iagan.measure.psnr(outcome.image, x):.1f} dB")
