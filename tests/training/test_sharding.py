"""What several processes share: one mask, one set of scores, little memory and few bytes at a re-mask."""

import weakref
from pathlib import Path
from types import SimpleNamespace

import deepspeed
import numpy as np
import pytest
import torch
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from deepspeed.comm import comm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foresight.bank import Bank
from foresight.bank.optimizer import BankAdamW
from foresight.bank.zero import ZeroPlacement
from foresight.common.errors import ConfigError, MaskLeakError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import Mask
from foresight.masks.selection import select
from foresight.model.components import component_table
from foresight.scoring import goodness, make_scorer
from foresight.scoring.corrected import correct
from foresight.training.config import ForesightConfig
from foresight.training.sharding import agreed, optimizer_class, refuse_dtype, refuse_world
from support.processes import run_group
from support.scoring_cases import pair_probe, text_probe
from support.tiny import tiny, tokens

SCORERS = ("attribution", "attribution_ig", "gradient_activation", "gradient", "gradient_local", "weight_gradient",
           "utility", "movement")  # fmt: skip


def banked(seed=0, share=0.3, **sizes):
    model = tiny(**sizes)
    table = component_table(model)
    bank = Bank(model, table, budget_vectors(table, share) // 2 * 2)
    optimizer = BankAdamW(bank.vectors, lr=1e-2)
    bank.remask(select(np.random.default_rng(seed).random(len(table)), table, bank.n_vectors), optimizer)
    with torch.no_grad():  # something to be seen in the weights in effect
        bank.vectors.copy_(torch.randn(bank.vectors.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return model, bank, optimizer


def sharded(stage, model, bank, optimizer):
    config = {
        "train_micro_batch_size_per_gpu": 2, "zero_allow_untested_optimizer": True, "steps_per_print": 10**9,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }  # fmt: skip
    engine, *_ = deepspeed.initialize(model=model, model_parameters=[bank.vectors], optimizer=optimizer, config=config)
    bank.place(ZeroPlacement(model, engine))
    optimizer.rank = bank.placement.rank
    return engine


def scores_of(bank):
    """Scores by every scorer on three batches, and the correction; and bytes of gradients given away by scorer."""
    lengths = (9, 9, 9, 9, 9)
    pairs, text = pair_probe(lengths, batch_size=2), text_probe((9, 7, 5, 8, 6), batch_size=2)
    probes = {name: pairs if name.startswith("attr") else text for name in SCORERS}
    found, sent, sum_at = {}, dict.fromkeys(SCORERS, 0), bank.placement.sum_at

    def counted(tensor, owner):
        sent[name] += tensor.nbytes
        return sum_at(tensor, owner)

    bank.placement.sum_at = counted
    for name, probe in probes.items():
        params = {}
        if name in ("weight_gradient", "movement"):
            params["weights"] = bank.weights
        if name == "movement":
            model = tiny()
            table = component_table(model)
            params["reference"] = {t.module: model.get_submodule(t.module).weight for t in table.targets}
        scores = make_scorer(name, **params).score(bank.model, bank.table, probe, bank.placement)
        found[name], found[name + " stderr"] = scores.values, np.nan_to_num(scores.stderr, nan=-1)
    scorer, where = make_scorer("attribution"), (bank.model, bank.table, probes["attribution"])
    corrected = correct(scorer, *where, scorer.score(*where, bank.placement), placement=bank.placement)
    return found | {"exact": corrected.exact, "exact stderr": corrected.exact_stderr}, sent


def alike(found, expected):
    for name, values in expected.items():
        assert np.allclose(found[name], values, rtol=1e-4, atol=1e-5 * np.abs(values).max()), name


def score_under_every_stage(folder):
    deepspeed.init_distributed("gloo")
    goodness.CHUNK = 5 * 64  # five tokens: the ranks' batches would take different numbers of chunks
    for stage in (1, 2, 3):
        model, bank, optimizer = banked()
        engine = sharded(stage, model, bank, optimizer)
        scores, sent = scores_of(bank)
        np.savez(f"{folder}/{stage}-{bank.placement.rank}.npz", **scores)
        weights = bank.table.n_vectors * bank.table.d_model
        summed = {name: 2 * 4 * weights if name in ("gradient", "weight_gradient") else 0 for name in SCORERS}
        assert sent == summed  # two of the three batches each; the other scorers give no gradients away
        rows = tokens(2, 12)  # training goes on as if nothing had happened
        engine.backward(engine(input_ids=rows, labels=rows).loss)
        engine.step()
        engine.destroy()


@pytest.mark.multi_process
def test_scores_under_every_stage_are_those_of_one_process(tmp_path):
    assert run_group(score_under_every_stage, 2, str(tmp_path)) == [0, 0]
    expected, _ = scores_of(banked()[1])
    for stage in (1, 2, 3):
        for rank in (0, 1):
            alike(np.load(tmp_path / f"{stage}-{rank}.npz"), expected)


def measure(folder):
    """Peak memory and communicated bytes of a re-mask, and of two ways to score gradients."""
    deepspeed.init_distributed("gloo")
    for stage in (1, 2, 3):
        model, bank, optimizer = banked(share=0.45, hidden_size=128, intermediate_size=256, vocab_size=64)
        engine = sharded(stage, model, bank, optimizer)
        rows = tokens(2, 12)
        engine.backward(engine(input_ids=rows, labels=rows).loss)
        engine.step()
        # One component leaves: those wait on the CPU, which here is the device as well.
        *stay, gone = bank.mask.components
        mask = Mask(tuple(stay))
        comm.configure(enabled=True, prof_all=True, verbose=False)
        comm.comms_logger.comms_dict.clear()
        with Peak() as peak:
            bank.remask(mask, optimizer)
        logged = comm.comms_logger.comms_dict
        sent = sum(size * entry[0] for sizes in logged.values() for size, entry in sizes.items())
        comm.configure(enabled=False)
        found = {
            "peak": peak.most,
            "sent": sent,
            "matrix": bank.n_vectors * bank.table.d_model * 4,
            "largest": max(t.n for t in bank.table.targets) * bank.table.d_model * 4,
            "left": int(bank.table.vectors[gone]) * bank.table.d_model * 4,
        }
        np.savez(f"{folder}/{stage}-{bank.placement.rank}.npz", **found)
        engine.destroy()


class Peak(TorchDispatchMode):
    """The most bytes at a time of tensors that come into being while it lasts; communicators' own copies not seen."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.known.update(t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return result

    def _gone(self, size):
        self.now -= size


@pytest.mark.multi_process
def test_a_remask_gathers_one_matrix_at_a_time(tmp_path):
    peaks: dict[tuple[int, int], int] = {}
    for _ in range(3):  # gloo's own thread may hold a matrix for a moment longer than we do: the least peak is ours
        assert run_group(measure, 2, str(tmp_path)) == [0, 0]
        runs = {
            (stage, rank): {k: int(v) for k, v in np.load(tmp_path / f"{stage}-{rank}.npz").items()}
            for stage in (1, 2, 3)
            for rank in (0, 1)
        }
        peaks = {key: min(found["peak"], peaks.get(key, found["peak"])) for key, found in runs.items()}
        # Beside the one matrix: the sixteenth of it that moves, and the vectors that leave on their way.
        most = {key: 1.15 * found["matrix"] + found["left"] for key, found in runs.items()}
        if all(peaks[key] < most[key] for key in runs):
            break
    for (stage, rank), found in runs.items():
        assert found["matrix"] <= peaks[stage, rank] < most[stage, rank]
        if stage < 3:  # two moments and the values, each as the sum of pieces padded with zeros
            assert found["sent"] == 3 * found["matrix"]
        else:  # a rank's half of each, and three touched weights: gathered in halves, sent back whole
            assert found["sent"] == 3 * found["matrix"] // 2 + 3 * found["largest"] * 3 // 2


def disagree(folder):
    deepspeed.init_distributed("gloo")
    model, bank, optimizer = banked()
    sharded(2, model, bank, optimizer)
    rank = bank.placement.rank
    told = []
    same = agreed(Mask((0, 1)), bank)
    for change in ("mask", "ledger", "ids"):
        mask = Mask((0, 1 + rank)) if change == "mask" else Mask((0, 1))
        if change == "ledger" and rank == 1:
            bank.ledger.record(torch.tensor([3]), torch.ones(1, bank.table.d_model))
        if change == "ids" and rank == 1:
            bank.ids = bank.ids[1:]
        try:
            agreed(mask, bank)
        except MaskLeakError as error:
            told.append(str(error))
    Path(folder, str(rank)).write_text("\n".join([str(same.components), *told]))


@pytest.mark.multi_process
def test_a_rank_that_differs_stops_all_and_says_in_what(tmp_path):
    assert run_group(disagree, 2, str(tmp_path)) == [0, 0]
    for rank in "01":
        same, mask, ledger, ids = (tmp_path / rank).read_text().splitlines()
        assert same == "(0, 1)"
        assert "rank 1 chose another mask than rank 0: they differ in components [1, 2]" in mask
        assert "rank 1 holds other folded vectors (the ledger) than rank 0" in ledger
        assert "rank 1 holds other vectors in force than rank 0" in ids


@pytest.mark.parametrize(("dtype", "bf16"), [(torch.float32, True), (torch.bfloat16, False)])
def test_two_dtypes_are_refused_under_deepspeed(tmp_path, dtype, bf16):
    args = ForesightConfig(str(tmp_path), use_cpu=True, bf16=bf16)
    with pytest.raises(ConfigError, match="both must agree"):
        refuse_dtype(tiny(dtype=dtype), args)


def arguments(settings, **changes):
    """What `refuse_world` and `optimizer_class` read of a config, without starting DeepSpeed."""
    usual = {"policy_params": None, "policy": "foresight", "granularity": "components", "budget_schedule": None}
    values = {"world_size": 1, "deepspeed": settings, **usual, **changes}
    return SimpleNamespace(hf_deepspeed_config=HfDeepSpeedConfig(settings), **values)


ZERO2 = {"zero_optimization": {"stage": 2}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero_optimization": {"stage": 0}}, "ZeRO stage 0"),
        ({"bf16": {"enabled": True}}, "ZeRO stage 0"),
        ({**ZERO2, "optimizer": {"type": "AdamW"}}, "section 'optimizer'.*DeepSpeedCPUAdam"),
        ({**ZERO2, "scheduler": {"type": "WarmupLR"}}, "section 'scheduler'"),
        ({**ZERO2, "fp16": {"enabled": True}}, "fp16.enabled"),
        ({**ZERO2, "torch_autocast": {"enabled": True}}, "torch_autocast.enabled"),
        ({**ZERO2, "tensor_parallel": {"autotp_size": 2}}, "autotp_size"),
        ({"zero_optimization": {"stage": 3, "mics_shard_size": 4}}, "mics_shard_size"),
        ({"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 8}}, "zero_hpz_partition_size"),
        ({"zero_optimization": {"stage": 3, "zero_quantized_weights": True}}, "zero_quantized_weights"),
        ({"zero_optimization": {"stage": 3, "zenflow": {"topk_ratio": 0.1}}}, "zenflow"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "offload_param to 'nvme'"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}}, "offload_optimizer to 'nvme'"),
    ],
    ids=str,
)
def test_deepspeed_settings_that_go_wrong_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        refuse_world(arguments(settings))


def test_worlds_that_go_wrong_are_refused(monkeypatch):
    refuse_world(arguments(ZERO2))
    refuse_world(arguments({"fp16": {"enabled": False}, "zero_optimization": {"stage": 3, "mics_shard_size": -1}}))
    with pytest.raises(ConfigError, match="would resize the bank"):
        refuse_world(arguments(ZERO2, policy_params={"watch": "full-keep"}))
    with pytest.raises(ConfigError, match="budget_schedule would resize the bank"):
        refuse_world(arguments(ZERO2, budget_schedule="front-loaded"))
    with pytest.raises(ConfigError, match="parallelism_config"):
        refuse_world(arguments(ZERO2, parallelism_config=object()))
    with pytest.raises(ConfigError, match="2 processes were launched"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        refuse_world(SimpleNamespace(world_size=1, deepspeed=None, policy="random", policy_params=None))
    with pytest.raises(ConfigError, match="not by DDP or FSDP"):
        refuse_world(SimpleNamespace(world_size=2, deepspeed=None, policy="random", policy_params=None))


@pytest.mark.parametrize(
    ("offload", "force", "expected"),
    [
        (None, None, "BankAdamW"),
        ("cpu", None, "BankCPUAdam"),
        ("cpu", True, "BankCPUAdam"),
        ("cpu", False, "BankAdamW"),
    ],
)
def test_deepspeed_does_not_get_to_replace_the_optimizer(offload, force, expected):
    zero = {"stage": 2} if offload is None else {"stage": 2, "offload_optimizer": {"device": offload}}
    settings = {"zero_optimization": zero} | ({} if force is None else {"zero_force_ds_cpu_optimizer": force})
    args = arguments(settings)
    assert optimizer_class(args).__name__ == expected
    assert offload is None or args.hf_deepspeed_config.config["zero_force_ds_cpu_optimizer"] is False
