"""The Pareto front against its definition."""

import numpy as np

from edgeq_lib.analysis import pareto


def test_the_front_is_what_no_other_dominates():
    costs = {"a": (1, 9), "b": (2, 5), "c": (3, 5), "d": (4, 1), "twin": (2, 5), "e": (4, 2)}
    assert pareto.front(costs) == ["a", "b", "twin", "d"]
    assert pareto.dominators(costs) == {"c": "b", "e": "d"}
    assert pareto.front({}) == []


def test_a_cost_may_be_a_tuple_compared_entry_by_entry():
    costs = {"small": (1, (-90, -10)), "same": (2, (-90, -9)), "large": (2, (-90, -11))}
    assert pareto.front(costs) == ["small", "large"]


def test_against_brute_force():
    random = np.random.default_rng(0)
    points = random.integers(0, 6, (60, 3))
    costs = {str(index): tuple(point.tolist()) for index, point in enumerate(points)}
    beaten = [
        any((other <= own).all() and (other < own).any() for other in points) for own in points
    ]
    assert set(pareto.dominators(costs)) == {str(index) for index in np.flatnonzero(beaten)}
