"""The pictures of a run: what is in their panels, for any number of classes."""

from functools import partial

import pytest
import torch
from helpers import log
from PIL import Image
from tiny import perturbed

from ddpm import cosine_schedule, ddim, timesteps
from guidance.app import guides
from guidance.app.draw import draw
from guidance.app.models import Models, load_models
from train import report
from unet import NoisyClassifier


def models(K):
    p_phi = perturbed(NoisyClassifier, classes=K)
    names = [f"class {k}" for k in range(K)]
    return Models(perturbed(classes=K), p_phi, cosine_schedule(60), names, {})


@pytest.fixture
def panels(monkeypatch):
    """What is drawn, in the place of the drawing."""
    drawn = []
    monkeypatch.setattr(report, "save_panels", lambda path, panels, *_: drawn.extend(panels))
    return drawn


@pytest.mark.parametrize(("K", "rows"), [(2, 2), (3, 3), (10, 10), (100, 12)])
def test_every_guidance_is_shown_for_any_number_of_classes(panels, tmp_path, K, rows):
    found, n, S = models(K), 2, 5
    report.every_guidance(tmp_path / "x.png", found, S, n)
    assert [p.images.shape for p in panels] == [(rows, n, 1, 8, 8)] * 3 + [(10, n, 1, 8, 8)]
    assert [list(p.rows) for p in panels[:3]] == [found.classes[:rows]] * 3
    assert panels[3].title == f"−class {min(3, K - 1)} from ∅, w = 2"
    assert list(panels[3].rows) == ["never", *(f"step {k}" for k in (4, 4, 3, 2, 2, 2, 1, 0, 0))]
    for one in panels:
        assert one.images.isfinite().all()


def test_each_panel_shows_its_guidance_from_the_same_noise(panels, tmp_path):
    """Each row on its own, from the noise of the seed, by the function of its guidance."""
    found, n, S = models(3), 2, 5
    report.every_guidance(tmp_path / "x.png", found, S, n)
    x_T = found.noise(n, torch.Generator().manual_seed(0))
    expected = (guides.none(), guides.classifier(3.0), guides.classifier_free(2.0))
    for panel, guide in zip(panels, expected, strict=False):
        for k in range(3):
            c = torch.full((n,), k)
            *_, last = ddim(found.schedule, guide(found, c), x_T, S)
            torch.testing.assert_close(panel.images[k], last.x, rtol=0, atol=1e-5)
    never, *_, always = panels[3].images
    generator = torch.Generator().manual_seed(0)
    noise = (found.noise(n, generator), found.noise(30 * n, generator))[1]
    *_, plain = ddim(found.schedule, found.unet, noise, S)
    sure = found.log_prob(2)(plain.x, torch.zeros(30 * n).long()).detach()
    chosen = sure.topk(n).indices
    torch.testing.assert_close(never, plain.x[chosen], rtol=0, atol=1e-5)
    null = torch.full((n,), 3)
    eps = guides.negative(2, 2.0, start=timesteps(60, S)[0])(found, null)
    *_, last = ddim(found.schedule, eps, noise[chosen], S)
    torch.testing.assert_close(always, last.x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("K", "rows"), [(2, 2), (100, 12)])
def test_grids_of_samples_show_twelve_classes_at_most(panels, tmp_path, K, rows):
    found = models(K)
    report.samples(tmp_path / "x.png", found, (0.0, 3.0), 2, 3)
    report.progress(tmp_path / "y.png", found, 3)
    assert [p.title for p in panels] == ["w = 0", "w = 3", "w = 1"]
    assert [p.images.shape[:2] for p in panels] == [(rows, 2), (rows, 2), (rows, 8)]
    c = torch.arange(rows).repeat_interleave(2)
    x = draw(found, guides.classifier_free(3.0), c, 0, sampler=partial(ddim, steps=3))
    assert torch.equal(panels[1].images.flatten(0, 1), x)


def test_the_reverse_process_of_two_classes(tmp_path):
    report.reverse_process(tmp_path / "x.gif", models(2), 1.0, 3, 4)
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 4


def test_the_accuracy_of_the_run_is_that_of_its_classifier(finished):
    """Asked again, image by image."""
    from train.data import load_data

    found, data = load_models(finished, classifier=True), load_data("digits", "")
    (logged,) = (e["accuracy over t"] for e in log(finished) if "accuracy over t" in e)
    right = []
    for x, y in zip(data.scale(data.test_images), data.test_labels, strict=True):
        right.append(found.classifier(x[None], torch.zeros(1).long()).argmax() == y)
    assert logged["0"] == pytest.approx(float(torch.stack(right).float().mean()))
