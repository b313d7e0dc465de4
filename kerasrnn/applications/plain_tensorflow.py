"""Runs an exported SavedModel with TensorFlow alone: `python plain_tensorflow.py FOLDER TEXT...`.

It imports nothing of this package, and may be copied to a machine that lacks it.
"""

import sys


def main() -> None:
    """Print a line for each text: its verdict; its tokens, which spaces separate, with their labels; or
    how probable it is: the natural logarithm of its probability, and the perplexity.
    """
    import tensorflow as tf

    folder, *texts = sys.argv[1:]
    served = tf.saved_model.load(folder).signatures["serving_default"]
    (name,) = served.structured_input_signature[1]
    if name == "tokens":
        tokens = tf.strings.split(texts).to_tensor("")
        for row, labels in zip(
            tokens.numpy(), served(tokens=tokens)["labels"].numpy(), strict=True
        ):
            pairs = zip(row, labels, strict=True)
            print(*(f"{token.decode()}/{label.decode()}" for token, label in pairs if token))
        return
    answer = served(text=tf.constant(texts))
    if "perplexity" in answer:
        for text, nats, perplexity in zip(
            texts, answer["log_probability"], answer["perplexity"], strict=True
        ):
            print(f"{float(nats):10.2f} {float(perplexity):10.2f}  {text}")
        return
    for text, label, confidence in zip(texts, answer["label"], answer["confidence"], strict=True):
        print(f"{label.numpy().decode():>10} {float(confidence):6.1%}  {text}")


if __name__ == "__main__":
    main()
