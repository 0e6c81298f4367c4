"""Evaluation and experiments with known answers: on an exact mixture every column is computed a
second time, image by image, with plain numbers. In one world the classes are unlike, and nothing
has a symmetry that could hide swapped roles."""

import dataclasses
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exact import (
    OVERLAPPING,
    SCHEDULE,
    WORLDS,
    K,
    T,
    covered,
    diversity,
    eps,
    frechet,
    held_true,
    judged,
    lab,
    noise,
    posterior,
    seen,
    states,
    visited,
)

from ddpm import ddim, dpm_solver, timesteps
from train.evaluate import __main__ as evaluate
from train.evaluate import cas
from train.evaluate.results import Results, read_rows
from train.experiments import (
    cases,
    classifier,
    concepts,
    course,
    price_of_w,
    removal,
    samplers,
    solvers,
    target,
    timing,
)
from train.experiments import sweep as sweep_module

S, W = 5, 2.0
close = lambda x: pytest.approx(x, rel=1e-6, abs=1e-7)  # noqa: E731


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]


def flags(n, steps=S):
    return SimpleNamespace(n=n, steps=steps, seeds=2)


def guided(world, c, w=0.0, other=K, when=range(S)):
    """(1 + w)·ε(c) − w·ε(other), with ∅ in other's place at the other steps."""

    def predictor(k, x, t):
        aside = eps(world, x, t, other if k in when else K)
        return (1 + w) * eps(world, x, t, c) - w * aside

    return predictor


def pictures(world, predictors, seed):
    """The last state from each image's x_T: (n, 2)."""
    starts = noise(len(predictors), seed)
    return np.array([states(p, x, S)[-1] for p, x in zip(predictors, starts, strict=True)])


def real_pixels(images):
    return images.double().flatten(1).numpy() / 127.5 - 1


