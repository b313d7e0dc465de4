"""Sequence labeling: a label for each token, such as names or parts of speech."""

from kerasrnn.applications.sequence_labeling.model import SequenceLabeler

__all__ = ["SequenceLabeler"]
