"""Every failure that strangers' files and odd calls once caused, in its smallest form."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

import iagan
from forged import npy, png, put, tarred, zipped
from fuzz import seeds
from fuzz.mutate import safetensors_of, safetensors_parts
from iagan import CSGM, IAGAN, Generator, NormalLatent, Observation, observe, reconstruct
from iagan.experiments.run import KEYS
from iagan.jobs import RunFolder
from iagan.masks import load_mask
from iagan.operators import BicubicDownsample, Identity
from iagan.train import load_images, train
from iagan.train.cache import KEY, cached_images
from published import began_arrays, began_state

DOWN = BicubicDownsample((3, 64, 64), 4)
PHOTO = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
QUICK = IAGAN(CSGM(1), 1)
REFUSED, RIGHT = {}, {}


def refused(function):
    """What is to end in an `IaganError`."""
    REFUSED[function.__name__] = function
    return function


def right(function):
    """What is to give True."""
    RIGHT[function.__name__] = function
    return function


# -- writers ----------------------------------------------------------------------------------


GREY = png((8, 8, 8, 0, 0, 0, 0), (b"IDAT", zlib.compress(bytes(72))))


def observation(spec, y, **more):
    note = {"format": "iagan-observation", "version": 1, "operator": spec, "noise_std": 0.0}
    text = json.dumps({**note, "crop": None, **more})
    np.savez("y.npz", y=np.zeros(y, np.float32), about=np.array(text))
    return iagan.load_observation("y.npz")


def torch_prior(content):
    torch.save(content, "p.pth")
    return iagan.load_prior("p.pth")


def own_prior(**notes):
    header, values = safetensors_parts(seeds.priors()[0])
    header["__metadata__"].update(notes)
    return iagan.load_prior(put("p.safetensors", safetensors_of(json.dumps(header), values)))


# -- files of strangers: other exceptions -----------------------------------------------------


def npz(y, about=b"", method=0, damage=()):
    members = {"y.npy": y, "about.npy": about}
    return iagan.load_observation(put("y.npz", zipped(members, method, damage)))


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"


@refused
def npz_header_tokens():
    npz(npy("(" * 50))


@refused
def npz_header_indent():
    npz(npy("  x\n y\n"))


@refused
def npz_lzma():
    npz(npy("{}") + bytes(500), bytes(500), 14, range(60, 80))


@refused
def npz_shape_overflow():
    npz(npy(HUGE))


@refused
def npz_sigma_1e300():
    observation(DOWN.spec(), (1, 3, 16, 16), noise_std=1e300)


@refused
def npz_taps_1e308():
    spec = {"operator": "separable-blur", "image_shape": [2, 16, 16], "border": "mirror"}
    spec |= {"vertical": [0.0, 1e39, 1e-7], "horizontal": [-1.0, 1e-320, 1e39, -1e308]}
    reconstruct(observation(spec, (3, 2, 16, 16)), None, "pinv")


@refused
def mask_npy_header():
    load_mask(put("m.npy", npy("(" * 50)), (8, 8))


@refused
def mask_npy_nested():
    load_mask(put("m.npy", npy("-" * 3000 + "1")), (8, 8))


@refused
def png_palette():
    parts = (b"PLTE", bytes(6)), (b"tRNS", bytes(300)), (b"IDAT", zlib.compress(bytes(72)))
    iagan.load_image(put("a.png", png((8, 8, 8, 3, 0, 0, 0), *parts)))


@refused
def prior_value_range():
    own_prior(value_range="[0, 1" + "0" * 400 + "]")


@refused
def prior_latent_1e12():
    own_prior(latent='{"law": "normal", "shape": [1000000000000]}')


@refused
def pth_meta_tensor():
    state = began_state(seeds.MODULES, began_arrays(64, 4, 3))
    torch_prior(state | {"l0.weight": torch.empty(256, 3, device="meta")})


@refused
def records_nested():
    put("settings.json", b"{}")
    put("records.jsonl", b"[" * 100_000 + b"\n")
    RunFolder(Path.cwd(), {}, (), KEYS)


@refused
def records_types():
    put("settings.json", b"{}")
    put("records.jsonl", json.dumps(seeds.record() | {"mse": None}).encode() + b"\n")
    RunFolder(Path.cwd(), {}, (), KEYS)


@refused
def train_zip_empty_name():
    load_images(put("a.zip", zipped({"?": b"x"}).replace(b"?", b"\0")), 8)


@refused
def train_tar_gz_cut():
    packed = tarred([("a.png", os.urandom(9000))], "w:gz")
    load_images(put("a.tar.gz", packed[:5000]), 8)


@refused
def train_zip_lzma():
    load_images(put("a.zip", zipped({"a.png": os.urandom(50) * 10}, 14, range(50, 70))), 8)


@right
def train_tar_name_not_utf8():
    files = ("a.png", GREY), ("b.png", GREY), ("\udcff.png", b"none")
    found = cached_images(put("a.tar", tarred(files)), Path("t"), seeds.TRAINING)
    return len(found.pixels) == 2 and len(found.skipped) == 1


@right
def cache_not_json():
    Path("t").mkdir()
    put("t/images.safetensors", save({"pixels": torch.zeros(1)}, {KEY: "{"}))
    source = put("a.zip", zipped({"a.png": GREY, "b.png": GREY}))
    return len(cached_images(source, Path("t"), seeds.TRAINING).pixels) == 2


@refused
def checkpoint_step_not_a_number():
    source = put("a.zip", zipped({"a.png": GREY, "b.png": GREY}))
    train(seeds.TRAINING, source, Path("p.safetensors"))
    file = Path("p.train/checkpoint.safetensors")
    header, values = safetensors_parts(file.read_bytes())
    note = json.loads(header["__metadata__"]["iagan_training"])
    header["__metadata__"]["iagan_training"] = json.dumps({**note, "step": None})
    file.write_bytes(safetensors_of(json.dumps(header), values))
    train(seeds.TRAINING, source, Path("p.safetensors"), resume=True)


# -- files of strangers: hanging, memory ------------------------------------------------------

BOMB = b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 40 + b"K\x01s."


@refused
def hang_pickle_209_bytes():
    iagan.load_prior(put("p.pkl", BOMB))


@refused
def hang_torch_563_bytes():
    files = {"archive/data.pkl": BOMB, "archive/version": "3\n", "archive/byteorder": "little"}
    iagan.load_prior(put("p.pth", zipped(files)))


@refused
def hang_shape_of_nested_lists():
    """Written out in a message, they would be 2^40 lists."""
    nested = b"]q\x000" + b"](h\x00h\x00eq\x000" * 40 + b"h\x00"
    array = b"cnumpy\nndarray\n)\x81(K\x01" + nested + b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"
    network = b"ctfutil\nNetwork\n)\x81}X\x09\x00\x00\x00variables](X\x01\x00\x00\x00x"
    network += array + b"\x89C\x00tb\x86esb"
    iagan.load_prior(put("p.pkl", b"\x80\x03(" + network * 3 + b"t."))


@refused
def memory_pickle_9_bytes():
    iagan.load_prior(put("p.pkl", b"\x80\x04Nr" + struct.pack("<I", 2**27 - 1) + b"."))


@refused
def memory_pth_stride_0():
    def zeros(*shape):
        return torch.zeros(1).expand(shape)

    n = 1024
    weights = {f"l{i}.weight": zeros(n, n, 3, 3) for i in range(1, 9)}
    weights |= {f"l{i}.bias": zeros(n) for i in range(1, 9)}
    weights |= {"l0.weight": zeros(64 * n, 5000), "l0.bias": zeros(64 * n)}
    torch_prior(weights | {"l9.weight": zeros(3, n, 3, 3), "l9.bias": zeros(3)})


@refused
def memory_image_290_kB():
    pack = zlib.compressobj(1)
    data = b"".join(pack.compress(bytes(30001)) for _ in range(10000)) + pack.flush()
    iagan.load_image(put("a.png", png((10000, 10000, 8, 2, 0, 0, 0), (b"IDAT", data))))


@refused
def memory_latent_2GiB():
    own_prior(latent='{"law": "normal", "shape": [600000000]}')


@refused
def memory_gaussian_12288():
    spec = {"operator": "gaussian", "image_shape": [3, 64, 64], "m": 12288, "seed": 0}
    reconstruct(observation(spec, (1, 12288)), None, "pinv")


@refused
def memory_dip_8192():
    spec = BicubicDownsample((1, 8192, 8192), 1024).spec()
    reconstruct(observation(spec, (1, 1, 8, 8)), None, "dip")


@refused
def memory_restarts():
    reconstruct(observe(PHOTO, DOWN), "faces-64", CSGM(restarts=10**9))


@refused
def hang_fifo():
    os.mkfifo("a.png")
    iagan.load_image("a.png")


@refused
def hang_fifo_prior():
    os.mkfifo("a.pth")
    iagan.load_prior("a.pth")


# -- threads, modes, own generators -----------------------------------------------------------


class Reshaped(nn.Module):
    def forward(self, z):
        return z.view(-1, 3, 64, 64)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 12288)

    def forward(self, z):
        return self.layer(z).detach().view(-1, 3, 64, 64)


@right
def no_grad_one_image():
    with torch.no_grad():
        return reconstruct(observe(PHOTO, DOWN), "faces-64", QUICK).image.shape == PHOTO.shape


@right
def inference_mode_one_image():
    with torch.inference_mode():
        return reconstruct(observe(PHOTO, DOWN), "faces-64", QUICK).image.shape == PHOTO.shape


@right
def no_parameters_silently_nothing():
    prior, y = Generator(Reshaped(), NormalLatent((12288,))), observe(PHOTO, DOWN)
    return len([reconstruct(y, prior, CSGM(1)) for _ in range(5)]) == 5


@refused
def weight_norm():
    """The older one, of which PyTorch makes no copies."""
    layer = nn.utils.weight_norm(nn.Linear(4, 48))
    Generator(nn.Sequential(layer, nn.Unflatten(1, (3, 4, 4))), NormalLatent((4,)))


@refused
def not_differentiable():
    reconstruct(observe(PHOTO, DOWN), Generator(Detached(), NormalLatent((4,))), CSGM(5))


@refused
def batch_of_0():
    reconstruct(Observation(torch.zeros(0, 3, 16, 16), DOWN), "faces-64", CSGM(1))


@refused
def stop_iteration_in_a_callback():
    def call(event):
        raise StopIteration

    reconstruct(observe(PHOTO, DOWN), "faces-64", QUICK, on_event=call)


@right
def writing_into_a_result_leaves_y():
    y = observe(PHOTO, Identity((3, 64, 64)))
    reconstruct(y, None, "naive").image.zero_()
    return torch.equal(y.y, PHOTO)


@right
def changing_a_result_leaves_the_next_method():
    y, methods = observe(PHOTO, DOWN), [CSGM(3), iagan.BackProjected(CSGM(3))]
    expected = [each.image.clone() for each in iagan.reconstruct_all(y, "faces-64", methods)]
    results = iagan.reconstruct_all(y, "faces-64", methods)
    next(results).image.zero_()
    return torch.equal(next(results).image, expected[1])


# -- honesty ----------------------------------------------------------------------------------


@refused
def y_of_0_to_255():
    reconstruct(Observation(255 * DOWN(PHOTO), DOWN), "faces-64", CSGM(1))


@right
def y_of_zeros():
    """Black may be meant; that it is nearly so is said, and no record says 2.5e295."""
    result = reconstruct(Observation(torch.zeros(1, 3, 16, 16), DOWN), "faces-64", CSGM(2))
    return bool(result.messages) and not 1e100 < float(result.relative_residual) < float("inf")


@right
def sigma_too_large():
    method = IAGAN(CSGM(20), 10, noise_share=0.98)
    return bool(reconstruct(Observation(DOWN(PHOTO), DOWN, 1.0), "faces-64", method).messages)


def option(**options):
    def call():
        reconstruct(observe(PHOTO, DOWN), "faces-64", **({"method": CSGM(1)} | options))

    return call


REFUSED |= {
    "seed_of_2_to_64": option(seed=2**64),
    "seed_of_a_fraction": option(seed=1.5),
    "seed_of_nothing": option(seed=None),
    "seed_of_words": option(seed="1"),
    "seed_of_fractions": option(seed=[1.7]),
    "effort_of_a_list": option(effort=[]),
    "method_of_a_list": option(method=[]),
    "batch_size_of_words": lambda: iagan.Execution(batch_size="1"),
    "batch_size_of_a_fraction": lambda: iagan.Execution(batch_size=1.5),
}
