"""Sentiment analysis of tweets: negative, neutral or positive (TweetEval; SemEval-2017 task 4).

Hub: cardiffnlp/tweet_eval, configuration sentiment, splits train (45,615 rows) and validation (2,000); columns text,
label (0 negative, 1 neutral, 2 positive). Another genre and one more label than SST-2, whose sentences Rotten Tomatoes
shares. The corrupted prompt is another tweet of the same length and another label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import DataTask
from .pairing import Row
from .source import Source


class Sentiment(DataTask):
    name = "sentiment"
    hub = Source("cardiffnlp/tweet_eval", "sentiment")
    columns = ("text", "label")
    labels = {"0": "negative", "1": "neutral", "2": "positive"}

    def row(self, raw: Mapping[str, Any]) -> Row:
        return Row(f"Tweet: {self.text(raw, 'text')}\nSentiment:", self.word(raw["label"]))
