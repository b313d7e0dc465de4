"""How good a model is at the steps of sequences: the labels it gives, the tokens it expects.

`keras.metrics` for `compile(metrics=[...])`, or `weighted_metrics=[...]` where the sample weights say
which steps count. They count over all batches and divide at the end, so the sizes and the padding
of the batches do not matter. Steps that the mask of the predictions leaves out or whose sample
weight is 0 do not count; nor do labels that are negative numbers.
"""

from kerasrnn.metrics._likelihood import BitsPerCharacter, Perplexity
from kerasrnn.metrics._tags import EntityF1, EntityPrecision, EntityRecall, TokenAccuracy

__all__ = [
    "BitsPerCharacter",
    "EntityF1",
    "EntityPrecision",
    "EntityRecall",
    "Perplexity",
    "TokenAccuracy",
]
