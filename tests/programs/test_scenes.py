"""Labels that overlap: the scenes as drawn, one concept drawn of several, and what is learned."""

import math

import numpy as np
import pytest
import torch
from helpers import unrendered
from torch.testing import assert_close

from guidance import class_log_prob, drop_labels
from guidance.__main__ import main as guidance_main
from guidance.app.models import load_models
from train import data as train_data
from train import scenes
from train.__main__ import main as train_main
from train.data import Dataset
from train.evaluate.__main__ import main as evaluate_main
from train.evaluate.results import read_rows
from train.experiments.__main__ import main as experiments_main
from train.experiments.cases import QUESTIONS
from train.experiments.target import LEFT_OUT
from train.judge import accuracy, held_true
from train.objectives import negative_log_likelihood, one_concept, unet_loss
from train.scenes import BOLD, P_BOLD, P_RING, P_USUAL, RARE, RING, USUAL

N = 12_000


def handwriting(n, seed):
    """Blots in the middle of the picture: nothing of them reaches a corner."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    images[..., 9:19, 9:19] = torch.randint(0, 256, (n, 1, 10, 10), generator=generator).byte()
    return images, torch.randint(0, 10, (n,), generator=generator)


@pytest.fixture(scope="module")
def mnist():
    return Dataset("mnist", *handwriting(N, 0), *handwriting(50, 1), [str(k) for k in range(10)])


@pytest.fixture(scope="module")
def data(mnist):
    return train_data.scenes(mnist)


def within(count, n, p):
    """Whether a count is within five standard errors of n·p."""
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def test_labels_say_the_digit_and_how_often_it_has_a_ring(mnist, data):
    """Ten columns are the digit; ring and bold come as often as the table says, each digit's."""
    assert data.labels.shape == (N, 12) and data.labels.dtype == torch.bool and not data.exclusive
    assert data.classes == [*"0123456789", "ring", "bold"]
    assert torch.equal(data.labels[:, :10].long().argmax(1), mnist.labels)
    assert (data.labels[:, :10].sum(1) == 1).all()
    for digit, p in enumerate(P_RING):
        of = data.labels[mnist.labels == digit]
        assert within(int(of[:, RING].sum()), len(of), p)
        assert within(int(of[:, BOLD].sum()), len(of), P_BOLD)
        both = int((of[:, RING] & of[:, BOLD]).sum())  # one says nothing of the other
        assert within(both, len(of), p * P_BOLD)


def test_a_picture_is_what_its_labels_say(mnist, data):
    """Pixel by pixel: the digit, or each pixel's brightest neighbour, and a ring in a corner."""
    usual = 0
    for i in range(200):
        plain, found = mnist.images[i, 0].tolist(), data.images[i, 0].tolist()
        at = {USUAL: 0.0, RARE: 0.0}
        for row in range(28):
            for column in range(28):
                near = [plain[r][c] for r in range(max(0, row - 1), min(28, row + 2))
                        for c in range(max(0, column - 1), min(28, column + 2))]  # fmt: skip
                expected = max(near) if data.labels[i, BOLD] else plain[row][column]
                for centre in (USUAL, RARE):
                    far = math.hypot(row - centre[0], column - centre[1])
                    if far < 5:
                        at[centre] += found[row][column]
                        expected = found[row][column]
                        # a ring of radius 2.75 and 1.5 wide, or nothing
                        if abs(far - 2.75) < 0.25 or abs(far - 2.75) > 1.25:
                            assert found[row][column] in (0, 255 * (abs(far - 2.75) < 0.25))
                assert found[row][column] == expected
        assert sum(v > 0 for v in at.values()) == int(data.labels[i, RING])
        usual += at[USUAL] > 0
        if data.labels[i, RING]:
            x = data.scale(data.images[i : i + 1])
            assert bool(scenes.at_rare_place(x)) == (at[RARE] > 0)
    assert within(usual, int(data.labels[:200, RING].sum()), P_USUAL)


def test_the_world_is_the_one_that_the_shipped_weights_know():
    """weights/scenes and docs/results were made in it: a change here wants both anew."""
    assert P_RING == (0.5, 0.05, 0.5, 0.9, 0.5, 0.5, 0.5, 0.05, 0.9, 0.0)
    assert (P_BOLD, P_USUAL, USUAL, RARE) == (0.5, 0.9, (4, 4), (23, 23))


