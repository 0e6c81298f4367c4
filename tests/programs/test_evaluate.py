"""`python -m train.evaluate`: numbers of trained weights, as the library gives them."""

import functools
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from forked import start
from PIL import Image
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, pdist
from scipy.stats import t as student_t
from torchmetrics.image import fid

from ddpm import ancestral, cosine_schedule, ddim, dpm_solver, variational_bound
from guidance import classifier_free_guidance
from guidance.app.draw import draw, stream_seed
from guidance.app.guides import classifier_free
from guidance.app.models import load_models
from train.data import load_data
from train.evaluate import metrics
from train.evaluate.__main__ import main
from train.evaluate.lab import Lab, LabFlags
from train.evaluate.results import read_rows
from train.judge import ask
from unet import Judge, UNet, load, save

TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}


@functools.cache
def digits():
    """The data set, its training and its test images in [-1, 1]."""
    data = load_data("digits", "")
    return data, data.scale(data.images), data.scale(data.test_images)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w"
    torch.manual_seed(0)
    model = UNet(**TINY)
    for p in model.parameters():  # what starts at zero would answer nothing
        p.data += 0.15 * torch.randn_like(p)
    info = {"schedule": cosine_schedule(20).info, "data": "digits"}
    info["classes"] = [str(k) for k in range(10)]
    save(path / "unet.safetensors", model, info)
    save(path / "judge.safetensors", fitted_judge(), info)
    return path


def fitted_judge():
    """One that tells classes apart without training: a head by least squares."""
    torch.manual_seed(0)
    judge, (data, images, _) = Judge(size=8, width=4).eval(), digits()
    with torch.no_grad():
        judge.norms[-1].weight /= judge.features(images).std()  # features of the order of 1
        features = torch.cat([judge.features(images), torch.ones(len(images), 1)], dim=1)
        head = torch.linalg.lstsq(features, torch.eye(10)[data.labels]).solution  # (F + 1, K)
        judge.head.weight.copy_(10 * head[:-1].T)
        judge.head.bias.copy_(10 * head[-1])
    return judge


def stream(seed, draw, *size):
    return draw(*size, generator=torch.Generator().manual_seed(seed))


def evaluate(weights, *flags):
    out = weights.parent / "results.csv"
    common = ["--weights", str(weights), "--device", "cpu", "--out", str(out), "--n", "40"]
    return main([*common, "--steps", "5", "--precision", "float32", *flags])


def measured(judge, x, c, real):
    """Every number of a row from its definition, in float64: samples x of the classes c, and of
    real images the features of all, and of those that precision and recall look at."""
    with torch.no_grad():
        features = judge.features(x)
        logits = judge.logits(features).double()
    features, (real, near) = features.double().numpy(), real
    said, p = logits.argmax(1), logits.softmax(1)
    (m, A), (n, B) = ((f.mean(0), np.cov(f.T)) for f in (real, features))

    def covered(points, centres):
        """Kynkäänniemi et al. 2019, Eq. 1: balls out to the third neighbour."""
        radii = np.sort(cdist(centres, centres))[:, 3]  # the nearest is the centre itself
        return (cdist(points, centres) <= radii).any(1).mean()

    return {
        "class_accuracy": float((said == c).double().mean()),
        "inception_score": float((p * (p / p.mean(0)).log()).sum(1).mean().exp()),
        "frechet": np.square(m - n).sum() + np.trace(A + B - 2 * sqrtm(A @ B).real),
        "precision": covered(features, near),
        "recall": covered(near, features),
        "diversity": np.mean([pdist(features[c == k]).mean() for k in range(10)]),
    }


