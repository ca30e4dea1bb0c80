"""Policy `oracle_ahead`: the recorded scores of the steps that a mask is for."""

import numpy as np
import pytest

from foresight.masks.masks import Mask
from foresight.masks.selection import select
from foresight.policies.policy import View
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.planted import make_table, random_walk, series_of
from support.policies import make_policy
from support.tiny import sentences, tiny, tiny_tokenizer

TABLE = make_table(layers=4, heads=4, blocks=4)
BUDGET = 24
RECORDED = series_of(TABLE, random_walk(len(TABLE), 11, size=0.7))  # at steps 0, 10, …, 100


def mask(step, horizon, recorded=RECORDED):
    policy = make_policy("oracle_ahead", table=TABLE, oracle_trajectory=recorded)
    return policy.mask(View(TABLE, BUDGET, step, total_steps=100, horizon=horizon))


@pytest.mark.parametrize(
    "step, horizon, seen",
    [
        (0, 10, [0]),
        (0, 20, [0, 1]),
        (20, 30, [2, 3, 4]),
        (25, 20, [3, 4]),
        (80, 20, [8, 9]),  # the state after the last step trains nothing
        (0, 100, list(range(10))),
        (31, 5, [3]),  # none in between: the nearest
        (36, 3, [4]),
        (300, 10, [10]),
    ],
)
def test_the_mean_until_the_next_decision(step, horizon, seen):
    assert mask(step, horizon) == select(RECORDED.values[:, seen].mean(1, dtype=np.float64), TABLE, BUDGET)


def test_the_steps_outside_do_not_count():
    changed = RECORDED.values.copy()
    changed[:, [0, 1, 4, 5, 6, 7, 8, 9, 10]] = np.random.default_rng(1).random((len(TABLE), 9)) * 1e6
    assert mask(20, 20, series_of(TABLE, changed)) == mask(20, 20)


def test_among_masks_of_one_size_it_has_the_highest_score_ahead():
    even = np.flatnonzero(TABLE.kind == "head")  # components of one size: greedy is optimal
    values = RECORDED.values.copy()
    values[TABLE.kind == "mlp"] = 0
    recorded = series_of(TABLE, values)
    ahead = values[:, 5:7].sum(1)
    best = ahead[list(mask(50, 20, recorded).components)].sum()
    rng = np.random.default_rng(0)
    assert all(ahead[rng.choice(even, BUDGET // 4, replace=False)].sum() <= best for _ in range(200))


def run(folder, **settings):
    args = ForesightConfig(
        output_dir=str(folder), max_steps=6, learning_rate=1e-2,
        use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True,
        save_strategy="no", per_device_train_batch_size=4, seed=3, **settings,
    )  # fmt: skip
    trainer = ForesightTrainer(model=tiny(), args=args, train_dataset=sentences(), processing_class=tiny_tokenizer())
    trainer.train()
    return trainer


def test_the_oracle_by_utility_follows_the_recorded_run(tmp_path):
    full = run(tmp_path / "full", policy="full", record=True, scorer="utility", probe_every=1, probe_examples=6)
    recorded = full.trajectory.series("utility")
    greedy = run(
        tmp_path / "greedy", policy="oracle_ahead", budget=0.2, scorer="utility", remask_every=2,
        policy_params={"oracle_trajectory": str(tmp_path / "full" / "trajectory")},
    )  # fmt: skip
    assert greedy.run.watcher is None  # hindsight needs no probes of its own
    expected: list[tuple[int, Mask]] = []
    for step in (0, 2, 4):
        best = select(recorded.values[:, step : step + 2].mean(1, dtype=np.float64), greedy.table, greedy.run.n_vectors)
        if not expected or best != expected[-1][1]:
            expected.append((step, best))
    assert greedy.schedule.entries == expected
