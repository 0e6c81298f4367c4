"""What is no derivation: arguments that are refused by name, types, devices, seeds."""

import importlib
import itertools
import json
import math

import numpy as np
import pytest
import torch
from oracles import (
    Spy,
    last,
    log_posterior_of,
    normal,
    perturbed_classifier,
    seeded,
    three_in_the_plane,
    three_on_a_line,
)
from torch.testing import assert_close

from ddpm import (
    GaussianMixture,
    Schedule,
    ancestral,
    cosine_schedule,
    ddim,
    dpm_solver,
    linear_schedule,
    predict_x_0,
    q_posterior,
    q_sample,
    reverse_mean,
    simple_loss,
    timesteps,
    variational_bound,
)
from ddpm.bound import discrete_log_likelihood
from ddpm.forward import noise_like
from ddpm.values import is_number
from guidance import (
    class_log_prob,
    classifier_free_guidance,
    classifier_guidance,
    classifier_mean_shift,
    drop_labels,
    negative_guidance,
    posterior_negative_guidance,
)
from guidance.app.draw import window
from guidance.classifier import gradient

S, W, P, N, NULL = 8, 1.5, 0, 2, 3


@pytest.fixture
def mixture():
    return three_in_the_plane()


@pytest.fixture
def line():
    return three_on_a_line()


def test_at_casts_to_the_image(schedule):
    x = torch.zeros(2, 3, 4, 4)
    values = schedule.at(schedule.beta, torch.tensor([1, 1000]), x)
    assert values.shape == (2, 1, 1, 1) and values.dtype == torch.float32
    assert values[1].item() == schedule.beta[1000].float()