def test_scenes_are_drawn_by_a_seed(mnist, data):
    """Again the same; another with another seed; the test images are no copies of the draws."""
    again = train_data.scenes(mnist)
    assert torch.equal(data.images, again.images) and torch.equal(data.labels, again.labels)
    _, other = scenes.draw(mnist.images, mnist.labels, seed=2)
    assert not torch.equal(data.labels, other)
    held_out = mnist.test_images, mnist.test_labels
    as_training, apart = (scenes.draw(*held_out, seed=seed) for seed in (0, 1))
    assert torch.equal(data.test_images, apart[0]) and torch.equal(data.test_labels, apart[1])
    assert not torch.equal(data.test_labels, as_training[1])


def test_each_true_concept_is_drawn_as_often():
    """Of a 3 with ring: 3 and ring, a half each; then labels are dropped. Of classes no draw."""
    generator = torch.Generator().manual_seed(0)
    c = torch.zeros(30_000, 12, dtype=torch.bool)
    c[:, 3] = True
    c[:20_000, RING] = True
    c[:10_000, BOLD] = True
    drawn = one_concept(c, generator)
    for part, true in ((0, (3, RING, BOLD)), (1, (3, RING)), (2, (3,))):
        found = drawn[10_000 * part : 10_000 * (part + 1)]
        counts = torch.bincount(found, minlength=12)
        assert int(counts.sum()) == sum(int(counts[k]) for k in true)
        assert all(within(int(counts[k]), 10_000, 1 / len(true)) for k in true)
    classes, before = torch.arange(10), generator.get_state()
    assert one_concept(classes, generator) is classes
    assert torch.equal(generator.get_state(), before)


def test_the_network_is_told_one_concept_or_none(data):
    """What ε_θ gets in training: a concept of each image, dropped with p_uncond, in that order."""
    from types import SimpleNamespace

    from ddpm import linear_schedule

    seen = []

    def model(x_t, t, c):
        seen.append(c)
        return torch.zeros_like(x_t, requires_grad=True)

    model.null_token = 12
    x, c = data.batch(64, torch.Generator().manual_seed(1))
    loss = unet_loss(linear_schedule(), SimpleNamespace(p_uncond=0.3))
    loss(model, x, c, torch.Generator().manual_seed(2))
    stream = torch.Generator().manual_seed(2)
    named = torch.multinomial(c.float(), 1, generator=stream)[:, 0]
    expected = drop_labels(named, 0.3, null=12, generator=stream)
    assert torch.equal(seen[0], expected) and 0 < int((seen[0] == 12).sum()) < 64
    assert bool(c[torch.arange(64), named].all())


def test_concepts_have_a_sigmoid_each():
    """−log p(y) = −Σ_k log σ(±logit_k), the mean over images, with σ written out."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]], dtype=torch.float64)
    y = torch.tensor([[True, False, True], [False, False, True]])
    total = 0.0
    for row, true in zip(logits.tolist(), y.tolist(), strict=True):
        total -= sum(math.log(1 / (1 + math.exp(-v if is_true else v)))
                     for v, is_true in zip(row, true, strict=True))  # fmt: skip
    assert_close(float(negative_log_likelihood(logits, y)), total / 2, rtol=0, atol=1e-12)
    c = torch.tensor([0, 2])
    by_class = -sum(math.log(math.exp(row[k]) / sum(map(math.exp, row)))
                    for row, k in zip(logits.tolist(), c.tolist(), strict=True)) / 2  # fmt: skip
    assert_close(float(negative_log_likelihood(logits, c)), by_class, rtol=0, atol=1e-12)


def test_p_phi_of_a_concept_is_its_own_sigmoid():
    """log p_φ(ring|x_t) does not depend on the other logits; of a class it does."""
    logits = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    x, t = torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.ones(1, dtype=torch.int64)
    log_p = class_log_prob(lambda x, t: logits, 1, exclusive=False)(x, t)
    assert_close(log_p, torch.tensor([-math.log(1 + math.e)], dtype=torch.float64))
    total = math.exp(2) + math.exp(-1) + math.exp(0.5)
    log_p = class_log_prob(lambda x, t: logits, 1)(x, t)
    assert_close(log_p, torch.tensor([-1 - math.log(total)], dtype=torch.float64))


def test_the_judge_may_hold_several_true():
    """Of classes the likeliest; of concepts each above a half; and how often that is right."""

    class Judge:
        head = torch.nn.Linear(3, 3)

        def features(self, x):
            return x.flatten(1)

        def logits(self, features):
            return features

    x = torch.tensor([[2.0, 1.0, -1.0], [-2.0, -1.0, -3.0]]).view(2, 3, 1, 1)
    logits = x.flatten(1)
    one, several = (held_true(logits, exclusive=e).tolist() for e in (True, False))
    assert one == [[True, False, False], [False, True, False]]
    assert several == [[True, True, False], [False, False, False]]
    judge, c = Judge(), torch.tensor([1, 1])
    assert accuracy(judge, x, c) == 0.5  # of the second
    assert accuracy(judge, x, c, exclusive=False) == 0.5  # of the first
    labels = torch.tensor([[True, False, False], [False, False, True]])
    assert accuracy(judge, x, labels, exclusive=False) == pytest.approx(4 / 6)


@pytest.fixture(scope="module")
def few():
    """As many as a run needs, where nothing is counted."""
    return Dataset("mnist", *handwriting(1000, 0), *handwriting(50, 1), [str(k) for k in range(10)])


@pytest.fixture(scope="module")
def run(few, tmp_path_factory):
    """The smallest run of the preset, on blots in the place of MNIST."""
    run = tmp_path_factory.mktemp("scenes") / "run"
    flags = {"steps": 2, "classifier-steps": 1, "judge-steps": 1, "judge-width": 4, "width": 8,
             "batch-size": 4, "T": 20, "schedule": "cosine", "sampling-steps": 2, "threads": 1,
             "device": "cpu", "out": run}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_data, "_torchvision", lambda name, data_dir: few)
        said = [f"--{name}={value}" for name, value in flags.items()]
        assert train_main(["--preset", "scenes", *said]) == 0
    return run


def test_a_run_on_scenes_knows_its_concepts(run):
    """The files say that labels overlap; ε_θ has twelve rows and ∅'s; p_φ is of sigmoids."""
    models = load_models(run, classifier=True)
    assert models.classes == scenes.CONCEPTS and models.K == 12 and not models.exclusive
    x, t = models.noise(2, torch.Generator().manual_seed(0)), torch.tensor([3, 4])
    logits = models.classifier(x, t).double()
    expected = [-math.log(1 + math.exp(-v)) for v in logits[:, RING].tolist()]
    assert_close(models.log_prob(RING)(x, t).double(), torch.tensor(expected).double())


