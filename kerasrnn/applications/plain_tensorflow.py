"""Runs an exported SavedModel with TensorFlow alone: `python plain_tensorflow.py FOLDER TEXT...`.

It imports nothing of this package, and may be copied to a machine that lacks it.
"""

import sys


def main() -> None:
    """Print a line for each text: the label, its probability and the text."""
    import tensorflow as tf

    folder, *texts = sys.argv[1:]
    served = tf.saved_model.load(folder).signatures["serving_default"]
    answer = served(text=tf.constant(texts))
    for text, label, confidence in zip(texts, answer["label"], answer["confidence"], strict=True):
        print(f"{label.numpy().decode():>10} {float(confidence):6.1%}  {text}")


if __name__ == "__main__":
    main()