def test_every_number_from_the_samples_by_its_definition(weights, capsys):
    """Of the samples whose bytes --save writes; real ones are the test images, or for what as many
    real ones get, training images beside them. Any other way round gives other numbers."""
    place, seed, each = weights.parent / "saved", 3, 7
    data, training, testing = digits()
    flags = ["--n", f"{10 * each}", "--seed", f"{seed}", "--w", "0.5", "--save", str(place)]
    assert evaluate(weights, *flags) == 0
    out = capsys.readouterr().out
    (row,), printed = read_rows(weights.parent / "results.csv").to_dict("records"), {}
    for key, name in metrics.NAMES.items():
        for columns in re.findall(rf"^{re.escape(name)} +(\S+) *(\S*)$", out, re.MULTILINE):
            values = zip((key, f"{key}_real"), columns, strict=True)
            printed |= {column: float(value) for column, value in values if value}
    unet, _ = load(weights / "unet.safetensors")
    unet.to(memory_format=torch.channels_last)  # in other layouts sums come in other orders
    judge, _ = load(weights / "judge.safetensors")
    c, x_T = torch.arange(10).repeat_interleave(each), stream(seed, torch.randn, 70, 1, 8, 8)

    def drawn(c, w):
        eps = classifier_free_guidance(unet, c, w, null=10)
        return [step.x for step in ddim(cosine_schedule(20), eps, x_T, 5)][-1]

    x = drawn(c, 0.5)
    with np.load(place / "samples.npz") as saved:
        grey = ((x.clamp(-1, 1) + 1) * 127.5).round()[:, 0]
        assert np.array_equal(saved["arr_0"][..., 0], grey)
        assert saved["labels"].tolist() == c.tolist()

    def beside(images):
        """Real images as a reference: all of them, and 70 at random."""
        with torch.no_grad():
            features = judge.features(images).double().numpy()
        return features, features[stream(seed, torch.randperm, len(images))[:70]]

    test, train = beside(testing), beside(training)
    order = stream(seed, torch.randperm, len(training))  # of which the first of each class
    chosen = torch.cat([order[data.labels[order] == k][:each] for k in range(10)])
    with torch.no_grad():
        right = judge(testing).argmax(1) == data.test_labels
        right_in_training = judge(training).argmax(1) == data.labels
    by_definition = measured(judge, x, c, test)
    real = measured(judge, training[chosen], c, test)
    companions = ("frechet", "precision", "recall", "diversity")
    expected = by_definition | {f"{name}_real": real[name] for name in companions}
    expected["class_accuracy_real"] = float(right.double().mean())
    for key, value in expected.items():
        assert row[key] == pytest.approx(value, rel=1e-4), key
        assert printed[key] == pytest.approx(value, abs=1e-4), key
    assert {k: row[k] for k in ("data", "w", "sampler", "steps", "n", "seed")} == {
        "data": "digits", "w": 0.5, "sampler": "ddim", "steps": 5, "n": 70, "seed": 3,
    }  # fmt: skip
    assert re.fullmatch("sha256:[0-9a-f]{12}", row["weights"])
    assert "FID" not in out and "classification accuracy score" not in out

    def others(numbers, names):
        """None of these numbers is the row's."""
        alike = {k for k in names if numbers[k] == pytest.approx(expected[k], rel=0.005)}
        assert not alike, (alike, numbers, expected)

    against = ("frechet", "precision", "recall")
    others(measured(judge, x, c, train), against)
    swapped = {"precision": row["recall"], "recall": row["precision"]}
    others(swapped, swapped)
    from_test = torch.cat([torch.where(data.test_labels == k)[0][:each] for k in range(10)])
    floors = measured(judge, testing[from_test], c, test)
    others({f"{name}_real": floors[name] for name in companions}, [f"{n}_real" for n in companions])
    seen_before = float(right_in_training.double().mean())
    others({"class_accuracy_real": seen_before}, ["class_accuracy_real"])
    others(measured(judge, x, c.roll(each), test), ["class_accuracy"])
    for wrong in (drawn(c, 0.0), drawn(c, 1.5), drawn((c + 1) % 10, 0.5)):
        others(measured(judge, wrong, c, test), ["class_accuracy", "frechet", "inception_score"])


def test_each_call_adds_a_line(weights, capsys, monkeypatch):
    monkeypatch.setattr("train.evaluate.cas.STEPS", 3)
    assert evaluate(weights, "--w", "0") == 0
    assert evaluate(weights, "--sampler", "ancestral", "--seed", "1", "--cas", "--n", "10") == 0
    assert "classification accuracy score" in capsys.readouterr().out
    rows = read_rows(weights.parent / "results.csv").to_dict("records")
    assert [row["sampler"] for row in rows] == ["ddim", "ancestral, posterior"]
    assert [row["w"] for row in rows] == [0, 1] and [row["n"] for row in rows] == [40, 10]
    assert rows[0]["cas"] != rows[0]["cas"] and 0 <= rows[1]["cas"] <= 1


