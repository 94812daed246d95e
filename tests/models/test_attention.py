"""The softmax of attention and its own gradient, against jax's."""

import jax
import jax.numpy as jnp
import numpy as np

from exaranker.models.attention import MASKED, softmax


def test_softmax_and_its_gradient_are_jax_s_also_where_keys_are_masked():
    random = np.random.default_rng(0)
    logits = random.standard_normal((2, 3, 5, 7)).astype(np.float32) * 4
    logits[0, :, :, 4:] = MASKED
    logits[1, 0, 0] = MASKED  # padding attends to nothing
    cotangent = random.standard_normal(logits.shape).astype(np.float32)
    (ours, pull), (theirs, pull_theirs) = (jax.vjp(f, jnp.asarray(logits)) for f in (softmax, jax.nn.softmax))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(pull(cotangent)[0], pull_theirs(cotangent)[0], atol=1e-6)
