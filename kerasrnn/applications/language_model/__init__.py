"""Language modeling: which word, or character, comes next."""

from kerasrnn.applications.language_model.model import LanguageModel

__all__ = ["LanguageModel"]
