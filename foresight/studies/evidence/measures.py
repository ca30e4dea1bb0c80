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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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
from ...tasks.evaluation import encode
from .intervention import NONE, Intervention
from .localizers import Judge
from .packed import batches, collate, log_probabilities, pack
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


Before: TypeAlias = dict[tuple[str, str], Tensor]
"""(prompt, answer) -> log-probabilities [tokens, vocabulary] by the model before the edit, which all edits share."""


def score_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[str, str]],
    intervention: Intervention = NONE,
    divergence: Sequence[int] = (),
    before: Before | None = None,
) -> Answers:
    """Run (prompt, answer) texts with the answers given; the rows at `divergence` are compared with the model before
    the edit, whose log-probabilities are taken from `before`, and added to it where they are missing. Raises DataError
    for a prompt or an answer without a token.
    """
    result = Answers(np.zeros(len(rows)), [""] * len(rows), np.zeros(len(rows)))
    known, compared = {} if before is None else before, set(divergence)
    missing = [rows[i] for i in divergence if rows[i] not in known]
    with torch.inference_mode(), scoring_mode(model):
        with intervention.off():
            for i, log_p, _ in _by_text(model, tokenizer, missing, NONE):
                known[missing[i]] = log_p.cpu()
        for i, log_p, tokens in _by_text(model, tokenizer, rows, intervention):
            result.log_probability[i] = log_p.gather(1, tokens[:, None]).sum().item()
            result.predicted[i] = tokenizer.decode(log_p.argmax(-1).tolist()).strip()
            if i in compared:
                result.divergence[i] = (log_p.exp() * (log_p - known[rows[i]].to(log_p.device))).sum(-1).mean().item()
    return result


def _by_text(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[str, str]], intervention: Intervention
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(place, log-probabilities [K, vocabulary], tokens [K]) of every text."""
    for packs in batches(pack(tokenizer, rows)):
        batch = {name: tensor.to(model.device) for name, tensor in collate(packs).items()}
        texts, counts = batch["text"].unique_consecutive(return_counts=True)
        parts = (
            values.split(counts.tolist()) for values in (log_probabilities(model, batch, intervention), batch["token"])
        )
        yield from zip(texts.tolist(), *parts, strict=True)


def effects(
    questions: Sequence[Question],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    judges: Mapping[str, Judge],
    max_new_tokens: int = 32,
    before: Before | None = None,
) -> tuple[dict[str, np.ndarray], float]:
    """Effect -> one number per question, float64 [n]: on given answers, and of each judge on generated ones; and, with
    `before`, the mean divergence on the best right answers, else zero.
    """
    rows = [(q.prompt, answer) for q in questions for answer, _ in q.answers]
    ends = np.cumsum([len(q.answers) for q in questions])
    best = [0, *ends[:-1].tolist()]
    scored = score_answers(model, tokenizer, rows, intervention, best if before is not None else (), before)
    found = []
    for question, p in zip(questions, np.split(scored.log_probability, ends[:-1]), strict=True):
        right, wrong = np.split(p, [len(question.right)])
        mass = np.exp(np.logaddexp.reduce(right) - np.logaddexp.reduce(p))
        found.append((right[0] > wrong.max(), mass, right[0]))
    result = dict(zip(("choice", "mass", "log_probability"), np.array(found, float).T, strict=True))
    if judges:
        prompts = [q.prompt for q in questions]
        texts = generate(model, tokenizer, prompts, max_new_tokens)
        result |= {name: _judged(name, judge, prompts, texts) for name, judge in judges.items()}
    return result, float(scored.divergence[best].mean())


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
