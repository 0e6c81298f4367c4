"""`python -m train`: every field of Config changes what it says, and nothing else.

Two tiny runs that differ in one flag; all that can be seen of them is compared.
"""

import dataclasses
import functools
import json
import shutil
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny import perturbed

from ddpm import linear_schedule
from train.__main__ import main
from train.config import Config
from train.data import Dataset
from train.training import Training
from unet import UNet, save

BASE = {
    "preset": "digits", "out": "run", "data_dir": "data", "device": "cpu", "threads": 1,
    "precision": "float32", "compile": "off", "seed": 0, "T": 1000, "schedule": "cosine",
    "p_uncond": 0.5, "width": 8, "multipliers": 1, "blocks": 1, "attention": 8, "dropout": 0,
    "steps": 3, "classifier_steps": 2, "judge_steps": 2, "judge_width": 4, "batch_size": 4,
    "accumulate": 1, "lr": 0.01, "warmup": 1, "weight_decay": 0.1, "grad_clip": 0.01, "ema": 0.1,
    "log_every": 1, "sample_every": 2, "sampling_steps": 3,
}  # fmt: skip
PICTURES = {k: v for k, v in BASE.items() if k not in ("preset", "data_dir")} | {
    "data": "pets", "size": 8, "held_out": 0.2, "multipliers": "1,1",
}  # fmt: skip

EVERY = "unet classifier judge"
PICTURED = "progress samples reverse_process every_guidance"


def of(networks, things):
    return {f"{network} {thing}" for network in networks.split() for thing in things.split()}


NETWORK = of("unet classifier", "shape start gradient raw average")
BATCHES = of(EVERY, "batches input gradient raw average") | {"unet labels"}
# The other value of each field, and all that changes with it.
TABLE = {
    "preset": ("kmnist", {"asked", "data"}),
    "out": ("other", {"place"}),
    "data_dir": ("elsewhere", {"asked"}),
    "device": ("auto", {"device"}),
    "threads": (2, {"threads"}),
    # the judge's images are turned by matrix products, which autocast rounds as well
    "precision": ("bfloat16", of(EVERY, "gradient raw average") | {"judge input", "judged drawn"}),
    "compile": ("on", of(EVERY, "compile")),
    "init": ("trained", of("unet", "start gradient raw average")),
    "seed": (1, BATCHES | of(EVERY, "start")),
    "T": (900, of("unet classifier", "input gradient raw average") | {"schedule"}),
    "schedule": ("linear", of("unet classifier", "input gradient raw average") | {"schedule"}),
    # a new network's last convolutions are 0: labels and dropout do not count in the first gradient
    "p_uncond": (0.9, of("unet", "labels raw average")),
    "width": (16, NETWORK),
    "multipliers": (2, NETWORK),
    # the two networks are drawn one after the other, so that the second begins with other weights
    "blocks": (2, NETWORK - {"classifier shape"}),
    "attention": ("", NETWORK),
    "dropout": (0.3, of("unet classifier", "shape raw average")),
    "steps": (4, of("unet", "batches input labels rate raw average") | {"logged", "saved"}),
    "classifier_steps":
        (3, of("classifier", "batches input rate raw average") | {"logged", "saved"}),
    "judge_steps": (3, of("judge", "batches input rate raw average") | {"logged", "saved"}),
    "judge_width": (8, of("judge", "shape start gradient raw average")),
    "batch_size": (6, BATCHES),
    "accumulate": (2, BATCHES),
    "lr": (0.02, of(EVERY, "rate raw average")),
    "warmup": (2, of(EVERY, "rate raw average")),
    "weight_decay": (0.2, of(EVERY, "raw average")),
    "grad_clip": (0.02, of(EVERY, "gradient raw average")),
    "ema": (0.05, of(EVERY, "average")),
    "log_every": (2, {"logged"}),
    "sample_every": (1, {"saved", "progress drawn"}),
    "sampling_steps": (2, of(f"{PICTURED} judged", "drawn")),
    "data": ("zoo", BATCHES - {"unet labels"} | {"data"}),
    "size": (16, BATCHES | NETWORK | of(EVERY, "shape") | {"data"}),
    "grey": (True, BATCHES | of(EVERY, "shape start") | {"data"}),
    "flip": (True, BATCHES | {"data"}),
    "held_out": (0.5, BATCHES | {"data"}),
}  # fmt: skip
OF_PICTURES = {"data", "size", "grey", "flip", "held_out"}
# What the weights do not tell of: where a run was, how fast, what it showed; pictures have a
# place of their own in them.
UNTOLD = OF_PICTURES | {
    "device", "threads", "compile", "data_dir", "out", "init",
    "log_every", "sample_every", "sampling_steps",
}  # fmt: skip


def numbers(*tensors):
    return [(tuple(t.shape), t.detach().contiguous().numpy().tobytes()) for t in tensors]


