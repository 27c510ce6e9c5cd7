import io

import numpy as np
import pytest
import torch

from controllers.evolution import EvolutionConfig, EvolutionController
from controllers.uniform import UniformConfig, UniformController
from enas.spaces.nasbench201 import NasBench201Space
from enas.types import Rollout

KINDS = ("aging", "generational")


def make(space, *, seed=0, **options):
    return EvolutionController(space, EvolutionConfig(**options), seed=seed)


def small(space, kind, *, seed=0):
    return make(space, seed=seed, kind=kind, population=8, sample=3, parents=2)


def advance(controller, num_updates):
    for _ in range(num_updates):
        rollout = controller.propose(3)
        controller.update(rollout, rollout.tokens.mean(axis=1))
    return controller


def give(controller, tokens, rewards):
    return controller.update(Rollout(tokens=np.array(tokens, dtype=np.int64)), np.array(rewards, dtype=float))


def num_changed(tokens, other):
    return (tokens != other).sum(axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_evolution_finds_most_of_a_planted_target_where_random_search_does_not(kind, planted_space, planted_search):
    rewards = planted_search(make(planted_space, kind=kind), num_samples=10_000)
    random = planted_search(UniformController(planted_space, UniformConfig(), seed=0), num_samples=1000)
    assert rewards[-1000:].mean() >= 0.8
    assert random.mean() < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_search_starts_with_population_uniform_samples(kind, planted_space):
    controller = make(planted_space, kind=kind, population=50)
    give(controller, controller.propose(49).tokens * 0, np.ones(49))
    assert (num_changed(controller.propose(100).tokens, 0) > 20).all()  # uniform: 43 +- 4.2 of the 78 decisions are not 0
    give(controller, np.zeros((1, 78)), [1.0])
    assert (num_changed(controller.propose(100).tokens, 0) < 25).all()  # children of zeros


def test_aging_child_differs_from_the_tournament_winner_in_one_decision(planted_space):
    controller = make(planted_space, population=20, sample=200)  # so large a sample holds the best member
    tokens = controller.propose(20).tokens
    give(controller, tokens, np.arange(20.0))
    assert (num_changed(controller.propose(50).tokens, tokens[-1]) == 1).all()


def test_aging_tournament_of_one_favours_no_member(chain_space):
    space = chain_space(4, 1000)
    controller = make(space, population=4, sample=1)
    give(controller, [[0, 0], [1, 0], [2, 0], [3, 0]], [0.0, 1.0, 2.0, 3.0])
    children = controller.propose(4000).tokens
    of_each = np.bincount(children[children[:, 1] > 0][:, 0], minlength=4)  # their second decision was the one to change
    assert of_each.sum() == pytest.approx(2000, abs=160)
    assert of_each == pytest.approx(of_each.sum() / 4, abs=100)  # five standard deviations


def test_aging_removes_the_oldest_however_good(chain_space):
    space = chain_space(10, 10)
    controller = make(space, population=3, sample=100)
    give(controller, [[9, 9], [0, 0], [1, 1]], [1.0, 0.1, 0.2])
    assert (num_changed(controller.propose(20).tokens, [9, 9]) == 1).all()
    metrics = give(controller, [[2, 2]], [0.3])
    assert metrics == pytest.approx(
        {"population_best": 0.3, "population_mean": 0.2, "population_distinct": 1.0, "generation": 1.0}
    )
    assert (num_changed(controller.propose(20).tokens, [2, 2]) == 1).all()


def test_aging_batch_larger_than_the_population_keeps_its_last_members(chain_space):
    controller = make(chain_space(10, 10), population=2, sample=100)
    give(controller, [[9, 9], [1, 1], [2, 2]], [1.0, 0.1, 0.2])
    assert (num_changed(controller.propose(20).tokens, [2, 2]) == 1).all()


def test_generation_ends_after_population_evaluations(planted_space):
    controller = make(planted_space, kind="generational", population=6, parents=2)
    finished = [give(controller, controller.propose(2).tokens, [0.1, 0.2])["generation"] for _ in range(6)]
    assert finished == [0, 0, 1, 1, 1, 2]


def test_generation_descends_from_the_best_parents(chain_space):
    space = chain_space(*[10] * 20)
    controller = make(space, kind="generational", population=4, parents=2, mutation_probability=0.0, reevaluate_parents=False)
    give(controller, [[row] * 20 for row in (4, 5, 6, 7)], [0.1, 0.9, 0.2, 0.8])
    children = controller.propose(400).tokens
    assert set(np.unique(children)) == {5, 7}
    is_copy = (children == children[:, :1]).all(axis=1)
    assert is_copy.mean() == pytest.approx(0.75, abs=0.1)  # every mutant, and a crossover of a parent with itself


def test_generational_mutants_change_the_given_share_of_decisions(planted_space):
    options = {"crossover_fraction": 0.0, "mutation_probability": 0.2, "reevaluate_parents": False}
    controller = make(planted_space, kind="generational", population=2, parents=1, **options)
    give(controller, np.zeros((2, 78)), [1.0, 1.0])
    assert num_changed(controller.propose(500).tokens, 0).mean() / 78 == pytest.approx(0.2, abs=0.01)


def test_parents_compete_with_their_children(chain_space):
    controller = make(chain_space(10, 10), kind="generational", population=3, parents=2, reevaluate_parents=False)
    give(controller, [[9, 9], [0, 0], [1, 1]], [1.0, 0.1, 0.2])
    give(controller, [[2, 2], [3, 3], [4, 4]], [0.5, 0.4, 0.3])
    assert controller.state_dict()["population"]["parents"] == {"tokens": [[9, 9], [2, 2]], "rewards": [1.0, 0.5]}


def test_parent_measured_again_is_judged_by_its_latest_reward(chain_space):
    controller = make(chain_space(10, 10), kind="generational", population=3, parents=2)
    give(controller, [[9, 9], [0, 0], [1, 1]], [1.0, 0.1, 0.2])
    give(controller, [[9, 9], [3, 3], [4, 4]], [0.3, 0.5, 0.4])
    assert controller.state_dict()["population"]["parents"] == {"tokens": [[3, 3], [4, 4]], "rewards": [0.5, 0.4]}


@pytest.mark.parametrize("batch", [1, 5, 20, 30])
def test_each_generation_measures_every_parent_again(batch, planted_space):
    controller = make(planted_space, kind="generational", population=20, parents=6, mutation_probability=1.0)
    give(controller, controller.propose(20).tokens, np.arange(20.0))
    parents = set(map(tuple, controller.candidates(6).tolist()))
    proposed = []
    for _ in range(-(-20 // batch)):
        rollout = controller.propose(batch)
        proposed += map(tuple, rollout.tokens.tolist())
        give(controller, rollout.tokens, np.zeros(batch))
    assert parents <= set(proposed)


def test_single_proposal_without_update_is_not_always_the_same_parent(planted_space):
    controller = make(planted_space, kind="generational", population=20, parents=2)
    give(controller, controller.propose(20).tokens, np.arange(20.0))
    paths = np.concatenate([controller.propose(1).tokens for _ in range(100)])
    assert len(np.unique(paths, axis=0)) > 50


RECORDED = {
    "aging": [[4, 2, 2, 4, 4, 2], [2, 3, 2, 2, 3, 3], [3, 2, 3, 4, 4, 2], [2, 0, 4, 0, 4, 2]],
    "generational": [[4, 4, 2, 4, 2, 3], [4, 4, 3, 4, 2, 3], [4, 3, 3, 4, 4, 3], [4, 4, 4, 4, 2, 3]],
}
"""What the seventh proposals below were before evolution knew of duplicates, and aging of crossover."""


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_by_default_are_the_recorded_ones(kind):
    controller = make(NasBench201Space(), seed=7, kind=kind, population=6, sample=3, parents=2)
    for _ in range(6):
        rollout = controller.propose(4)
        controller.update(rollout, rollout.tokens.mean(axis=1))
    assert controller.propose(4).tokens.tolist() == RECORDED[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_crossover_children_have_only_their_parents_choices(kind, chain_space):
    space = chain_space(*[10] * 20)
    options = {"aging_crossover": 1.0, "crossover_fraction": 1.0, "reevaluate_parents": False}
    controller = make(space, kind=kind, population=4, parents=2, sample=2, **options)
    give(controller, [[row] * 20 for row in (4, 5, 6, 7)], [0.1, 0.9, 0.2, 0.8])
    children = controller.propose(400).tokens
    assert set(np.unique(children)) == ({4, 5, 6, 7} if kind == "aging" else {5, 7})
    kinds_of_choices = [len(np.unique(child)) for child in children]
    assert set(kinds_of_choices) == {1, 2}  # of one parent, or of two


def test_aging_crossover_takes_both_parents_from_tournaments(chain_space):
    controller = make(chain_space(10, 10), population=4, sample=200, aging_crossover=1.0)  # so large a sample holds the best
    give(controller, [[4, 4], [5, 5], [6, 6], [7, 7]], [0.1, 0.9, 0.2, 0.8])
    assert (controller.propose(20).tokens == 5).all()


def test_aging_makes_the_given_share_of_children_by_crossover(chain_space):
    controller = make(chain_space(*[10] * 20), population=2, sample=50, aging_crossover=0.3)
    give(controller, np.zeros((2, 20)), [1.0, 1.0])
    is_cross = num_changed(controller.propose(2000).tokens, 0) == 0  # a mutant differs from its parent
    assert is_cross.mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("options", [{}, {"aging_crossover": 0.8}, {"kind": "generational", "reevaluate_parents": False}])
def test_without_duplicates_a_small_space_is_exhausted_before_anything_repeats(options, batch, chain_space):
    space = chain_space(3, 1, 4, 5)
    controller = make(space, population=6, sample=3, parents=2, avoid_duplicates=True, **options)
    seen = []
    for _ in range(60 // batch):
        rollout = controller.propose(batch)
        seen += map(tuple, rollout.tokens.tolist())
        controller.update(rollout, rollout.tokens.mean(axis=1))
    assert len(set(seen)) == 60
    assert controller.propose(7).tokens.shape == (7, 4)  # nothing new is left, and it still answers


def test_without_duplicates_only_parents_are_measured_again(chain_space):
    controller = make(chain_space(3, 4, 5), kind="generational", population=8, parents=3, avoid_duplicates=True)
    measured: list[tuple[int, ...]] = []
    repeats: set[tuple[int, ...]] = set()
    for _ in range(5):
        parents = set(map(tuple, controller.state_dict()["population"]["parents"]["tokens"]))
        tokens = controller.propose(8).tokens
        proposed = list(map(tuple, tokens.tolist()))
        assert len(set(proposed)) == 8
        assert set(proposed) & set(measured) == parents
        repeats |= parents
        measured += proposed
        give(controller, tokens, tokens.mean(axis=1))
    assert repeats


def test_duplicates_are_common_by_default(chain_space):
    controller = make(chain_space(3, 4, 5), population=8, sample=3)
    seen = []
    for _ in range(60):
        rollout = controller.propose(1)
        seen += map(tuple, rollout.tokens.tolist())
        controller.update(rollout, rollout.tokens.mean(axis=1))
    assert len(set(seen)) < 40


def test_measured_architectures_are_restored_and_old_states_know_those_they_hold(chain_space):
    space = chain_space(3, 4, 5)
    novel = {"population": 4, "sample": 2, "archive_size": 5, "avoid_duplicates": True}
    saved = advance(make(space, seed=3, **novel), 15)
    restored = make(space, **novel)
    restored.load_state_dict(saved.state_dict())
    assert restored.state_dict() == saved.state_dict()
    assert advance(restored, 2).state_dict() == advance(saved, 2).state_dict()
    old = advance(make(space, **{**novel, "avoid_duplicates": False}), 15).state_dict()
    assert "measured" not in old
    restored.load_state_dict(old)
    held = old["archive"]["tokens"] + old["population"]["alive"]["tokens"]
    assert restored.state_dict()["measured"] == [list(row) for row in sorted(set(map(tuple, held)))]


@pytest.mark.parametrize("kind", KINDS)
def test_propose_without_update_leaves_the_population_as_it_was(kind, planted_space):
    controller = advance(small(planted_space, kind), 10)
    before = controller.state_dict()
    for _ in range(5):
        controller.propose(4)
    after = controller.state_dict()
    assert after.pop("rng") != before.pop("rng")
    assert after == before


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_disturb_no_later_proposal(kind, planted_space):
    asked, unasked = (advance(small(planted_space, kind), 10) for _ in range(2))
    assert np.array_equal(asked.candidates(60), asked.candidates(60))
    assert np.array_equal(asked.propose(9).tokens, unasked.propose(9).tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_population_then_archive_then_fresh(kind, chain_space):
    controller = make(chain_space(10, 10), kind=kind, population=2, parents=1)
    assert len(controller.candidates(4)) == 4
    give(controller, [[9, 9], [8, 8]], [1.0, 0.9])
    give(controller, [[1, 1], [2, 2]], [0.1, 0.2])
    candidates = controller.candidates(8).tolist()
    population = [[2, 2], [1, 1]] if kind == "aging" else [[9, 9]]
    archive = [[9, 9], [8, 8]] if kind == "aging" else [[8, 8], [2, 2], [1, 1]]
    assert candidates[:4] == population + archive
    assert len(set(map(tuple, candidates))) == 8


def test_candidates_rank_a_repeated_member_by_its_latest_reward(chain_space):
    controller = make(chain_space(10, 10), population=3)
    give(controller, [[9, 9], [1, 1], [9, 9]], [1.0, 0.5, 0.1])
    assert controller.candidates(2).tolist() == [[1, 1], [9, 9]]


@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides_the_search(kind, planted_space):
    proposals = [advance(small(planted_space, kind, seed=s), 12).propose(4).tokens for s in (3, 3, 4)]
    assert np.array_equal(proposals[0], proposals[1])
    assert not np.array_equal(proposals[0], proposals[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_updates", [0, 1, 10])
def test_restored_controller_goes_on_as_the_saved_one(kind, num_updates, planted_space):
    saved = advance(small(planted_space, kind, seed=5), num_updates)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    restored = small(planted_space, kind, seed=6)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored.state_dict() == saved.state_dict()
    assert np.array_equal(restored.candidates(40), saved.candidates(40))
    assert np.array_equal(restored.propose(7).tokens, saved.propose(7).tokens)
    assert advance(restored, 8).state_dict() == advance(saved, 8).state_dict()


def test_saved_state_does_not_change_with_the_search(planted_space):
    controller = advance(small(planted_space, "generational"), 4)
    state = controller.state_dict()
    expected = advance(controller, 1).state_dict()
    advance(controller, 5)
    controller.load_state_dict(state)
    assert advance(controller, 1).state_dict() == expected


def test_state_of_the_other_kind_is_refused(planted_space):
    with pytest.raises(ValueError, match="kind: expected the state of aging evolution, got generational"):
        make(planted_space).load_state_dict(make(planted_space, kind="generational").state_dict())


def test_state_of_another_space_is_refused(planted_space, chain_space):
    with pytest.raises(ValueError, match="expected rows of 3 tokens"):
        make(chain_space(2, 3, 4)).load_state_dict(advance(make(planted_space), 1).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_refused_rewards_change_nothing(kind, planted_space):
    controller = advance(small(planted_space, kind), 3)
    rollout = controller.propose(2)
    before = controller.state_dict()
    with pytest.raises(ValueError, match="rewards: expected finite numbers, got inf"):
        controller.update(rollout, np.array([0.5, np.inf]))
    assert controller.state_dict() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lamarckian"}, "kind: expected aging or generational, got 'lamarckian'"),
        ({"population": 0}, "population: expected at least 1, got 0"),
        ({"sample": 0}, "sample: expected at least 1, got 0"),
        ({"parents": 0}, "parents: expected at least 1, got 0"),
        ({"archive_size": 0}, "archive_size: expected at least 1, got 0"),
        ({"crossover_fraction": 1.5}, r"crossover_fraction: expected a number in \[0, 1\], got 1.5"),
        ({"mutation_probability": -0.1}, r"mutation_probability: expected a number in \[0, 1\], got -0.1"),
        ({"kind": "generational", "population": 10}, "parents: expected fewer than the population of 10, got 10"),
    ],
)
def test_config_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EvolutionConfig(**options)


def test_aging_takes_a_population_smaller_than_the_unused_parents():
    assert EvolutionConfig(population=5).parents == 10
