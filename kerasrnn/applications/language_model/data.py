"""From text to windows of token numbers, from which a language model learns and is measured."""

from __future__ import annotations

import hashlib
import heapq
import io
import mmap
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerasrnn.applications._parts import check_counts, check_tokens
from kerasrnn.applications._pipeline import in_advance
from kerasrnn.applications.text import BOUNDARIES, LEVELS, UNKNOWN, separate_marks
from kerasrnn.datasets import PlainText

# The numbers of a text with more bytes than this are kept in a file, not in memory.
LARGE = 2**28
# After how many windows of it what was read of the file is let go of.
LET_GO = 1000


def token_lists(
    document: Iterable[bytes], level: str, separate: bool = False
) -> Iterator[Sequence[Any]]:
    r"""The tokens of a document, in lists; one after the other they are the same for any pieces.

    Args:
        document: Its content, UTF-8, in pieces that end where a character does.
        level: `"word"`: what ASCII spaces part, and `<eos>` after each line, the last one too; or
            `"character"`.
        separate: Words: put each line through `kerasrnn.applications.text.separate_marks` first.

    Returns:
        Lists of words as bytes, or strings of characters.

    Raises:
        ValueError: If there is no such level.

    Example:

    >>> from kerasrnn.applications.language_model.data import token_lists
    >>> list(token_lists([b"The sky.\nBl", b"ue"], "word", separate=True))
    [[b'the', b'sky', b'.', b'<eos>'], [], [b'blue', b'<eos>']]
    """
    if level not in LEVELS:
        raise ValueError(f"`level` must be one of {LEVELS}, got {level!r}.")
    if level == "character":
        return (piece.decode() for piece in document)
    return _words(_separated(document) if separate else document)


def _words(document: Iterable[bytes]) -> Iterator[list[bytes]]:
    boundary = BOUNDARIES["word"].encode()
    rest, piece = b"", b"\n"
    for piece in document:
        text = rest + piece.replace(b"\n", b" %b " % boundary)
        words = text.split()
        # The last word may go on in the next piece.
        rest = words.pop() if words and not text[-1:].isspace() else b""
        yield words
    if not piece.endswith(b"\n"):
        yield [*rest.split(), boundary]


def _separated(document: Iterable[bytes]) -> Iterator[bytes]:
    """The same lines, each with its marks set apart. A line is in memory as a whole."""
    begun: list[bytes] = []
    for piece in document:
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = b"".join([*begun, lines[0]])
            begun = []
            yield b"\n".join([*separate_marks(lines).numpy(), b""])
        begun.append(rest)
    if last := b"".join(begun):
        yield separate_marks(last).numpy()


def count_tokens(text: PlainText, level: str, separate: bool = False) -> tuple[Counter[str], str]:
    r"""How often each token occurs, and what tells this text from every other, in one pass.

    Args:
        text: The text.
        level: `"word"` or `"character"`.
        separate: Words: lower-case them and set the marks apart.

    Returns:
        The tokens with their counts, most frequent first, and among equals in the order of the text; and
        the SHA-256 digest of the documents. Tokens with the zero character are left out: Keras's layer
        cannot tell them apart.

    Raises:
        ValueError: If the text is not UTF-8, or there is no such level.

    Example:

    >>> from kerasrnn.applications.language_model.data import count_tokens
    >>> from kerasrnn.datasets import PlainText
    >>> counts, digest = count_tokens(PlainText.of(["to be\nor not to be\n"]), "word")
    >>> counts.most_common(3), len(digest)
    ([('to', 2), ('be', 2), ('<eos>', 2)], 64)
    """
    counts: Counter[Any] = Counter()
    digest = hashlib.sha256()
    for document in _shown(text, "counting", digest.update):
        for tokens in token_lists(document, level, separate):
            counts.update(tokens)
        digest.update(b"\xff")  # the end of a document: a byte that UTF-8 does not have
    named = (
        (token.decode() if isinstance(token, bytes) else token, count)
        for token, count in counts.most_common()
    )
    return Counter({t: count for t, count in named if "\0" not in t}), digest.hexdigest()


