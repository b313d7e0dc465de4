"""Seeing what a network does: traces of every gate and state, what follows from them, and pictures.

`kerasrnn.trace` is `kerasrnn.analysis.trace`, and `kerasrnn.plot` is `kerasrnn.analysis.plot`, which is
loaded when it is first used, as it brings matplotlib.
"""

from kerasrnn.analysis._measures import Belt, Saturation, belt, gradient_norms, saturation
from kerasrnn.analysis._trace import LayerTrace, Trace, trace

__all__ = [
    "Belt",
    "LayerTrace",
    "Saturation",
    "Trace",
    "belt",
    "gradient_norms",
    "saturation",
    "trace",
]
