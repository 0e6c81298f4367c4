"""`python -m guidance` is the sentence: its pixels are the library's, bit for bit, for every flag.

The other road is `sentence`: the command line in the library's public names, with nothing of
guidance.app. All flags are tried in pairs.
"""

import itertools
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import perturbed

from ddpm import ancestral, ddim, dpm_solver, linear_schedule, timesteps
from guidance import (
    class_log_prob,
    classifier_free_guidance,
    classifier_guidance,
    classifier_mean_shift,
    negative_guidance,
)
from guidance.__main__ import KINDS, main
from unet import NoisyClassifier, UNet, load, save

T, SCHEDULE = 100, linear_schedule(100)  # which leaves 0.6 of the image: few pixels are clipped
NAMES = ["ant", "bee", "cat", "∅"]
NULL = 3

GUIDED = ("classifier-free", "negative")
OF_KIND = {  # every other flag is of every kind
    "negative": ("negative",),
    "w": GUIDED,
    "start-step": GUIDED,
    "stop-step": GUIDED,
    "scale": ("classifier",),
    "conditional": ("classifier",),
    "mean-shift": ("classifier",),
}
# None is a flag that is not given, True one without a value.
FACTORS = {
    "kind": tuple(KINDS),
    "sampler": (None, "ancestral", "dpm-solver"),
    "eta": (None, "0.7"),
    "variance": (None, "beta"),
    "class": ("bee", "2", None, "null"),
    "negative": (None, "cat", "null"),
    "w": (None, "0", "1.5", "-1,3"),
    "start-step": (None, "1", "2,0"),
    "stop-step": (None, "2", "3,2"),
    "scale": (None, "0", "-1.5", "2,-1.5"),
    "conditional": (None, True),
    "mean-shift": (None, True),
    "steps": ("3", "4"),
    "seed": (None, "7"),
    "n": ("2", "3"),
    "batch-size": (None, "2"),
    "gif": (None, True),
}
SMALLEST = {"multipliers": (1,), "attention": ()}
PLACES = {"weights", "out", "save", "device"}  # where things are, and not what is drawn


def allowed(line):
    """Whether the command would take it, as far as it goes."""
    kind, sampler = line["kind"], line["sampler"]
    return (
        all(kind in OF_KIND.get(flag, KINDS) for flag, value in line.items() if value)
        and not (kind == "negative" and line.get("negative", "cat") is None)
        and not (kind == "classifier" and line.get("class") == "null")
        and not (sampler and line.get("eta"))
        and not (sampler != "ancestral" and line.get("mean-shift"))
    )


def possible(line):
    """Whether it can be completed: each flag but these two may be left out, or has one to spare."""
    both = itertools.product(FACTORS["kind"], FACTORS["sampler"])
    return any(allowed({"kind": kind, "sampler": sampler, **line}) for kind, sampler in both)


def completed(line, rank=lambda line, flag, value: 0):
    """The line with a value for every flag: of those possible the first of the highest rank."""
    for flag, values in FACTORS.items():
        if flag not in line:
            options = [value for value in values if possible({**line, flag: value})]
            line = {**line, flag: max(options, key=partial(rank, line, flag))}
    return line


def in_pairs():
    """Lines in which any two values of any two flags that can meet do so: greedily, few of them."""
    ends = [(flag, value) for flag, values in FACTORS.items() for value in values]
    pairs = itertools.combinations(ends, 2)
    left = {pair: None for pair in pairs if pair[0][0] != pair[1][0] and possible(dict(pair))}

    def newly_met(line, flag, value):
        met = [((flag, value), end) for end in line.items()]
        return sum(pair in left or pair[::-1] in left for pair in met)

    lines = []
    while left:
        line = completed(dict(next(iter(left))), newly_met)
        lines.append({flag: line[flag] for flag in FACTORS})
        for pair in itertools.combinations(lines[-1].items(), 2):
            left.pop(pair, None)
    return lines


