"""Data sets: the corpora of the package, readers for files and TFDS, and the classic problems.

The problems are generated: `model.fit(kerasrnn.datasets.adding(length=100, seed=1).batch(32))`.
Each is a finite `tf.data.Dataset` of single examples: `(inputs, targets)` or, where not every step
counts, `(inputs, targets, sample_weights)`. Strings of different lengths are padded at their end,
with zeros, to one length, so that plain `batch` is enough; the padding has the weight 0. The
examples come from the seed alone, and always in the same order: test with another seed than in
training.
"""

from kerasrnn.datasets._conll import conll_file, conllu_file, sentences
from kerasrnn.datasets._labelled import LabelledTexts, lines_utf8
from kerasrnn.datasets._languages import anbn, anbncn, dyck, embedded_reber
from kerasrnn.datasets._plain import PlainText, plain_text, python_source, tfds_plain_text
from kerasrnn.datasets._problems import adding, copy_memory, parity, temporal_order
from kerasrnn.datasets._spikes import spike_delays, timed_spikes
from kerasrnn.datasets._tagged import TaggedSentences, tfds_tags
from kerasrnn.datasets._texts import reviews, text_folder, text_table, tfds_texts
from kerasrnn.datasets._tokens import split_sentences, tokenize
from kerasrnn.datasets._vectors import WordVectors, word_vectors

__all__ = [
    "LabelledTexts",
    "PlainText",
    "TaggedSentences",
    "WordVectors",
    "adding",
    "anbn",
    "anbncn",
    "conll_file",
    "conllu_file",
    "copy_memory",
    "dyck",
    "embedded_reber",
    "lines_utf8",
    "parity",
    "plain_text",
    "python_source",
    "reviews",
    "sentences",
    "spike_delays",
    "split_sentences",
    "temporal_order",
    "text_folder",
    "text_table",
    "tfds_plain_text",
    "tfds_tags",
    "tfds_texts",
    "timed_spikes",
    "tokenize",
    "word_vectors",
]
