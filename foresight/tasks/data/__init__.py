"""Tasks over public data sets, one a file; each reads its hub data set or the same tables from a local place."""

from .base import DataTask
from .fever import Fever
from .openbookqa import OpenBookQA
from .pairing import Row
from .rte import Rte
from .sentiment import Sentiment
from .source import Source
from .sst2 import Sst2
from .winogrande import Winogrande
from .zsre import ZsRE

__all__ = ["DataTask", "Fever", "OpenBookQA", "Row", "Rte", "Sentiment", "Source", "Sst2", "Winogrande", "ZsRE"]