def test_at_goes_to_the_images_device(schedule):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    x, t = torch.zeros(2, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    assert schedule.at(schedule.beta, t, x).is_meta and schedule.beta.is_cpu


T_DOORS = {  # every function that takes a t
    "q_sample": lambda schedule, x, t: q_sample(schedule, x, t, x),
    "q_posterior": lambda schedule, x, t: q_posterior(schedule, x, x, t),
    "predict_x_0": lambda schedule, x, t: predict_x_0(schedule, x, t, x),
    "reverse_mean": lambda schedule, x, t: reverse_mean(schedule, x, t, x),
    "log_prob": lambda schedule, x, t: WORLD.log_prob(schedule, x, t),
    "log_posterior": lambda schedule, x, t: WORLD.log_posterior(schedule, x, t),
    "eps": lambda schedule, x, t: WORLD.eps(schedule)(x, t),
    "classifier_guidance": lambda schedule, x, t: classifier_guidance(
        lambda x_t, t: x_t, lambda x_t, t: x_t.sum(1), 1.0, schedule
    )(x, t),
}
WORLD = GaussianMixture(torch.zeros(2, 2), torch.ones(2))


@pytest.mark.parametrize("door", T_DOORS)
@pytest.mark.parametrize(
    "t",
    [[-1], [1001], [1, 2], [1.0], [True], torch.tensor([1], dtype=torch.uint8), -1, 1001, 1.5,
     "1", None],
    ids=str,
)  # fmt: skip
def test_no_door_lets_another_t_pass(door, t):
    """A negative one would index from the end, a bool or uint8 would be a mask."""
    t = torch.tensor(t) if isinstance(t, list) else t
    with pytest.raises((ValueError, TypeError), match="^t must"):
        T_DOORS[door](linear_schedule(), torch.zeros(1, 2), t)


@pytest.mark.parametrize("door", ["q_posterior", "predict_x_0", "reverse_mean"])
def test_nothing_leads_back_from_clean_data(door):
    for t in (0, torch.tensor([0])):
        with pytest.raises(ValueError, match="^t must"):
            T_DOORS[door](linear_schedule(), torch.zeros(1, 2), t)


def test_one_t_for_all_is_that_t_for_each(schedule):
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, door in T_DOORS.items():
        if name != "classifier_guidance":  # a predictor's t is (B,)
            one, each = door(schedule, x, 700), door(schedule, x, torch.full((3,), 700))
            one, each = (v[0] if isinstance(v, tuple) else v for v in (one, each))
            assert_close(one, each, rtol=0, atol=1e-13)


def test_a_schedules_info_survives_json(schedule):
    assert schedule.info["name"] in ("linear", "cosine") and schedule.info["T"] == 1000
    again = Schedule.from_info(json.loads(json.dumps(schedule.info)))
    assert torch.equal(again.beta, schedule.beta)
    own = Schedule(torch.tensor([0.1, 0.2, 0.7]))
    assert torch.equal(Schedule.from_info(json.loads(json.dumps(own.info))).beta, own.beta)
    sub = schedule.subsequence([1000, 20])
    again = Schedule.from_info(json.loads(json.dumps(sub.info)))
    for table in ("beta", "alpha", "alpha_bar", "posterior_variance"):
        assert torch.equal(getattr(again, table), getattr(sub, table))


def test_tables_are_float64_on_the_cpu_whatever_they_are_made_from():
    half = Schedule(torch.tensor([0.5, 0.25], dtype=torch.float16))
    with torch.device("meta"):  # the default device, one without values
        plain = Schedule([0.5, 0.25])
    for own in (half, plain):
        assert own.beta.dtype == torch.float64 and own.beta.tolist() == [0, 0.5, 0.25]
    assert linear_schedule(3, 0.1, 0.1).beta.tolist() == [0, 0.1, 0.1, 0.1]  # constant is linear


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: timesteps(1000, 0), "S"),
        (lambda: timesteps(1000, 1001), "S"),
        (lambda: timesteps(1000, 2.5), "S"),
        (lambda: timesteps(1000, True), "S"),
        (lambda: timesteps(0, 1), "T"),
        (lambda: linear_schedule(0), "T"),
        (lambda: linear_schedule(10, 0.5, 0.1), "beta_1"),
        (lambda: linear_schedule(10, 0.0, 0.1), "beta_1"),
        (lambda: linear_schedule(10, 0.1, 1.0), "beta_T"),
        (lambda: cosine_schedule(-3), "T"),
        (lambda: cosine_schedule(True), "T"),
        (lambda: cosine_schedule(10, s=float("nan")), "s must"),
        (lambda: cosine_schedule(10, s=0.0), "s must"),
        (lambda: Schedule(torch.tensor([0.1, 1.0])), "beta"),
        (lambda: Schedule(torch.tensor([0.0, 0.1])), "beta"),
        (lambda: Schedule(torch.tensor([])), "beta"),
        (lambda: Schedule(torch.tensor([[0.1]])), "beta"),
        (lambda: Schedule.from_alpha_bar(0.5), "alpha_bar"),
        (lambda: Schedule.from_alpha_bar([]), "beta"),
        (lambda: Schedule.from_alpha_bar([0.5, -0.1, 0.05]), "alpha_bar"),
        (lambda: Schedule.from_alpha_bar([0.5, float("nan")]), "alpha_bar"),
        (lambda: linear_schedule().subsequence([3, 7]), "alpha_bar"),
        (lambda: Schedule.from_info({}), r"info\['name'\]"),
        (lambda: Schedule.from_info({"name": "sine"}), r"info\['name'\]"),
    ],
)
def test_bad_schedules_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()


def test_integers_of_any_kind_are_counted_with():
    assert timesteps(np.int64(1000), np.int32(4)) == [1000, 750, 500, 250]
    assert linear_schedule(np.int64(10)).info["T"] == 10
    assert type(cosine_schedule(np.int64(10)).info["T"]) is int  # as JSON wants it


def test_images_of_integers_are_refused():
    """Cast to uint8 every coefficient would be 0, and so would every image."""
    x = torch.ones(1, 2).byte()
    for name, door in T_DOORS.items():
        if name != "classifier_guidance":  # the network's own look
            with pytest.raises(ValueError, match=r"^x_\w must be \(B, ...\) floats"):
                door(linear_schedule(), x, torch.tensor([1]))


def test_a_long_schedule_can_be_sampled_in_one_step():
    """ᾱ_4000 is 1e-18: 1 − ᾱ is 1 to every digit of float64."""
    sub = linear_schedule(4000).subsequence([4000])
    assert sub.T == 1 and 0 < sub.alpha_bar[1] < 1e-14


def test_info_with_other_arguments_is_refused():
    with pytest.raises(ValueError, match="^info can't be made into a schedule"):
        Schedule.from_info({"name": "linear", "T": 10, "s": 1})


