import pytest
from bench.memory import compare


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_length():
    short, long = compare([200, 2000])
    assert long["frames"] == 2000
    assert long["peak_mb"] - short["peak_mb"] <= 50