def numbers(world, of, x, c, seed):
    """What `Lab.measure` says, from the pixels alone; the judge's features are their halves."""
    data = of.data
    test, train = real_pixels(data.test_images) / 2, real_pixels(data.images) / 2
    n = len(x)
    shuffle = lambda m: torch.randperm(m, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    beside = test[shuffle(len(test))[:n].numpy()]
    order = shuffle(len(train)).tolist()
    chosen = [i for k in range(K)
              for i in [j for j in order if data.labels[j] == k][: n // K]]  # fmt: skip
    found = {}
    for suffix, features, labels in (
        ("", x / 2, c),
        ("_real", train[chosen], data.labels[chosen].numpy()),
    ):
        found |= {
            f"frechet{suffix}": frechet(test, features),
            f"precision{suffix}": covered(features, beside),
            f"recall{suffix}": covered(beside, features),
            f"diversity{suffix}": diversity(features, labels),
        }
    p = [posterior(world, picture, 0) for picture in x]
    mean = sum(p) / n
    kl = sum(sum(q * math.log(q / m) for q, m in zip(of, mean, strict=True) if q > 0) for of in p)
    found["inception_score"] = math.exp(kl / n)
    said = [judged(world, picture) for picture in x]
    found["class_accuracy"] = sum(a == b for a, b in zip(said, c, strict=True)) / n
    return found


C = np.arange(K).repeat(7)  # seven of each class: --n 21


def test_the_price_of_w_is_known(world, monkeypatch):
    of = lab(world)
    monkeypatch.setattr(cas, "scores", lambda *_: {})  # which trains a network
    (row,) = price_of_w.measure(of, price_of_w.GUIDES[2], 5, flags(len(C)))
    x = pictures(world, [guided(world, c, 2) for c in C], 5)
    assert row == close(numbers(world, of, x, C, 5))


@pytest.mark.parametrize("method", list(classifier.METHODS))
def test_the_classifier_is_known(method, world):
    """By Bayes' rule √(1 − ᾱ_t)·∇log p(c|x_t) is ε(∅) − ε(c): no gradient here."""
    of = lab(world)
    (row,) = classifier.measure(of, classifier.guides()[method, 3], 1, flags(len(C)))
    strength = {"classifier on ∅": 3, "classifier on c": 2, "classifier-free": 2}[method]

    def predictor(c):
        def at(k, x, t):
            e_c, e_null = eps(world, x, t, c), eps(world, x, t, K)
            base = e_null if "∅" in method else e_c
            return base + strength * (e_c - e_null)

        return at

    assert row == close(numbers(world, of, pictures(world, [predictor(c) for c in C], 1), C, 1))


def test_the_samplers_are_known(world):
    """DDIM with η = 0: c as it is, S steps, and not so many as --steps."""
    of = lab(world)
    chosen = samplers.samplers(SimpleNamespace(steps=20))
    assert {S for _, S in chosen} == {10, 20} and len(chosen) == 12
    sampler = chosen["DDIM, η = 0", 10]
    (row,) = samplers.measure(of, sampler, 2, flags(len(C), steps=20))
    starts = noise(len(C), 2)
    x = np.array([states(guided(world, c), x_T, 10)[-1] for c, x_T in zip(C, starts, strict=True)])
    assert row == close(numbers(world, of, x, C, 2))


@pytest.mark.parametrize(
    ("name", "sampler"), [("DDIM, η = 0", ddim), ("DPM-Solver++ (2M)", dpm_solver)]
)
def test_the_solvers_are_known(name, sampler, world):
    """Each image beside its own end, and not beside another's; ends of one class in all pairs."""
    of = lab(world)
    chosen = solvers.solvers(SimpleNamespace(steps=20))
    assert list(chosen) == [(n, S) for S in (5, 10) for n in ("DDIM, η = 0", "DPM-Solver++ (2M)")]
    (row,) = solvers.measure(of, chosen[name, 5], 2, flags(len(C), steps=20))

    def last(of, steps, c, x_T):
        def predictor(x, t):
            e = eps(world, x[0].flatten().numpy(), int(t), c)
            return torch.as_tensor(e).view_as(x)

        *_, step = of(SCHEDULE, predictor, torch.as_tensor(x_T).view(1, 3, 1, 1), steps)
        return step.x.flatten().numpy()

    starts = list(zip(C, noise(len(C), 2), strict=True))
    ends = np.array([last(dpm_solver, 20, *start) for start in starts]) / 2
    x = np.array([last(sampler, 5, *start) for start in starts]) / 2
    apart = [math.dist(a, b) for a, b in zip(x, ends, strict=True)]
    assert row == close({"distance": sum(apart) / len(C), "diversity": diversity(ends, C)})


@pytest.mark.parametrize(
    ("method", "value"),
    [("none", 0), ("constant λ", 0.25), ("constant λ, late", 0.5), ("λ_0·p/(1 − p)", 0.5)],
)
def test_the_removal_is_known(method, value, world):
    of, n, seed = lab(world), 18, 3
    removals = removal.removals(flags(n))
    rows = removal.measure(of, removals[method, value], seed, flags(n))
    assert [row["removed"] for row in rows] == [0, 1, 2]

    def predictor(k):
        if method == "λ_0·p/(1 − p)":

            def dynamic(step, x, t):
                p = min(posterior(world, x, t)[k], 0.99)  # where λ is capped
                null = eps(world, x, t, K)
                return null - value * p / (1 - p) * (eps(world, x, t, k) - null)

            return dynamic
        late = range(2, S)  # 40 % of five steps are two
        when = {"none": (), "constant λ": range(S), "constant λ, late": late}[method]
        return guided(world, K, value, k, when)

    train, test = real_pixels(of.data.images) / 2, real_pixels(of.data.test_images) / 2
    c, test_c = of.data.labels.numpy(), of.data.test_labels.numpy()
    shares = []
    for k, row in enumerate(rows):
        x = pictures(world, [predictor(k)] * n, seed)
        kept, held_out = train[c != k], test[test_c != k]
        order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed))
        as_many = held_out[order[:n].numpy()]
        shares.append(100 * sum(judged(world, p) == k for p in x) / n)
        assert row == close(
            {
                "removed": k,
                "share": shares[-1],
                "kl": balance([judged(world, p) for p in x], k),
                "kl_real": balance([judged(world, 2 * p) for p in as_many], k),
                "frechet": frechet(kept, x / 2),
                "frechet_real": frechet(kept, as_many),
            }
        )
    assert len(set(shares)) > 1  # the share of another class would show


def balance(classes, removed):
    """KL of 1/(K − 1) from the shares, each with half a picture more."""
    counts = [classes.count(k) + 0.5 for k in range(K)]
    shares = [count / sum(counts) for count in counts]
    return sum(math.log(1 / (K - 1) / shares[k]) / (K - 1) for k in range(K) if k != removed)


QUESTION = {"overlap": ((0, 2), 1)}  # p₊ is one of two labels, in which p₋ is true in part
ASKED = {f"{which}, overlap": ("overlap", "") for which in ("start", "early", "window")}


@pytest.fixture(scope="module", params=[*WORLDS, "overlapping"])
def timed(request):
    """Each group's rows and, image by image, what they count."""
    world, n, seed, found = (WORLDS | {"overlapping": OVERLAPPING})[request.param], 36, 4, {}
    of = lab(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "QUESTIONS", QUESTION)
        for name, value in (("OF_SCENES", ASKED), ("at_rare_place", rare)):
            patch.setattr(timing, name, value)
        for group, (kind, _) in timing.groups(of).items():
            rows = timing.measure(of, group, seed, flags(n))
            starts = enumerate(noise(n, seed))
            found[group] = rows, [image(world, kind, i, x_T) for i, x_T in starts]
    return found


def rare(x):
    """Where few are: the half of space with a positive first channel."""
    return x.reshape(len(x), -1)[:, 0] > 0.3


def image(world, kind, i, x_T):
    """The world, p₊, p₋ and x_T of the i-th image."""
    if kind == "overlap":
        return world, (0, 2)[i % 2], 1, x_T
    if kind == "pair":  # every class with every other, in turn
        c = i % K
        return world, c, (c + 1 + i // K % (K - 1)) % K, x_T
    plain = judged(world, states(guided(world, K), x_T, S)[-1])
    return world, K, plain if kind == "present" else i % K, x_T


@pytest.mark.parametrize("group", [*timing.GROUPS, *ASKED])
def test_the_timing_is_known(group, timed):
    if group not in timed:
        assert (group in ASKED) == (set(timed) == set(timing.GROUPS))  # asked of the other worlds
        return
    rows, images = timed[group]
    which, (world, *_) = group.split(",")[0], images[0]
    acts = {"start": [(k, S) for k in range(S + 1)], "early": [(0, k) for k in (1, 2, 3, 5)],
            "window": [(0, S), (1, S // 2)]}[which]  # fmt: skip
    assert [row["step"] for row in rows] == [b if which == "early" else a for a, b in acts]
    gains = losses = 0
    whole = None
    for row, (start, stop) in zip(rows, acts, strict=True):
        was, now, positive, rarely, distances = [], [], [], [], []
        for _, c, avoided, x_T in images:
            plain = states(guided(world, c, W * (c < K)), x_T, S)[-1]
            x = states(guided(world, c, W, avoided, range(start, stop)), x_T, S)[-1]
            before, after = held_true(world, plain), held_true(world, x)
            was.append(before[avoided])
            now.append(after[avoided])
            positive.append(after == before if c == K else after[c])
            rarely.append(after[avoided] and not before[avoided] and x[0] > 0.3)
            distances.append(math.sqrt(((x - plain) ** 2).mean()))
        pairs = list(zip(was, now, strict=True))
        expected = {
            "step": stop if which == "early" else start,
            "negatives": sum(now),
            "negatives_plain": sum(was),
            "gained": pairs.count((False, True)),
            "lost": pairs.count((True, False)),
            "positives": sum(positive),
            "distance": np.mean(distances),
            "distance_sd": np.std(distances, ddof=1),
        }
        if group in ASKED:
            whole = whole or distances
            nearer = sum(a < b for a, b in zip(distances, whole, strict=True))
            expected |= {"gained_rare": sum(rarely), "nearer": nearer}
        if group in ASKED and which != "window":
            expected["nearer"] = math.nan
        assert row == pytest.approx(expected, rel=1e-6, abs=1e-7, nan_ok=True)
        gains, losses = gains + row["gained"], losses + row["lost"]
    if "∅" in group or "present" in group or group in ASKED:
        assert gains != losses  # swapped, they would show


@pytest.mark.parametrize("group", ["pair", "present", "overlap"])
def test_the_course_is_known(group, world, monkeypatch):
    monkeypatch.setattr(cases, "QUESTIONS", QUESTION)
    world = OVERLAPPING if group == "overlap" else world
    of, n, seed = lab(world), 12, 6
    rows = course.measure(of, group, seed, flags(n))
    images = [image(world, group, i, x_T) for i, x_T in enumerate(noise(n, seed))]
    assert [(r["run"], r["step"], r["t"]) for r in rows] == [
        (name, k, t) for name in ("plain", "negative") for k, t in enumerate(timesteps(T, S))
    ]
    columns = {"norm_negative", "norm_positive", "ratio", "cosine", "p_negative", "p_positive",
               "projection", "induced"}  # fmt: skip
    for row in rows:
        k, t = row["step"], row["t"]
        values = {name: [] for name in columns}
        for _, c, avoided, x_T in images:
            plain = states(guided(world, c, W * (c < K)), x_T, S)[k]
            pushed = states(guided(world, c, W, avoided), x_T, S)[k]
            x = plain if row["run"] == "plain" else pushed
            along = [project(world, y, t, c, avoided) for y in (x, plain)]
            e_p, e_n, null = (eps(world, x, t, y) for y in (c, avoided, K))
            p, q = e_p - null, e_n - null
            size = [math.hypot(*v) if c < K or v is q else math.nan for v in (p, q)]
            for name, value in {
                "norm_positive": size[0],
                "norm_negative": size[1],
                "ratio": size[1] / size[0],
                "cosine": float(p @ q) / math.prod(size),
                "p_positive": seen(world, x, t, c) if c < K else math.nan,
                "p_negative": seen(world, x, t, avoided),
                "projection": along[0],
                "induced": along[0] - along[1],
            }.items():
                values[name].append(value)
        for name, of_images in values.items():
            about = pytest.approx(np.mean(of_images), rel=1e-3, abs=1e-4, nan_ok=True)
            assert row[name] == about, name
            spread = pytest.approx(np.std(of_images, ddof=1), rel=1e-3, abs=1e-4, nan_ok=True)
            assert row[f"{name}_sd"] == spread, name
    pushed = [r["induced"] for r in rows if r["run"] == "negative"]
    assert max(map(abs, pushed)) > 1e-3  # its sign is seen


def project(world, x, t, c, avoided):
    """|ε₊·ε₋| / ‖ε₋‖."""
    positive, negative = eps(world, x, t, c), eps(world, x, t, avoided)
    return abs(float(positive @ negative)) / math.hypot(*negative)


@pytest.mark.parametrize("w", [0, 2])
def test_the_concepts_are_known(w):
    """What the judge holds true of the samples of each label, beside the real images' shares."""
    world, n, seed = OVERLAPPING, 15, 3
    of = lab(world)
    rows = concepts.measure(of, concepts.guides(of)[w], seed, flags(n))
    real, test = of.data.labels.tolist(), real_pixels(of.data.test_images)
    assert [(r["given"], r["concept"]) for r in rows] == [(g, k) for g in "abc" for k in "abc"]
    for row in rows:
        given, k = "abc".index(row["given"]), "abc".index(row["concept"])
        x = pictures(world, [guided(world, given, w)] * n, seed)
        with_it = [true for true in real if true[given]]
        right = [held_true(world, p)[k] == bool(true[k])
                 for p, true in zip(test, of.data.test_labels.tolist(), strict=True)]  # fmt: skip
        assert row["count"] == sum(held_true(world, p)[k] for p in x)
        assert row["real"] == close(sum(true[k] for true in with_it) / len(with_it))
        assert row["judge"] == close(np.mean(right))
    counts = [row["count"] for row in rows]
    assert len(set(counts)) > 3  # transposed, they would show
    with pytest.raises(ValueError, match="must know concepts"):
        concepts.guides(lab(WORLDS["even"]))


TARGET = {"overlap": ((0, 1), 2)}  # of the second label's images some are the third's, too


@pytest.mark.parametrize(
    "name",
    ["ε(p₊)", "classifier-free, w = 2", "negative, w = 2", "negative, w = 2, a sixth to a half",
     "2·p/(1 − p)"],
)  # fmt: skip
def test_the_distance_to_the_target_is_known(name, monkeypatch):
    """Samples of p₊ beside the real images of p₊ of which p₋ is not true."""
    monkeypatch.setattr(target, "QUESTIONS", TARGET)
    world, n, seed = OVERLAPPING, 30, 3
    of = lab(world)
    ((key, setting),) = [
        (key, s) for key, s in target.settings(flags(n), of).items() if key[1] == name
    ]
    assert key == ("overlap", name)
    (row,) = target.measure(of, setting, seed, flags(n))

    def predictor(c):
        if name.startswith("ε"):
            return guided(world, c)
        if name.startswith("classifier-free"):
            return guided(world, c, 2)
        if name.endswith("a sixth to a half"):  # step 1 of 0 … 4
            return guided(world, c, 2, 2, when=(1,))
        if name.startswith("negative"):
            return guided(world, c, 2, 2)

        def pushed(k, x, t):
            p = min(seen(world, x, t, 2), 0.99)
            away = eps(world, x, t, 2) - eps(world, x, t, K)
            return eps(world, x, t, c) - 2 * p / (1 - p) * away

        return pushed

    asked = [(0, 1)[i % 2] for i in range(n)]
    x = pictures(world, [predictor(c) for c in asked], seed)
    answers = [held_true(world, picture) for picture in x]
    assert row["left"] == sum(a[2] for a in answers)
    assert row["kept"] == sum(a[c] for a, c in zip(answers, asked, strict=True))
    if name.startswith("ε"):  # p₊'s own label is counted, and neither label of all
        assert row["kept"] not in {sum(a[k] for a in answers) for k in (0, 1)}

    def right(images, labels, each):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
        of_each = [[i for i in order if labels[i][c] and not labels[i][2]] for c in (0, 1)]
        each = each or min(map(len, of_each))
        return real_pixels(images)[[i for places in of_each for i in places[:each]]]

    real = right(of.data.images, of.data.labels.tolist(), None)
    held_out = right(of.data.test_images, of.data.test_labels.tolist(), n // 2)
    assert len(held_out) == n < len(real) < len(of.data.labels)
    said = [tuple(held_true(world, picture)) for picture in real]

    def kl(others):
        both = {*said, *others}
        p, q = ({a: (list(part).count(a) + 0.5) / (len(part) + len(both) / 2) for a in both}
                for part in (said, others))  # fmt: skip
        return sum(p[a] * math.log(p[a] / q[a]) for a in both)

    assert row["kl"] == close(kl([tuple(a) for a in answers]))
    assert row["kl_real"] == close(kl([tuple(held_true(world, picture)) for picture in held_out]))
    assert row["frechet"] == close(frechet(real / 2, x / 2))
    assert row["frechet_real"] == close(frechet(real / 2, held_out / 2))


def test_the_papers_window_and_the_plots_families():
    """NegPrompt acts in steps 5 to 15 of 30; and each method is on one curve of the plot."""
    assert cases.sixth_to_half(30) == (5, 15) and cases.sixth_to_half(20) == (3, 10)
    for _, method in target.guides(lab(OVERLAPPING), S):
        patterns = [pattern for *_, pattern in target.FAMILIES.values()]
        assert sum(re.fullmatch(p, method) is not None for p in patterns) == 1, method


def test_a_target_that_is_not_there_is_named(monkeypatch):
    of = lab(OVERLAPPING)
    with pytest.raises(ValueError, match="must know concepts"):
        target.guides(lab(WORLDS["even"]), S)
    monkeypatch.setattr(target, "QUESTIONS", {"overlap": ((2,), 1)})  # which implies it always
    (setting, *_) = target.settings(flags(4), of).values()
    with pytest.raises(ValueError, match="no image of one of the labels"):
        target.measure(of, setting, 0, flags(4))
    monkeypatch.setattr(target, "QUESTIONS", TARGET)
    for n, message in ((5, "--n must be a multiple of 2 digits"), (300, "--n must be at most")):
        with pytest.raises(ValueError, match=message):
            target.measure(of, ("overlap", setting[1]), 0, flags(n))


@pytest.mark.parametrize("w", ["0", "1.5"])
def test_evaluate_prints_what_is_known(w, world, tmp_path, monkeypatch, capsys):
    of = lab(world)
    monkeypatch.setattr(evaluate, "Lab", lambda *_, **__: of)
    out, save = tmp_path / "x.csv", tmp_path / "samples"
    given = ["--weights", "x", "--n", "21", "--steps", str(S), "--w", w, "--seed", "7"]
    assert evaluate.main([*given, "--out", str(out), "--save", str(save)]) == 0
    x = pictures(world, [guided(world, c, float(w)) for c in C], 7)
    expected = numbers(world, of, x, C, 7)
    test = real_pixels(of.data.test_images)
    right = [judged(world, p) == c for p, c in zip(test, of.data.test_labels.tolist(), strict=True)]
    expected["class_accuracy_real"] = sum(right) / len(right)
    (row,) = read_rows(out).to_dict("records")
    said = capsys.readouterr().out
    for name, title in evaluate.NAMES.items():
        if name in ("cas", "fid"):
            assert title not in said and math.isnan(row[name])
            continue
        line = re.search(rf"^{re.escape(title)} +(.+)$", said, re.MULTILINE)
        shown = [expected[key] for key in (name, f"{name}_real") if key in expected]
        assert list(map(float, line[1].split())) == pytest.approx(shown, abs=1e-4)
        for key in (name, f"{name}_real"):
            if key in expected:
                assert row[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-6)
    saved = np.load(save / "samples.npz")
    grey = (x.clip(-1, 1) + 1) * 127.5
    assert saved["arr_0"].dtype == np.uint8 and saved["arr_0"].shape == (21, 1, 1, 3)
    assert np.abs(saved["arr_0"][:, 0, 0] - grey).max() <= 0.5001
    assert saved["labels"].tolist() == C.tolist()
    assert len(list(save.glob("*.png"))) == 21


def test_each_seed_has_its_own_noise_and_rare_settings_three_times_as_many(tmp_path, monkeypatch):
    of = lab(WORLDS["even"])
    monkeypatch.setattr(sweep_module, "Lab", lambda *_, **__: of)
    given = SimpleNamespace(n=6, steps=2, seeds=2, device="cpu", batch_size=6)
    rows = sweep_module.sweep(timing.EXPERIMENT, given, Results(tmp_path / "x.csv"))
    for group in timing.GROUPS:
        seeds = rows[rows["group"] == group]["seed"].unique().tolist()
        assert seeds == list(range(6 if group == "early, p₊ = ∅" else 2))
    for (group, seed), chosen in rows.groupby(["group", "seed"]):
        again = timing.measure(of, group, seed, given)
        assert chosen["distance"].tolist() == pytest.approx(
            [r["distance"] for r in again], rel=1e-4
        )
    first = rows[(rows["group"] == "early, p₊ = ∅") & (rows["step"] == 1)]
    assert first["distance"].nunique() == 6


@pytest.mark.parametrize(
    ("name", "each", "steps"),
    [("digits", 2, 5), ("digits", 25, 17), ("cifar10", 25, 8)],  # 15·75/64 = 17.6, 15·75/128 = 8.8
)
def test_a_score_is_of_the_samples_and_of_as_many_real_images(name, each, steps, monkeypatch):
    """Each image is seen 15 times, in batches of the preset's size, 64 or 128."""
    of, asked = lab(WORLDS["lopsided"]), []
    of.data = dataclasses.replace(of.data, name=name)

    def score(data, x, c, config, steps):
        asked.append((x, c, steps))
        return len(asked)

    monkeypatch.setattr(cas, "classification_accuracy_score", score)
    monkeypatch.setattr(cas, "STEPS", 5)
    c = torch.arange(K).repeat_interleave(each)
    x = torch.rand(len(c), 3, 1, 1)
    assert cas.scores(of, x, c, 3) == {"cas": 1, "cas_real": 2}
    assert cas.scores(of, x, c, 3) == {"cas": 3, "cas_real": 2}  # the real images' once for a seed
    (samples, labels, count), (real, real_labels, real_count), _ = asked
    assert samples is x and labels is c and count == real_count == steps
    assert torch.equal(real_labels, c)
    order = torch.randperm(len(of.data.images), generator=torch.Generator().manual_seed(3)).tolist()
    first = [i for k in range(K) for i in [i for i in order if of.data.labels[i] == k][:each]]
    assert torch.equal(real, of.data.scale(of.data.images[first]))  # those of the seed
    train = [tuple(pixel) for pixel in real_pixels(of.data.images).round(5).tolist()]
    for pixel, k in zip(real.flatten(1).double().numpy().round(5).tolist(), c, strict=True):
        assert of.data.labels[train.index(tuple(pixel))] == k


def test_in_the_lopsided_world_a_picture_need_not_be_of_its_class():
    """Or the class that was asked for and the one of the plain picture could be mistaken."""
    world = WORLDS["lopsided"]
    plain = pictures(world, [guided(world, i % K, W) for i in range(36)], 4)
    assert 0 < sum(judged(world, x) == i % K for i, x in enumerate(plain)) < 36


def test_the_schedule_is_the_papers():
    """What the other road stands on: the visited t, and ᾱ from 1 down."""
    assert visited(S) == timesteps(T, S) and float(SCHEDULE.alpha_bar[0]) == 1