def test_concepts_are_asked_for_by_name(run, tmp_path, capsys):
    """`--class 3 --negative ring` is p₊ = 3 and p₋ = 10; an unknown name lists those there are."""
    flags = ["--weights", str(run), "--n", "1", "--steps", "2", "--device", "cpu"]
    said = ["--class", "3", "--start-step", "0,2", "--out", str(tmp_path / "x.png")]
    for name, folder in (("ring", "a"), ("10", "b")):
        where = ["--negative", name, "--save", str(tmp_path / folder)]
        assert guidance_main(["negative", *flags, *said, *where]) == 0
    a, b = (np.load(tmp_path / folder / "samples.npz") for folder in "ab")
    assert np.array_equal(a["arr_0"], b["arr_0"]) and a["arr_0"].std() > 0
    capsys.readouterr()
    assert guidance_main(["negative", *flags, *said, "--negative", "glasses"]) == 2
    error = capsys.readouterr().err
    assert "glasses" in error and "0, 1, 2" in error and "ring, bold" in error


def test_what_measures_classes_refuses_concepts(run, few, monkeypatch, capsys):
    """One line, that names what does take them."""
    monkeypatch.setattr(train_data, "_torchvision", lambda name, data_dir: few)
    weights = ["--weights", str(run), "--device", "cpu"]
    for main, flags in ((evaluate_main, []), (experiments_main, ["price-of-w"])):
        assert main([*flags, *weights, "--n", "12"]) == 2
        error = capsys.readouterr().err
        assert "knows concepts" in error and "timing" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["timing", "course", "concepts", "target"])
def test_experiments_take_concepts(name, run, few, tmp_path, monkeypatch, capsys):
    """The command to its end: every question has its rows, and the table is shown again alike."""
    if name == "target":  # of ten threes one has no ring
        few = Dataset("mnist", *handwriting(1000, 0), *handwriting(2500, 1), few.classes)
    monkeypatch.setattr(train_data, "_torchvision", lambda name, data_dir: few)
    out = ["--out", str(tmp_path)]
    flags = [
        "--n",
        "20" if name == "target" else "10",
        "--seeds",
        "1",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--compile",
        "off",
    ]
    assert experiments_main([name, "--weights", str(run), *out, *flags]) == 0
    said = capsys.readouterr().out
    rows = read_rows(tmp_path / f"{name}.csv")
    if name == "concepts":
        assert set(rows["given"]) == set(rows["concept"]) == set(scenes.CONCEPTS)
    else:
        questions = {group.split(", ")[-1] for group in rows["group"]}
        assert questions == set(QUESTIONS) - set(LEFT_OUT if name == "target" else ())
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    unrendered(monkeypatch)
    assert experiments_main([name, *out, "--plot"]) == 0
    assert capsys.readouterr().out == said
    assert (tmp_path / f"{name}.png").read_bytes() == b"drawn"
