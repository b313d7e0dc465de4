"""Data sets: the corpora that come with the package, and readers for files and TFDS."""

from kerasrnn.datasets._labelled import LabelledTexts, lines_utf8
from kerasrnn.datasets._texts import reviews, text_folder, text_table, tfds_texts

__all__ = ["LabelledTexts", "lines_utf8", "reviews", "text_folder", "text_table", "tfds_texts"]
