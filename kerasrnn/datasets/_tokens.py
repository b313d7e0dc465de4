"""English text as sentences and tokens, by a few rules."""

from __future__ import annotations

import re

_ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Sen|Rev|Capt|Lt|Col|Inc|Corp|Ltd|vs|"
    "Jan|Feb|Aug|Sept|Oct|Nov|Dec"
)
# At each place the first that matches is the token.
_TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)\S*[\w/]               # addresses
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | (?:[^\W\d_]\.){{2,}}                    # U.S., a.m.
    | (?:{_ABBREVIATIONS}|etc)\.(?!\.)
    | (?-i:[A-Z])\.(?=\s+(?-i:[A-Z]))         # the initial in Anna L. Berg
    | \d+(?:[.,:/'-]\d+)*(?:st|nd|rd|th|s)?\b # 1,000.50, 10:30, 6-4, 3rd, 1990s
    | °[CF]\b
    | n['\u2019]t\b | ['\u2019](?:s|m|d|ll|re|ve)\b     # what divided words leave: don't, it's, we'll
    | can(?=not\b) | (?:gon|wan)(?=na\b) | got(?=ta\b)
    | [^\W\d_]+?(?=n['\u2019]t\b)
    | [^\W_]+(?:['\u2019](?!(?:s|m|d|ll|re|ve)\b)[^\W_]+)*
    | (?P<mark>[.!?*=_<>'-])(?P=mark)+        # ..., !!, --
    | [:;]-?[()]                              # :-)
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What may end a sentence: its marks, what they close, and then a capital or a figure.
_END = re.compile(
    r"""(?P<marks>[.!?]+)["'\u201d\u2019)\]]*\s+(?=["'\u201c\u2018(\[]*[A-ZÀ-ÖØ-Þ\d])"""
)
_ABBREVIATED = re.compile(rf"\b(?:{_ABBREVIATIONS}|[A-Z]|(?:[^\W\d_]\.)+[^\W\d_])$")


def tokenize(text: str) -> list[str]:
    """The words, numbers and marks of an English text, divided as in UD English EWT.

    - Contractions are divided: "do" "n't", "it" "'s", "can" "not", "gon" "na"; so is a possessive:
      "Anna" "'s", "dogs" "'".
    - Words with hyphens are divided at them: "well" "-" "known". Numbers are not: "6-4".
    - A number keeps what is between its figures: "1,000.50", "10:30", "3/4". "%" and "$" stand apart.
    - A dot belongs to an abbreviation ("Mr.", "U.S.", an initial before a name) and is else apart.
    - Addresses of pages and of mail stay whole, and so does a mark that is repeated: "...".

    Nothing but white space is lost. These are rules and no model: on the training part of EWT they
    find 99 % of the tokens.

    Args:
        text: A text, best a sentence: a capital letter before a dot is an initial if another follows.

    Example:

    >>> from kerasrnn.datasets import tokenize
    >>> tokenize("Mr. Berg didn't pay $1,200.50.")
    ['Mr.', 'Berg', 'did', "n't", 'pay', '$', '1,200.50', '.']
    """
    return [match.group() for match in _TOKEN.finditer(text)]


def split_sentences(text: str) -> list[str]:
    """The sentences of an English text.

    A sentence ends at a blank line, and at ".", "!" or "?" (and the quotation marks and brackets that
    they close) before white space and a capital letter or a figure; but not after an abbreviation or
    a single capital letter, where it may go on.

    Example:

    >>> from kerasrnn.datasets import split_sentences
    >>> split_sentences('Dr. Berg called. "Is it 5 p.m. yet?" Nobody knew.')
    ['Dr. Berg called.', '"Is it 5 p.m. yet?"', 'Nobody knew.']
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        start = 0
        for end in _END.finditer(paragraph):
            marks = end["marks"]
            if marks == "." and _ABBREVIATED.search(paragraph, start, end.start()):
                continue
            found.append(paragraph[start : end.end()])
            start = end.end()
        found.append(paragraph[start:])
    return [sentence.strip() for sentence in found if sentence.strip()]
