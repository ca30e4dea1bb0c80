"""Judges of generated answers: the user's own functions, and a classifier fitted to the training answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...common.plugins import Registry

if TYPE_CHECKING:  # settings of a study are checked without torch
    from .preferences import Question

Judge = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(prompts, generated answers) -> one number each; higher is better."""

JUDGES: Registry = Registry(
    "judge",
    Callable,  # type: ignore[arg-type]  # anything that can be called; to mypy it is no class
    "foresight.studies.evidence.judges",
    (),
    group="foresight.evidence.judges",
)
"""Judges from installed packages, and the user's own as `module:function`."""


def text_classifier(questions: Sequence[Question]) -> Judge:
    """A judge fitted to right and wrong answers: logistic regression on word and word-pair TF-IDF (scikit-learn)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [(f"{q.prompt}{answer}", int(right)) for q in questions for answer, right in q.answers]
    fitted = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    fitted.fit([text for text, _ in texts], [right for _, right in texts])

    def judge(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        whole = [f"{prompt} {answer.strip()}" for prompt, answer in zip(prompts, answers, strict=True)]
        return fitted.predict_proba(whole)[:, 1].tolist()

    return judge
