"""What every reader of tasks needs: tf.data without its tuner, and the errors of its pipelines in our words."""

import re

import tensorflow as tf

from exaranker.errors import InputError


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's tuner, whose thread may notice some 20 seconds late that an iterator is gone: runs end late."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def input_error(error: tf.errors.OpError) -> Exception:
    """An InputError that was raised inside a tf.data pipeline, freed of TensorFlow's wrapping."""
    match = re.search(r"InputError: (.+)", str(error.message))
    if match:
        is_asserted = "[InputError: " in str(error.message)  # tf.debugging.Assert puts brackets around a message
        return InputError(match[1].removesuffix("]") if is_asserted else match[1])
    if isinstance(error, (tf.errors.DataLossError, tf.errors.NotFoundError)):
        what = "damaged" if isinstance(error, tf.errors.DataLossError) else "missing"
        reason = str(error.message).rpartition("}} ")[2].partition(" [Op:")[0]
        return InputError(f"a shard is {what}: {reason}", hint="verify it with: exaranker inspect DIR")
    return error