@pytest.mark.parametrize(
    ("sampler", "options"),
    [(ancestral, {"variance": "beta"}), (ddim, {"eta": 0.5}), (dpm_solver, {})],
)
def test_the_samplers_are_the_librarys(sampler, options, weights):
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert (
        evaluate(weights, "--sampler", sampler.__name__.replace("_", "-"), *flags, "--w", "0") == 0
    )
    models, c = load_models(weights), torch.arange(10).repeat_interleave(4)
    x_T = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    streams = [torch.Generator().manual_seed(stream_seed(0, i + 1)) for i in range(40)]
    steps = sampler(models.schedule, lambda x, t: models.unet(x, t, c), x_T, 5,
                    generator=streams, **options)  # fmt: skip
    features, _ = ask(load(weights / "judge.safetensors")[0], [step.x for step in steps][-1])
    (row,) = read_rows(weights.parent / "results.csv").to_dict("records")
    assert row["diversity"] == pytest.approx(metrics.diversity(features, c), rel=1e-4)


def test_samples_are_drawn_in_the_precision_that_the_row_names(weights):
    """bfloat16's are the library's under autocast, and float32's are others."""
    c, x_T, found = torch.arange(10).repeat_interleave(2), stream(0, torch.randn, 20, 1, 8, 8), {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        models = load_models(weights, dtype=dtype)
        eps = classifier_free_guidance(models.unet, c, 1.0, null=10)
        place = weights.parent / name
        assert evaluate(weights, "--precision", name, "--n", "20", "--save", str(place)) == 0
        with np.load(place / "samples.npz") as saved:
            found[name] = saved["arr_0"][..., 0]
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            *_, last = ddim(models.schedule, eps, x_T, 5)
        assert np.array_equal(found[name], ((last.x.clamp(-1, 1) + 1) * 127.5).round()[:, 0])
    assert not np.array_equal(found["float32"], found["bfloat16"])
    rows = read_rows(weights.parent / "results.csv").to_dict("records")
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16"]


def test_a_row_names_the_contents_of_the_files_that_were_measured(weights):
    """--weights may name a file: that U-Net and the judge are in it, and unet.safetensors only
    where it is that U-Net."""
    unet, raw, judge = (weights / f"{name}.safetensors" for name in ("unet", "unet-raw", "judge"))
    save(raw, UNet(**TINY), load(unet)[1])

    def named():
        flags = [LabFlags(weights=str(place), data_dir="") for place in (weights, unet, raw)]
        return [Lab(f, torch.device("cpu"), batch_size=1).fingerprint for f in flags]

    first = named()
    assert first[0] == first[1] != first[2]
    save(raw, UNet(**TINY), load(unet)[1])
    second = named()
    assert second[:2] == first[:2] and second[2] not in first
    save(unet, UNet(**TINY), load(unet)[1])
    third = named()
    assert third[0] == third[1] not in first and third[2] == second[2]
    save(judge, Judge(size=8, width=4), load(judge)[1])
    assert not set(named()) & set(third)


@pytest.mark.parametrize("wanted", ["auto", "on", "off"])
def test_the_compiler_is_asked_for_what_the_flag_says(wanted, weights, monkeypatch):
    asked = []
    monkeypatch.setattr("train.evaluate.lab.compile_network", lambda *given: asked.append(given))
    assert evaluate(weights, "--n", "10", *([] if wanted == "auto" else ["--compile", wanted])) == 0
    ((network, said, device),) = asked
    assert isinstance(network, UNet) and (said, device) == (wanted, torch.device("cpu"))


@pytest.mark.parametrize("batch", [7, 3])
def test_the_bound_is_the_librarys(batch, weights, capsys):
    """In batches, too: one generator makes the noise of all of them, one after the other."""
    assert evaluate(weights, "--bound", "7", "--seed", "3", "--batch-size", str(batch)) == 0
    model = load_models(weights).unet
    out = capsys.readouterr().out
    assert "7 held-out images of digits" in out and "17 grey levels cost 4.087" in out
    data = load_data("digits", "")
    x_0, c = data.scale(data.test_images[:7]), data.test_labels[:7]
    rows = re.findall(
        r"^(?:beta|posterior) +(\S+) +(\S+) +(\S+) +(\S+) ± (\S+)$", out, re.MULTILINE
    )
    assert len(rows) == 2
    for row, variance in zip(rows, ("beta", "posterior"), strict=True):
        generator = torch.Generator().manual_seed(3)
        parts = [
            variational_bound(
                cosine_schedule(20),
                lambda x_t, t, labels=labels: model(x_t, t, labels),
                images,
                levels=17,
                variance=variance,
                generator=generator,
            )
            for images, labels in zip(x_0.split(batch), c.split(batch), strict=True)
        ]
        terms = [(part.L_T, part.L_t.sum(1), part.L_0, part.total) for part in parts]
        each = [torch.cat(values) for values in zip(*terms, strict=True)]
        for text, values in zip(row, each, strict=False):
            assert abs(float(text) - values.mean()) <= 1e-4
        half = student_t.ppf(0.975, 6) * each[3].std() / 7**0.5
        assert abs(float(row[4]) - half) <= 1e-4
        column = "bound" if variance == "beta" else "bound_posterior"
        (stored,) = read_rows(weights.parent / "results.csv").to_dict("records")
        assert stored[column] == pytest.approx(float(each[3].mean()), rel=1e-4)
        assert stored["bound_n"] == 7


def test_the_real_fid_says_what_it_lacks(weights, capsys, monkeypatch):
    def missing(feature):
        assert feature == 2048  # before a number of the judge's is asked for
        raise ModuleNotFoundError("FrechetInceptionDistance metric requires that `Torch-fidelity`")

    monkeypatch.setattr("torchmetrics.image.fid.FrechetInceptionDistance", missing)
    assert evaluate(weights, "--features", "inception") == 2
    error = capsys.readouterr().err
    assert "--features inception needs torch-fidelity" in error and error.strip().count("\n") == 0


def test_the_real_fid_sees_bytes_in_three_channels(weights, capsys, monkeypatch):
    seen, judged = {True: [], False: []}, fid.FrechetInceptionDistance

    class Metric:
        def __init__(self, feature):
            assert feature == 2048

        def update(self, images, real):
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 8, 8)
            seen[real].append(images)

        def to(self, device):
            return self

        def compute(self):
            return torch.tensor(12.5)

    def metric(feature):
        return Metric(feature) if isinstance(feature, int) else judged(feature)

    monkeypatch.setattr(fid, "FrechetInceptionDistance", metric)
    assert evaluate(weights, "--features", "inception") == 0
    assert re.search(r"^FID \(Inception\) +12\.5000$", capsys.readouterr().out, re.MULTILINE)
    real = torch.cat(seen[True])
    assert len(real) == 360 and real.min() == 0 and real.max() == 255
    assert len(torch.cat(seen[False])) == 40


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bound", "1"], "--bound must be 0 or 2..360, got 1"),
        (["--bound", "361"], "--bound must be 0 or 2..360"),
        (["--n", "15"], "--n must be a multiple of the 10 classes, got 15"),
        (["--n", "2000"], "--n must be at most"),
        (["--steps", "21"], "--steps must be at most T = 20, got 21"),
        (["--batch-size", "0"], "--batch-size must be in 1..1000000, got 0"),
        (["--seed", "-1"], "--seed must be in 0.."),
        (["--out", "."], "is not a CSV file of results"),
        (["--weights", "nowhere"], "no unet.safetensors"),
    ],
)
def test_bad_flags(flags, message, weights, capsys):
    assert evaluate(weights, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0


def untouched(*_, **__):
    raise AssertionError("something was drawn")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--save", "results.txt"], "results.txt is no directory to save samples in"),
        (["--save", "full"], "full has samples in it already"),
        (["--save", "results.txt/deep"], "results.txt/deep can't be written to"),
        (["--out", "results.txt/x.csv"], "results.txt can't be written to"),
        (["--out", "old.csv"], "old.csv is of another version, without bound"),
        (["--n", "2000"], "--n must be at most 1390"),
        (["--bound", "361"], "--bound must be 0 or 2..360, got 361"),
        (["--steps", "21"], "--steps must be at most T = 20"),
        (["--sampler", "ancestral", "--eta", "0.5"], "--eta needs --sampler ddim, got 0.5"),
        (["--w", "nan"], "--w must be a finite number"),
        (["--weights", "p_uncond_0"], "these weights know no ∅"),
        (["--weights", "p_uncond_1"], "these weights know no class"),
        (["--weights", "p_uncond_1", "--w", "0"], "these weights know no class"),
    ],
)
def test_what_can_be_refused_is_refused_before_anything_is_drawn(
    flags, message, weights, capsys, monkeypatch
):
    """Files and directories by their names beside the weights."""
    beside = weights.parent
    (beside / "results.txt").write_text("")
    (beside / "old.csv").write_text("data,weights,dtype\ndigits,x,float32\n")
    (beside / "full").mkdir()
    (beside / "full/samples.npz").write_bytes(b"")
    for p in (0, 1):
        model, info = load(weights / "unet.safetensors")
        save(beside / f"p_uncond_{p}/unet.safetensors", model, {**info, "config": {"p_uncond": p}})
        shutil.copy(weights / "judge.safetensors", beside / f"p_uncond_{p}")
    monkeypatch.setattr("guidance.app.draw.processes", untouched)
    monkeypatch.chdir(beside)
    assert evaluate(weights, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0
    assert not (beside / "results.csv").exists()


def test_weights_that_know_no_null_are_measured_without_it(weights):
    model, info = load(weights / "unet.safetensors")
    save(weights / "unet.safetensors", model, {**info, "config": {"p_uncond": 0.0}})
    assert evaluate(weights, "--w", "0") == 0


def test_samples_are_saved_before_anything_is_measured(weights, monkeypatch):
    """As they are, with their classes; a measurement that fails takes none of them away."""

    def broken(*_):
        raise ValueError("no number")

    monkeypatch.setattr("train.evaluate.lab.Lab.measure", broken)
    out = weights.parent / "samples"
    assert evaluate(weights, "--save", str(out), "--seed", "3", "--w", "0.5") == 2
    models, c = load_models(weights), torch.arange(10).repeat_interleave(4)
    x = draw(models, classifier_free(0.5), c, 3, sampler=partial(ddim, steps=5))
    grey = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    saved = np.load(out / "samples.npz")
    assert saved["arr_0"].shape == (40, 8, 8, 3) and saved["labels"].tolist() == c.tolist()
    assert np.array_equal(saved["arr_0"], grey.movedim(1, 3).expand(-1, -1, -1, 3).numpy())
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 40
    for path, picture in zip(pictures, grey, strict=True):
        assert np.array_equal(np.array(Image.open(path)), picture[0].numpy())


def evaluate_soon(weights, seed):
    """With numbers that need no library for them."""
    names = [*metrics.NAMES, *(f"{name}_real" for name in metrics.NAMES)]
    Lab.measure = lambda *_: dict.fromkeys(names, 0.5)
    return evaluate(weights, "--seed", seed)


def test_two_evaluations_at_once_have_two_rows(weights):
    said = weights.parent
    every = [start(evaluate_soon, weights, f"{k}", said=said / f"{k}") for k in (1, 2)]
    for process in every:
        process.join(120)
    assert [process.exitcode for process in every] == [0, 0]
    assert sorted(read_rows(weights.parent / "results.csv")["seed"]) == [1, 2]


def test_weights_without_a_judge(weights, capsys):
    (weights / "judge.safetensors").unlink()
    assert evaluate(weights) == 2
    assert "no judge.safetensors" in capsys.readouterr().err
    save(weights / "judge.safetensors", Judge(size=8, width=4), {"data": "mnist"})
    assert evaluate(weights) == 2
    assert "is not a judge of digits" in capsys.readouterr().err