def embedded(name, data_dir):
    """In the place of load_data: the same images under every name."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    c = torch.arange(40) % 3
    return Dataset(name, x[:30], c[:30], x[30:], c[30:], ["ant", "bee", "cat"])


def folders(place):
    """pets and zoo: pictures of the same names, and larger than they are asked for."""
    generator = np.random.default_rng(0)
    for name in ("pets/cat", "pets/dog", "zoo/cat", "zoo/dog"):
        (place / name).mkdir(parents=True)
        for k in range(8):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{k}.png")


NAMES = {"UNet": "unet", "NoisyClassifier": "classifier", "Judge": "judge"}


def watched(seen):
    """Training, with a note of all that goes in and comes out."""

    class Watched(Training):
        def update(self, loss, data):
            network, first = NAMES[type(self.model).__name__], self.step == 0

            def note(what, value):
                seen[f"{network} {what}"].append(value)

            def lost(model, x_0, c, generator):
                note("batches", numbers(x_0, c))
                return loss(model, x_0, c, generator)

            def entered(model, given):
                note("input", numbers(*given[:2]))
                if network == "unet":
                    note("labels", given[2].tolist())

            if first:
                note("shape", self.model.architecture)
                note("start", numbers(*self.model.state_dict().values()))
                sets = data.images, data.labels, data.test_images, data.test_labels
                seen["data"].append((data.name, data.flip, numbers(*sets)))
            note("rate", self.optimizer.param_groups[0]["lr"])
            hook = self.model.register_forward_pre_hook(entered)
            value = super().update(lost, data)
            hook.remove()
            if first:
                note("gradient", numbers(*(p.grad for p in self.model.parameters())))
            note("raw", numbers(*self.model.state_dict().values()))
            note("average", numbers(*self.averaged.state_dict().values()))
            return value

    return Watched


def observed(place, flags):
    """All that is seen of the run with these flags, by name."""
    seen = defaultdict(list)

    def noted(what, answer=None):
        """Stands in for a function: notes what it is given, and gives this answer."""

        def stand_in(*given):
            seen[what].append(given)
            return answer(*given) if callable(answer) else answer

        return stand_in

    def compiled(network, wanted, device):
        seen[f"{NAMES[type(network).__name__]} compile"].append(wanted)

    def saved(path, training):
        seen["saved"].append((path.name, training.step))

    def picture(name, path, *given):
        seen[f"{name} drawn"].append((path.name, given[-1]))  # and its number of sampling steps

    def samples(models, guide, c, seed, *, sampler, dtype, only):
        seen["judged drawn"].append((sampler.keywords, dtype))
        return models.noise(len(c), torch.Generator().manual_seed(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("unet.files.os.fsync", lambda _: None)  # nothing here has to last
        patch.setattr("train.__main__.load_data", noted("asked", embedded))
        patch.setattr("train.ranks.choose_device", noted("device", torch.device("cpu")))
        patch.setattr(torch, "set_num_threads", noted("threads"))
        patch.setattr("train.loop.Training", watched(seen))
        patch.setattr("train.training.compile_network", compiled)
        patch.setattr("train.loop.save_state", saved)
        for name in PICTURED.split():  # which take most of the time
            patch.setattr(f"train.report.{name}", functools.partial(picture, name))
        for name in ("loss_curves", "classifier_accuracy", "accuracy_over_t"):
            patch.setattr(f"train.report.{name}", lambda *_: None)
        patch.setattr("train.outcome.draw", samples)
        given = {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
        words = [name if value is True else f"{name}={value}" for name, value in given.items()]
        assert main([*words, "--overwrite"]) == 0
    (config,) = place.glob("*/config.json")
    seen["place"] = [config.parent.name]
    lines = [json.loads(line) for line in (config.parent / "log.jsonl").read_text().splitlines()]
    seen["logged"] = [(e["phase"], e["step"]) for e in lines if "loss" in e]
    with safe_open(config.parent / "unet.safetensors", framework="pt") as file:
        info = json.loads(file.metadata()["info"])
    seen["schedule"], seen["told"] = info["schedule"], info["config"]
    seen["config"] = json.loads(config.read_text())
    shutil.rmtree(config.parent)
    return seen


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the runs are made, with pictures, and a network to start from."""
    place = tmp_path_factory.mktemp("fields")
    folders(place)
    trained = perturbed(UNet, multipliers=(1,), attention=(8,))
    info = {"schedule": linear_schedule().info, "classes": ["ant", "bee", "cat"]}
    save(place / "trained" / "unet.safetensors", trained, info)
    return place


@pytest.fixture(scope="module")
def before(place):
    """What is seen of the run that each field is changed in."""
    return functools.cache(lambda pictures: observed(place, PICTURES if pictures else BASE))


def differing(one, other):
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Config)])
def test_a_field_changes_what_it_says_and_nothing_else(place, before, field):
    other, changes = TABLE[field]
    pictures = field in OF_PICTURES
    one, two = before(pictures), observed(place, (PICTURES if pictures else BASE) | {field: other})
    assert differing(one["config"], two["config"]) == {field}
    told = set() if field in UNTOLD else {"told"}
    assert differing(one, two) == changes | told | {"config"}
    if told:
        assert differing(one["told"], two["told"]) == {field}


def test_the_table_has_no_field_too_many():
    """And the runs say all that a preset says: it changes nothing behind their back."""
    fields = {f.name for f in dataclasses.fields(Config)}
    assert TABLE.keys() == fields
    assert BASE.keys() | OF_PICTURES | {"init"} == fields
