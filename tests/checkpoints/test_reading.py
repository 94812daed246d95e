"""Which errors in reading a checkpoint are known to be damage."""

from pathlib import Path

import pytest

from exaranker.checkpoints.folder import DamagedError
from exaranker.checkpoints.reading import damage_named
from exaranker.errors import InputError


@pytest.mark.parametrize(
    ("told", "is_damage"),
    [("DATA_LOSS: Error reading d/0f: OUT_OF_RANGE", True), ("PERMISSION_DENIED: Error opening d/0f", False)],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_tensorstore_is_believed_though_orbax_wraps_what_it_says(told: str, is_damage: bool, wrapped: bool) -> None:
    error: Exception = ValueError(told)
    if wrapped:
        error, error.__cause__ = Exception("Encountered error while reading array index: 0"), error
    with pytest.raises(InputError, match=f"ValueError: {told}") as caught, damage_named(Path("checkpoint_1")):
        raise error
    assert isinstance(caught.value, DamagedError) is is_damage
