"""The examples of bench/examples find what was planted, and stay short."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from bench import examples

FOLDER = Path(examples.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def example(name):
    return importlib.import_module(f"bench.examples.{name}")


def test_unseen_ratings_are_predicted_to_within_their_noise():
    factorisation = example("matrix_factorisation")
    assert factorisation.NOISE < factorisation.main() < 1.5 * factorisation.NOISE


def test_points_are_clustered_with_their_like():
    assert example("kmeans").main() > 0.99


def test_pairs_of_features_are_learned():
    assert example("factorisation_machine").main() > 0.95


def test_the_gradient_of_pairs_is_that_of_finite_differences():
    machine = example("factorisation_machine")
    X, y = machine.rows(50, seed=4)
    values = np.random.default_rng(5).normal(size=(machine.FEATURES, 1 + machine.FACTORS))

    def loss(at):
        return np.mean(np.logaddexp(0.0, -y * machine.margins(X, at)))

    found = machine.gradient(X, y, values)
    for key, column in ((X.indices[0], 0), (X.indices[1], 2), (X.indices[7], 4)):
        step = np.zeros_like(values)
        step[key, column] = 1e-6
        assert found[key, column] == pytest.approx(
            (loss(values + step) - loss(values - step)) / 2e-6, abs=1e-8
        )


def test_the_tour_of_the_estimator_sees_what_it_tells():
    tour = example("tour")
    assert tour.best.score(tour.X_test, tour.y_test) > 0.85
    assert min(tour.modes.values()) > 0.8 and tour.later.score(tour.X_test, tour.y_test) > 0.75
    assert 3 < len(tour.losses) < 200 and tour.losses[-1] < tour.losses[0]
    assert (tour.weighted.predict(tour.X_test) == "yes").mean() > (
        tour.best.predict(tour.X_test) == "yes"
    ).mean()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_under_80_lines(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 80
