"""Sentiment of tweets (TweetEval; SemEval-2017 task 4): negative, neutral or positive.

Hub: cardiffnlp/tweet_eval, configuration sentiment, splits train (45,615 rows) and validation (2,000); columns text,
label (0 negative, 1 neutral, 2 positive). It differs from SST-2 in genre and has one more label. The corrupted prompt
is another tweet of the same length with another label.
"""

from __future__ import annotations

from .data_task import DataTask
from .pairing import Raw, Row
from .source import Source


class Sentiment(DataTask):
    name = "sentiment"
    hub = Source("cardiffnlp/tweet_eval", "sentiment")
    columns = ("text", "label")
    labels = {"0": "negative", "1": "neutral", "2": "positive"}

    def row(self, raw: Raw) -> Row:
        return Row(f"Tweet: {self.text(raw, 'text')}\nSentiment:", self.word(raw["label"]))