def test_noise_follows_the_generator_and_the_image():
    x = torch.zeros(3, 2, dtype=torch.float64)
    first, second = (noise_like(x, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second) and first.dtype == torch.float64 and first.shape == x.shape
    assert not torch.equal(first, noise_like(x, torch.Generator().manual_seed(8)))


def test_noise_is_drawn_where_the_generator_is():
    """The image is on another device (meta, which has no values): the noise is the CPU's."""
    generator = seeded()
    x, before = torch.zeros(3, 2, dtype=torch.float64, device="meta"), generator.get_state()
    noise = noise_like(x, generator)
    assert noise.is_meta and noise.dtype == torch.float64
    assert not torch.equal(generator.get_state(), before)
    state = torch.get_rng_state()
    assert noise_like(x).is_meta and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver])
@pytest.mark.parametrize(
    ("generator", "error", "message"),
    [
        ([seeded()] * 2, ValueError, "^generator must be one, or one for each of the 3 images"),
        ([seeded()] * 4, ValueError, "^generator must be one, or one for each of the 3 images"),
        ([], ValueError, "^generator must be one, or one for each of the 3 images, got 0"),
        ([1, 2, 3], TypeError, "^generator must be a torch.Generator or a list of them"),
        (7, TypeError, "^generator must be a torch.Generator or a list of them, got 7"),
    ],
)
def test_bad_generators_are_named_at_the_call(sampler, generator, error, message):
    with pytest.raises(error, match=message):
        sampler(cosine_schedule(10), lambda x, t: x, torch.zeros(3, 2), generator=generator)


def test_a_list_of_generators_draws_on_their_device_in_the_images_type():
    x, generators = torch.zeros(3, 2, dtype=torch.float64, device="meta"), [*map(seeded, range(3))]
    noise = noise_like(x, generators)
    assert noise.is_meta and noise.shape == x.shape and noise.dtype == torch.float64
    with pytest.raises(ValueError, match="zip"):
        noise_like(torch.zeros(3, 2), generators[:2])


def test_the_forward_process_keeps_the_images_device(schedule):
    x, t = torch.zeros(2, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    assert q_sample(schedule, x, t, x).is_meta
    assert all(part.is_meta for part in q_posterior(schedule, x, x, t))


def test_shapes_that_would_broadcast_are_refused():
    schedule, t = cosine_schedule(10), torch.tensor([1, 2])
    x, other = torch.zeros(2, 3), torch.zeros(2, 1)
    with pytest.raises(ValueError, match="^eps must have the shape of x_0"):
        q_sample(schedule, x, t, other)
    with pytest.raises(ValueError, match="^x_t must have the shape of x_0"):
        q_posterior(schedule, x, other, t)


def test_states_carry_no_graph_and_stay_on_the_predictors_terms(schedule):
    weight = torch.ones(1, requires_grad=True)
    seen = []

    def eps(x_t, t):
        seen.append((t.dtype, t.tolist(), x_t.requires_grad))
        return weight * x_t

    steps = list(ddim(schedule, eps, torch.ones(2, 1), [9, 4]))
    assert [s.t for s in steps] == [9, 4]
    assert seen == [(torch.int64, [9, 9], False), (torch.int64, [4, 4], False)]
    assert not any(s.x.requires_grad for s in steps)
    assert torch.is_grad_enabled()


def test_the_reverse_process_keeps_the_images_device(schedule):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    x, t = torch.zeros(2, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    assert predict_x_0(schedule, x, t, x).is_meta and reverse_mean(schedule, x, t, x).is_meta
    eps = lambda x_t, t: x_t * t[:, None]  # noqa: E731
    for generator in (None, seeded(5)):
        one = ancestral(schedule, eps, x, 3, shift=eps, generator=generator)
        two = ddim(schedule, eps, x, 3, eta=1.0, generator=generator)
        for step in (*one, *two):
            assert step.x.is_meta and step.x_0.is_meta and step.eps.is_meta


def test_a_seed_makes_sampling_repeatable(schedule, mixture):
    runs = [
        last(ancestral(schedule, mixture.eps(schedule), normal((3, 2)), 9, generator=seeded(s))).x
        for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "^steps must be an integer in 1..1000"),
        ({"steps": 1001}, "^steps must be an integer in 1..1000"),
        ({"steps": []}, "^steps must be .*strictly decreasing"),
        ({"steps": [5, 5]}, "^steps must be .*strictly decreasing"),
        ({"steps": [5, 6]}, "^steps must be .*strictly decreasing"),
        ({"steps": [1001, 6]}, "^steps must be .*strictly decreasing"),
        ({"steps": [6, 0]}, "^steps must be .*strictly decreasing"),
        ({"clip": (1, -1)}, "^clip"),
        ({"clip": (1, 1)}, "^clip"),
        ({"x_T": torch.tensor(1.0)}, "^x_T"),
        ({"steps": "abc"}, "^steps must be .*strictly decreasing"),
        ({"steps": range(10**9, 0, -1)}, "^steps must be .*strictly decreasing"),
        ({"x_T": torch.zeros(3, 1, dtype=torch.int64)}, "^x_T"),
    ],
)
@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver])
def test_bad_arguments_of_a_sampler_are_named_before_the_first_step(sampler, arguments, message):
    call = {"x_T": torch.zeros(3, 1), **arguments}
    with pytest.raises(ValueError, match=message):
        sampler(linear_schedule(), lambda x, t: x, **call)


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf"), 40.0])
def test_a_bad_eta_is_named(eta):
    with pytest.raises(ValueError, match="^eta"):
        ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), 10, eta=eta)


