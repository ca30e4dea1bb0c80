"""What an edit does: effects on held-out questions, and side effects on retained tasks.

An effect is one number per question; higher is better:

choice           1 if the best right answer is likelier than every wrong one, else 0 (MC1 of TruthfulQA)
mass             the probability of the right answers as a share of that of all answers of the question (MC2)
log_probability  log-probability of the best right answer, nats
classifier       probability, by a classifier fitted to the training answers, that the generated answer is right
judge            rating of the generated answer by the user's own function

Side effects are the KL divergence of the next-token distribution after the edit from that before, KL(after || before)
in nats, averaged over the tokens of right answers; and the accuracy on retained tasks, as in `tasks.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ...common.errors import DataError
from ...scoring.scorer import scoring_mode
from ...tasks.evaluation import collate, encode
from .edit import NONE, Intervention
from .localizers import Judge
from .preferences import Question


@dataclass(frozen=True)
class Answers:
    """Scores of answers to prompts, all [n].

    Attributes:
        log_probability: of the whole answer, nats.
        predicted: the likeliest token at each position of the answer, as text.
        divergence: KL(after || before) in nats, averaged over its tokens; zero if it was not asked for.
    """

    log_probability: np.ndarray
    predicted: list[str]
    divergence: np.ndarray


def score_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[str, str]],
    intervention: Intervention = NONE,
    divergence: bool = False,
    batch_size: int = 64,
) -> Answers:
    """Run (prompt, answer) texts with the answers given; with `divergence`, compare with the model before the edit.
    Raises DataError for a prompt or an answer without a token.
    """
    encoded = [encode(tokenizer, *row) for row in rows]
    for row, (ids, start) in zip(rows, encoded, strict=True):
        if not 0 < start < len(ids):
            raise DataError(f"prompt {row[0]!r} with answer {row[1]!r}: expected at least one token in each")
    result = Answers(np.zeros(len(rows)), [""] * len(rows), np.zeros(len(rows)))
    order = sorted(range(len(rows)), key=lambda i: len(encoded[i][0]))
    with torch.inference_mode(), scoring_mode(model):
        for picks in np.array_split(order, range(batch_size, len(order), batch_size)):
            after, labels = _log_probabilities(model, [encoded[i] for i in picks], intervention)
            wanted = labels >= 0
            truth = after.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
            result.log_probability[picks] = _sum(truth, wanted)
            for i, best, where in zip(picks, after.argmax(-1), wanted, strict=True):
                result.predicted[i] = tokenizer.decode(best[where].tolist()).strip()
            if divergence:
                with intervention.off():
                    before, _ = _log_probabilities(model, [encoded[i] for i in picks], NONE)
                kl = (after.exp() * (after - before)).sum(-1)
                result.divergence[picks] = _sum(kl, wanted) / wanted.sum(1).cpu().numpy()
    return result


def _log_probabilities(
    model: nn.Module, rows: list[tuple[list[int], int]], intervention: Intervention
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [B, K, vocabulary], float32, and labels [B, K], at the K positions where any row answers."""
    device = next(model.parameters()).device
    inputs, labels, mask = (tensor.to(device) for tensor in collate(rows))
    targets = labels[:, 1:]
    positions = (targets >= 0).any(0).nonzero().flatten()
    with intervention.answering(torch.tensor([start - 1 for _, start in rows])):
        logits = model(input_ids=inputs, attention_mask=mask, logits_to_keep=positions, use_cache=False).logits
    return logits.float().log_softmax(-1), targets[:, positions]


def _sum(values: Tensor, wanted: Tensor) -> np.ndarray:
    return values.masked_fill(~wanted, 0).sum(1).double().cpu().numpy()


def effects(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    intervention: Intervention,
    judges: Mapping[str, Judge],
    max_new_tokens: int = 32,
) -> dict[str, np.ndarray]:
    """Effect -> one number per question, float64 [n]: on given answers, and of each judge on generated ones."""
    rows = [(q.prompt, answer) for q in questions for answer, _ in q.answers]
    log_p = score_answers(model, tokenizer, rows, intervention).log_probability
    ends = np.cumsum([len(q.answers) for q in questions])
    found = []
    for question, p in zip(questions, np.split(log_p, ends[:-1]), strict=True):
        right, wrong = np.split(p, [len(question.right)])
        mass = np.exp(np.logaddexp.reduce(right) - np.logaddexp.reduce(p))
        found.append((right[0] > wrong.max(), mass, right[0]))
    result = dict(zip(("choice", "mass", "log_probability"), np.array(found, float).T, strict=True))
    if judges:
        prompts = [q.prompt for q in questions]
        texts = generate(model, tokenizer, prompts, max_new_tokens)
        result |= {name: _judged(name, judge, prompts, texts) for name, judge in judges.items()}
    return result


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token to pad with: the tokenizer's own, or else the end of a sequence."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def generate(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_new_tokens: int, batch_size: int = 32
) -> list[str]:
    """Greedy answers to the prompts; an edit in effect acts at every decoding step."""
    pad, device = pad_id(tokenizer), next(model.parameters()).device
    texts = []
    with torch.inference_mode(), scoring_mode(model):
        for start in range(0, len(prompts), batch_size):
            ids = [torch.tensor(encode(tokenizer, prompt, "")[0]) for prompt in prompts[start : start + batch_size]]
            inputs = pad_sequence(ids, True, pad or 0, padding_side="left").to(device)
            mask = pad_sequence([torch.ones_like(row) for row in ids], True, padding_side="left").to(device)
            out = model.generate(
                input_ids=inputs, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad
            )
            texts += tokenizer.batch_decode(out[:, inputs.shape[1] :], skip_special_tokens=True)
    return texts


def _judged(name: str, judge: Judge, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    values = np.asarray(judge(prompts, texts), float)
    if values.shape != (len(prompts),) or not np.isfinite(values).all():
        raise DataError(f"{name} returned {values.shape} values for {len(prompts)} answers; expected one finite each")
    return values


def text_classifier(questions: Sequence[Question]) -> Judge:
    """A judge fitted to right and wrong answers: logistic regression on word and word-pair TF-IDF (scikit-learn)."""
    texts, right = zip(*((f"{q.prompt}{a}", int(right)) for q in questions for a, right in q.answers), strict=True)
    fitted = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000)).fit(texts, right)

    def judge(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        whole = [f"{prompt} {answer.strip()}" for prompt, answer in zip(prompts, answers, strict=True)]
        return fitted.predict_proba(whole)[:, 1].tolist()

    return judge
