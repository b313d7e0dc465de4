"""Sentiment analysis: what a text thinks of its subject."""

from kerasrnn.applications.sentiment.model import SentimentClassifier

__all__ = ["SentimentClassifier"]