def words(line):
    """As a user types it."""
    given = [(f"--{k}", v) for k, v in line.items() if k != "kind" and v is not None]
    return [line["kind"], *(name if v is True else f"{name}={v}" for name, v in given)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    info = {"schedule": SCHEDULE.info, "classes": NAMES[:3]}
    unet, classifier = (perturbed(kind, **SMALLEST) for kind in (UNet, NoisyClassifier))
    classifier.head.weight.data *= 300  # its gradient counts beside ε
    save(path / "unet.safetensors", unet, info)
    save(path / "classifier.safetensors", classifier, info)
    return path


@pytest.fixture(scope="module")
def networks(weights):
    unet, classifier = (load(weights / f"{name}.safetensors")[0] for name in ("unet", "classifier"))
    return [unet.to(memory_format=torch.channels_last), classifier]  # sums come in its order


def listed(line, flag, default, number=float):
    return [number(v) for v in line[flag].split(",")] if line.get(flag) else default


def number_of(name):
    name = {"null": "∅"}.get(name, name)
    return NAMES.index(name) if name in NAMES else int(name)


def rows_of(line):
    """One row for each combination of what is listed: c, c₋, start step, stop step, w or s."""
    kind, S = line["kind"], int(line.get("steps") or 50)
    rows = itertools.product(
        listed(line, "class", [NULL] if kind == "negative" else [0, 1, 2], number_of),
        listed(line, "negative", [None], number_of),
        listed(line, "start-step", [0], int),
        listed(line, "stop-step", [S], int),
        listed(line, "scale", [3.0]) if kind == "classifier" else listed(line, "w", [2.0]),
    )
    return list(rows)


def sentence(networks, line):
    """What the line says: every Step of its rows, each row's pictures in one batch after another.

    In the command's own batches, since a network rounds differently in others.
    """
    unet, classifier = networks
    S, n, seed = (int(line.get(k) or v) for k, v in (("steps", 50), ("n", 10), ("seed", 0)))
    t_of = [*timesteps(T, S), 0]

    def drawn(c, negative, k, m, scale, batch):
        c, interval = torch.full((len(batch),), c), {"start": t_of[k], "stop": t_of[m]}
        shift = None
        if line["kind"] == "none":
            eps = lambda x_t, t: unet(x_t, t, c)  # noqa: E731
        elif line["kind"] == "classifier-free":
            eps = classifier_free_guidance(unet, c, scale, null=NULL, **interval)
        elif line["kind"] == "negative":
            eps = negative_guidance(unet, c, negative, scale, null=NULL, **interval)
        else:
            log_prob = class_log_prob(classifier, c)
            eps = lambda x_t, t: unet(x_t, t, c if line.get("conditional") else None)  # noqa: E731
            if line.get("mean-shift"):
                shift = classifier_mean_shift(log_prob, scale)
            else:
                eps = classifier_guidance(eps, log_prob, scale, SCHEDULE)
        x_T = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))[batch]
        noise = [  # a stream for each picture, by its place in the row
            torch.Generator().manual_seed((seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**63)
            for i in batch.tolist()
        ]
        if line.get("sampler") == "ancestral":
            variance = line.get("variance") or "posterior"
            return ancestral(SCHEDULE, eps, x_T, S, variance=variance, shift=shift, generator=noise)
        if line.get("sampler") == "dpm-solver":
            return dpm_solver(SCHEDULE, eps, x_T, S)
        return ddim(SCHEDULE, eps, x_T, S, eta=float(line.get("eta") or 0), generator=noise)

    batches = torch.arange(n).split(int(line.get("batch-size") or 100))
    rows = [[list(drawn(*row, batch)) for batch in batches] for row in rows_of(line)]
    return [  # S states of all rows: (R, n, 1, 8, 8)
        tuple(
            torch.stack([torch.cat([getattr(steps[i], name) for steps in row]) for row in rows])
            for name in ("x", "x_0")
        )
        for i in range(S)
    ]


def said_of(line, row):
    """All that is to be read of a row, in its title, its label and the caption."""
    c, negative, start, stop, scale = row
    S = int(line.get("steps") or 50)
    said = {NAMES[c], f"seed {line.get('seed') or 0}"}
    if line.get("sampler") == "ancestral":
        said |= {f"{S} steps of ancestral", line.get("variance") or "posterior"}
    elif line.get("sampler") == "dpm-solver":
        said |= {f"{S} steps of DPM-Solver++ (2M)"}
    else:
        said |= {f"{S} steps of DDIM", f"η = {line.get('eta') or 0}"}
    if line["kind"] == "none":
        return said | {"no guidance"}
    if line["kind"] == "classifier":
        base = "ε(c)" if line.get("conditional") else "ε(∅)"
        formula = "ADM Alg. 1" if line.get("mean-shift") else "ADM Eq. 14"
        return said | {f"classifier guidance of {base}", formula, f"scale = {scale:g}"}
    said |= {f"{line['kind']} guidance", f"w = {scale:g}"}
    if line["kind"] == "negative":
        said.add(f"−{NAMES[negative]}")
    if line["kind"] == "negative" or line.get("start-step") or line.get("stop-step"):
        said |= {f"from step {start}", f"to step {stop}" if line.get("stop-step") else "to the end"}
    return said


def as_bytes(x):
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def tiles(frame, rows, columns):
    """The pictures of a frame, which is a grid with one pixel of white between: (R, C, 8, 8)."""
    pixels = np.array(frame.convert("L"))
    pixels = pixels[:: len(pixels) // (9 * rows + 1), :: pixels.shape[1] // (9 * columns + 1)]
    return np.array([
        [pixels[9 * r + 1 : 9 * r + 9, 9 * k + 1 : 9 * k + 9] for k in range(columns)]
        for r in range(rows)
    ])  # fmt: skip


def check(line, weights, networks, tmp_path, monkeypatch):
    """The command's samples, its picture, what stands in it, and its GIF are the sentence's."""
    shown = []
    monkeypatch.setattr("guidance.app.command.save_panels", lambda *given: shown.append(given))
    places = {"weights": weights, "out": tmp_path / "p.png", "save": tmp_path / "s"}
    assert main(words({**line, **places})) == 0
    rows, states = rows_of(line), sentence(networks, line)
    x, _ = states[-1]  # (R, n, 1, 8, 8)
    n = x.shape[1]

    with np.load(tmp_path / "s" / "samples.npz") as saved:
        assert np.array_equal(saved["arr_0"][..., 0], as_bytes(x).flatten(0, 2).numpy())
        assert saved["labels"].tolist() == [c for c, *_ in rows for _ in range(n)]
    names = [f"row{r:03d}-image{k:03d}-{NAMES[row[0]]}.png".replace("∅", "null")
             for r, row in enumerate(rows) for k in range(n)]  # fmt: skip
    for name, picture in zip(names, as_bytes(x).flatten(0, 2).numpy(), strict=True):
        with Image.open(tmp_path / "s" / name) as file:
            assert np.array_equal(np.array(file), picture)

    ((out, (panel,), caption),) = shown
    assert out == tmp_path / "p.png" and torch.equal(panel.images, x)
    for label, row in zip(panel.rows, rows, strict=True):
        phrases = ", ".join([panel.title, label, caption]).split(", ")
        assert sorted(p.removeprefix("class ") for p in phrases) == sorted(said_of(line, row))

    if line.get("gif"):
        with Image.open(tmp_path / "p.gif") as gif:
            assert gif.n_frames == len(states)
            for i, (x_t, x_0) in enumerate(states):
                gif.seek(i)
                white = torch.ones_like(x_t[:, :1])
                halves = as_bytes(torch.cat([x_t, white, x_0], dim=1))[:, :, 0]
                assert np.array_equal(tiles(gif, len(rows), 2 * n + 1), halves.numpy())


@pytest.fixture
def checked(weights, networks, tmp_path, monkeypatch):
    return partial(
        check, weights=weights, networks=networks, tmp_path=tmp_path, monkeypatch=monkeypatch
    )


@pytest.mark.parametrize("line", in_pairs(), ids=lambda line: " ".join(words(line)))
def test_every_two_flags_together(checked, line):
    checked(line)


def test_no_flag_at_all(checked):
    """50 steps, 10 pictures, seed 0, DDIM."""
    checked({"kind": "none", "class": "1"})


@pytest.mark.parametrize(
    "lists",
    [
        {"class": "0,∅", "negative": "2,null", "start-step": "0,1"},
        {"negative": "1", "start-step": "0,1", "stop-step": "1,2", "w": "0,2"},
    ],
)
def test_rows_are_a_product(checked, lists):
    """In the order of class, negative, start, stop and w, the last of which turns fastest."""
    line = {"kind": "negative", **lists, "steps": "2", "n": "1"}
    assert len(rows_of(line)) == 8
    checked(line)


def test_no_flag_is_forgotten():
    names = {f.metadata["name"] or f"--{f.name}" for kind in KINDS.values() for f in fields(kind)}
    names = {name.removeprefix("--").replace("_", "-") for name in names}
    assert names == (FACTORS.keys() - {"kind"}) | PLACES
    for kind, flags in KINDS.items():
        own = {f.name.replace("_", "-") for f in fields(flags)} & OF_KIND.keys()
        assert own == {flag for flag, kinds in OF_KIND.items() if kind in kinds}


# Where two values of a flag may well draw the same: what the line must have besides.
MATTERS = {
    "variance": {"sampler": "ancestral"},
    "mean-shift": {"sampler": "ancestral"},
    "stop-step": {"steps": "4"},
}
DEFAULT = {"class": "null"}  # of negative, and elsewhere of more rows than one
DRAWING = [flag for flag in FACTORS if flag not in ("kind", "n", "batch-size", "gif")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_flag_has_an_effect(networks, kind):
    """With the networks of these tests: of lines that differ in one flag no two draw the same."""
    drawn = {}
    for flag in [flag for flag in DRAWING if kind in OF_KIND.get(flag, KINDS)]:
        lines = [{**MATTERS.get(flag, {}), "kind": kind, flag: value or DEFAULT.get(flag)}
                 for value in FACTORS[flag]]  # fmt: skip
        lines = [completed(line) for line in lines if possible(line)]
        alike = {" ".join(words(line)): line for line in lines if len(rows_of(line)) == 1}
        for name in alike.keys() - drawn.keys():
            drawn[name] = as_bytes(sentence(networks, alike[name])[-1][0])
            assert ((drawn[name] > 0) & (drawn[name] < 255)).double().mean() > 0.1
        assert len(alike) > 1
        for one, other in itertools.combinations(alike, 2):
            assert (drawn[one] != drawn[other]).double().mean() > 0.1, (one, other)
