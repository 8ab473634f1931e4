import pytest

from skdejavid.compat.claims import FACTOR, most_bytes


@pytest.mark.fault(79)
def test_what_may_be_claimed_is_a_multiple_of_what_is_stored_and_an_allowance():
    assert FACTOR == 20
    assert most_bytes(0, 5) == 5
    assert most_bytes(10**9, 2**26) == 20 * 10**9 + 2**26