def test_bad_variance_and_a_predictor_of_the_wrong_shape():
    schedule, x_T = linear_schedule(), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="^variance"):
        ancestral(schedule, lambda x, t: x, x_T, variance="gamma")
    for eps in (lambda x, t: x[:, :1], lambda x, t: x[:1]):
        with pytest.raises(ValueError, match="^eps must have the shape of x_t"):
            next(ddim(schedule, eps, x_T))
        with pytest.raises(ValueError, match="^eps must have the shape of x_t"):
            reverse_mean(schedule, x_T, torch.ones(3, dtype=torch.int64), eps(x_T, None))


def test_t_0_has_nothing_before_it(schedule):
    x, t = normal((2, 3)), torch.tensor([0, 1])
    for call in (
        lambda: q_posterior(schedule, x, x, t),
        lambda: reverse_mean(schedule, x, t, x),
        lambda: predict_x_0(schedule, x, t, x),
    ):
        with pytest.raises(ValueError, match=r"^t must lie in 1\.\.1000, got 0\.\.1"):
            call()


@pytest.mark.parametrize("steps", [[900.9, 400.2], [True], [torch.tensor(3.5)], 2.5, "50"])
def test_steps_that_are_no_integers(steps):
    with pytest.raises(ValueError, match="^steps must be"):
        ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), steps)


@pytest.mark.parametrize("steps", [[9, 4], (9, 4), np.array([9, 4]), torch.tensor([9, 4])])
def test_steps_may_come_in_any_sequence(steps):
    visited = list(ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), steps))
    assert [step.t for step in visited] == [9, 4]
    number = ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), np.int64(2))
    assert [step.t for step in number] == [1000, 500]


def test_images_off_the_grid_are_refused():
    variance = torch.ones(1)
    for x in (0.5, 1.01, -1.1, 257 / 127.5 - 1, -1 / 127.5 - 1):  # on the grid, but beyond its ends
        with pytest.raises(ValueError, match="^x_0 must lie on the grid of 256"):
            discrete_log_likelihood(torch.tensor([x]), torch.zeros(1), variance, 256)
    images = torch.arange(256).view(1, 1, 16, 16).float() / 127.5 - 1  # as data arrives: float32
    log_p = discrete_log_likelihood(images, torch.zeros_like(images), variance, 256)
    assert log_p.dtype == torch.float32


def test_the_bound_is_repeatable_and_bad_arguments_are_named():
    schedule, x_0 = linear_schedule(3), torch.ones(2, 4)
    eps = lambda x_t, t: x_t  # noqa: E731
    one, two = (
        variational_bound(schedule, eps, x_0, generator=torch.Generator().manual_seed(0)).total
        for _ in range(2)
    )
    assert torch.equal(one, two)
    with pytest.raises(ValueError, match="^variance must"):
        variational_bound(schedule, eps, x_0, variance="small")
    with pytest.raises(ValueError, match="T ≥ 2"):
        variational_bound(linear_schedule(1), eps, x_0, variance="posterior")
    single = variational_bound(linear_schedule(1), eps, x_0)
    assert single.L_t.shape == (2, 0)
    assert variational_bound(linear_schedule(2), eps, x_0, variance="posterior").L_t.shape == (2, 1)


