"""Ready models: built in one line, trained with `model.fit`, exported to take raw strings."""

from kerasrnn.applications.sentiment import SentimentClassifier

__all__ = ["SentimentClassifier"]