class Encoder:
    r"""From text to the numbers of its tokens, as the model's own layers give them, but fast.

    Args:
        vocabulary: The tokens, in the order of their numbers. The unknown token, `<unk>`, is number 0,
            whether it is named or not.
        level: `"word"` or `"character"`.
        separate: Words: lower-case them and set the marks apart.

    Raises:
        ValueError: If there is no such level, or a token that no text of it can have.

    Example:

    >>> from kerasrnn.applications.language_model.data import Encoder
    >>> encoder = Encoder(["to", "be", "<eos>"], "word")
    >>> len(encoder), encoder.encode(b"to be\nor not\n").tolist()
    (4, [1, 2, 3, 0, 0, 3])
    """

    def __init__(self, vocabulary: Iterable[str], level: str, separate: bool = False) -> None:
        known = [UNKNOWN, *(token for token in vocabulary if token != UNKNOWN)]
        check_tokens(known[1:], level)
        self.level = level
        self.separate = separate
        self._count = len(known)
        if level == "character":
            self._table = np.zeros(0x110000, np.int32)  # the number of each code point
            self._table[np.fromiter(map(ord, known[1:]), np.int64)] = np.arange(1, len(known))
        else:
            self._numbers = {token.encode(): number for number, token in enumerate(known)}

    def __len__(self) -> int:
        """How many tokens it tells apart, the unknown one included."""
        return self._count

    def encode(self, text: bytes) -> np.ndarray:
        """The numbers of a document in memory, int32 `(tokens,)`."""
        return np.concatenate([np.zeros(0, np.int32), *self.pieces([text] if text else [])])

    def pieces(self, document: Iterable[bytes]) -> Iterator[np.ndarray]:
        """The numbers of a document, int32, in pieces as it comes in pieces."""
        for tokens in token_lists(document, self.level, self.separate):
            if isinstance(tokens, str):
                yield self._table[np.frombuffer(tokens.encode("utf-32-le"), "<u4")]
            else:
                numbers = map(self._numbers.get, tokens, repeat(0))
                yield np.fromiter(numbers, np.int32, len(tokens))