def test_the_bound_is_computed_on_the_images_device():
    """Nothing is made on the default device, which is one without values here."""
    schedule, x_0 = linear_schedule(3), torch.ones(2, 4)

    def total():
        generator = torch.Generator("cpu").manual_seed(0)
        return variational_bound(schedule, lambda x_t, t: x_t, x_0, generator=generator).total

    expected = total()
    with torch.device("meta"):
        assert torch.equal(total(), expected)


def test_the_grid_is_looked_at_before_the_network_is_asked():
    eps = lambda x_t, t: pytest.fail("asked")  # noqa: E731
    with pytest.raises(ValueError, match="^x_0 must lie on the grid of 256"):
        variational_bound(linear_schedule(3), eps, torch.full((2, 4), 0.3))
    with pytest.raises(ValueError, match="^levels must be an integer in 2"):
        variational_bound(linear_schedule(3), eps, torch.ones(2, 4), levels=1)


def test_loss_of_a_bfloat16_network_is_float32(schedule):
    loss = simple_loss(schedule, lambda x_t, t: x_t, torch.zeros(4, 2, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32 and loss.shape == ()


def test_a_seed_makes_the_loss_repeatable(schedule):
    x_0 = normal((50, 3))
    f = lambda x_t, t: x_t  # noqa: E731
    a, b, c = (simple_loss(schedule, f, x_0, generator=seeded(s)) for s in (1, 1, 2))
    assert a == b and a != c


def test_a_seed_makes_label_dropout_repeatable():
    c, state = torch.arange(1000), torch.get_rng_state()
    a, b, other = (drop_labels(c, 0.5, null=1000, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drop_labels(c, 0.5, null=1000), drop_labels(c, 0.5, null=1000))


@pytest.mark.parametrize("name", ["drop_labels", "simple_loss"])
def test_draws_are_made_where_the_generator_is(schedule, name):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""

    def draw(device, generator=None):
        if name == "drop_labels":
            c = torch.zeros(3, dtype=torch.int64, device=device)
            return drop_labels(c, 0.5, null=9, generator=generator)
        x_0 = torch.zeros(3, 2, device=device)
        return simple_loss(schedule, lambda x_t, t: x_t * t[:, None], x_0, generator=generator)

    state = torch.get_rng_state()
    assert draw("meta").is_meta
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn on the CPU
    here, there = seeded(5), seeded(5)
    assert draw("meta", there).is_meta and draw("cpu", here).is_cpu
    assert torch.equal(here.get_state(), there.get_state())  # the same draws for every device


def test_the_loss_refuses_a_predictor_of_the_wrong_shape(schedule):
    with pytest.raises(ValueError, match="^eps must have the shape of noise"):
        simple_loss(schedule, lambda x_t, t: x_t[:, :1], normal((2, 3, 4, 4)))


def test_a_seed_makes_the_mixtures_samples_repeatable(mixture):
    state = torch.get_rng_state()
    (a, c), (b, d), (other, _) = (
        mixture.sample(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(a, b) and torch.equal(c, d) and not torch.equal(a, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_mixture_keeps_the_images_device(mixture):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    schedule, x_t = linear_schedule(), torch.zeros(4, 2, device="meta")
    t = torch.ones(4, dtype=torch.int64, device="meta")
    line = GaussianMixture(torch.zeros(3, 2), torch.ones(3))
    for oracle in (mixture, line):
        for answer in (oracle.eps(schedule), lambda x, t, o=oracle: o.log_prob(schedule, x, t)):
            assert answer(x_t, t).is_meta
        assert oracle.log_posterior(schedule, x_t, t).is_meta
    x_t, t = normal((4, 2)), torch.ones(4, dtype=torch.int64)
    log_p, eps = mixture.log_prob(schedule, x_t, t), mixture.eps(schedule)(x_t, t)
    with torch.device("meta"):  # and nothing is made on the default device
        assert torch.equal(mixture.log_prob(schedule, x_t, t), log_p)
        assert torch.equal(mixture.eps(schedule)(x_t, t), eps)


def test_float32_images_are_answered_in_float32(mixture):
    x_t = normal((2, 2)).float()
    eps = mixture.eps(linear_schedule())(x_t, torch.tensor([3, 900]))
    assert eps.dtype == torch.float32


def test_bad_arguments_of_a_mixture_are_named(mixture):
    schedule, eye = linear_schedule(), torch.eye(2)
    mean = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="^covariance must be"):
        GaussianMixture(mean, torch.ones(2))
    with pytest.raises(ValueError, match="^covariance must be positive"):
        GaussianMixture(mean, torch.stack([eye, eye, -eye]))
    with pytest.raises(ValueError, match="^covariance must be positive"):
        GaussianMixture(mean, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="^weight"):
        GaussianMixture(mean, torch.ones(3), torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="^weight"):
        GaussianMixture(mean, torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="^x_t"):
        mixture.eps(schedule)(torch.zeros(2, 3), torch.tensor([1, 2]))
    for c in ([0, 4], [-1, 0], [0]):
        with pytest.raises(ValueError, match="^c must"):
            mixture.eps(schedule)(normal((2, 2)), torch.tensor([1, 2]), torch.tensor(c))


def test_more_bad_arguments_of_a_mixture_are_named(mixture):
    lower = torch.tensor([[1.0, 0.0], [0.5, 1.0]])  # a Cholesky factor, not its covariance
    with pytest.raises(ValueError, match="^covariance must be positive .symmetric"):
        GaussianMixture(torch.zeros(1, 2), lower[None])
    with pytest.raises(ValueError, match="^mean must be"):
        GaussianMixture(torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="^weight"):
        GaussianMixture(torch.zeros(2, 1), torch.ones(2), torch.tensor([1.0, math.inf]))
    for c in (1, torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError, match="^c must hold 2 classes"):
            mixture.eps(linear_schedule())(normal((2, 2)), torch.tensor([1, 2]), c)


def test_gradient_is_taken_in_float32_at_least():
    model = perturbed_classifier()
    seen = []

    def log_prob(x, t):
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return class_log_prob(model, 1)(x, t)

    x_t, t = normal((2, 1, 8, 8)).bfloat16(), torch.tensor([10, 900])
    with torch.autocast("cpu", torch.bfloat16):
        g = gradient(log_prob, x_t, t)
    assert seen == [(torch.float32, False)] and g.dtype == torch.bfloat16
    assert gradient(log_prob, x_t.double().float(), t).dtype == torch.float32


def test_bad_arguments_of_classifier_guidance_are_named(schedule, mixture):
    log_prob = log_posterior_of(mixture, schedule, 1)
    eps, x_t = mixture.eps(schedule), normal((2, 2))
    t = torch.tensor([1, 2])
    for scale in (float("nan"), float("inf"), torch.tensor([1.0, float("nan")]), torch.ones(2, 1)):
        with pytest.raises(ValueError, match="^scale .*ADM's s"):
            classifier_guidance(eps, log_prob, scale, schedule)
        with pytest.raises(ValueError, match="^scale .*ADM's s"):
            classifier_mean_shift(log_prob, scale)
    with pytest.raises(ValueError, match="^scale must be one number or one per image"):
        classifier_guidance(eps, log_prob, torch.ones(3), schedule)(x_t, t)
    with pytest.raises(ValueError, match="^scale must be one number or one per image"):
        classifier_mean_shift(log_prob, torch.ones(3))(x_t, t)
    for y in (3, -1, torch.tensor([0, 3])):
        with pytest.raises(ValueError, match=r"^y must lie in 0\.\.2"):
            log_posterior_of(mixture, schedule, y)(x_t, t)
    with pytest.raises(ValueError, match="^y must be one number or one per image"):
        log_posterior_of(mixture, schedule, torch.tensor([0, 1, 2]))(x_t, t)


@pytest.mark.parametrize("wrong", [lambda p: p, lambda p: p[:, 0].mean(), lambda p: p[:1, 0]])
def test_log_prob_is_one_number_per_image(schedule, mixture, wrong):
    """The posterior of every class, or a mean, would guide to something else without a word."""
    x_t, t = normal((2, 2)), torch.tensor([1, 2])

    def log_prob(x, t):
        return wrong(mixture.log_posterior(schedule, x, t))

    for call in (
        classifier_guidance(mixture.eps(schedule), log_prob, 1.0, schedule),
        classifier_mean_shift(log_prob, 1.0),
    ):
        with pytest.raises(ValueError, match=r"^log_prob must give .* \(2,\), got"):
            call(x_t, t)


@pytest.mark.parametrize("y", [1.9, True, torch.tensor([0.0, 1.0])])
def test_classes_that_are_no_integers(schedule, mixture, y):
    with pytest.raises(ValueError, match="^y must be a class"):
        log_posterior_of(mixture, schedule, y)(normal((2, 2)), torch.tensor([1, 2]))


def test_classifier_free_guidance_keeps_the_images_device():
    """meta stands for an accelerator: c and w may stay on the CPU, a batch's own or not."""
    x_t = torch.zeros(2, 3, device="meta")
    t = torch.ones(2, dtype=torch.int64, device="meta")
    for c, w in ((1, 2.0), (torch.tensor([0, 1]), torch.tensor([0.0, 1.0]))):
        guided = classifier_free_guidance(lambda x, t, c: x * (t + c)[:, None], c, w, null=3)
        assert guided(x_t, t).is_meta


def test_w_may_be_any_kind_of_number():
    spy, x_t, t = Spy(), normal((2, 1)), torch.tensor([4, 5])
    results = [
        classifier_free_guidance(spy, 1, w, null=3)(x_t, t)
        for w in (2, 2.0, torch.tensor(2.0), torch.tensor([2, 2]), [2.0, 2.0], np.float64(2))
    ]
    for a, b in itertools.pairwise(results):
        assert torch.equal(a, b) and a.dtype == torch.float64


def test_the_answer_has_the_images_type():
    x_t, t, w = normal((2, 1)).float(), torch.tensor([4, 5]), torch.ones(2, dtype=torch.float64)
    for scale in (1.0, w, w[0], w.int()):
        assert classifier_free_guidance(Spy(), 1, scale, null=3)(x_t, t).dtype == torch.float32


def test_one_class_is_enough():
    guided = classifier_free_guidance(Spy(), 0, 1.0, null=1)
    assert torch.equal(guided(torch.ones(2, 1), torch.tensor([4, 5])), torch.zeros(2, 1))  # 2·1 − 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"w": float("nan")}, "^w .*Ho & Salimans.*guidance_scale s is w"),
        ({"w": float("inf")}, "^w .*Ho & Salimans"),
        ({"w": torch.tensor([1.0, float("-inf")])}, "^w .*Ho & Salimans"),
        ({"w": None}, "^w must be a finite number"),
        ({"w": "1"}, "^w must be a finite number"),
        ({"c": "1"}, "^c must be a class"),
        ({"w": torch.ones(2, 1)}, "^w must be a finite number, or one for each"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "^w "),
        ({"c": 4}, r"^c must lie in 0\.\.3 \(3 is ∅\)"),
        ({"c": -1}, r"^c must lie in 0\.\.3"),
        ({"c": torch.tensor([0, 4])}, r"^c must lie in 0\.\.3"),
        ({"c": torch.tensor([0.0, 1.0])}, "^c must be a class"),
        ({"c": torch.tensor([True, False])}, "^c must be a class"),
        ({"c": torch.tensor([[0], [1]])}, "^c must be a class"),
        ({"null": 0}, "^null must be K"),
        ({"null": True}, "^null must be K"),
        ({"null": 2.0}, "^null must be K"),
        ({"start": float("nan")}, "^start must be a finite number"),
        ({"stop": None}, r"^stop must be a finite number.* \(a value of t\)"),
        ({"start": 10, "stop": 11}, "^start must not lie below stop"),
    ],
)
def test_bad_arguments_of_classifier_free_guidance_are_named_at_once(arguments, message):
    call = {"c": 1, "w": 1.0, "null": 3, **arguments}
    with pytest.raises(ValueError, match=message):
        classifier_free_guidance(Spy(), call.pop("c"), call.pop("w"), **call)


@pytest.mark.parametrize("arguments", [{"w": torch.ones(3)}, {"c": torch.tensor([0, 1, 2])}])
def test_lengths_of_c_and_w_that_do_not_match_the_batch(arguments):
    call = {"c": 1, "w": 1.0, **arguments}
    guided = classifier_free_guidance(Spy(), call["c"], call["w"], null=3)
    with pytest.raises(ValueError, match=r"^[cw] must be one number or one per image, \(2,\)"):
        guided(normal((2, 1)), torch.tensor([1, 2]))


def test_negative_guidance_keeps_the_images_device():
    """meta stands for an accelerator: classes, w and window may stay on the CPU."""
    x_t, t = torch.zeros(2, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    eps = lambda x, t, c: x * (t + c)[:, None]  # noqa: E731
    one = negative_guidance(eps, 0, 1, 2.0, null=3, start=9, stop=1)
    pair = torch.tensor([0, 1])
    two = negative_guidance(eps, pair, pair, pair.float(), null=3, start=pair + 5, stop=pair)
    assert one(x_t, t).is_meta and two(x_t, t).is_meta


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positive": 4}, r"^positive must lie in 0\.\.3"),
        ({"negative": -1}, r"^negative must lie in 0\.\.3"),
        ({"negative": 4}, r"^negative must lie in 0\.\.3"),
        ({"positive": -1}, r"^positive must lie in 0\.\.3"),
        ({"positive": torch.ones(3).bool()}, "^positive must be a class or one class per image"),
        ({"negative": 0.5}, "^negative must be a class"),
        ({"w": float("nan")}, "^w .*Ho & Salimans"),
        (
            {"start": float("nan")},
            r"^start must be a finite number.* \(a value of t; None is from the first step\)",
        ),
        ({"start": torch.ones(2, 2)}, "^start must be a finite number"),
        ({"stop": float("inf")}, r"^stop must be a finite number.* \(a value of t\)"),
        ({"start": 10, "stop": 11}, "^start must not lie below stop"),
        ({"start": torch.tensor([10, 12]), "stop": 11}, "^start must not lie below stop"),
        ({"start": "5"}, "^start must be a finite number"),
        ({"start": torch.ones(3), "stop": torch.zeros(2)}, "^start and stop must be of one length"),
        ({"null": 0}, "^null"),
    ],
)
def test_bad_arguments_of_negative_guidance_are_named_at_once(arguments, message):
    call = {"positive": P, "negative": N, "w": W, "null": 3, **arguments}
    with pytest.raises(ValueError, match=message):
        negative_guidance(lambda x, t, c: x, **call)


@pytest.mark.parametrize("name", ["start", "stop", "w", "positive", "negative"])
def test_lengths_of_a_window_that_do_not_match_the_batch(name):
    call = {"positive": P, "negative": N, "w": W, "start": 1000, name: torch.tensor([1, 1, 1])}
    guided = negative_guidance(lambda x, t, c: x, null=3, **call)
    with pytest.raises(ValueError, match=rf"^{name} must be one number or one per image, \(2,\)"):
        guided(normal((2, 1)), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((-1, None), "start_step"),
        ((9, None), "start_step"),
        ((0, 9), "stop_step"),
        ((4, 3), "start_step"),
    ],
)
def test_bad_windows_are_named(steps, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        window(1000, S, *steps)


def test_dynamic_guidance_leaves_no_graph(line):
    eps = line.eps(linear_schedule())
    scale = torch.ones((), requires_grad=True)
    guided = posterior_negative_guidance(
        lambda *a: eps(*a).detach(), lambda x, t: scale * torch.full((2,), -1.0), 1, null=NULL
    )
    assert not guided(normal((2, 1)), torch.tensor([5, 9])).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negative": 4}, r"^negative must lie in 0\.\.3"),
        ({"positive": -1}, r"^positive must lie in 0\.\.3"),
        ({"positive": torch.ones(3).bool()}, "^positive must be a class or one class per image"),
        ({"scale": float("inf")}, "^scale must be a finite number.*λ_0: 0 is off, 1 is exact"),
        ({"p_max": 1.0}, r"^p_max must lie in \(0, 1\), got 1.0"),
        ({"p_max": 0.0}, "^p_max"),
        ({"p_max": float("nan")}, "^p_max"),
        ({"null": 0}, "^null"),
    ],
)
def test_bad_arguments_of_dynamic_guidance_are_named(arguments, message):
    call = {"negative": 1, "null": 3, **arguments}
    with pytest.raises(ValueError, match=message):
        posterior_negative_guidance(lambda x, t, c: x, lambda x, t: x[:, 0], **call)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_probability_out_of_range_is_named(p):
    with pytest.raises(ValueError, match="^p_uncond"):
        drop_labels(torch.arange(10), p, null=10)


@pytest.mark.parametrize("value", [1, -0.5, 1e299, np.float32(2), np.int64(3)])
def test_numbers_are_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize(
    "value", [True, np.True_, "1", None, 1j, [1.0], math.inf, math.nan, 1e300, -1e300, 10**400]
)
def test_what_is_no_number(value):
    assert not is_number(value)


@pytest.mark.parametrize("package", ["ddpm", "unet", "guidance"])
def test_every_exported_name_is_there(package):
    module = importlib.import_module(package)
    assert all(hasattr(module, name) for name in module.__all__)
