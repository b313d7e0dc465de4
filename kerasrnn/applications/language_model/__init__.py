"""Language modeling: which word, or character, comes next."""

from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows, count_tokens
from kerasrnn.applications.language_model.dynamic import measure_dynamically
from kerasrnn.applications.language_model.model import LanguageModel, TokenCrossEntropy

__all__ = [
    "Encoder",
    "LanguageModel",
    "TokenCrossEntropy",
    "Tokens",
    "Windows",
    "count_tokens",
    "measure_dynamically",
]