class Tokens(NamedTuple):
    """The numbers of all tokens of a text, the documents one after the other.

    Attributes:
        numbers: `(tokens,)`, of the smallest type that holds them; in a file if the text is large.
        documents: int64 `(documents + 1,)`: where each document begins, and the last one ends.
        name: What an error's message calls the text.
        mapping: The file, if there is one, as memory.
    """

    numbers: np.ndarray
    documents: np.ndarray
    name: str = "the text"
    mapping: mmap.mmap | None = None

    @classmethod
    def of(cls, text: PlainText, encoder: Encoder, folder: Path | None = None) -> Tokens:
        """Encode a text.

        Args:
            text: The text.
            encoder: What gives the numbers.
            folder: Where the file of a large text lies: one without a name, which the system removes when
                this process ends, however it ends. By default the system's own place for such files.

        Raises:
            ValueError: If the text is not UTF-8.

        Example:

        >>> from kerasrnn.applications.language_model.data import Encoder, Tokens
        >>> from kerasrnn.datasets import PlainText
        >>> tokens = Tokens.of(PlainText.of(["abba", "ac"]), Encoder("abc", "character"))
        >>> tokens.numbers, tokens.documents
        (array([1, 2, 2, 1, 0, 1, 3, 0], dtype=uint8), array([0, 5, 8]))
        """
        dtype = np.min_scalar_type(len(encoder) - 1)
        large = len(text) > LARGE
        starts = [0]
        file: Any
        with tempfile.TemporaryFile(dir=folder) if large else io.BytesIO() as file:
            for document in _shown(text, "encoding"):
                for numbers in encoder.pieces(document):
                    file.write(numbers.astype(dtype))
                starts.append(file.tell() // dtype.itemsize)
            file.flush()
            # What is mapped stays when the file is closed.
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if large else None
            numbers = np.frombuffer(mapping or file.getvalue(), dtype)
        return cls(numbers, np.array(starts, np.int64), text.name, mapping)

    def let_go(self) -> None:
        """Give back the memory of what was read of the file; it is read anew where it is wanted.

        The system would do so when it needs the memory, and counts it as this process's until then.
        """
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self.mapping.madvise(mmap.MADV_DONTNEED)


def _shown(
    text: PlainText, doing: str, see: Callable[[bytes], Any] = len
) -> Iterator[Iterator[bytes]]:
    """The documents of a text, with a progress bar where someone is watching.

    Where there are several, one that does not end with a line feed gets one.

    Args:
        text: The text.
        doing: The bar's title.
        see: Is called with each piece.
    """
    bar = tqdm(total=len(text), desc=doing, unit="B", unit_scale=True, disable=None, leave=False)

    several = len(text.sources) > 1

    def watched(document: Iterator[bytes]) -> Iterator[bytes]:
        piece = b""
        for piece in document:
            see(piece)
            yield piece
            bar.update(len(piece))
        if several and not piece.endswith(b"\n"):
            yield b"\n"

    with bar:
        yield from map(watched, text.documents())


class Windows:
    """A text cut into lanes, one for each sequence of a batch, and these into windows.

    A batch is one window of every lane: `({"ids": ..., "continues": ...}, targets, weights)`.
    `ids` int32 `(batch_size, window)` are the tokens and `targets`, of that shape, those that follow them;
    `weights`, float32, are 1 where a target counts, and 0 where it does not, as in the padding, whose
    ids and targets are 0. `continues`, bool `(batch_size,)`, says whether a window goes on where
    the lane's window before ended. No target counts twice, and none is left out.

    There are three ways to cut:

    - the text as one stream, in `batch_size` parts of like length, each a lane. The first token of each is
      no target;
    - with `context`, so that the first token of the text alone is no target: each lane but the first begins
      so many tokens before its part, and these do not count. What is measured so depends little
      on the batch size;
    - with `reset`, every document by itself: it begins a window, from a new state, and its first token is
      no target. What is measured so does not depend on the batch size.

    Args:
        tokens: The numbers of the text.
        batch_size: How many lanes. A text that is too short for so many leaves some empty.
        window: The number of steps of a window.
        reset: Whether the documents are read each by itself.
        random_lengths: Whether to draw the length of each window anew in each epoch of training, for all
            lanes together, from eight lengths between the half of `window` and all of it. The
            cuts then fall on other places each time. Not with `reset`.
        context: How many tokens a lane reads before its part. With `reset` there is nothing to read.
        epoch: How many batches of training make an epoch; the next one goes on where it ends. By default as
            many as there are in the text.

    Raises:
        ValueError: If no token has another before it: the text is too short; or an argument is wrong.

    Example:

    >>> import numpy as np
    >>> from kerasrnn.applications.language_model.data import Tokens, Windows
    >>> windows = Windows(Tokens(np.arange(10, 18), np.array([0, 8])), batch_size=2, window=2)
    >>> windows.predictions
    6
    >>> for inputs, targets, weights in windows.batches():
    ...     print(*(each.numpy().tolist() for each in [*inputs.values(), targets, weights]))
    [[10, 11], [14, 15]] [False, False] [[11, 12], [15, 16]] [[1.0, 1.0], [1.0, 1.0]]
    [[12, 0], [16, 0]] [True, True] [[13, 0], [17, 0]] [[1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        window: int,
        *,
        reset: bool = False,
        random_lengths: bool = False,
        context: int = 0,
        epoch: int | None = None,
    ) -> None:
        check_counts(batch_size=batch_size, window=window, epoch=1 if epoch is None else epoch)
        check_counts(0, context=context)
        if reset and random_lengths:
            raise ValueError(
                "`random_lengths` moves the cuts within one stream; with `reset` every document begins a "
                "window. Choose one of them."
            )
        self.tokens = tokens
        self.batch_size = batch_size
        self.window = window
        self.random_lengths = random_lengths
        spans = _documents(tokens) if reset else _parts(tokens, batch_size, context)
        if not spans.size:
            raise ValueError(
                f"{tokens.name} is too short: it has {len(tokens.numbers)} tokens, and none with one "
                "before it from which to predict it."
            )
        # What is left over of the lanes has spans in which there is nothing.
        spans = np.pad(spans, ((0, 0), (0, max(0, batch_size - spans.shape[1]))))
        starts, targets, stops = spans
        self.predictions = int(np.sum(stops - targets))
        # How many windows each span fills.
        filled = np.maximum(1, -(-(stops - starts - 1) // window))
        lanes, first = np.arange(batch_size), np.zeros(batch_size, np.int64)
        if reset:
            lanes, first = _dealt(filled, batch_size)
        if random_lengths:
            self._lengths = _varied(int(np.max(stops - starts - 1)), window)
        else:
            self._lengths = np.full(np.max(first + filled), window, np.int64)
        self._epoch = epoch or len(self._lengths)
        # Lane and step as one number, to find the spans of all lanes at once.
        self._stride = len(self._lengths)
        keys = lanes * self._stride + first
        order = np.argsort(keys)
        self._keys, self._first = keys[order], first[order]
        self._targets, self._stops = targets[order], stops[order]
        # Where the first window of the lane would begin, if the span went back so far.
        self._origins = starts[order] - self._first * window

    def count(self, batch_size: int) -> int:
        """The number of batches in an epoch. `batch_size` must be the one that this was made for."""
        if batch_size != self.batch_size:
            raise ValueError(
                f"`batch_size` must be {self.batch_size}, as these windows were made for it; got "
                f"{batch_size!r}."
            )
        return self._epoch

    @property
    def reading(self) -> int:
        """The number of batches in which the text is read once."""
        return len(self._lengths)

    def batches(self) -> tf.data.Dataset:
        """The text once, from its beginning: to measure it.

        `random_lengths` are not drawn here, but stand in an order of their own. For training there is
        `training_batches`.
        """
        windows = self._windows(tf.constant(self._lengths))
        return in_advance(windows.map(self._in_graph))

    def training_batches(
        self, batch_size: int, seed: int, first: int, last: int
    ) -> tf.data.Dataset:
        """The batches of the epochs from `first` up to `last`, the text again and again.

        The lengths of the windows are a function of the seed and of how often the text was read.
        """
        steps, whole = self.count(batch_size), len(self._lengths)
        begin, end = first * steps, last * steps

        def reading(number: tf.Tensor) -> tf.data.Dataset:
            lengths = tf.constant(self._lengths)
            if self.random_lengths:
                lengths = tf.random.experimental.stateless_shuffle(lengths, [seed, number])
            return self._windows(lengths)

        readings = tf.data.Dataset.range(begin // whole, -(-end // whole)).flat_map(reading)
        windows = readings.skip(begin % whole).take(end - begin)
        known = windows.apply(tf.data.experimental.assert_cardinality(end - begin))
        return in_advance(known.map(self._in_graph))

    def _windows(self, lengths: tf.Tensor) -> tf.data.Dataset:
        """What `_read` takes, for each window of a reading: its number, where it begins, its length."""
        begins = tf.cumsum(lengths, exclusive=True)
        steps = tf.range(len(self._lengths), dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((steps, begins, lengths))

    def _in_graph(self, *window: tf.Tensor) -> Any:
        types = [tf.int32, tf.bool, tf.int32, tf.float32]
        ids, continues, targets, weights = tf.numpy_function(self._read, window, types)
        for each in (ids, targets, weights):
            each.set_shape([self.batch_size, None if self.random_lengths else self._lengths[0]])
        continues.set_shape([self.batch_size])
        return {"ids": ids, "continues": continues}, targets, weights

    def _read(self, step: int, begin: int, length: int) -> tuple[np.ndarray, ...]:
        """One window of every lane.

        Args:
            step: The number of the window.
            begin: The lengths of all windows before it.
            length: Its own.
        """
        if step % LET_GO == 0:
            self.tokens.let_go()
        keys = np.arange(self.batch_size) * self._stride + step
        spans = np.searchsorted(self._keys, keys, side="right") - 1
        places = (self._origins[spans] + begin)[:, None] + np.arange(length + 1)
        here = places[:, 1:] < self._stops[spans, None]
        numbers = self.tokens.numbers[np.minimum(places, len(self.tokens.numbers) - 1)]
        numbers = numbers.astype(np.int32)
        counted = here & (places[:, 1:] >= self._targets[spans, None])
        return (
            numbers[:, :-1] * here,
            self._first[spans] < step,
            numbers[:, 1:] * here,
            counted.astype(np.float32),
        )


def _parts(tokens: Tokens, count: int, context: int) -> np.ndarray:
    """Spans of one stream in `count` parts, or fewer if it is short: int64 `(3, spans)`.

    The rows are: where a span starts, where its first target is, and where it stops.
    """
    total = len(tokens.numbers)
    count = min(count, total - 1 if context else total // 2)
    if count < 1:
        return np.zeros((3, 0), np.int64)
    if context:
        cuts = 1 + np.arange(count + 1) * (total - 1) // count
        targets = cuts[:-1]
        starts = np.maximum(0, targets - 1 - context)
    else:
        cuts = np.arange(count + 1) * total // count
        starts = cuts[:-1]
        targets = starts + 1
    return np.stack([starts, targets, cuts[1:]])


def _documents(tokens: Tokens) -> np.ndarray:
    """Spans as `_parts` gives them, of the documents in which there is a target."""
    starts, stops = tokens.documents[:-1], tokens.documents[1:]
    return np.stack([starts, starts + 1, stops])[:, stops - starts > 1]


def _dealt(sizes: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """The lane of each span, and how much of the lane is before it.

    The longest is dealt first, and each to the lane that is the least filled. Within a lane they stand
    as in the text: were they sorted by length, every epoch would end with the short ones.
    """
    filled = [(0, lane) for lane in range(lanes)]
    lane_of = np.zeros_like(sizes)
    for span in np.argsort(-sizes, kind="stable").tolist():
        place, lane = filled[0]
        lane_of[span] = lane
        heapq.heapreplace(filled, (place + int(sizes[span]), lane))
    order = np.argsort(lane_of, kind="stable")
    sums = np.cumsum(sizes[order]) - sizes[order]
    first = np.searchsorted(lane_of[order], np.arange(lanes))
    before = np.zeros_like(sizes)
    before[order] = sums - sums[np.minimum(first, len(sums) - 1)][lane_of[order]]
    return lane_of, before


def _varied(total: int, window: int) -> np.ndarray:
    """Lengths between the half of `window` and all of it that hold `total` together, int64.

    In any order only the last one is not filled.
    """
    choices = np.unique(np.linspace(max(1, window // 2), window, 8).round().astype(np.int64))
    lengths = np.resize(choices, -(-total // choices[0]))
    sums = np.cumsum(lengths)
    last = int(np.searchsorted(sums, total))
    # The smallest that is enough for the rest.
    rest = total - (sums[last - 1] if last else 0)
    return np.append(lengths[:last], choices[np.searchsorted(choices, rest)])
