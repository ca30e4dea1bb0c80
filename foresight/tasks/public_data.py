"""Tasks over public data sets on the Hub. Splits are train and validation, whose numbers of rows are given.

The corrupted prompt is another row of the same length with another label, except where noted.

- sst2 (Socher et al., 2013; GLUE): is a review positive? 67,349 and 872 rows; label 0 negative, 1 positive.
- rte (GLUE): does sentence2 follow from sentence1? 2,490 and 277 rows; label 0 entailment, 1 not. Premises are long and
  their lengths vary, so some rows find no partner.
- sentiment (TweetEval; SemEval-2017 task 4) of tweets: 45,615 and 2,000 rows; label 0 negative, 1 neutral, 2 positive.
- fever (Thorne et al., 2018; KILT): is a claim true? 104,966 and 10,444 rows; the input is a claim, the first answer in
  output SUPPORTS or REFUTES (KILT's edition has no third label). The prompt is the claim without evidence.
- zsre, zero-shot relation extraction (Levy et al., 2017; KILT): 147,909 and 3,724 rows; the input is "subject [SEP]
  relation", of which the first answer counts. The two splits have different relations, hence zero-shot. Answers are
  names of several tokens, and a contrast pair looks at their first token only: the corrupted prompt asks for the same
  relation of another subject of the same length, and pairs whose answers begin with the same token are left out.
- openbookqa (Mihaylov et al., 2018): elementary science. 4,957 and 500 rows; choices has text and label, lists of four,
  answerKey A to D. The answer is a letter; the corrupted prompt swaps two choices.
- winogrande (Sakaguchi et al., 2020): which of two options fills the blank, a _ in the sentence? 40,398 and 1,267 rows;
  answer 1 or 2. Otherwise as openbookqa.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..common.errors import DataError
from .data_task import DataTask
from .pairing import Raw, Row
from .read_table import Source


class Sst2(DataTask):
    name = "sst2"
    hub = Source("nyu-mll/glue", "sst2")
    columns = ("sentence", "label")
    labels = {"0": "negative", "1": "positive"}
    template = "Review: {sentence}\nSentiment:"


class Rte(DataTask):
    name = "rte"
    hub = Source("nyu-mll/glue", "rte")
    columns = ("sentence1", "sentence2", "label")
    labels = {"0": "True", "1": "False"}
    template = "{sentence1}\nTrue or False: {sentence2}\nAnswer:"


class Sentiment(DataTask):
    name = "sentiment"
    hub = Source("cardiffnlp/tweet_eval", "sentiment")
    columns = ("text", "label")
    labels = {"0": "negative", "1": "neutral", "2": "positive"}
    template = "Tweet: {text}\nSentiment:"


class Fever(DataTask):
    name = "fever"
    hub = Source("facebook/kilt_tasks", "fever")
    columns = ("input", "output")
    labels = {"SUPPORTS": "True", "REFUTES": "False"}

    def row(self, raw: Raw) -> Row | None:
        answer = _first_answer(raw)
        return Row(f"Claim: {self.text(raw, 'input')}\nTrue or False:", self.word(answer)) if answer else None


class ZsRE(DataTask):
    name = "zsre"
    hub = Source("facebook/kilt_tasks", "structured_zeroshot")
    columns = ("input", "output")

    def row(self, raw: Raw) -> Row | None:
        text, answer = self.text(raw, "input"), _first_answer(raw)
        subject, separator, relation = (part.strip() for part in text.rpartition("[SEP]"))
        if not separator:
            raise DataError(f"input is {text!r}, expected 'subject [SEP] relation'")
        if not (subject and relation and answer):
            return None
        return Row(f"Subject: {subject}\nRelation: {relation}\nObject:", f" {answer}", group=relation)


class OpenBookQA(DataTask):
    name = "openbookqa"
    hub = Source("allenai/openbookqa", "main")
    columns = ("question_stem", "choices", "answerKey")
    labels = {"A": "A", "B": "B", "C": "C", "D": "D"}

    def row(self, raw: Raw) -> Row:
        choices, keys = raw["choices"], list(self.labels)
        if not isinstance(choices, dict) or choices.get("label") != keys or len(choices.get("text") or ()) != len(keys):
            raise DataError(f"choices is {choices!r}, expected {{'text': [four texts], 'label': {keys}}}")
        self.word(raw["answerKey"])  # refuses unknown keys
        question = f"Question: {self.text(raw, 'question_stem')}"
        return _choose(question, choices["text"], keys.index(raw["answerKey"]), list(self.labels.values()))


class Winogrande(DataTask):
    name = "winogrande"
    hub = Source("allenai/winogrande", "winogrande_xl")
    columns = ("sentence", "option1", "option2", "answer")
    labels = {"1": "A", "2": "B"}

    def row(self, raw: Raw) -> Row:
        self.word(raw["answer"])  # refuses unknown answers
        options = [self.text(raw, "option1"), self.text(raw, "option2")]
        question = f"{self.text(raw, 'sentence')}\nWhat is _?"
        return _choose(question, options, int(raw["answer"]) - 1, list(self.labels.values()))


PUBLIC = {cls.name: cls for cls in (Sst2, Rte, Sentiment, Fever, ZsRE, OpenBookQA, Winogrande)}


def _first_answer(raw: Raw) -> str | None:
    """Return the first answer in the column output, a list of {"answer": text, ...}; None in test splits without one.

    Raises:
        DataError: the column has another format.
    """
    output = raw["output"]
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise DataError(f"output is {output!r}, expected a list of {{'answer': ...}}")
    answers = (item.get("answer") for item in output)
    return next((answer.strip() for answer in answers if answer and answer.strip()), None)


def _choose(question: str, choices: Sequence[str], right: int, letters: Sequence[str]) -> Row:
    """Make a row that asks for the letter of `choices[right]`; its corrupted prompt swaps that choice with the next."""

    def text(order: Sequence[str]) -> str:
        listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, order, strict=True))
        return f"{question}{listed}\nAnswer:"

    other = (right + 1) % len(choices)
    swapped = list(choices)
    swapped[right], swapped[other] = choices[other], choices[right]
    return Row(text(choices), f" {letters[right]}", swapped=(text(swapped), f" {letters[other]}"))
