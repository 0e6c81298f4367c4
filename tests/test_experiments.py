"""The experiments: sweeps that go on where they stopped, and the shortcut of the timing study."""

import argparse
import os
import signal
import threading

import pytest
import torch
from guidance.sampling import window

from ddpm import cosine_schedule, ddim, timesteps
from guidance import negative_guidance
from train import lab as lab_module
from train.experiments import __main__ as command
from train.experiments import course, guided, removal, timing
from train.experiments.plots import difference, proportion, summary
from train.experiments.results import Results
from train.lab import Lab
from unet import Judge, NoisyClassifier, UNet, save

TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
ROWS = [{"method": "a, b", "w": 0.1, "seed": 0, "value": 1 / 3}, {"method": "ε", "w": 2, "seed": 1}]
ROWS[1]["value"] = float("nan")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Networks that are trained on nothing, but answer something."""
    path = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    info = {"schedule": cosine_schedule(20).info, "data": "digits"}
    info["classes"] = [str(k) for k in range(10)]
    unet, classifier = UNet(**TINY), NoisyClassifier(**TINY)
    for p in [*unet.parameters(), *classifier.parameters()]:
        p.data += 0.15 * torch.randn_like(p)  # what starts at zero would answer nothing
    save(path / "unet.safetensors", unet, info)
    save(path / "classifier.safetensors", classifier, info)
    save(path / "judge.safetensors", Judge(size=8, width=4), info)
    return path


def lab(weights, **changes):
    args = {"weights": weights, "data_dir": "", "device": "cpu", "batch_size": 45}
    args |= {"precision": "float32", "compile": "off", **changes}
    return Lab(argparse.Namespace(**args), classifier=True)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(lab_module, "CAS_STEPS", 2)
    monkeypatch.setattr(removal, "LAMBDAS", dict.fromkeys(removal.LAMBDAS, (1, 2)))
    monkeypatch.setattr(guided, "STRENGTHS", (1, 3))


def run(weights, out, name, *flags):
    n = "90" if name in ("timing", "course") else "20"
    arguments = [name, "--weights", str(weights), "--out", str(out), "--n", n, "--device", "cpu"]
    return command.main([*arguments, "--steps", "10", "--seeds", "1", *flags])


@pytest.mark.parametrize("name", command.EXPERIMENTS)
def test_an_experiment_from_end_to_end(name, weights, tmp_path, capsys):
    assert run(weights, tmp_path, name) == 0
    out = capsys.readouterr().out
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    file = tmp_path / f"{name}.csv"
    rows, text = Results(file).rows, file.read_text()
    assert {row["weights"] for row in rows} == {rows[0]["weights"]}
    assert str(rows[0]["weights"]).startswith("sha256:") and rows[0]["data"] == "digits"
    assert out.startswith("| ") and f"{len(rows)} rows in {file}" in out
    # all is there: nothing is measured again, and the table needs no weights
    (tmp_path / f"{name}.png").unlink()
    assert run(weights, tmp_path, name) == 0
    assert "jobs are in" in capsys.readouterr().out
    assert run("nowhere", tmp_path, name, "--plot") == 0
    assert capsys.readouterr().out == out
    assert (tmp_path / f"{name}.png").exists() and file.read_text() == text


def test_an_interrupted_sweep_goes_on_where_it_stopped(weights, tmp_path, capsys, monkeypatch):
    whole = command.EXPERIMENTS["price-of-w"]
    calls = []

    def measure(lab, job, args):
        if len(calls) == 3 and calls[-1] != "again":
            calls.append("again")
            raise KeyboardInterrupt
        calls.append(job["w"])
        return whole.measure(lab, job, args)

    monkeypatch.setitem(command.EXPERIMENTS, "price-of-w", whole._replace(measure=measure))
    assert run(weights, tmp_path / "a", "price-of-w") == 130
    assert len(Results(tmp_path / "a" / "price-of-w.csv").rows) == 3
    assert run(weights, tmp_path / "a", "price-of-w") == 0
    assert calls == [0, 0.1, 0.25, "again", 0.5, 1, 2, 4, 8]
    monkeypatch.undo()
    monkeypatch.setattr(lab_module, "CAS_STEPS", 2)
    assert run(weights, tmp_path / "b", "price-of-w") == 0
    files = [(tmp_path / d / "price-of-w.csv").read_text() for d in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", command.EXPERIMENTS)
def test_what_there_is_of_a_sweep_can_be_shown(name, weights, tmp_path, monkeypatch, capsys):
    """After the first job of many: a table and a plot, with gaps."""
    whole = command.EXPERIMENTS[name]
    monkeypatch.setitem(
        command.EXPERIMENTS, name, whole._replace(jobs=lambda args: whole.jobs(args)[:1])
    )
    assert run(weights, tmp_path, name) == 0
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_another_n_is_another_sweep(weights, tmp_path, capsys):
    for n in ("10", "20"):
        flags = ("--n", n, "--steps", "2")
        assert run(weights, tmp_path, "price-of-w", *flags) == 0
    rows = Results(tmp_path / "price-of-w.csv").rows
    assert [row["n"] for row in rows] == [10] * 8 + [20] * 8
    out = capsys.readouterr().out
    assert out.count("8 rows in") == 2  # only those that belong together
    assert run(weights, tmp_path, "price-of-w", "--n", "10", "--steps", "2") == 0
    again = capsys.readouterr().out.partition("already\n")[2]
    assert again and out.startswith(again)  # what was asked for, not what was measured last


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("price-of-w", ["--n", "15"], "--n must be a multiple of the 10 classes, got 15"),
        ("timing", ["--n", "100"], "--n must be a multiple of the 90 pairs of classes, got 100"),
        ("removal", ["--seeds", "0"], "--seeds must be at least 1, got 0"),
        ("course", ["--weights", "nowhere"], "no unet.safetensors in --weights nowhere"),
        ("samplers", ["--plot"], "--plot: there is nothing in"),
        ("samplers", ["--steps", "5"], "--steps must be at least 10, got 5"),
        ("removal", ["--n", "1"], "--n must be at least 2, got 1"),
        ("price-of-w", ["--n", "2000"], "--n must be at most"),
    ],
)
def test_bad_flags_are_one_line(name, flags, message, weights, tmp_path, capsys):
    assert run(weights, tmp_path, name, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0


def test_results_come_back_as_they_were(tmp_path):
    results = Results(tmp_path / "deep" / "x.csv")
    results.add(ROWS[:1])
    results.add(ROWS[1:])
    again = Results(tmp_path / "deep" / "x.csv")
    assert [list(row) for row in again.rows] == [list(row) for row in ROWS]
    assert again.rows[0]["value"] == pytest.approx(1 / 3, rel=1e-5)
    assert again.rows[1]["value"] != again.rows[1]["value"]  # NaN
    assert len(again.matching({"method": "a, b", "w": 0.1, "seed": 0})) == 1
    assert len(again.matching({"w": 2.0})) == 1 and not again.matching({"seed": 2})
    with pytest.raises(ValueError, match="not those of this version"):
        again.add([{"other": 1}])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.csv"]


@pytest.mark.parametrize("kind", ["pair", "present", "any"])
def test_going_on_from_a_state_is_a_window(kind, weights):
    """The timing study runs from the plain run's state k, or loses p₋ at state k. The other road:
    `negative_guidance` from x_T with its window: the same operations but for float32's rounding,
    which six steps of a random network multiply by up to a thousand."""
    L, S = lab(weights), 6
    case = timing.make_case(L, kind, 90, S, seed=3)
    x_T, schedule = case.states[0], L.models.schedule
    assert case.visited == timesteps(schedule.T, S) and len(case.states) == S + 1

    def whole(start, stop):
        first, last = window(schedule.T, S, start, stop)
        predictor = negative_guidance(
            L.models.unet, case.c, case.negative, timing.W, null=10, start=first, stop=last
        )
        return [step.x for step in ddim(schedule, predictor, x_T, S)][-1]

    pushed = timing.run(L, case.guided, x_T, case.visited)
    moved = (whole(0, S) - case.states[-1]).abs().max()
    assert moved > 0.1
    for k in range(S + 1):
        late, early = timing.late(L, case, k), timing.early(L, case, pushed, k)
        torch.testing.assert_close(late, whole(k, S), rtol=0, atol=1e-3)
        torch.testing.assert_close(early, whole(0, k), rtol=0, atol=1e-3)


def test_pairs_are_all_pairs(weights):
    case = timing.make_case(lab(weights), "pair", 180, 2, seed=0)
    pairs = list(zip(case.c.tolist(), case.negative.tolist(), strict=True))
    assert len(set(pairs)) == 90 and all(a != b for a, b in pairs)
    assert all(pairs.count(pair) == 2 for pair in set(pairs))


def test_the_course_is_measured_in_float32(weights):
    """bfloat16 would give two differences from one rounded ε_∅ a cosine of a half."""
    cases = []
    for precision in ("float32", "bfloat16"):
        L = lab(weights, precision=precision)
        case = timing.make_case(lab(weights), "pair", 90, 3, seed=0)
        t = torch.full((90,), case.visited[1])
        cases.append(course._at(L, case.states[1], t, case.c, case.negative))
    for key in cases[0]:
        assert torch.equal(cases[0][key], cases[1][key]), key


def test_ctrl_c_inside_a_score_stops_the_sweep(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab_module, "CAS_STEPS", 10**6)
    threading.Timer(4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert run(weights, tmp_path, "price-of-w") == 130
    assert "interrupted" in capsys.readouterr().err


def test_sign_test_counts_coins():
    """P(5 heads of 5) = 1/32; P(≥ 4 of 5) = 6/32; no gain is no evidence."""
    assert timing.sign_test(5, 0) == pytest.approx(1 / 32)
    assert timing.sign_test(4, 1) == pytest.approx(6 / 32)
    assert timing.sign_test(0, 7) == 1 and timing.sign_test(0, 0) == 1


def test_summaries():
    """Of 1, 2, 3: s = 1 and t_{0.975}(2) = 4.3027, so ± 4.3027/√3. One value has no interval."""
    rows = [{"w": 1, "x": v} for v in (1.0, 2.0, 3.0)] + [{"w": 2, "x": 7.0}]
    assert summary(rows, "x", w=1) == pytest.approx(
        (2.0, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), rel=1e-4
    )
    assert summary(rows, "x", w=2).mean == 7 and str(summary(rows, "x", w=2)) == "7.000"
    assert str(summary(rows, "x", w=3)) == "–"
    assert str(summary(rows, "x", w=1)) == "2.000 ± 2.484"
    paired = [{"w": w, "seed": seed, "x": w * 3 + 10 * seed} for w in (0, 1) for seed in (0, 1, 2)]
    assert difference(paired, "x", {"w": 1}, {"w": 0}) == (3.0, 3.0, 3.0)  # whatever the seeds do
    # Wilson's ends are where |p − 0.3| is 1.96 of p's own standard deviations
    share = proportion(30, 100)
    for end in share[1:]:
        assert abs(end - 0.3) == pytest.approx(1.96 * (end * (1 - end) / 100) ** 0.5, rel=1e-4)
    assert proportion(0, 90).high == pytest.approx(0.0409, abs=1e-4)
    assert str(proportion(0, 90)) == "0.000 (0.000–0.041)"
