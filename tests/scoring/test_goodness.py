import pytest
import torch

from foresight.scoring.goodness import batch_loss, goodness
from support.scoring_cases import pair_batch, text_probe


def logits_for(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(batch), len(batch.positions), 64, generator=generator)


def by_hand(batch, logits, value):
    """Mean over the labelled positions of each example of value(logits [vocabulary], example, position)."""
    result = []
    for b in range(len(batch)):
        at = [k for k, t in enumerate(batch.positions.tolist()) if batch.targets[b, t] >= 0]
        result.append(sum(value(logits[b, k], b, batch.positions[k]) for k in at) / len(at))
    return torch.stack(result)


def test_loss_is_the_log_probability_averaged_within_each_example():
    (batch,) = text_probe((9, 6, 5), batch_size=3).batches
    logits = logits_for(batch)
    expected = by_hand(batch, logits, lambda row, b, t: row.log_softmax(0)[batch.targets[b, t]])
    torch.testing.assert_close(goodness("loss", logits, batch), expected)


def test_batch_loss_is_the_mean_over_tokens_as_in_training():
    (batch,) = text_probe((9, 6, 5), batch_size=3).batches
    logits = logits_for(batch)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets[:, batch.positions].flatten())
    torch.testing.assert_close(batch_loss(logits, batch), expected)


def test_logit_difference_is_taken_at_each_last_position():
    batch = pair_batch((9, 6, 7))
    logits = logits_for(batch)
    expected = by_hand(batch, logits, lambda row, b, t: row[batch.targets[b, t]] - row[batch.wrong[b]])
    torch.testing.assert_close(goodness("logit_difference", logits, batch), expected)


def test_kl_runs_from_the_clean_distribution():
    (batch,) = text_probe((9, 6), batch_size=2).batches
    clean, other = logits_for(batch), logits_for(batch, seed=1)
    p = clean.softmax(-1)
    kl = (p * (p.log() - other.log_softmax(-1))).sum(-1)
    expected = by_hand(batch, -kl[..., None], lambda row, b, t: row[0])
    torch.testing.assert_close(goodness("kl", other, batch, clean), expected)
    assert goodness("kl", clean, batch, clean).abs().max() < 1e-6


@pytest.mark.parametrize("metric", ["loss", "logit_difference", "kl"])
def test_metrics_are_computed_in_float32(metric):
    batch = pair_batch((9, 6, 7))
    assert goodness(metric, logits_for(batch).bfloat16(), batch, logits_for(batch)).dtype == torch.float32
