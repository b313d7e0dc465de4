"""Ready models: built in one line, trained with `model.fit`, exported to take raw strings."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "kerasrnn.applications read and write text with TensorFlow and need Keras to run on it, but "
        f"Keras's backend is {keras.backend.backend()!r}. Set the environment variable KERAS_BACKEND "
        "to tensorflow before Keras is imported. Cells and layers run on every backend."
    )

from kerasrnn.applications.language_model import LanguageModel
from kerasrnn.applications.sentiment import SentimentClassifier
from kerasrnn.applications.sequence_labeling import SequenceLabeler

__all__ = ["LanguageModel", "SentimentClassifier", "SequenceLabeler"]
